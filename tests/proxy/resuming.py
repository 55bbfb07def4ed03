"""Servers and clients in memory that resume sessions."""

from typing import Any

import pytest
from OpenSSL import SSL

from certs.authority import Authority
from proxy.mirror import TLS1_3, apply, offer
from tests.proxy.handshake import pass_on, shake

NAME = "origin.test"
#: Who connects: uid, pid, start and program.
ANN, BOB = (1000, 4711, 1e9, "/usr/bin/browser"), (1001, 4712, 1e9, "/usr/bin/browser")


def server(authority: Authority, newest: int = TLS1_3, **options: Any) -> SSL.Context:
    context, leaf = SSL.Context(SSL.TLS_SERVER_METHOD), authority.issue([NAME], **options)
    context.use_certificate(leaf.certificate)
    context.use_privatekey(leaf.key)
    for issuer in leaf.chain:
        context.add_extra_chain_cert(issuer)
    context.set_max_proto_version(newest)
    context.set_session_id(b"origin")
    return context


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    apply(offer(None), context)
    context.load_verify_locations(str(authority.pem_path))
    context.set_verify(SSL.VERIFY_PEER, None)
    return context


def dial(trusting: SSL.Context, session: SSL.Session | None = None) -> SSL.Connection:
    client = SSL.Connection(trusting)
    client.set_tlsext_host_name(NAME.encode())
    client.set_connect_state()
    if session:
        client.set_session(session)
    return client


def accepted(context: SSL.Context) -> SSL.Connection:
    peer = SSL.Connection(context)
    peer.set_accept_state()
    return peer


def meet(client: SSL.Connection, context: SSL.Context, flight: bytes = b"") -> SSL.Connection:
    """A handshake and the first data from the server, which the tickets precede; return the server's end.

    `flight` is what the client has said before.
    """
    peer = accepted(context)
    if flight:
        peer.bio_write(flight)
    shake(client, peer)
    peer.send(b"hello")
    pass_on(peer, client)
    assert client.recv(10) == b"hello"
    return peer
