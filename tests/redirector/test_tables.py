"""The kernel's tables: bytes as the two ends of real connections count them, and sockets that have ended."""
import os
import socket
import struct
import time

import pytest

from redirector import tables
from tests.waiting import wait_for

LINGER_NONE = struct.pack("ii", 1, 0)


@pytest.fixture(params=["127.0.0.1", "::1", "::ffff:127.0.0.1"], ids=["IPv4", "IPv6", "IPv4 on an IPv6 socket"])
def pair(request):
    """Both ends of a connection over loopback."""
    with (socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
          socket.create_connection((request.param, server.getsockname()[1])) as client,
          server.accept()[0] as accepted):
        yield client, accepted


@pytest.fixture
def destroyed():
    try:
        found = tables.Destroyed()
    except PermissionError:
        pytest.skip("this kernel tells root alone of the sockets that end")
    yield found
    found.close()


def plain(endpoint):
    return endpoint[0].removeprefix("::ffff:"), endpoint[1]


def find(end, sockets=None):
    inode = os.fstat(end.fileno()).st_ino
    return next(each for each in sockets or tables.dump() if each.inode == inode)


def receive(end, count):
    while count:
        count -= len(end.recv(count))


def test_the_dump_says_what_each_end_moved(pair):
    client, accepted = pair
    client.sendall(bytes(70_000))
    receive(accepted, 70_000)
    accepted.sendall(bytes(500))
    receive(client, 500)
    found = [find(end) for end in pair]
    assert [(each.sent, each.received) for each in found] == [(70_000, 500), (500, 70_000)]
    assert [(each.local, each.remote) for each in found] == [
        (plain(end.getsockname()), plain(end.getpeername())) for end in pair]
    assert {(each.protocol, each.state, each.uid) for each in found} == {("tcp", "ESTABLISHED", os.geteuid())}
    assert len({each.cookie for each in found} - {0}) == 2


def test_the_end_of_the_peers_stream_is_no_byte(pair):
    client, accepted = pair
    client.sendall(b"x" * 10)
    client.shutdown(socket.SHUT_WR)
    receive(accepted, 10)
    assert accepted.recv(1) == b""
    assert (find(accepted).state, find(accepted).received, find(client).sent) == ("CLOSE_WAIT", 10, 10)


def test_what_waits_has_no_peer_and_no_bytes():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        found = list(tables.dump())
        for end, state in ((server, "LISTEN"), (datagrams, "UNCONNECTED")):
            each = find(end, found)
            assert (each.state, each.local, each.remote[1], each.sent) == (state, end.getsockname(), 0, None)
        datagrams.connect(("127.0.0.1", 9))
        each = find(datagrams)
        assert (each.protocol, each.state, each.remote) == ("udp", "CONNECTED", ("127.0.0.1", 9))


def test_the_last_word_has_every_byte(pair, destroyed):
    """Those of connections that were never in a dump."""
    client, accepted = pair
    ends = [plain(end.getsockname()) for end in pair]
    client.sendall(b"x" * 1234)
    receive(accepted, 1234)
    accepted.sendall(b"y" * 777)
    receive(client, 777)
    client.close()
    assert accepted.recv(1) == b""
    accepted.close()
    found = {}

    def both():
        found.update({each.local: each for each in destroyed.take() if {each.local, each.remote} == set(ends)})
        return len(found) == 2

    assert wait_for(both, 5.0)
    assert [(found[end].sent, found[end].received, found[end].state) for end in ends] == [
        (1234, 777, "CLOSED"), (777, 1234, "CLOSED")]


def test_a_dump_and_the_last_word_have_one_cookie(pair, destroyed):
    client, accepted = pair
    before = find(client).cookie
    client.close()
    accepted.close()
    assert wait_for(lambda: before in {each.cookie for each in destroyed.take()}, 5.0)


def test_of_an_aborted_one_the_other_end_says_it(pair, destroyed):
    """The kernel forgets the bytes and the peer of a socket that its own process aborts."""
    client, accepted = pair
    client.sendall(b"x" * 99)
    receive(accepted, 99)
    here, there, port = plain(client.getsockname()), plain(accepted.getsockname()), client.getsockname()[1]
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    client.close()
    with pytest.raises(ConnectionResetError):
        accepted.recv(1)
    accepted.close()
    found = []

    def both():
        found.extend(each for each in destroyed.take() if port in (each.local[1], each.remote[1]))
        return len(found) == 2

    assert wait_for(both, 5.0)
    aborted, = (each for each in found if each.local[1] == port)
    other, = (each for each in found if each.local[1] != port)
    assert (aborted.remote[1], aborted.sent) == (0, 0)
    assert (other.local, other.remote, other.received) == (there, here, 99)


def test_too_many_at_once_are_counted_as_lost(destroyed):
    destroyed._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(50):
            with socket.create_connection(server.getsockname()), server.accept()[0]:
                pass
    time.sleep(0.2)
    list(destroyed.take())
    assert destroyed.lost
