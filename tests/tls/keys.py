"""Key exchange, key schedules and record protection with AES-128-GCM and SHA-256: all that the tests' two ends speak.

RFC 8446 5.2, 7.1 and 7.3; RFC 5246 5, 6.3 and 8.1; RFC 5288.
"""

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.tls.wire import APPLICATION_DATA, P256, TLS12, X25519, record, vector

ZERO = bytes(32)


class Share:
    """One end of a key exchange over X25519 or P-256."""

    def __init__(self, group: int = X25519) -> None:
        self.group = group
        self._x25519 = x25519.X25519PrivateKey.generate()
        self._p256 = ec.generate_private_key(ec.SECP256R1())

    @property
    def public(self) -> bytes:
        if self.group == P256:
            return self._p256.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return self._x25519.public_key().public_bytes_raw()

    def exchange(self, theirs: bytes) -> bytes:
        if self.group == P256:
            return self._p256.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), theirs))
        return self._x25519.exchange(x25519.X25519PublicKey.from_public_bytes(theirs))


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def expand(secret: bytes, label: str, context: bytes = b"", size: int = 32) -> bytes:
    """HKDF-Expand-Label, for at most 32 bytes."""
    info = struct.pack("!H", size) + vector(1, b"tls13 " + label.encode()) + vector(1, context)
    return hmac.digest(secret, info + b"\1", "sha256")[:size]


class Schedule13:
    """The secrets of TLS 1.3 without a pre-shared key; `hellos` and later arguments are transcripts."""

    def __init__(self, shared: bytes, hellos: bytes) -> None:
        early = hmac.digest(ZERO, ZERO, "sha256")
        handshake = hmac.digest(expand(early, "derived", digest(b"")), shared, "sha256")
        self._master = hmac.digest(expand(handshake, "derived", digest(b"")), ZERO, "sha256")
        self.client, self.server = (expand(handshake, f"{end} hs traffic", digest(hellos)) for end in "cs")

    def application(self, end: str, until_finished: bytes) -> bytes:
        """The first secret of an end, `c` or `s`, from the transcript up to the server's Finished."""
        return expand(self._master, f"{end} ap traffic", digest(until_finished))

    @staticmethod
    def finished(secret: bytes, before: bytes) -> bytes:
        return hmac.digest(expand(secret, "finished"), digest(before), "sha256")


class Protection13:
    """One direction: the kind of a record is within it."""

    def __init__(self, secret: bytes) -> None:
        self.secret, self._sequence = secret, 0
        self._aead, self._iv = AESGCM(expand(secret, "key", size=16)), expand(secret, "iv", size=12)

    def updated(self) -> "Protection13":
        """After a KeyUpdate (RFC 8446, 7.2)."""
        return Protection13(expand(self.secret, "traffic upd"))

    def _nonce(self) -> bytes:
        self._sequence += 1
        return (int.from_bytes(self._iv) ^ (self._sequence - 1)).to_bytes(12)

    def seal(self, kind: int, data: bytes) -> bytes:
        inner = data + bytes([kind])
        head = struct.pack("!BHH", APPLICATION_DATA, TLS12, len(inner) + 16)
        return head + self._aead.encrypt(self._nonce(), inner, head)

    def open(self, head: bytes, payload: bytes) -> tuple[int, bytes]:
        inner = self._aead.decrypt(self._nonce(), payload, head).rstrip(b"\0")
        return inner[-1], inner[:-1]


def prf(secret: bytes, label: bytes, seed: bytes, size: int) -> bytes:
    """The pseudo-random function of TLS 1.2."""
    made, block = b"", label + seed
    while len(made) < size:
        block = hmac.digest(secret, block, "sha256")
        made += hmac.digest(secret, block + label + seed, "sha256")
    return made[:size]


class Protection12:
    """One direction: the nonce is half salt, half sequence number, which is sent along."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        self._aead, self._salt, self._sequence = AESGCM(key), salt, 0

    def _frame(self, kind: int, size: int) -> bytes:
        frame = struct.pack("!QBHH", self._sequence, kind, TLS12, size)
        self._sequence += 1
        return frame

    def seal(self, kind: int, data: bytes) -> bytes:
        frame = self._frame(kind, len(data))
        return record(kind, frame[:8] + self._aead.encrypt(self._salt + frame[:8], data, frame))

    def open(self, head: bytes, payload: bytes) -> tuple[int, bytes]:
        frame = self._frame(head[0], len(payload) - 24)
        return head[0], self._aead.decrypt(self._salt + payload[:8], payload[8:], frame)


def protections12(master: bytes, client_random: bytes, server_random: bytes) -> tuple[Protection12, Protection12]:
    """The client's direction, and the server's."""
    block = prf(master, b"key expansion", server_random + client_random, 40)
    return Protection12(block[:16], block[32:36]), Protection12(block[16:32], block[36:])
