"""Our own sockets are known as long as they are open."""

import socket

from proxy import dialled
from proxy.dialled import Dialled, received


def test_what_the_peer_has_sent_is_counted():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        peer, _ = listener.accept()
        with peer:
            assert received(sock) == 0
            peer.send(b"hello")
            assert sock.recv(10) == b"hello"
            assert received(sock) == 5
    assert received(sock) == 0


def test_a_closed_socket_is_not_listed():
    known = Dialled()
    with socket.socket() as sock:
        known.add(sock, ("192.0.2.1", 443))
        assert [each for each, _ in known.to(("192.0.2.1", 443))] == [sock]
        assert known.to(("192.0.2.1", 80)) == []
    assert known.to(("192.0.2.1", 443)) == []


def test_sockets_that_are_gone_are_forgotten():
    known = Dialled()
    for number in range(dialled.MAX_EMPTY + 10):
        with socket.socket() as sock:
            known.add(sock, ("192.0.2.1", number))
            assert len(known.to(("192.0.2.1", number))) == 1
        del sock
    assert len(known._sockets) < 20
    assert not known.any(("192.0.2.1", 3))
