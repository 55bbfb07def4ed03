"""One connection of a TLS server that misbehaves as it is told: by a `Manner`, a switch for each bug, as BoringSSL's
runner has.  It speaks TLS 1.3 and 1.2 with AES-128-GCM, X25519 or P-256, an ECDSA certificate, and answers one request.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certs.authority import Leaf
from tests.tls import wire
from tests.tls.end import End, Ended
from tests.tls.keys import Protection13, Schedule13, Share, digest, prf, protections12
from tests.tls.wire import ClientHello, extension, message, numbers, vector

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SIGNED_13 = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"

Edit = Callable[[bytes], bytes | None]
Act = Callable[["Server"], None]


@dataclass(frozen=True)
class Stop:
    """Instead of this message, or after half the bytes of its record, do something else and be done."""

    at: str
    act: Act
    half: bool = False


@dataclass(frozen=True)
class Manner:
    """How a server behaves; by default as it should.

    Messages go by their names in the RFCs.  An edit gets a message's body and returns another, or None: leave it out.
    """

    version: int | None = None              # None: TLS 1.3 where it is offered, else 1.2
    group: int = wire.X25519
    retries: tuple[int, ...] = ()           # groups of the HelloRetryRequests that come first
    random_end: bytes = b""                 # of the ServerHello's random
    alpn: tuple[bytes, ...] | None = None   # None: http/1.1 where it is offered
    hello_extensions: bytes = b""           # further ones of the ServerHello
    encrypted_extensions: bytes = b""
    edits: Mapping[str, Edit] = field(default_factory=dict)
    signer: ec.EllipticCurvePrivateKey | None = None        # None: the certificate's own key
    wants_certificate: bool = False         # and refuses those that have none
    stop: Stop | None = None
    fragment: int = wire.MAX_FRAGMENT       # bytes of a handshake message in a record
    merge: bool = False                     # messages share records wherever they may
    eager: bool = False                     # answers without having been asked
    settled: Act | None = None              # what happens first once the handshake is over
    answer: bytes = ANSWER
    delay: float = 0                        # seconds from the handshake's end to the refusal of a missing certificate
    goodbye: bool = True                    # a close_notify at the end


class Server(End):
    """The server's end: `hello`, `established`, `ended` (why) and what `End` keeps say what happened."""

    def __init__(self, sock: socket.socket, manner: Manner, leaf: Leaf) -> None:
        super().__init__(sock)
        self.manner, self.leaf = manner, leaf
        self.fragment = manner.fragment
        self.hello: ClientHello | None = None
        self.version = 0
        self.established = False
        self.ended = ""
        self.over = threading.Event()
        self._pending = b""

    def run(self) -> None:
        try:
            self._reach("accept")
            hello = self.hello = ClientHello.parse(self.message(wire.CLIENT_HELLO)[1])
            self.version = self.manner.version or hello.newest
            if self.manner.version is None and self.version < wire.TLS13 and wire.FALLBACK in hello.ciphers:
                self.refuse(wire.INAPPROPRIATE_FALLBACK)    # RFC 7507, 3
            (self._handshake13 if self.version == wire.TLS13 else self._handshake12)(hello)
            self.established = True
            self._serve()
            self.listen()
            self.ended = "served"
        except Ended as error:
            self.ended = str(error)
            self.listen()
        finally:
            with contextlib.suppress(OSError):
                self.sock.close()
            self.over.set()

    # -- sending

    def _reach(self, name: str, data: bytes = b"") -> None:
        stop = self.manner.stop
        if stop is not None and stop.at == name:
            self._flush()
            if stop.half:
                whole = self.sealed(wire.HANDSHAKE, data)
                self.raw(whole[: len(whole) // 2])
            stop.act(self)
            raise Ended("as planned")

    def tell(self, name: str, kind: int, *parts: bytes) -> None:
        """Send a handshake message, or what the manner makes of it."""
        edit = self.manner.edits.get(name)
        body = b"".join(parts)
        edited = edit(body) if edit else body
        if edited is not None:
            data = message(kind, edited)
            self._reach(name, data)
            self.transcript += data
            self._pending += data
            if not self.manner.merge:
                self._flush()

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, b""
            self.send(wire.HANDSHAKE, pending)

    def _signature(self, signed: bytes) -> bytes:
        key = self.manner.signer or self.leaf.key
        return numbers([wire.ECDSA_P256_SHA256]) + vector(2, key.sign(signed, ec.ECDSA(hashes.SHA256())))

    def _chain(self) -> list[bytes]:
        return [one.public_bytes(Encoding.DER) for one in (self.leaf.certificate, *self.leaf.chain)]

    def _alpn(self, hello: ClientHello) -> bytes:
        chosen = self.manner.alpn
        if chosen is None:
            chosen = (b"http/1.1",) if b"http/1.1" in hello.alpn else ()
        return extension(wire.ALPN, vector(2, *(vector(1, name) for name in chosen))) if chosen else b""

    # -- TLS 1.3

    def _hello13(self, hello: ClientHello, random: bytes, *extensions: bytes) -> bytes:
        version = extension(wire.VERSIONS, numbers([wire.TLS13]))
        return b"".join((numbers([wire.TLS12]), random, vector(1, hello.session_id), numbers([wire.AES_128_GCM_SHA256]),
                         b"\0", vector(2, version, *extensions)))

    def _retry(self, hello: ClientHello, group: int) -> ClientHello:
        self.transcript = message(wire.MESSAGE_HASH, digest(self.transcript))
        asked = extension(wire.KEY_SHARE, numbers([group]))
        self.tell("HelloRetryRequest", wire.SERVER_HELLO, self._hello13(hello, wire.RETRY, asked))
        self._flush()
        return ClientHello.parse(self.message(wire.CLIENT_HELLO)[1])

    def _handshake13(self, hello: ClientHello) -> None:
        manner = self.manner
        for group in manner.retries:
            hello = self._retry(hello, group)
        share = Share(manner.retries[-1] if manner.retries else manner.group)
        ours = extension(wire.KEY_SHARE, numbers([share.group]), vector(2, share.public))
        random = os.urandom(32 - len(manner.random_end)) + manner.random_end
        self.tell("ServerHello", wire.SERVER_HELLO, self._hello13(hello, random, ours, manner.hello_extensions))
        self._flush()
        if share.group not in hello.shares:
            self.listen()
            raise Ended("no key share for us")
        keys = Schedule13(share.exchange(hello.shares[share.group]), self.transcript)
        self.reading, self.writing = Protection13(keys.client), Protection13(keys.server)
        self._flight13(hello, keys)
        until_finished = self.transcript
        self.writing = Protection13(keys.application("s", until_finished))
        if manner.eager:
            self.send(wire.APPLICATION_DATA, manner.answer)
        certified = not manner.wants_certificate or len(self.message(wire.CERTIFICATE)[1]) > 4
        expected = keys.finished(keys.client, self.transcript)
        if self.message(wire.FINISHED)[1] != expected:
            raise Ended("a bad Finished")
        self.reading = Protection13(keys.application("c", until_finished))
        if not certified:
            time.sleep(manner.delay)
            self.refuse(wire.CERTIFICATE_REQUIRED)

    def _flight13(self, hello: ClientHello, keys: Schedule13) -> None:
        self.tell("EncryptedExtensions", wire.ENCRYPTED_EXTENSIONS,
                  vector(2, self._alpn(hello), self.manner.encrypted_extensions))
        if self.manner.wants_certificate:
            schemes = extension(wire.SIGNATURES, vector(2, numbers([wire.ECDSA_P256_SHA256])))
            self.tell("CertificateRequest", wire.CERTIFICATE_REQUEST, b"\0", vector(2, schemes))
        entries = [vector(3, certificate) + b"\0\0" for certificate in self._chain()]
        self.tell("Certificate", wire.CERTIFICATE, b"\0", vector(3, *entries))
        self.tell("CertificateVerify", wire.CERTIFICATE_VERIFY, self._signature(SIGNED_13 + digest(self.transcript)))
        self.tell("Finished", wire.FINISHED, keys.finished(keys.server, self.transcript))
        self._flush()

    # -- TLS 1.2, and what calls itself older

    def _handshake12(self, hello: ClientHello) -> None:
        manner = self.manner
        share, random = Share(manner.group), os.urandom(32 - len(manner.random_end)) + manner.random_end
        self._flight12(hello, share, random)
        certified = not manner.wants_certificate or len(self.message(wire.CERTIFICATE)[1]) > 3
        theirs = self.message(wire.CLIENT_KEY_EXCHANGE)[1][1:]
        if not certified:
            self.refuse(wire.HANDSHAKE_FAILURE)
        master = prf(share.exchange(theirs), b"master secret", hello.random + random, 48)
        while self.record()[0] != wire.CHANGE_CIPHER_SPEC:
            """A CertificateVerify, of no interest here."""
        self.reading, writing = protections12(master, hello.random, random)
        expected = prf(master, b"client finished", digest(self.transcript), 12)
        if self.message(wire.FINISHED)[1] != expected:
            raise Ended("a bad Finished")
        self._reach("ChangeCipherSpec")
        if "ChangeCipherSpec" not in manner.edits:
            self.send(wire.CHANGE_CIPHER_SPEC, b"\1")
            self.writing = writing
        self.tell("Finished", wire.FINISHED, prf(master, b"server finished", digest(self.transcript), 12))
        self._flush()
        if manner.eager:
            self.send(wire.APPLICATION_DATA, manner.answer)

    def _flight12(self, hello: ClientHello, share: Share, random: bytes) -> None:
        manner = self.manner
        extensions = vector(2, extension(wire.RENEGOTIATION, b"\0"), self._alpn(hello), manner.hello_extensions)
        self.tell("ServerHello", wire.SERVER_HELLO, numbers([self.version]), random, b"\0",
                  numbers([wire.ECDHE_ECDSA_AES_128_GCM_SHA256]), b"\0", extensions)
        self.tell("Certificate", wire.CERTIFICATE, vector(3, *(vector(3, one) for one in self._chain())))
        params = b"\3" + numbers([share.group]) + vector(1, share.public)       # a named curve
        signature = self._signature(hello.random + random + params)
        self.tell("ServerKeyExchange", wire.SERVER_KEY_EXCHANGE, params, signature)
        if manner.wants_certificate:
            schemes = vector(2, numbers([wire.ECDSA_P256_SHA256]))
            self.tell("CertificateRequest", wire.CERTIFICATE_REQUEST, vector(1, b"\x40"), schemes, vector(2))
        self.tell("ServerHelloDone", wire.SERVER_HELLO_DONE)
        self._flush()

    # -- afterwards

    def refuse(self, description: int) -> None:
        self.send(wire.ALERT, bytes([wire.FATAL, description]))
        self.finish()
        raise Ended("refused")

    def _serve(self) -> None:
        if self.manner.settled:
            self.manner.settled(self)
        while b"\r\n\r\n" not in self.data:
            self.hear()
        self._reach("answer")
        self.send(wire.APPLICATION_DATA, self.manner.answer)
        if self.manner.goodbye:
            self.send(wire.ALERT, bytes([wire.WARNING, wire.CLOSE_NOTIFY]))
        self.finish()
