"""Names that the explicit door looks up or does not, and which of their addresses it leads to.

The name service is the test's own; door, gate, engine and origins are real.
"""

import asyncio
import contextlib
import socket

import pytest

from proxy import explicit
from proxy.bypass import Bypasses
from proxy.chain import Chain
from proxy.engine import lean_options
from proxy.gate import hooks
from proxy.listener import Door
from proxy.policy import parse
from proxy.records import Records
from proxy.registry import build
from proxy.schema import Events
from proxy.session import Rules
from proxy.sinks import read
from proxy.tlsface import Tls
from tests.proxy.conftest import read_answer
from tests.proxy.origin import Origin

POLICY = """\
version: 1
limits: {answer: 2, hello: 2}
connections:
  - {id: no-way, verdict: block, hosts: [blocked.invalid]}
  - {id: far-away, verdict: bypass, hosts: [inside.invalid], addresses: [192.0.2.0/24]}
  - {id: inside, verdict: block, hosts: [inside.invalid]}
  - {id: no-net, verdict: block, addresses: [127.0.0.9/32]}
  - {id: alone, verdict: bypass, addresses: [127.0.0.8/32]}
filters:
  - {id: no-ads, use: blocklist.Hosts, with: {hosts: [ads.invalid]}}
"""


@pytest.fixture(scope="module")
def http_origin(folder):
    with Origin(folder / "http", tls=False).serve() as served:
        yield served


@pytest.fixture(autouse=True)
def _forget(http_origin):
    http_origin.record.clear()
    http_origin.connections = 0


@pytest.fixture
def ask(tmp_path):
    """Put a request to a door whose name service knows just `names`; return the answer, the names looked up and the
    events."""
    policy = parse(POLICY.encode(), tmp_path / "policy.yaml")
    rules = Rules(policy, Chain(build(policy, tmp_path)))

    async def run(talk, names):
        loop, asked = asyncio.get_running_loop(), []

        async def lookup(host, port, **_):
            asked.append(host)
            if host not in names:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return [(0, 0, 0, "", (address, port)) for address in names[host]]

        loop.getaddrinfo = lookup
        records = Records(tmp_path, Events())
        bypasses = Bypasses(None, None)         # nothing here speaks TLS
        table = hooks(Tls(None, None), bypasses)
        door = Door(lean_options()[1], table, lambda: rules, records, lambda *_: loop.create_future(), True, bypasses)
        with door.listen("127.0.0.1", 0) as listener:
            accepting = asyncio.create_task(door.accept(listener))
            answer = await asyncio.to_thread(talk, listener.getsockname()[1])
            accepting.cancel()
            await asyncio.wait([accepting, *door.tasks])
        records.close()
        return answer, asked, list(read(tmp_path))

    return lambda talk, names=(): asyncio.run(run(talk, names))


def plain(host, port=80):
    """A request to the proxy itself."""
    return f"GET http://{host}:{port}/ HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode()


def talking(*raw):
    """What a client does that sends these, each after the answer to the one before."""
    def talk(port):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            for each in raw:
                sock.sendall(each)
                if each.startswith(b"CONNECT"):
                    answer = sock.recv(4096)
                    assert b" 200 " in answer, answer
            return read_answer(sock)

    return talk


def tunnel(host, port=80):
    """A tunnel and a request in it."""
    authority = f"{host}:{port}"
    return (f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode(),
            f"GET / HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode())


@pytest.mark.parametrize(("raw", "status", "expected"), [
    pytest.param([plain("blocked.invalid")], 403, [], id="blocked by a rule"),
    pytest.param([plain("ads.invalid")], 403, [], id="blocked by a filter"),
    pytest.param([plain("sub.ads.invalid")], 403, [], id="blocked with its parent"),
    pytest.param(tunnel("blocked.invalid"), 403, [], id="a tunnel, blocked by a rule"),
    pytest.param(tunnel("ads.invalid"), 403, [], id="a tunnel, blocked by a filter"),
    pytest.param([plain("free.invalid")], 502, ["free.invalid"], id="not blocked"),
    pytest.param([plain("inside.invalid")], 502, ["inside.invalid"], id="a rule on its address comes first"),
])
def test_a_blocked_name_is_not_looked_up(ask, raw, status, expected):
    answer, asked, _ = ask(talking(*raw))
    assert (answer.status, asked) == (status, expected)


@pytest.mark.parametrize("request_to", [lambda *to: [plain(*to)], tunnel], ids=["plain", "tunnel"])
@pytest.mark.parametrize(("addresses", "status"), [
    pytest.param(["127.0.0.1"], 200, id="one"),
    pytest.param(["::1", "127.0.0.1"], 200, id="nobody at the first"),
    pytest.param(["127.0.0.9", "127.0.0.1"], 200, id="the first is blocked"),
    pytest.param(["169.254.169.254", "127.0.0.1"], 200, id="the first is forbidden"),
    pytest.param(["127.0.0.3", "127.0.0.8"], 502, id="no other verdict than the first one's"),
    pytest.param(["127.0.0.3", "127.0.0.9"], 502, id="no way round a block"),
    pytest.param(["127.0.0.9"], 403, id="all are blocked"),
])
def test_addresses_in_turn(ask, http_origin, request_to, addresses, status):
    """Listeners at the addresses that are not to be dialled hear nothing."""
    with contextlib.ExitStack() as stack:
        quiet = [stack.enter_context(socket.create_server((host, http_origin.port)))
                 for host in ("127.0.0.9", "127.0.0.8")]
        raw = request_to("many.invalid", http_origin.port)
        answer, asked, events = ask(talking(*raw), {"many.invalid": addresses})
        for listener in quiet:
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
    assert (answer.status, asked) == (status, ["many.invalid"])
    if status == 200 and len(raw) > 1:
        assert {event["dest_ip"] for event in events} == {"127.0.0.1"}, "where it went in the end"


@pytest.mark.parametrize("raw", [[plain("many.invalid")], tunnel("many.invalid")[:1]], ids=["plain", "tunnel"])
def test_forbidden_addresses_alone(ask, raw):
    def talk(port):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(raw[0])
            return read_answer(sock)

    answer, _, _ = ask(talk, {"many.invalid": ["169.254.169.254", "fe80::1", "fd00:ec2::254"]})
    assert answer.status == 403
    assert b"metadata" in answer.body


@pytest.mark.parametrize(("found", "expected"), [
    (["2001:db8::1", "2001:db8::2", "192.0.2.1"], ["2001:db8::1", "192.0.2.1", "2001:db8::2"]),
    (["192.0.2.1", "2001:db8::1", "2001:db8::2"], ["192.0.2.1", "2001:db8::1", "2001:db8::2"]),
    (["192.0.2.1", "192.0.2.1", "fe80::1"], ["192.0.2.1"]),
    ([f"192.0.2.{n}" for n in range(1, 99)], [f"192.0.2.{n}" for n in range(1, explicit.MAX_ADDRESSES + 1)]),
], ids=["in turn", "the system's choice first", "repeated, forbidden", "too many"])
def test_order(found, expected):
    async def run():
        async def lookup(_host, port, **_):
            return [(0, 0, 0, "", (address, port)) for address in found]

        asyncio.get_running_loop().getaddrinfo = lookup
        return await explicit.find("a.test", 443, set())

    assert asyncio.run(run()) == tuple((address, 443) for address in expected)
