"""The TLS ClientHello, read from peeked bytes: no socket, no clock, nothing consumed.

`parse` takes what has arrived so far and returns one of three things, or raises `BadHello`:

    ClientHello     the whole message is there
    Incomplete      it may become one; `need` bytes in all are wanted before it is worth trying again
    NotTls          it never will

Sources: RFC 8446 4.1.2 and 5.1, RFC 6066 3 (SNI), RFC 7301 (ALPN), RFC 8701 (GREASE), RFC 9849 (ECH),
JA3 (salesforce/ja3), JA4 (FoxIO, technical_details/JA4.md: the TLS client part, BSD 3-clause).
"""

import hashlib
import ipaddress
import re
import struct
from dataclasses import dataclass
from typing import Literal

#: Bytes on the wire, record headers included. OpenSSL stops at 128 KiB, browsers stay below 2 KiB, post-quantum
#: key shares add 1.2 KiB each; beyond this a client is wasting our memory, and its connection is refused.
MAX_HELLO = 64 * 1024
MAX_FRAGMENT = 2**14  # RFC 8446 5.1

GREASE = frozenset(range(0x0A0A, 0x10000, 0x1010))  # RFC 8701 2: 0x0a0a, 0x1a1a ... 0xfafa
RECORD_HEADER, MESSAGE_HEADER = 5, 4
HANDSHAKE, CLIENT_HELLO = 22, 1
SERVER_NAME, GROUPS, POINT_FORMATS, SIGNATURES, ALPN, VERSIONS, ECH = 0, 10, 11, 13, 16, 43, 0xFE0D
SESSION_TICKET, PRE_SHARED_KEY, KEY_SHARES = 35, 41, 51

METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"PRI")
LABEL = re.compile(r"[a-z0-9_-]{1,63}")
JA4_VERSIONS = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}
NO_VALUES = "0" * 12  # what JA4 prints for the hash of an empty list


class BadHello(ValueError):
    """It claims to be a ClientHello and breaks the rules of one."""


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The message has not arrived yet; `need` is how many bytes in all to have before trying again."""

    need: int


@dataclass(frozen=True, slots=True)
class NotTls:
    """The first bytes are no TLS record."""

    looks_like: Literal["http", "sslv2", "unknown"]


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client offers. Numbers are IANA code points in the order sent, GREASE left out.

    `sni` is lower case, in A-label form, without a trailing dot; None if there is none or if it is no host name,
    and then `sni_invalid` tells the two apart. `ech` says that the extension was there, which GREASE ECH also does.
    `key_shares` are the groups of the shares sent; `resumes`: it brings a ticket of an earlier session.
    """

    sni: str | None
    sni_invalid: bool
    alpn: tuple[str, ...]  # Latin-1, so that any byte survives
    legacy_version: int
    versions: tuple[int, ...]
    ciphers: tuple[int, ...]
    extensions: tuple[int, ...]
    groups: tuple[int, ...]
    point_formats: tuple[int, ...]
    signature_algorithms: tuple[int, ...]
    key_shares: tuple[int, ...]
    resumes: bool
    ech: bool

    @property
    def ja3(self) -> str:
        """MD5 in hex, as JA3 defines it."""
        fields = (self.ciphers, self.extensions, self.groups, self.point_formats)
        text = ",".join([str(self.legacy_version), *("-".join(map(str, values)) for values in fields)])
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    @property
    def ja4(self) -> str:
        """For instance `t13d1516h2_8daaf6152771_e5627efa2ab1`."""
        version = JA4_VERSIONS.get(max(self.versions, default=0), "00")
        name = "d" if SERVER_NAME in self.extensions else "i"
        counts = f"{min(len(self.ciphers), 99):02}{min(len(self.extensions), 99):02}"
        extensions = _hex(sorted(set(self.extensions) - {SERVER_NAME, ALPN}))
        signatures = _hex(self.signature_algorithms)
        features = f"{extensions}_{signatures}" if signatures else extensions
        return (
            f"t{version}{name}{counts}{_ja4_alpn(self.alpn)}"
            f"_{_short_hash(_hex(sorted(self.ciphers)))}"
            f"_{_short_hash(features) if extensions else NO_VALUES}"
        )


def parse(data: bytes) -> ClientHello | Incomplete | NotTls:
    """Read the ClientHello at the start of `data`, which may hold any part of it and more behind it.

    Raises `BadHello`, and nothing else, whatever the bytes are.
    """
    # 0x16 0x03: a handshake record of SSL 3 or later. Each byte is judged as soon as it is there.
    if not b"\x16\x03".startswith(data[:2]):
        return NotTls(_looks_like(data))
    message = _reassemble(data[:MAX_HELLO])
    return message if isinstance(message, Incomplete) else _client_hello(Reader(message))


def _reassemble(data: bytes) -> bytes | Incomplete:
    """Join the fragments of the first handshake message; its header is left off."""
    message, at, size = bytearray(), 0, MESSAGE_HEADER
    while len(data) >= at + RECORD_HEADER:
        length = int.from_bytes(data[at + 3 : at + 5])
        if data[at] != HANDSHAKE or data[at + 1] != 3 or not 0 < length <= MAX_FRAGMENT:
            raise BadHello("a TLS record that cannot be part of a ClientHello")
        at += RECORD_HEADER
        message += data[at : at + length]
        at += length
        if message and message[0] != CLIENT_HELLO:
            raise BadHello(f"handshake message {message[0]} where a ClientHello belongs")
        if len(message) >= MESSAGE_HEADER:
            size = MESSAGE_HEADER + int.from_bytes(message[1:MESSAGE_HEADER])
            if len(message) >= size:
                return bytes(message[MESSAGE_HEADER:size])
    # The least that can complete it. One record may hold all the rest, so a client that sends one byte a record
    # is still looked at some 60 times only, not once a byte.
    so_far = len(data) if len(data) < at else at + RECORD_HEADER
    need = so_far + size - len(message)
    if need > MAX_HELLO:
        raise BadHello(f"longer than {MAX_HELLO} bytes")
    return Incomplete(need)


class Reader:
    """Takes fields off the front of a message; a field that is not all there is a `BadHello`."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        if size > len(self.data):
            raise BadHello("a length that points beyond its end")
        field, self.data = self.data[:size], self.data[size:]
        return field

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, prefix: int) -> "Reader":
        return Reader(self.take(self.number(prefix)))

    def numbers(self, size: int) -> tuple[int, ...]:
        """All that is left, as numbers of `size` bytes (1 or 2), without GREASE."""
        count, rest = divmod(len(self.data), size)
        if rest:
            raise BadHello("a list that ends inside a number")
        values = struct.unpack(f"!{count}{'BH'[size - 1]}", self.data)
        return tuple(value for value in values if value not in GREASE)


def _client_hello(body: Reader) -> ClientHello:
    version = body.number(2)
    body.take(32)  # random
    body.vector(1)  # session id
    ciphers = body.vector(2).numbers(2)
    body.vector(1)  # compression methods
    extensions = read_extensions(body.vector(2)) if body.data else {}
    if body.data:
        raise BadHello("bytes after the extensions")
    raw_name = _server_name(extensions.get(SERVER_NAME))
    sni = None if raw_name is None else _host_name(raw_name)
    return ClientHello(
        sni=sni,
        sni_invalid=raw_name is not None and sni is None,
        alpn=_protocols(extensions.get(ALPN)),
        legacy_version=version,
        versions=_list(extensions.get(VERSIONS), 1, 2) or (version,),
        ciphers=ciphers,
        extensions=tuple(code for code in extensions if code not in GREASE),
        groups=_list(extensions.get(GROUPS), 2, 2),
        point_formats=_list(extensions.get(POINT_FORMATS), 1, 1),
        signature_algorithms=_list(extensions.get(SIGNATURES), 2, 2),
        key_shares=_shares(extensions.get(KEY_SHARES)),
        resumes=PRE_SHARED_KEY in extensions or bool(extensions.get(SESSION_TICKET)),
        ech=ECH in extensions,
    )


def read_extensions(body: Reader) -> dict[int, bytes]:
    """Return all that is left as extensions, in the order sent, GREASE included."""
    found: dict[int, bytes] = {}
    while body.data:
        code = body.number(2)
        if code in found:  # RFC 8446 4.2; two server names would let us read one and the origin the other
            raise BadHello(f"extension {code} twice")
        found[code] = body.vector(2).data
    return found


def _only_vector(data: bytes, prefix: int) -> Reader:
    outer = Reader(data)
    inner = outer.vector(prefix)
    if outer.data:
        raise BadHello("bytes after the end of an extension's list")
    return inner


def _list(data: bytes | None, prefix: int, size: int) -> tuple[int, ...]:
    return () if data is None else _only_vector(data, prefix).numbers(size)


def _shares(data: bytes | None) -> tuple[int, ...]:
    groups, body = [], Reader(b"") if data is None else _only_vector(data, 2)
    while body.data:
        groups.append(body.number(2))
        body.vector(2)
    return tuple(group for group in groups if group not in GREASE)


def _protocols(data: bytes | None) -> tuple[str, ...]:
    names, body = [], Reader(b"") if data is None else _only_vector(data, 2)
    while body.data:
        names.append(body.vector(1).data.decode("latin-1"))
    return tuple(names)


def _server_name(data: bytes | None) -> bytes | None:
    if data is None:
        return None
    body = _only_vector(data, 2)
    kind, name = body.number(1), body.vector(2).data
    if kind or body.data:  # RFC 6066 3: one name of each kind, and host_name is the only kind there is
        raise BadHello("a server name list that is not one host name")
    return name


def _host_name(raw: bytes) -> str | None:
    """Return the name as we compare it, or None: not ASCII, an address, a bad label, no valid IDNA."""
    try:
        name = raw.decode("ascii").lower().removesuffix(".")
        name.encode().decode("idna")
    except UnicodeError:
        return None
    if len(name) > 253 or not all(map(LABEL.fullmatch, name.split("."))):
        return None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name
    return None


def _looks_like(data: bytes) -> Literal["http", "sslv2", "unknown"]:
    word, space, _ = data.partition(b" ")
    if word in METHODS if space else any(method.startswith(data) for method in METHODS):
        return "http"
    # RFC 5246 E.2: two bytes of length with the top bit set, then the type of a client hello.
    return "sslv2" if data[0] & 0x80 and data[2:3] == b"\x01" else "unknown"


def _hex(values: tuple[int, ...] | list[int]) -> str:
    return ",".join(f"{value:04x}" for value in values)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else NO_VALUES


def _ja4_alpn(alpn: tuple[str, ...]) -> str:
    first = alpn[0] if alpn else ""
    if not first:
        return "00"
    ends = first[0] + first[-1]
    if ends.isascii() and ends.isalnum():
        return ends
    digits = first.encode("latin-1").hex()
    return digits[0] + digits[-1]
