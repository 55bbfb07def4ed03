"""Our two TLS faces: what clients see of us, and what origins do.

One of the files that know mitmproxy's internals (see `engine.py`).
"""

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from mitmproxy import tls
from mitmproxy.connection import Server
from mitmproxy.proxy.context import Context
from OpenSSL import SSL

from addons.verdict import Action
from certs.authority import Authority, Leaf
from certs.bundles import SYSTEM_BUNDLES, system_bundle
from certs.names import expressible, general_name
from proxy import mirror, resumption, upstream
from proxy.chain import Decision
from proxy.origins import Origins
from proxy.paths import Roots
from proxy.session import Session

log = logging.getLogger(__name__)

#: What events name as the rule that lets an origin break another.
EXCEPTIONS = "tls.exceptions"

#: Authenticated encryption with forward secrecy only, for TLS 1.2; every suite of TLS 1.3 is both (RFC 7540, 9.2.2).
CIPHERS = ":".join(mirror.CIPHERS.values())

#: SAN entries taken over from an origin's certificate; larger ones exist (CDNs), and cost every handshake.
MAX_NAMES = 100

#: Server contexts kept, each with its leaf; the authority's own cache decides what is issued anew.  Some 20 KB each.
MAX_CONTEXTS = 1000


#: Nothing is compressed (CRIME) or renegotiated.  The client's preference among our suites counts: all are strong.
OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION
#: What we speak to clients whose origin is not met (RFC 7301).
SPOKEN = (b"h2", b"http/1.1")


class Tls:
    """In place of mitmproxy's TLS addon, whose leaves have the key of its authority: our leaves, our suites, and the
    origin looked at before the client is answered."""

    def __init__(self, authority: Authority, origins: Origins) -> None:
        self._authority = authority
        self._origins = origins
        self._contexts: OrderedDict[tuple[x509.Certificate, int], SSL.Context] = OrderedDict()

    def tls_start_client(self, session: Session, tls_start: tls.TlsData) -> None:
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
        resumption.bind(context, resumption.partition(session.connection), client.sni or "", self._origins.generation)
        connection = SSL.Connection(context)
        connection.set_app_data(server.alpn)
        connection.set_accept_state()
        tls_start.ssl_conn = connection

    def tls_start_server(self, session: Session, tls_start: tls.TlsData) -> None:
        """On behalf of this client: with its offers, as far as they are strong."""
        client, server = tls_start.context.client, tls_start.conn
        assert isinstance(server, Server)
        assert server.address is not None
        server.sni = (server.sni or client.sni or server.address[0]).rstrip(".")
        server.alpn_offers = tuple(client.alpn_offers)
        try:
            tls_start.ssl_conn = self._origins.connect(server.sni, session, server.address[:2])
        except (ValueError, SSL.Error) as error:        # without a connection the layer gives up
            log.info("no handshake with %r: %s", server.sni, error)

    async def tls_established_server(self, session: Session, data: tls.TlsData) -> None:
        """Nothing of a request has left yet: the last moment to refuse the origin."""
        assert data.ssl_conn is not None
        attempt = session.attempts.get(data.ssl_conn)
        await self._origins.refusal(data.ssl_conn, attempt.path if attempt else ())
        for broken in upstream.tolerated(data.ssl_conn):
            session.recorder.connection(session.connection, "alert", Decision(
                Action.ALERT, EXCEPTIONS, f"tolerated ({broken.rule}): {broken.reason}"), flow_id=session.flow_id)

    def leaf(self, context: Context) -> Leaf:
        """Names as upstream has them and the one the client asked for; valid no longer than the origin's own.

        An end that has passed can only be one that the policy tolerates.
        """
        server, client = context.server, context.client
        origin = server.certificate_list[0] if server.certificate_list else None
        address = server.address[0] if server.address else "lockgate.invalid"
        names = expressible([client.sni or address]) or [general_name(address)]
        if origin is not None:
            with contextlib.suppress(ValueError):   # a SAN that cryptography cannot parse; OpenSSL could
                names.extend(expressible(origin.altnames)[:MAX_NAMES])
        not_after = origin.to_cryptography().not_valid_after_utc if origin is not None else None
        if not_after is not None and not_after <= datetime.now(UTC):
            not_after = None
        return self._authority.issue(names, not_after=not_after)

    def client_hello(self, data: tls.ClientHelloData, *, dial: bool) -> None:
        """Meet the origin first, so that the client gets its names and its protocol; never for a refused one."""
        data.establish_server_tls_first = dial


def _choose(connection: SSL.Connection, offered: list[bytes]) -> Any:
    """The protocol that the origin chose, b"" for none; where it was not met, the client's first that we speak."""
    origin: bytes | None = connection.get_app_data()
    found = [name for name in offered if (name in SPOKEN if origin is None else name == origin)]
    return found[0] if found else SSL.NO_OVERLAPPING_PROTOCOLS


def _server_context(leaf: Leaf, newest: int) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_max_proto_version(newest)
    context.set_options(OPTIONS)
    context.set_cipher_list(CIPHERS.encode())
    context.set_alpn_select_callback(_choose)
    resumption.accept_tickets(context)
    context.use_certificate(leaf.certificate)
    context.use_privatekey(leaf.key)
    for issuer in leaf.chain:
        context.add_extra_chain_cert(issuer)
    return context


def upstream_roots(own: x509.Certificate, given: Path | None,
                   bundles: Iterable[str | Path] = SYSTEM_BUNDLES) -> Roots:
    """Return the roots that origins are verified against: those given, else the system's; never our own.

    A certificate of our root proves nothing about an origin: whoever gets at the key must not be able to stand
    behind us as well (Killed by Proxy, 2016).  Raises OSError, or ValueError that names the file.
    """
    bundle = given or system_bundle(bundles)
    if bundle is None:
        import certifi

        bundle = Path(certifi.where())
    return Roots.read(bundle, without=own)
