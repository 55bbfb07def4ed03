"""What the kernel remembers of connections that are over leads no other astray."""
import contextlib
import ctypes
import socket
import struct
from dataclasses import replace

import pytest

from redirector import conntrack
from redirector.plan import Scope
from redirector.wire import Ready
from tests.redirector.namespaces import (
    APP_UID,
    DIVERTED,
    EVERYTHING,
    ORIGIN4,
    ORIGIN6,
    PROXY_PORT,
    PROXY_UID,
    WAIT,
    echo,
    launch,
    needs_root,
    network,
)

pytestmark = needs_root
__all__ = ["launch", "network"]
PORT = 22_000


def dial(network, address, port, uid=0):
    """A connection from one local port; what greets it has been read."""
    def connect():
        ctypes.CDLL(None).setfsuid(uid)         # of this thread alone (setfsuid(2)): what the rules compare
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.settimeout(WAIT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", port))
        sock.connect((address, 443))
        return sock

    sock = network.client.call(connect)
    return sock, sock.recv(100).decode().strip()


def cut(sock):
    """End it without TIME_WAIT, so that its numbers are free at once."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def proxy_dies(network):
    """It does when the redirector has gone: its ends of the connections close."""
    for sock in network._open:
        with contextlib.suppress(OSError):
            if sock.getsockname()[1] == PROXY_PORT and sock.getpeername():
                sock.shutdown(socket.SHUT_RDWR)
                cut(sock)


@pytest.mark.parametrize(("address", "port"), [(ORIGIN4, PORT), (ORIGIN6, PORT + 1)])
def test_a_connection_that_was_diverted_before_a_crash_does_not_divert_an_older_one(network, launch, address, port):
    first = launch()
    first.start(EVERYTHING)
    diverted, greeting = dial(network, address, port)
    assert greeting == f"proxy for {address} 443"
    first.kill()                    # with its rules goes all tracking, so that the end is not seen
    proxy_dies(network)
    cut(diverted)
    older, greeting = dial(network, address, port)
    assert greeting == "origin"
    assert launch().start(EVERYTHING) == Ready("nftables", existing=1, cut=False)
    assert echo(older) == b"ping"
    cut(older)


def test_a_connection_that_went_direct_before_a_crash_does_not_stop_a_new_one(network, launch):
    first = launch()
    first.start(replace(EVERYTHING, scope=Scope(uid=APP_UID)))
    direct, greeting = dial(network, ORIGIN4, PORT + 2)
    assert greeting == "origin"
    first.kill()
    cut(direct)
    launch().start(EVERYTHING)
    new, greeting = dial(network, ORIGIN4, PORT + 2)
    assert greeting == DIVERTED
    cut(new)


def test_a_connection_of_the_proxys_does_not_change_an_older_one(network, launch):
    """NAT gives a connection another port where its own is taken, by what is remembered as well."""
    first = launch()
    first.start(EVERYTHING)
    exempt, greeting = dial(network, ORIGIN4, PORT + 4, uid=PROXY_UID)
    assert greeting == "origin"
    first.kill()
    cut(exempt)
    older, greeting = dial(network, ORIGIN4, PORT + 4)
    assert greeting == "origin"
    launch().start(EVERYTHING)
    assert echo(older) == b"ping"
    cut(older)


def test_what_lives_is_not_forgotten(network, launch):
    """Another start's diverted connections, and the origin's end of them."""
    launch().start(EVERYTHING)
    diverted, greeting = dial(network, ORIGIN4, PORT + 3)
    assert greeting == DIVERTED
    network.client.call(conntrack.forget, (443,), PROXY_UID)
    assert echo(diverted) == b"ping"
    cut(diverted)
    assert network.client.call(conntrack.forget, (80,)) == 0
