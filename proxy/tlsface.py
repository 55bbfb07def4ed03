"""Our two TLS faces: what clients see of us, and how we verify and meet origins.

One of the files that know mitmproxy's internals (see `engine.py`).
"""

# isort: off
from proxy import lean  # noqa: F401 before mitmproxy's addons
# isort: on

import contextlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from mitmproxy import tls
from mitmproxy.addons.tlsconfig import AppData, TlsConfig, alpn_select_callback
from mitmproxy.net import tls as net_tls
from mitmproxy.proxy.context import Context
from OpenSSL import SSL

from certs.authority import Authority, Leaf
from certs.names import expressible, general_name

#: Authenticated encryption with forward secrecy only, for TLS 1.2; every suite of TLS 1.3 is both (RFC 7540, 9.2.2).
CIPHERS = ":".join((
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"))

#: SAN entries taken over from an origin's certificate; larger ones exist (CDNs), and cost every handshake.
MAX_NAMES = 100

#: Where systems keep their bundle of trusted roots (Debian, Fedora, Alpine, openSUSE, macOS).
SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
                  "/etc/ssl/ca-bundle.pem")


#: Server contexts kept, each with its leaf; the authority's own cache decides what is issued anew.  Some 20 KB each.
MAX_CONTEXTS = 1000


class Tls(TlsConfig):
    """mitmproxy's TLS addon with our leaves, our suites, and the origin looked at before the client is answered.

    mitmproxy's own certificate store is never made: its leaves would have the key of its authority.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._contexts: OrderedDict[tuple[x509.Certificate, int], SSL.Context] = OrderedDict()

    def configure(self, updated: set[str]) -> None:
        """The base would read or make mitmproxy's own authority here: there is none."""

    def tls_start_client(self, tls_start: tls.TlsData) -> None:
        """A context for each leaf, made once: loading key and certificate costs a fifth of a handshake.

        The client gets no newer version than the origin has: it would show a security that is not there.
        """
        client, server = tls_start.context.client, tls_start.context.server
        leaf = self.leaf(tls_start.context)
        newest = SSL.TLS1_2_VERSION if server.tls_version == "TLSv1.2" else SSL.TLS1_3_VERSION
        context = self._contexts.get((leaf.certificate, newest))
        if context is None:
            context = self._contexts[leaf.certificate, newest] = _server_context(leaf, newest)
            if len(self._contexts) > MAX_CONTEXTS:
                self._contexts.popitem(last=False)
        connection = SSL.Connection(context)
        connection.set_app_data(AppData(client_alpn=client.alpn, server_alpn=server.alpn, http2=True))
        connection.set_accept_state()
        tls_start.ssl_conn = connection

    def tls_start_server(self, tls_start: tls.TlsData) -> None:
        """The name in its one form: with a trailing dot, as some clients send it, the base would raise."""
        if sni := tls_start.context.client.sni:
            tls_start.conn.sni = sni.rstrip(".")
        super().tls_start_server(tls_start)

    def leaf(self, context: Context) -> Leaf:
        """Names as upstream has them and the one the client asked for; valid no longer than the origin's own."""
        server, client = context.server, context.client
        origin = server.certificate_list[0] if server.certificate_list else None
        address = server.address[0] if server.address else "lockgate.invalid"
        names = expressible([client.sni or address]) or [general_name(address)]
        if origin is not None:
            with contextlib.suppress(ValueError):   # a SAN that cryptography cannot parse; OpenSSL could
                names.extend(expressible(origin.altnames)[:MAX_NAMES])
        not_after = origin.to_cryptography().not_valid_after_utc if origin is not None else None
        return self._authority.issue(names, not_after=not_after)

    def client_hello(self, data: tls.ClientHelloData, *, dial: bool) -> None:
        """Meet the origin first, so that the client gets its names and its protocol; never for a refused one."""
        data.establish_server_tls_first = dial


def _server_context(leaf: Leaf, newest: int) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_max_proto_version(newest)
    context.set_options(net_tls.DEFAULT_OPTIONS)
    context.set_cipher_list(CIPHERS.encode())
    context.set_alpn_select_callback(alpn_select_callback)
    context.use_certificate(leaf.certificate)
    context.use_privatekey(leaf.key)
    for issuer in leaf.chain:
        context.add_extra_chain_cert(issuer)
    return context


def upstream_roots(state: Path, own: x509.Certificate, given: str | None,
                   bundles: Iterable[str | Path] = SYSTEM_BUNDLES) -> str:
    """Return the bundle that origins are verified against: the one given, else the system's without our own root.

    A certificate of our root proves nothing about an origin: whoever gets at the key must not be able to stand
    behind us as well (Killed by Proxy, 2016).
    """
    if given:
        return given
    bundle = next((Path(p) for p in bundles if Path(p).is_file()), None)
    if bundle is None:
        import certifi

        bundle = Path(certifi.where())
    kept = [c for c in x509.load_pem_x509_certificates(bundle.read_bytes()) if c != own]
    target = state / "upstream-roots.pem"
    target.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in kept))
    return str(target)
