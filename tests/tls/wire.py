"""TLS records and messages as bytes: no sockets, no keys.  RFC 8446 (4 and 5) and RFC 5246 (6 and 7)."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

TLS10, TLS11, TLS12, TLS13 = 0x0301, 0x0302, 0x0303, 0x0304
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
#: Handshake messages.
HELLO_REQUEST, CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET, ENCRYPTED_EXTENSIONS, CERTIFICATE, SERVER_KEY_EXCHANGE, \
    CERTIFICATE_REQUEST, SERVER_HELLO_DONE, CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE, FINISHED, KEY_UPDATE, MESSAGE_HASH \
    = 0, 1, 2, 4, 8, 11, 12, 13, 14, 15, 16, 20, 24, 254
#: Extensions.
SERVER_NAME, GROUPS, SIGNATURES, ALPN, PRE_SHARED_KEY, EARLY_DATA, VERSIONS, COOKIE, PSK_MODES, KEY_SHARE, RENEGOTIATION \
    = 0, 10, 13, 16, 41, 42, 43, 44, 45, 51, 0xFF01
#: Alerts that the tests name.
CLOSE_NOTIFY, UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW, HANDSHAKE_FAILURE, BAD_CERTIFICATE, \
    CERTIFICATE_EXPIRED, ILLEGAL_PARAMETER, UNKNOWN_CA, DECODE_ERROR, DECRYPT_ERROR, PROTOCOL_VERSION, INTERNAL_ERROR, \
    INAPPROPRIATE_FALLBACK, NO_RENEGOTIATION, MISSING_EXTENSION, UNSUPPORTED_EXTENSION, CERTIFICATE_REQUIRED \
    = 0, 10, 20, 22, 40, 42, 45, 47, 48, 50, 51, 70, 80, 86, 100, 109, 110, 116
WARNING, FATAL = 1, 2

AES_128_GCM_SHA256, ECDHE_ECDSA_AES_128_GCM_SHA256 = 0x1301, 0xC02B
#: TLS_FALLBACK_SCSV: said by clients that tried a newer version before.
FALLBACK = 0x5600
P256, X25519 = 0x0017, 0x001D
ECDSA_P256_SHA256 = 0x0403
#: The end of a ServerHello's random where a newer version was given up (RFC 8446, 4.1.3).
DOWNGRADED_TO_12, DOWNGRADED_TO_11 = b"DOWNGRD\x01", b"DOWNGRD\x00"
#: A ServerHello with this random is a HelloRetryRequest (RFC 8446, 4.1.3).
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
MAX_FRAGMENT = 2**14


def vector(size: int, *parts: bytes) -> bytes:
    """The parts behind their length, which takes `size` bytes."""
    body = b"".join(parts)
    return len(body).to_bytes(size) + body


def numbers(values: Iterable[int]) -> bytes:
    """Two bytes each."""
    return b"".join(value.to_bytes(2) for value in values)


def message(kind: int, *parts: bytes) -> bytes:
    return bytes([kind]) + vector(3, *parts)


def extension(kind: int, *parts: bytes) -> bytes:
    return kind.to_bytes(2) + vector(2, *parts)


def record(kind: int, payload: bytes, version: int = TLS12) -> bytes:
    return struct.pack("!BH", kind, version) + vector(2, payload)


def records(kind: int, payload: bytes, size: int = MAX_FRAGMENT) -> bytes:
    """The payload in as many records as it takes when each holds `size` bytes."""
    return b"".join(record(kind, payload[at : at + size]) for at in range(0, len(payload), size))


class Reader:
    """Takes fields off the front; ValueError where there are too few bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        if size > len(self.data):
            raise ValueError("a message that ends too early")
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))

    def extensions(self) -> dict[int, bytes]:
        inner, found = Reader(self.vector(2) if self.data else b""), {}
        while inner.data:
            kind = inner.number(2)
            found[kind] = inner.vector(2)
        return found


@dataclass(frozen=True)
class ClientHello:
    """What of it a server needs; `shares` are public keys by group."""

    random: bytes
    session_id: bytes
    ciphers: tuple[int, ...]
    extensions: dict[int, bytes]

    @classmethod
    def parse(cls, body: bytes) -> "ClientHello":
        reader = Reader(body)
        reader.number(2)
        random, session_id = reader.take(32), reader.vector(1)
        ciphers = reader.vector(2)
        reader.vector(1)
        found = struct.unpack(f"!{len(ciphers) // 2}H", ciphers)
        return cls(random, session_id, found, reader.extensions())

    @property
    def shares(self) -> dict[int, bytes]:
        found, reader = {}, Reader(Reader(self.extensions.get(KEY_SHARE, b"\0\0")).vector(2))
        while reader.data:
            group = reader.number(2)
            found[group] = reader.vector(2)
        return found

    @property
    def newest(self) -> int:
        """TLS 1.3 or 1.2, whichever is the newest on offer."""
        return TLS13 if numbers([TLS13]) in self.extensions.get(VERSIONS, b"") else TLS12

    @property
    def alpn(self) -> tuple[bytes, ...]:
        found, reader = [], Reader(Reader(self.extensions.get(ALPN, b"\0\0")).vector(2))
        while reader.data:
            found.append(reader.vector(1))
        return tuple(found)


@dataclass(frozen=True)
class ServerHello:
    """The version that was chosen, wherever it is said."""

    random: bytes
    version: int
    cipher: int
    extensions: dict[int, bytes]

    @classmethod
    def parse(cls, body: bytes) -> "ServerHello":
        reader = Reader(body)
        legacy, random, _ = reader.number(2), reader.take(32), reader.vector(1)
        cipher, _ = reader.number(2), reader.number(1)
        extensions = reader.extensions()
        version = int.from_bytes(extensions.get(VERSIONS, legacy.to_bytes(2)))
        return cls(random, version, cipher, extensions)
