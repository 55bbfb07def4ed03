"""A connection that a rule blocks: recorded once with the rule, however it ends."""

import contextlib
import ssl

import pytest

from tests.proxy.conftest import running

POLICY = """\
version: 1
capture: {{other: {other}}}
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 1, hello: 1}}
connections:
  - {{id: no-way, verdict: block, hosts: [blocked.wild.test]}}
filters:
  - {{id: cuts, use: ./mine.py:Cuts}}
"""
FILTERS = """
from lockgate import kill
class Cuts:
    def connection(self, conn): return kill("cut") if conn.host == "cut.wild.test" else None
"""
BLOCKED = b"GET / HTTP/1.1\r\nhost: blocked.wild.test\r\n\r\n"


@pytest.fixture(scope="module", params=["block", "relay"])
def proxy(folder, origin, request):
    policy = POLICY.format(roots=origin.roots, other=request.param)
    with running(folder / f"worker-{request.param}", policy, FILTERS) as started:
        yield started


def exchange(sock, data):
    with contextlib.suppress(OSError):
        sock.sendall(data)
        sock.recv(65536)


def leaves(proxy, sock):
    """Without a word."""


def is_silent(proxy, sock):
    assert sock.recv(100) == b""


def sends(data):
    def act(proxy, sock):
        exchange(sock, data)
    return act


def handshake(trusted, *requests):
    def act(proxy, sock):
        context = ssl.create_default_context(cafile=str(proxy.ca) if trusted else None)
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(sock, server_hostname="blocked.wild.test") as tls:
            for request in requests:
                exchange(tls, request)
    return act


@pytest.mark.parametrize("act", [
    pytest.param(leaves, id="it leaves"),
    pytest.param(is_silent, id="it is silent"),
    pytest.param(sends(b"\0\0\0\x10binary protocol"), id="not HTTP"),
    pytest.param(sends(b"\x16\x03\x01\x00\x20" + b"\x01\x00\x00\x1c" + b"\xff" * 28), id="broken TLS"),
    pytest.param(sends(b"\x16\x03\x01\x02\x00\x01"), id="half a hello"),
    pytest.param(handshake(False), id="it does not take our certificate"),
    pytest.param(handshake(True), id="a handshake and no more"),
    pytest.param(handshake(True, b"\1\2\3 not HTTP"), id="not HTTP within TLS"),
    pytest.param(handshake(True, BLOCKED.replace(b"blocked", b"other")), id="a request for another host"),
    pytest.param(handshake(True, BLOCKED), id="a request"),
    pytest.param(sends(BLOCKED), id="a request without TLS"),
])
def test_a_block_is_recorded_once_however_the_connection_ends(proxy, origin, act):
    with proxy.tunnel(origin, "blocked.wild.test") as sock:
        port = sock.getsockname()[1]
        act(proxy, sock)
    found = [event for event in proxy.events() if event["src_port"] == port]
    (event,) = [event for event in found if event["lockgate"].get("filter") == "no-way"]
    assert (event["event_type"], event["lockgate"]["verdict"]) == ("alert", "block")
    assert event["lockgate"]["incident"]
    assert not any("cannot be inspected" in event["lockgate"]["reason"] for event in found)
    assert origin.connections == 0


def test_a_killed_connection_is_reset_and_recorded_once(proxy, origin):
    with proxy.tunnel(origin, "cut.wild.test") as sock:
        port = sock.getsockname()[1]
        with pytest.raises(ConnectionResetError):
            sock.sendall(BLOCKED)
            sock.recv(100)
    (event,) = [event["lockgate"] for event in proxy.events() if event["src_port"] == port]
    assert (event["verdict"], event["filter"], len(event["incident"])) == ("kill", "cuts", 10)
