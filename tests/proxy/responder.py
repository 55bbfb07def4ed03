"""A CA that revokes, and a responder on loopback that answers for it, badly if told to, and counts who asks."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from proxy.rules import Refusal, Rule

GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: For certificates and lists.
USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
DER = serialization.Encoding.DER

type Act = Callable[[BaseHTTPRequestHandler, bytes], None]


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def addresses(urls: Sequence[str]) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(url) for url in urls]


@dataclass
class Ca:
    """An issuer.  Its own certificate is signed by itself, or by the parent given."""

    name: str = "revoking CA"
    parent: "Ca | None" = None
    lists: Sequence[str] = ()
    responders: Sequence[str] = ()
    usage: x509.KeyUsage | None = USAGE
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        extensions = [x509.BasicConstraints(ca=True, path_length=None), *places(self.responders, self.lists)]
        extensions += [self.usage] if self.usage else []
        self.certificate = sign(self.parent or self, named(self.name), self.key, *extensions)

    def leaf(self, *extensions: x509.ExtensionType, responders: Sequence[str] = (), lists: Sequence[str] = (),
             must_staple: bool = False, life: timedelta = 90 * DAY, serial: int = 0,
             key: ec.EllipticCurvePrivateKey | None = None) -> x509.Certificate:
        found = [x509.SubjectAlternativeName([x509.DNSName("origin.test")]), *places(responders, lists), *extensions]
        if must_staple:
            found.append(x509.TLSFeature([x509.TLSFeatureType.status_request]))
        key = key or ec.generate_private_key(ec.SECP256R1())
        return sign(self, named("origin"), key, *found, life=life, serial=serial)

    def answer(self, certificate: x509.Certificate, status: ocsp.OCSPCertStatus = GOOD, *,
               made: datetime = NOW - HOUR, end: datetime | None = NOW + DAY, issuer: x509.Certificate | None = None,
               delegate: x509.Certificate | None = None, key: ec.EllipticCurvePrivateKey | None = None,
               nonce: bytes = b"", names_signer: ocsp.OCSPResponderEncoding = ocsp.OCSPResponderEncoding.HASH) -> bytes:
        """An OCSP answer, signed by this CA, or by a delegate that it names."""
        revoked = status is REVOKED
        response = ocsp.OCSPResponseBuilder().add_response(
            certificate, issuer or self.certificate, hashes.SHA1(), status, made, end,  # noqa: S303
            NOW - DAY if revoked else None, x509.ReasonFlags.key_compromise if revoked else None)
        response = response.responder_id(names_signer, delegate or self.certificate)
        if delegate:
            response = response.certificates([delegate])
        if nonce:
            response = response.add_extension(x509.OCSPNonce(nonce), critical=False)
        return response.sign(key or self.key, hashes.SHA256()).public_bytes(DER)

    def revocation_list(self, serials: Sequence[int] = (), *extensions: x509.ExtensionType, made: datetime = NOW - HOUR,
                        end: datetime = NOW + DAY, name: str = "", key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        entries = [x509.RevokedCertificateBuilder(serial, NOW - DAY).build() for serial in serials]
        found = x509.CertificateRevocationListBuilder(named(name or self.name), made, end, [], entries)
        for extension in extensions:
            found = found.add_extension(extension, critical=not isinstance(extension, x509.CRLNumber))
        return found.sign(key or self.key, hashes.SHA256()).public_bytes(DER)


def sign(issuer: Ca, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType,
         life: timedelta = 90 * DAY, serial: int = 0) -> x509.Certificate:
    """A certificate that began an hour ago."""
    serial = serial or x509.random_serial_number()
    request = x509.CertificateBuilder(named(issuer.name), subject, key.public_key(), serial, NOW - HOUR, NOW - HOUR + life)
    for extension in extensions:
        request = request.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return request.sign(issuer.key, hashes.SHA256())


def places(responders: Sequence[str], lists: Sequence[str]) -> list[x509.ExtensionType]:
    """What says where to ask about a certificate."""
    found: list[x509.ExtensionType] = []
    if responders:
        access = AuthorityInformationAccessOID.OCSP
        found.append(x509.AuthorityInformationAccess([x509.AccessDescription(access, a) for a in addresses(responders)]))
    if lists:
        found.append(x509.CRLDistributionPoints([x509.DistributionPoint(addresses(lists), None, None, None)]))
    return found


class Responder:
    """A web server on loopback; `paths` says what it does where."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.asked: list[bytes] = []            # what came by POST
        self.paths: dict[str, Act] = {}
        self.over = threading.Event()           # ends those who hang
        self.port = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @contextlib.contextmanager
    def serve(self) -> Iterator["Responder"]:
        responder = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                responder.hits[self.path] += 1
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.command == "POST":
                    responder.asked.append(body)
                with contextlib.suppress(OSError):
                    responder.paths.get(self.path, status(404))(self, body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """The tests' output is for the tests."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self.over.set()
                server.shutdown()
                thread.join()

    # -- what it may do

    def hang(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.over.wait(30)

    def trickle(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """A head at once, then a byte now and then."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not self.over.wait(0.05):
            handler.wfile.write(b"x")


def gives(content: bytes | Callable[[bytes], bytes]) -> Act:
    """Answer with this, or with what it makes of the body that came."""
    def act(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        data = content(body) if callable(content) else content
        handler.send_response(200)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
    return act


def status(code: int, **headers: str) -> Act:
    def act(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", "0")
        handler.end_headers()
    return act


def raw(data: bytes, times: int = 1) -> Act:
    """Send these bytes, so many times over, and close."""
    def act(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        for _ in range(times):
            handler.wfile.write(data)
    return act


@pytest.fixture
def responder() -> Iterator[Responder]:
    with Responder().serve() as served:
        yield served


class Site:
    """An origin's certificate whose CA has a responder at /ocsp and a list at /crl, as far as they are wanted."""

    def __init__(self, responder: Responder, *, asks: str = "ocsp", **options: Any) -> None:
        self.responder = responder
        self.ca = Ca()
        places = {"responders": [responder.url("/ocsp")] if "ocsp" in asks else [],
                  "lists": [responder.url("/crl")] if "crl" in asks else []}
        self.leaf = self.ca.leaf(**places, **options)
        self.path = [self.leaf, self.ca.certificate]

    def say(self, state: ocsp.OCSPCertStatus) -> "Site":
        """Both places say so from now on."""
        serials = [self.leaf.serial_number] if state is REVOKED else []
        self.responder.paths |= {"/ocsp": gives(self.ca.answer(self.leaf, state)),
                                 "/crl": gives(self.ca.revocation_list(serials))}
        return self


def rule(refusal: Refusal | None) -> Rule | None:
    return refusal and refusal.rule
