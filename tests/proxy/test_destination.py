"""Addresses that no connection is led to, and the way to those that one may be."""

import asyncio
import contextlib
import socket
import time

import pytest

from proxy import destination
from proxy.destination import dial, forbidden, numeric, peer, plain

#: Seconds between attempts: more than usual, so that a busy machine is not taken for another attempt.
DELAY = 0.6
OWN = {("127.0.0.1", 8080), ("192.0.2.1", 8081)}


@pytest.mark.parametrize(("address", "expected"), [
    ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::1"),
    ("2001:db8:0:0::1", "2001:db8::1"),
])
def test_plain(address, expected):
    assert plain(address) == expected


@pytest.mark.parametrize(("address", "port", "refused"), [
    pytest.param("192.0.2.9", 443, False, id="anywhere"),
    pytest.param("127.0.0.1", 443, False, id="this computer"),
    pytest.param("127.0.0.1", 8080, True, id="ourselves"),
    pytest.param("127.0.0.2", 8080, True, id="ourselves, another loopback address"),
    pytest.param("::1", 8080, True, id="ourselves, IPv6"),
    pytest.param("::ffff:127.0.0.1", 8080, True, id="ourselves, mapped"),
    pytest.param("192.0.2.1", 8081, True, id="ourselves, not loopback"),
    pytest.param("192.0.2.2", 8081, False, id="our port elsewhere"),
    pytest.param("169.254.169.254", 80, True, id="metadata"),
    pytest.param("::ffff:169.254.169.254", 80, True, id="metadata, mapped"),
    pytest.param("fd00:ec2::254", 80, True, id="metadata, IPv6"),
    pytest.param("100.100.100.200", 80, True, id="metadata, not link-local"),
    pytest.param("fe80::1", 80, True, id="link-local"),
    pytest.param("0.0.0.0", 80, True, id="no address"),
    pytest.param("::", 80, True, id="no address, IPv6"),
    pytest.param("224.0.0.1", 80, True, id="multicast"),
])
def test_forbidden(address, port, refused):
    assert (forbidden(address, port, OWN) is not None) == refused


@pytest.mark.parametrize(("address", "refused"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.0.2.1", False),
    ("10.0.0.1", False),
])
def test_forbidden_to_other_computers(address, refused):
    """Whoever may use the proxy from elsewhere gets at no service that listens for this computer alone."""
    assert (forbidden(address, 80, OWN, here=False) is not None) == refused
    assert forbidden(address, 80, OWN) is None


@pytest.mark.parametrize(("host", "expected"), [("192.0.2.1", True), ("::1", True), ("a.test", False), ("1", False)])
def test_numeric(host, expected):
    assert numeric(host) == expected


@pytest.mark.parametrize(("listening", "address", "refused"), [
    pytest.param("0.0.0.0", "{here}", True, id="everywhere"),
    pytest.param("::", "{here}", True, id="everywhere, IPv6"),
    pytest.param("127.0.0.1", "{here}", False, id="on loopback alone"),
    pytest.param("0.0.0.0", "192.0.2.77", False, id="another computer"),
])
def test_an_address_of_our_own(listening, address, refused):
    """A listener without an address has all of this computer's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))      # sends nothing; the system chooses the address that it would have
        except OSError:
            pytest.skip("no network but loopback here")
        here = sock.getsockname()[0]
    assert (forbidden(address.format(here=here), 8080, {(listening, 8080)}) is not None) == refused


@pytest.fixture
def places(monkeypatch):
    """Addresses where somebody answers, everybody is refused, and nobody is heard, for the queue is full."""
    monkeypatch.setattr(destination, "ATTEMPT_DELAY", DELAY)
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        with socket.create_server(("127.0.0.1", 0)) as closed:
            nobody = closed.getsockname()
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield {"good": good.getsockname(), "refused": nobody, "silent": full.getsockname()}


@pytest.mark.parametrize(("names", "waits"), [
    pytest.param(["good"], 0, id="one"),
    pytest.param(["good", "silent"], 0, id="the first"),
    pytest.param(["refused", "good"], 0, id="at once after a failure"),
    pytest.param(["silent", "good"], 1, id="a moment after one that is silent"),
    pytest.param(["silent", "silent", "good"], 2, id="a moment after each"),
    pytest.param(["silent", "refused", "good"], 1, id="both"),
])
def test_dial(places, names, waits):
    async def run():
        with await asyncio.wait_for(dial([places[name] for name in names]), 5) as sock:
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1, "the others are given up"
            return peer(sock)

    began = time.monotonic()
    assert asyncio.run(run()) == places["good"]
    assert waits * DELAY <= time.monotonic() - began + 0.01 < (waits + 1) * DELAY


@pytest.mark.parametrize(("names", "error"), [
    pytest.param(["refused"], ConnectionRefusedError, id="one"),
    pytest.param(["refused", "refused"], ConnectionRefusedError, id="all"),
    pytest.param(["refused", "silent"], TimeoutError, id="the last may still answer"),
    pytest.param(["silent", "silent"], TimeoutError, id="given up from outside"),
])
def test_dial_in_vain(places, names, error):
    """Nothing is left open: a forgotten socket would be warned of."""
    async def run():
        async with asyncio.timeout(2 * DELAY):
            await dial([places[name] for name in names])

    with pytest.raises(error):
        asyncio.run(run())
