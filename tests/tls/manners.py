"""The bad manners of origins, each with the alert that a client owes it (RFC 8446, 6.2; RFC 5246, 7.2.2), and the good."""

from cryptography.hazmat.primitives.asymmetric import ec

from tests.tls import wire
from tests.tls.peer import alert, close, drip, flip, flood, omit, plus, reset, silence, swap, words
from tests.tls.server import ANSWER, Edit, Manner, Server, Stop
from tests.tls.wire import extension, message, numbers, record, vector

OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
#: A group and an extension that nobody knows (OpenSSL passes over such an extension); a protocol and an extension that
#: it knows and does not ask for.
UNKNOWN, UNKNOWN_ALPN, SCT = 0x7A7B, b"h2c-and-more", 18
HELLO_REQUEST = message(wire.HELLO_REQUEST)
#: How a TLS 1.3 server says its version, and how the two say their suites.
SAYS_13 = extension(wire.VERSIONS, numbers([wire.TLS13]))
SUITE_12, SUITE_13 = numbers([wire.ECDHE_ECDSA_AES_128_GCM_SHA256]), numbers([wire.AES_128_GCM_SHA256])


def edited(version: int = wire.TLS13, **edits: Edit) -> Manner:
    return Manner(version=version, edits=edits)


def chooses(old: bytes, new: bytes, version: int = wire.TLS13) -> Manner:
    """Another choice in its ServerHello."""
    return edited(version, ServerHello=swap(old, new))


def suite(number: int, version: int = wire.TLS12) -> Manner:
    old = SUITE_13 if version == wire.TLS13 else SUITE_12
    return chooses(old + b"\0", numbers([number]) + b"\0", version)


def v12(**options: object) -> Manner:
    return Manner(version=wire.TLS12, **options)  # type: ignore[arg-type]


def protocols(*names: bytes, version: int = wire.TLS13) -> Manner:
    return Manner(version=version, alpn=names)


# -- once the handshake is over


def tickets(server: Server) -> None:
    body = bytes(4), bytes(4), vector(1, b"nonce"), vector(2, b"ticket"), vector(2)
    server.send(wire.HANDSHAKE, message(wire.NEW_SESSION_TICKET, *body))


def key_update(server: Server) -> None:
    """And asks for one."""
    server.send(wire.HANDSHAKE, message(wire.KEY_UPDATE, b"\1"))
    server.writing = server.writing.updated()  # type: ignore[union-attr]


def says(kind: int, data: bytes) -> Manner:
    """A record once the handshake is over."""
    return Manner(settled=lambda server: server.send(kind, data))


def renegotiates(server: Server) -> None:
    server.send(wire.HANDSHAKE, HELLO_REQUEST)


GOOD = {
    "TLS 1.3": Manner(),
    "TLS 1.2": v12(),
    "HelloRetryRequest for a group on offer": Manner(retries=(wire.P256,)),
    "TLS 1.2 with P-256": v12(group=wire.P256),
    "no ALPN": protocols(),
    "records of one byte": Manner(fragment=1),
    "TLS 1.2, records of one byte": v12(fragment=1),
    "messages that share a record": Manner(merge=True),
    "TLS 1.2, messages that share a record": v12(merge=True),
    "session tickets": Manner(settled=tickets),
    "key update": Manner(settled=key_update),
}

#: None: no alert is owed, or none can be told from another.
BAD: dict[str, tuple[Manner, int | None]] = {
    # who it is
    "CertificateVerify corrupted": (edited(CertificateVerify=flip), wire.DECRYPT_ERROR),
    "CertificateVerify by another key": (Manner(signer=OTHER_KEY), wire.DECRYPT_ERROR),
    "CertificateVerify omitted": (edited(CertificateVerify=omit), wire.UNEXPECTED_MESSAGE),
    "CertificateVerify with SHA-1": (
        edited(CertificateVerify=swap(numbers([wire.ECDSA_P256_SHA256]), b"\2\3")), wire.ILLEGAL_PARAMETER),
    "CertificateVerify twice as long": (edited(CertificateVerify=lambda body: body * 2), wire.DECODE_ERROR),
    "Certificate omitted": (edited(Certificate=omit), wire.UNEXPECTED_MESSAGE),
    "Certificate empty": (edited(Certificate=lambda _: bytes(4)), wire.DECODE_ERROR),
    "Certificate that is none": (edited(Certificate=lambda _: b"\0" + vector(3, vector(3, b"x" * 9), bytes(2))),
                                 wire.BAD_CERTIFICATE),
    "Finished corrupted": (edited(Finished=flip), wire.DECRYPT_ERROR),
    "Finished too short": (edited(Finished=lambda body: body[:-1]), wire.DECODE_ERROR),
    "Finished omitted": (Manner(edits={"Finished": omit}, eager=True), wire.BAD_RECORD_MAC),
    "ServerKeyExchange corrupted": (edited(wire.TLS12, ServerKeyExchange=flip), wire.DECRYPT_ERROR),
    "ServerKeyExchange by another key": (v12(signer=OTHER_KEY), wire.DECRYPT_ERROR),
    "ServerKeyExchange omitted": (edited(wire.TLS12, ServerKeyExchange=omit), wire.UNEXPECTED_MESSAGE),
    "ServerKeyExchange for another group": (
        edited(wire.TLS12, ServerKeyExchange=swap(b"\0\x1d", numbers([UNKNOWN]))), wire.ILLEGAL_PARAMETER),
    "ServerKeyExchange with a group of its own": (
        edited(wire.TLS12, ServerKeyExchange=lambda body: b"\1" + body[1:]), wire.ILLEGAL_PARAMETER),
    "TLS 1.2, Certificate omitted": (edited(wire.TLS12, Certificate=omit), wire.UNEXPECTED_MESSAGE),
    "TLS 1.2, Certificate empty": (edited(wire.TLS12, Certificate=lambda _: bytes(3)), wire.DECODE_ERROR),
    "TLS 1.2, Finished corrupted": (edited(wire.TLS12, Finished=flip), wire.DECRYPT_ERROR),
    "TLS 1.2, Finished omitted": (v12(edits={"Finished": omit}, eager=True), wire.UNEXPECTED_MESSAGE),
    "TLS 1.2, ChangeCipherSpec omitted": (edited(wire.TLS12, ChangeCipherSpec=omit), wire.UNEXPECTED_MESSAGE),
    # versions
    "downgraded to TLS 1.2": (v12(random_end=wire.DOWNGRADED_TO_12), wire.ILLEGAL_PARAMETER),
    "downgraded to TLS 1.1": (v12(random_end=wire.DOWNGRADED_TO_11), wire.ILLEGAL_PARAMETER),
    "TLS 1.1": (Manner(version=wire.TLS11), wire.PROTOCOL_VERSION),
    "TLS 1.0": (Manner(version=wire.TLS10), wire.PROTOCOL_VERSION),
    "SSL 3.0": (Manner(version=0x0300), wire.PROTOCOL_VERSION),
    "a version not on offer": (chooses(SAYS_13, extension(wire.VERSIONS, b"\x7f\x1c")), wire.ILLEGAL_PARAMETER),
    "TLS 1.2 by the way of 1.3": (chooses(SAYS_13, extension(wire.VERSIONS, b"\3\3")), wire.ILLEGAL_PARAMETER),
    # suites
    "a suite not on offer": (suite(0x1399, wire.TLS13), wire.ILLEGAL_PARAMETER),
    "RC4": (suite(0x0005), wire.ILLEGAL_PARAMETER),
    "3DES": (suite(0x000A), wire.ILLEGAL_PARAMETER),
    "NULL": (suite(0xC006), wire.ILLEGAL_PARAMETER),
    "export": (suite(0x0003), wire.ILLEGAL_PARAMETER),
    "anonymous": (suite(0xC018), wire.ILLEGAL_PARAMETER),
    "CBC": (suite(0xC009), wire.ILLEGAL_PARAMETER),
    "static RSA": (suite(0x009C), wire.ILLEGAL_PARAMETER),
    "finite-field DH": (suite(0x009E), wire.ILLEGAL_PARAMETER),
    "a suite of TLS 1.3 in 1.2": (suite(wire.AES_128_GCM_SHA256), wire.ILLEGAL_PARAMETER),
    "a suite of TLS 1.2 in 1.3": (suite(wire.ECDHE_ECDSA_AES_128_GCM_SHA256, wire.TLS13), wire.ILLEGAL_PARAMETER),
    "compression": (chooses(SUITE_12 + b"\0", SUITE_12 + b"\1", wire.TLS12), wire.ILLEGAL_PARAMETER),
    "compression in TLS 1.3": (chooses(SUITE_13 + b"\0", SUITE_13 + b"\1"), wire.ILLEGAL_PARAMETER),
    # groups
    "a group not on offer": (chooses(extension(wire.KEY_SHARE, b"")[:2] + b"\0\x24\0\x1d",
                                     extension(wire.KEY_SHARE, b"")[:2] + b"\0\x24" + numbers([UNKNOWN])),
                             wire.ILLEGAL_PARAMETER),
    "a group of which it had no share": (Manner(group=wire.P256), wire.ILLEGAL_PARAMETER),
    "HelloRetryRequest for a group not on offer": (Manner(retries=(UNKNOWN,)), wire.ILLEGAL_PARAMETER),
    "HelloRetryRequest for a share that was there": (Manner(retries=(wire.X25519,)), wire.ILLEGAL_PARAMETER),
    "HelloRetryRequest twice": (Manner(retries=(wire.P256, wire.P256)), wire.UNEXPECTED_MESSAGE),
    "a key share of zeros": (edited(ServerHello=lambda body: body[:-32] + bytes(32)), None),
    "a key share too short": (edited(wire.TLS12, ServerKeyExchange=swap(b"\x20", b"\x1f")), None),
    # extensions
    "ALPN not on offer": (protocols(UNKNOWN_ALPN), wire.DECODE_ERROR),
    "two protocols": (protocols(b"http/1.1", b"h2"), wire.DECODE_ERROR),
    "TLS 1.2, two protocols": (protocols(b"http/1.1", b"h2", version=wire.TLS12), wire.DECODE_ERROR),
    "an extension not on offer": (Manner(encrypted_extensions=extension(wire.EARLY_DATA)), wire.UNSUPPORTED_EXTENSION),
    "an extension out of its place": (Manner(hello_extensions=extension(wire.ALPN, vector(2, vector(1, b"http/1.1")))),
                                      wire.ILLEGAL_PARAMETER),
    "TLS 1.2, an extension not on offer": (v12(hello_extensions=extension(SCT, vector(2))), wire.UNSUPPORTED_EXTENSION),
    "an extension twice": (Manner(hello_extensions=SAYS_13), wire.ILLEGAL_PARAMETER),
    "no renegotiation_info": (
        chooses(wire.RENEGOTIATION.to_bytes(2), numbers([UNKNOWN]), wire.TLS12), wire.HANDSHAKE_FAILURE),
    "a pre-shared key nobody has": (Manner(hello_extensions=extension(wire.PRE_SHARED_KEY, b"\0\0")),
                                    wire.UNSUPPORTED_EXTENSION),
    # records and messages
    "another message first": (Manner(stop=Stop("ServerHello", words(record(wire.HANDSHAKE, message(wire.FINISHED))))),
                              wire.UNEXPECTED_MESSAGE),
    "application data first": (Manner(stop=Stop("ServerHello", words(record(wire.APPLICATION_DATA, ANSWER)))),
                               wire.UNEXPECTED_MESSAGE),
    "unprotected after the ServerHello": (
        Manner(stop=Stop("EncryptedExtensions", words(record(wire.HANDSHAKE, message(8, b"\0\0"))))), None),
    "a record too long": (Manner(stop=Stop("ServerHello", words(b"\x16\3\3\xff\xff" + bytes(0xFFFF)))), None),
    "bytes after the ServerHello": (edited(ServerHello=plus(b"\0")), wire.DECODE_ERROR),
    "garbage": (Manner(stop=Stop("ServerHello", words(b"\x80\x81garbage" * 9))), None),
    "HTTP without TLS": (Manner(stop=Stop("ServerHello", words(b"HTTP/1.1 400 Bad Request\r\n\r\n"))), None),
    "handshake_failure": (Manner(stop=Stop("ServerHello", alert(wire.HANDSHAKE_FAILURE))), None),
    "protocol_version": (Manner(stop=Stop("ServerHello", alert(wire.PROTOCOL_VERSION))), None),
    "unrecognized_name": (Manner(stop=Stop("ServerHello", alert(112))), None),
}

#: Where a server may fall silent, or close: its version, the step, and whether half of that record has gone.
STEPS = (
    (wire.TLS13, "accept", False), (wire.TLS13, "ServerHello", False), (wire.TLS13, "ServerHello", True),
    (wire.TLS13, "EncryptedExtensions", False), (wire.TLS13, "Certificate", True), (wire.TLS13, "Finished", False),
    (wire.TLS12, "Certificate", True), (wire.TLS12, "ServerHelloDone", False), (wire.TLS12, "ChangeCipherSpec", False),
    (wire.TLS13, "answer", False),
)
ENDINGS = {"silence": silence, "close": close, "reset": reset}
#: What goes on, and never comes to anything.
ENDLESS = {"drip": drip, "flood": flood}
