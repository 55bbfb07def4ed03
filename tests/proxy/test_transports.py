"""Sockets: nobody is read from faster than the other side takes, and what ends, ends for both."""

import contextlib
import socket
import time
from pathlib import Path

import pytest

from tests.proxy.conftest import GET, MIB, read_answer, scanning


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with scanning(folder, origin) as started:
        yield started


def endless(sock):
    """More than anybody takes at once."""
    with contextlib.suppress(OSError):
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 209715200\r\n\r\n")
        for _ in range(200):
            sock.sendall(b"z" * MIB)


def test_flood_after_a_request_is_not_read(proxy, origin):
    origin.paths["/wait"] = lambda _: time.sleep(1.5)
    before = proxy.memory()
    with proxy.tls(origin) as sock:
        sock.sendall(GET.replace(b" / ", b" /wait "))
        sock.settimeout(0.5)
        with contextlib.suppress(OSError):
            for _ in range(100):
                sock.sendall(GET * 20_000)
        sock.settimeout(5)
        assert read_answer(sock).status == 504
    assert proxy.memory() - before < 20 * MIB


def test_client_closes_its_half(proxy, origin):
    """It may have said all that it wants to; it still gets its answer."""
    origin.paths["/slow"] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow"
    with proxy.tls(origin) as sock:
        sock.sendall(GET.replace(b" / ", b" /slow "))
        socket.socket.shutdown(sock, socket.SHUT_WR)
        assert read_answer(sock).body == b"slow"


@pytest.mark.parametrize("sent", [
    b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: origin.test\r\ncontent-length: 9\r\n\r\nabc",
], ids=["nothing", "half a head", "half a body"])
def test_client_leaves_early(proxy, origin, sent):
    with proxy.tls(origin) as sock:
        sock.sendall(sent)
        time.sleep(0.05)
    time.sleep(0.05)
    assert b"abc" not in origin.record
    assert proxy.ask(origin, GET).status == 200


def test_slow_reader_does_not_fill_the_memory(proxy, origin):
    origin.paths["/big"] = endless
    before = proxy.memory()
    with proxy.tls(origin) as sock:
        sock.sendall(GET.replace(b" / ", b" /big "))
        time.sleep(0.7)
        assert proxy.memory() - before < 20 * MIB


def test_origin_that_does_not_read_does_not_fill_the_memory(proxy, origin):
    origin.paths["/deaf"] = lambda _: time.sleep(1)
    before = proxy.memory()
    with proxy.tls(origin) as sock:
        sock.sendall(b"POST /deaf HTTP/1.1\r\nhost: origin.test\r\ncontent-length: 209715200\r\n\r\n")
        sock.settimeout(0.4)
        with contextlib.suppress(OSError):
            for _ in range(200):
                sock.sendall(b"z" * MIB)
        assert proxy.memory() - before < 20 * MIB


def test_clients_that_left_are_forgotten(proxy, origin):
    """Also where the origin goes on and on."""
    origin.paths["/big"] = endless
    for _ in range(5):
        with proxy.tls(origin) as sock:
            sock.sendall(GET.replace(b" / ", b" /big "))
            sock.recv(1000)
    time.sleep(0.3)
    descriptors = len(list(Path(f"/proc/{proxy.process.pid}/fd").iterdir()))
    assert descriptors < 30


@pytest.mark.parametrize(("pause", "whole"), [(0.4, True), (5, False)])
def test_half_closed_client_that_reads_on(proxy, origin, pause, whole):
    """As long as something moves; after a silence it is taken for one that has left."""
    def act(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n")
        for _ in range(6):
            time.sleep(pause)
            sock.sendall(b"x" * 10_000)

    origin.paths["/drip"] = act
    with proxy.tls(origin) as sock:
        sock.sendall(GET.replace(b" / ", b" /drip "))
        socket.socket.shutdown(sock, socket.SHUT_WR)
        assert read_answer(sock).ended == whole
