"""The kernel's list of sockets knows those that this test opens."""
import os
import socket

import pytest

from redirector import sockets
from redirector.plan import Connection


@pytest.fixture(params=["127.0.0.1", "::1", "::ffff:127.0.0.1"], ids=["IPv4", "IPv6", "IPv4 on an IPv6 socket"])
def pair(request):
    """Both ends of a connection over loopback."""
    with (socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
          socket.create_connection((request.param, server.getsockname()[1])) as client,
          server.accept()[0] as accepted):
        yield client, accepted


def inode(connection: socket.socket) -> int:
    return os.fstat(connection.fileno()).st_ino


def test_find_tells_the_ends_apart(pair):
    client, accepted = pair
    here, there = client.getsockname()[:2], client.getpeername()[:2]
    assert [sockets.find(here, there).inode, sockets.find(there, here).inode] == [inode(client), inode(accepted)]
    assert sockets.find(here, there).uid == os.geteuid()


def test_the_list_has_plain_addresses(pair):
    client, _ = pair
    found, = (c for c in sockets.connections() if c.inode == inode(client))
    assert found.client == (str(sockets.plain(client.getsockname()[0])), client.getsockname()[1])
    assert found == sockets.find(client.getsockname()[:2], client.getpeername()[:2])


def test_a_closed_socket_has_no_holder(pair):
    client, _ = pair
    here, there = client.getsockname()[:2], client.getpeername()[:2]
    client.close()
    assert getattr(sockets.find(here, there), "inode", 0) == 0


@pytest.mark.parametrize(("client", "server"), [
    pytest.param(("127.0.0.1", 1), ("127.0.0.1", 2), id="none"),
    pytest.param(("127.0.0.1", 1), ("::1", 2), id="different families"),
])
def test_find_nothing(client, server):
    assert sockets.find(client, server) is None


def test_a_listener_is_not_a_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert sockets.find(server.getsockname(), ("127.0.0.1", 9)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may abort connections")
def test_destroy_ends_both_sides(pair):
    client, accepted = pair
    connection = sockets.find(client.getsockname()[:2], client.getpeername()[:2])
    assert isinstance(connection, Connection)
    if not sockets.destroy(connection):
        pytest.skip("this kernel has no CONFIG_INET_DIAG_DESTROY")
    for end in pair:
        with pytest.raises(ConnectionError):
            end.recv(1)
    assert not sockets.destroy(connection)
    assert accepted.fileno() >= 0


@pytest.mark.parametrize(("address", "expected"), [
    ("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("fe80::1%eth0", "fe80::1"), ("::1", "::1"),
])
def test_plain(address, expected):
    assert str(sockets.plain(address)) == expected


@pytest.mark.parametrize("more", [0, 1, 2 * sockets.MAX_ENDS])
def test_who_faces_an_end(pair, more):
    """Whatever else is asked about before it."""
    client, accepted = pair
    others = [("192.0.2.1" if number % 2 else "2001:db8::1", number + 1) for number in range(more)]
    found = sockets.facing([*others, client.getsockname()[:2]])
    assert [each.inode for each in found] == [inode(accepted)]
    assert inode(client) in [each.inode for each in sockets.towards(client.getpeername()[:2])]
    assert sockets.facing(others) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_listeners(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        found = sockets.listeners(server.getsockname()[1])
        assert [(each.client[0], each.inode, each.uid) for each in found] == [(host, inode(server), os.geteuid())]
