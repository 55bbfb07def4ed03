"""Our two TLS faces: what clients see of us, and how we verify and meet origins.

One of the three files that know mitmproxy's internals (with `engine.py` and `stream.py`).
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from proxy import lean  # noqa: F401, I001 before mitmproxy's addons
from mitmproxy import certs, tls
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.proxy.context import Context

from certs.authority import Authority, Leaf

#: Authenticated encryption with forward secrecy only, for TLS 1.2; every suite of TLS 1.3 is both (RFC 7540, 9.2.2).
CIPHERS = ":".join((
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"))

#: SAN entries taken over from an origin's certificate; larger ones exist (CDNs), and cost every handshake.
MAX_NAMES = 100

#: Where systems keep their bundle of trusted roots (Debian, Fedora, Alpine, openSUSE, macOS).
SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
                  "/etc/ssl/ca-bundle.pem")


class Leaves(certs.CertStore):
    """mitmproxy's store of leaf certificates, with ours behind it: the leaf's key is never the CA's."""

    def __init__(self, authority: Authority) -> None:  # the base's own constructor reads and makes an RSA authority
        self._authority = authority
        self._entries: OrderedDict[bytes, certs.CertStoreEntry] = OrderedDict()
        self.dhparams = None  # no DHE suite is offered

    def entry(self, names: Iterable[x509.GeneralName], upstream: x509.Certificate | None) -> certs.CertStoreEntry:
        """Return a leaf for the names, valid no longer than the origin's own certificate."""
        leaf = self._authority.issue(list(names), not_after=upstream.not_valid_after_utc if upstream else None)
        key = leaf.certificate.public_bytes(Encoding.DER)
        if key not in self._entries:
            self._entries[key] = self._wrap(leaf)
            if len(self._entries) > MAX_WRAPPED:
                self._entries.popitem(last=False)
        return self._entries[key]

    def _wrap(self, leaf: Leaf) -> certs.CertStoreEntry:
        chain = [certs.Cert(c) for c in leaf.chain]
        return certs.CertStoreEntry(certs.Cert(leaf.certificate), leaf.key, None, chain)  # type: ignore[arg-type]


#: mitmproxy's view of recent leaves; the authority's own cache decides what is issued anew.
MAX_WRAPPED = 1000


class Tls(TlsConfig):
    """mitmproxy's TLS addon with our leaves, our suites, and the origin looked at before the client is answered."""

    def __init__(self, authority: Authority) -> None:
        self.certstore = Leaves(authority)

    def configure(self, updated: set[str]) -> None:
        """The base would read or make mitmproxy's own authority here: there is none."""

    def get_cert(self, conn_context: Context) -> certs.CertStoreEntry:
        """Names as upstream has them, and the one the client asked for."""
        store: Leaves = self.certstore  # type: ignore[assignment]
        server, client = conn_context.server, conn_context.client
        origin = server.certificate_list[0] if server.certificate_list else None
        names: list[x509.GeneralName] = []
        if origin is not None:
            try:
                names.extend(n for n in origin.altnames if isinstance(n, x509.DNSName | x509.IPAddress))
            except ValueError:      # a SAN that cannot be parsed: the origin was verified by OpenSSL, which read it
                origin_names: list[x509.GeneralName] = []
                names.extend(origin_names)
        asked = client.sni or (server.address[0] if server.address else "lockgate.invalid")
        names = [general_name(asked), *names[:MAX_NAMES]]
        unique = list(dict.fromkeys(names))
        return store.entry(unique, origin.to_cryptography() if origin else None)

    def client_hello(self, data: tls.ClientHelloData, *, dial: bool) -> None:
        """Meet the origin first, so that the client gets its names and its protocol; never for a refused one."""
        data.establish_server_tls_first = dial


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def upstream_roots(state: Path, own: x509.Certificate, given: str | None) -> str:
    """Return the bundle that origins are verified against: the one given, else the system's without our own root.

    A certificate of our root proves nothing about an origin: whoever gets at the key must not be able to stand
    behind us as well (Killed by Proxy, 2016).
    """
    if given:
        return given
    bundle = next((Path(p) for p in SYSTEM_BUNDLES if Path(p).is_file()), None)
    if bundle is None:
        import certifi

        bundle = Path(certifi.where())
    kept = [c for c in x509.load_pem_x509_certificates(bundle.read_bytes()) if c != own]
    target = state / "upstream-roots.pem"
    target.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in kept))
    return str(target)
