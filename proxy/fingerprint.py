"""Fingerprints of both ends of a TLS session, from the bytes that went over the wire: no socket, nothing consumed.

JA3 and JA3S (salesforce/ja3) and JA4 (FoxIO, the TLS client part) are under BSD licences.  JA4S is not here: it is
under the FoxIO License 1.1, which does not allow it in what others may sell, and its patent is pending.
"""

import hashlib

from proxy.hello import HANDSHAKE, RECORD_HEADER, BadHello, ClientHello, Reader, parse, read_extensions

SERVER_HELLO, CHANGE_CIPHER_SPEC = 2, 20
#: The random by which a ServerHello is a HelloRetryRequest: the real one follows (RFC 8446, 4.1.3).
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
#: Bytes looked at.  A ServerHello with a post-quantum share has 1.2 KiB and stands first, or second after a retry.
MAX_FLIGHT = 16 * 1024


def client_fingerprint(data: bytes) -> tuple[str, str] | None:
    """Return JA3 and JA4 of the ClientHello at the start of `data`; None if no whole one is there."""
    try:
        hello = parse(data)
    except BadHello:
        return None
    return (hello.ja3, hello.ja4) if isinstance(hello, ClientHello) else None


def server_fingerprint(data: bytes) -> str | None:
    """Return JA3S of the ServerHello at the start of what an origin sent; None if no whole one is there."""
    messages = Reader(_plain(data[:MAX_FLIGHT]))
    try:
        while messages.data:
            kind, body = messages.number(1), messages.vector(3)
            if kind != SERVER_HELLO:
                return None
            if body.data[2:34] != RETRY:
                return _ja3s(body)
    except BadHello:
        """Cut short, or nothing of TLS."""
    return None


def _plain(data: bytes) -> bytes:
    """Join the handshake records that come before anything else; what cannot be read ends them."""
    message, at = bytearray(), 0
    while len(data) >= at + RECORD_HEADER and data[at] in (HANDSHAKE, CHANGE_CIPHER_SPEC):
        end = at + RECORD_HEADER + int.from_bytes(data[at + 3 : at + 5])
        if data[at] == HANDSHAKE:
            message += data[at + RECORD_HEADER : end]
        at = end
    return bytes(message)


def _ja3s(body: Reader) -> str:
    version = body.number(2)
    body.take(32)  # random
    body.vector(1)  # session id
    cipher = body.number(2)
    body.take(1)  # compression method
    extensions = read_extensions(body.vector(2)) if body.data else {}
    text = f"{version},{cipher},{'-'.join(map(str, extensions))}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
