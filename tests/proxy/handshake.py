"""Certificates of any kind, an origin in memory that presents them, and whole handshakes with it."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from proxy import upstream

SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
SIGNS = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
SPEAKS = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
#: Names of which OpenSSL reads the second, and pyca/cryptography none.
UNREADABLE = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x0e\x82\x01\xff\x82\x09a.example")
CA = x509.BasicConstraints(ca=True, path_length=None)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def authority(name: str, issuer: Pair | None = None, *extensions: x509.ExtensionType, **options: Any) -> Pair:
    """A root, or an intermediate of an issuer; see `certify`."""
    return certify(name, issuer, [CA, SIGNS, *extensions], **options)


def origin(issuer: Pair | None, names: Iterable[str] = ("a.example",), *extensions: x509.ExtensionType,
           **options: Any) -> Pair:
    """A server's certificate for host names and addresses."""
    return certify("origin", issuer, [san(names), SERVER, SPEAKS, *extensions], **options)


def certify(name: str, issuer: Pair | None, extensions: Iterable[x509.ExtensionType], *, key: Any = None,
            valid: tuple[float, float] = (-1, 7), without: Iterable[type[x509.ExtensionType]] = (),
            uncritical: Iterable[type[x509.ExtensionType]] = (), signer: Any = None, digest: Any = None) -> Pair:
    """A certificate with the usual extensions and these, the last of a class counts; `valid` in days from now."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    above = issuer.certificate.subject if issuer else _name(name)
    issuer_key = issuer.key if issuer else key
    now = datetime.now(UTC)
    found = x509.CertificateBuilder(above, _name(name), key.public_key(), x509.random_serial_number(),
                                    now + timedelta(valid[0]), now + timedelta(valid[1]))
    usual = [x509.SubjectKeyIdentifier.from_public_key(key.public_key())]
    if issuer:
        usual.append(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()))
    merged = {_kind(each): each for each in (*usual, *extensions)}
    for kind, extension in merged.items():
        if kind not in without:
            found = found.add_extension(extension, kind in CRITICAL and kind not in uncritical)
    return Pair(found.sign(signer or issuer_key, digest or hashes.SHA256()), key)


def by_sha1(pair: Pair, issuer: Pair) -> Pair:
    """The same, signed anew as no library does any more; both keys are RSA's."""
    old, new = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010105")
    before, after = pair.certificate.tbs_certificate_bytes, pair.certificate.tbs_certificate_bytes.replace(old, new)
    signature = issuer.key.sign(after, padding.PKCS1v15(), hashes.SHA1())     # noqa: S303
    der = pair.der.replace(before, after).replace(old, new).replace(pair.certificate.signature, signature)
    return Pair(x509.load_der_x509_certificate(der), pair.key)


CRITICAL = (x509.BasicConstraints, x509.KeyUsage, x509.NameConstraints, x509.PolicyConstraints, "1.2.3.4")


def _kind(extension: x509.ExtensionType) -> Any:
    if isinstance(extension, x509.UnrecognizedExtension):
        return x509.SubjectAlternativeName if extension.oid == x509.SubjectAlternativeName.oid \
            else extension.oid.dotted_string
    return type(extension)


def san(names: Iterable[str]) -> x509.SubjectAlternativeName:
    def entry(name: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ip_address(name))
        except ValueError:
            return x509.DNSName(name)
    return x509.SubjectAlternativeName([entry(name) for name in names])


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Presenter:
    """A TLS server that shows these certificates, however bad they are; PEM, leaf first."""

    def __init__(self, key: bytes, chain: Sequence[bytes], *, newest: int = SSL.TLS1_3_VERSION,
                 staple: bytes = b"", asks: bool = False) -> None:
        self.alert: int | None = None
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.context.set_cipher_list(b"ALL:@SECLEVEL=0")
        self.context.set_max_proto_version(newest)
        leaf, *others = map(x509.load_pem_x509_certificate, chain)
        self.context.use_certificate(leaf)
        self.context.use_privatekey(load_pem_private_key(key, None))
        for other in others:
            self.context.add_extra_chain_cert(other)
        self.context.set_ocsp_server_callback(lambda *_: staple)
        if asks:
            self.context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        self.context.set_info_callback(self._hear)

    @classmethod
    def of(cls, *chain: Pair, **options: Any) -> "Presenter":
        return cls(chain[0].key_pem, [each.pem for each in chain], **options)

    def meet(self, client: SSL.Connection) -> bool:
        """Shake hands; did it succeed on both sides?

        Afterwards `alert` is what the origin was told (RFC 8446, B.2), and `server` its end.
        """
        server = self.server = SSL.Connection(self.context)
        server.set_accept_state()
        return self.go_on(client)

    def go_on(self, client: SSL.Connection) -> bool:
        done = {}
        for _ in range(4):
            for end, other in ((client, self.server), (self.server, client)):
                done[end] = self._step(end)
                pass_on(end, other)
        return all(done.values())

    def _step(self, end: SSL.Connection) -> bool:
        try:
            end.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                end.recv(1)         # the client's alert, and tickets, come after the handshake of TLS 1.3
        except SSL.WantReadError:
            return False
        except SSL.Error:
            return False
        return True

    def _hear(self, _: SSL.Connection, where: int, what: int) -> None:
        if where & SSL.SSL_CB_READ_ALERT == SSL.SSL_CB_READ_ALERT:
            self.alert = what & 0xFF


def pass_on(end: SSL.Connection, other: SSL.Connection) -> None:
    """All that an end of a connection in memory has to say to the other."""
    with contextlib.suppress(SSL.WantReadError):
        other.bio_write(end.bio_read(1 << 20))


def shake(client: SSL.Connection, server: SSL.Connection) -> None:
    """Shake hands as far as it goes. Raises `SSL.Error` where the two do not agree."""
    for _ in range(4):
        for end, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                end.do_handshake()
            pass_on(end, other)


def verdict(connection: SSL.Connection, presenter: Presenter) -> upstream.Refusal | None:
    """Shake hands, and return why the origin was refused; the handshake fails exactly if it was."""
    succeeded = presenter.meet(connection)
    refused = upstream.refusal(connection)
    assert succeeded == (refused is None), refused
    return refused
