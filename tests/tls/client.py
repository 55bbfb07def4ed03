"""A TLS client of our own: any ClientHello, and a TLS 1.3 handshake that may go wrong on purpose."""

import os
import socket
from collections.abc import Sequence

from tests.tls import wire
from tests.tls.end import End, Ended
from tests.tls.keys import Protection13, Schedule13, Share
from tests.tls.wire import ServerHello, extension, message, numbers, vector

SUITES = (wire.AES_128_GCM_SHA256, wire.ECDHE_ECDSA_AES_128_GCM_SHA256)
SCHEMES = (wire.ECDSA_P256_SHA256, 0x0804, 0x0401)
#: What it reserves so that servers stay tolerant (RFC 8701).
GREASE = 0x2A2A


def server_name(name: bytes, kind: int = 0) -> bytes:
    return bytes([kind]) + vector(2, name)


def hello(
    *, names: Sequence[bytes] = (server_name(b"origin.test"),), legacy: int = wire.TLS12,
    versions: Sequence[int] = (wire.TLS13, wire.TLS12), ciphers: Sequence[int] = SUITES,
    groups: Sequence[int] = (wire.X25519, wire.P256), shares: Sequence[tuple[int, bytes]] | None = (),
    schemes: Sequence[int] = SCHEMES, alpn: Sequence[bytes] = (b"http/1.1",), compression: bytes = b"\0",
    session_id: bytes = b"", more: Sequence[bytes] = (),
) -> bytes:
    """A ClientHello.  What is empty is left out, shares where they are None; `more` comes last as it is.

    `names` are entries of the server name list, `shares` groups with their public keys.
    """
    lists = {wire.SERVER_NAME: (2, names), wire.VERSIONS: (1, [numbers(versions)]),
             wire.GROUPS: (2, [numbers(groups)]), wire.SIGNATURES: (2, [numbers(schemes)]),
             wire.ALPN: (2, [vector(1, name) for name in alpn])}
    extensions = [extension(kind, vector(size, *parts)) for kind, (size, parts) in lists.items() if b"".join(parts)]
    if shares is not None:
        entries = (numbers([group]) + vector(2, public) for group, public in shares)
        extensions.append(extension(wire.KEY_SHARE, vector(2, *entries)))
    return message(wire.CLIENT_HELLO, numbers([legacy]), os.urandom(32), vector(1, session_id),
                   vector(2, numbers(ciphers)), vector(1, compression), vector(2, *extensions, *more))


class Client(End):
    """One connection, begun with a hello of the test's."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.share = Share()
        self.until_finished = b""
        self.keys: Schedule13 | None = None

    @property
    def shares(self) -> tuple[tuple[int, bytes]]:
        return ((self.share.group, self.share.public),)

    def greet(self, body: bytes, *, size: int = wire.MAX_FRAGMENT, version: int = wire.TLS10) -> None:
        """Send a ClientHello in records of that size."""
        self.transcript += body
        self.raw(b"".join(wire.record(wire.HANDSHAKE, body[at : at + size], version)
                          for at in range(0, len(body), size)))

    def answer(self) -> ServerHello | None:
        """What the server chose; None: it chose nothing, see `alerts`."""
        try:
            return ServerHello.parse(self.message(wire.SERVER_HELLO)[1])
        except Ended:
            return None

    def shake(self, body: bytes, **options: int) -> ServerHello:
        """Greet, and take the server's part of a TLS 1.3 handshake.  `Ended` where there is none."""
        self.greet(body, **options)
        chosen = ServerHello.parse(self.message(wire.SERVER_HELLO)[1])
        if chosen.version != wire.TLS13 or chosen.random == wire.RETRY:
            raise Ended("not the TLS 1.3 that was wanted")
        public = chosen.extensions[wire.KEY_SHARE][4:]
        keys = self.keys = Schedule13(self.share.exchange(public), self.transcript)
        self.reading = Protection13(keys.server)
        while self.message(wire.ENCRYPTED_EXTENSIONS, wire.CERTIFICATE, wire.CERTIFICATE_VERIFY,
                           wire.FINISHED)[0] != wire.FINISHED:
            """Nothing of it is verified: what is tested is the server."""
        self.until_finished = self.transcript
        self.reading = Protection13(keys.application("s", self.until_finished))
        self.writing = Protection13(keys.client)
        return chosen

    def finished(self) -> bytes:
        """The Finished that is due now."""
        assert self.keys is not None
        return message(wire.FINISHED, self.keys.finished(self.keys.client, self.transcript))

    def settle(self) -> None:
        """Send it, and go on with the keys for data."""
        assert self.keys is not None
        self.send(wire.HANDSHAKE, self.finished())
        self.writing = Protection13(self.keys.application("c", self.until_finished))

    def ask(self, host: bytes = b"origin.test") -> bytes:
        """One request; all that is answered until the server closes."""
        self.send(wire.APPLICATION_DATA, b"GET / HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n\r\n" % host)
        self.listen()
        return self.data
