"""The peer itself: an OpenSSL client that meets it directly is content with good manners and owes bad ones an alert."""

import socket
import struct

import pytest
from OpenSSL import SSL

from tests.tls.manners import BAD, GOOD

GET = b"GET / HTTP/1.1\r\nhost: origin.test\r\n\r\n"


def meet(peer, manner):
    """Ask the peer for a page; return what came."""
    peer.behave(manner)
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.load_verify_locations(str(peer.roots))
    context.set_verify(SSL.VERIFY_PEER)
    context.set_alpn_protos([b"h2", b"http/1.1"])
    context.set_cipher_list(b"ECDHE+AESGCM")
    with socket.create_connection(("127.0.0.1", peer.port)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
        client = SSL.Connection(context, sock)
        client.set_tlsext_host_name(b"origin.test")
        client.set_connect_state()
        client.sendall(GET)
        return client.recv(65536)


@pytest.mark.parametrize("manner", GOOD.values(), ids=GOOD)
def test_good_manners(peer, manner):
    assert meet(peer, manner).endswith(b"\r\n\r\nok")
    server = peer.first()
    assert (server.data, server.ended) == (GET, "served")


@pytest.mark.parametrize(("manner", "alert"), BAD.values(), ids=BAD)
def test_bad_manners(peer, manner, alert):
    with pytest.raises(SSL.Error):
        meet(peer, manner)
    server = peer.first()
    assert server.data == b""
    if alert is not None:
        assert server.alerts[-1:] == [(2, alert)]
