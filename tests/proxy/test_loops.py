"""Connections that come round are refused, and those that only look so are not; the sockets are real."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys

import pytest

from addons.connection import Connection, Parent, Process
from proxy import loops
from proxy.channel import own_lookup
from proxy.dialled import Dialled
from proxy.loops import Loops, random_of, turns

#: Where all pretend to go; nobody listens there.
TARGET = ("192.0.2.1", 443)
BROWSER = Process(pid=4_000_001, exe="/usr/bin/browser")
HELLO = bytes([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]) + bytes(range(32)) + bytes(469)
#: Takes connections and keeps them, in a process of its own.
TAKES = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
taken = []
while True:
    taken.append(listener.accept())
"""


@pytest.fixture(scope="module")
def relay():
    """Another process that takes what we dial, wherever to: its pid, and its port."""
    with subprocess.Popen([sys.executable, "-c", TAKES], stdout=subprocess.PIPE, text=True) as process:
        yield process.pid, int(process.stdout.readline())
        process.kill()


class Guard:
    """A guard, and what it was asked about."""

    def __init__(self, captured=True):
        self.dialled, self.rounds, self.sockets, self.asked = Dialled(), [], [], 0
        self.loops = Loops(self.owner, captured=captured, dialled=self.dialled)

    def owner(self, client, server):
        self.asked += 1
        return own_lookup(client, server)

    def judge(self, process, first=b"", client="198.51.100.7", target=TARGET, through=()):
        connection = Connection("origin.test", target, (client, 40_000), process)
        return self.loops.judge(self.rounds, connection, first, through)

    def dial(self, port, target=TARGET):
        """As if NAT had led it there."""
        sock = socket.socket()
        self.dialled.add(sock, target)
        sock.connect(("127.0.0.1", port))
        self.sockets.append(sock)


@pytest.fixture
def guard(request):
    made = Guard(getattr(request, "param", True))
    yield made
    for sock in made.sockets:
        sock.close()
    for each in made.rounds:
        made.loops.leave(each)
    assert not any((made.loops._open, made.loops._named, made.loops._count, made.loops._randoms))


@pytest.fixture
def asked(monkeypatch):
    """How often the other ends were looked for."""
    counted, real = [], Loops._holder
    monkeypatch.setattr(Loops, "_holder", lambda *words: counted.append(words) or real(*words))
    return counted


def test_what_comes_from_the_other_end_of_ours_is_refused(guard, relay):
    async def scene():
        assert await guard.judge(BROWSER) == ""
        guard.dial(relay[1])
        why = await guard.judge(Process(pid=relay[0], exe="/opt/other"))
        assert f"/opt/other (pid {relay[0]})" in why        # both parties, and who began
        assert f"(pid {os.getpid()})" not in why
        assert f"pid {os.getpid()})" in why
        assert "/usr/bin/browser (pid 4000001)" in why
        assert guard.rounds[0].looped == why
    asyncio.run(scene())


def test_a_child_of_who_holds_it_is_refused_too(guard, relay):
    async def scene():
        await guard.judge(BROWSER)
        guard.dial(relay[1])
        assert await guard.judge(Process(pid=4_000_002, parents=(Parent(relay[0]),)))
        assert not await guard.judge(Process(pid=4_000_003, parents=(Parent(1), Parent(relay[0]))))
    asyncio.run(scene())


def test_the_third_round_of_one_that_began_itself_is_refused(guard, relay):
    async def scene():
        process = Process(pid=relay[0], exe="/opt/other")
        answers = []
        for _ in range(3):
            answers.append(bool(await guard.judge(process)))
            guard.dial(relay[1])
        assert answers[2]
    asyncio.run(scene())


def test_our_own_connection_is_refused(guard):
    assert "own connections" in asyncio.run(guard.judge(Process(pid=os.getpid())))


@pytest.mark.parametrize("process", [BROWSER, None], ids=["known", "unknown"])
@pytest.mark.parametrize("together", [True, False], ids=["at once", "one after another"])
def test_a_browser_with_fifty_connections_to_one_host_is_not_refused(guard, asked, process, together):
    """Its origin is far away: nobody here holds the other end."""
    async def scene():
        with socket.create_server(("127.0.0.1", 0), backlog=100) as origin:
            async def one():
                assert await guard.judge(process) == ""
                sock = socket.socket()
                guard.dialled.add(sock, TARGET)
                guard.sockets.append(sock)
                await asyncio.sleep(0.005)      # as long as an origin is away
                sock.connect(origin.getsockname())
                peer, _ = origin.accept()
                guard.sockets.append(peer)
                peer.send(b"ServerHello")
            if together:
                await asyncio.gather(*(one() for _ in range(50)))
            else:
                for _ in range(50):
                    await one()
    asyncio.run(scene())
    assert len(asked) <= 8


def test_one_program_after_another_is_not_refused(guard, relay):
    """Another's connection is open, and ends at a local server: that is no loop of theirs."""
    async def scene():
        await guard.judge(BROWSER)
        guard.dial(relay[1])
        for pid in range(4_100_000, 4_100_010):
            assert await guard.judge(Process(pid=pid, exe="/usr/bin/curl")) == ""
    asyncio.run(scene())


def test_what_is_not_open_costs_nothing(guard, asked):
    async def scene():
        for pid in range(4_100_000, 4_100_010):
            assert await guard.judge(Process(pid=pid)) == ""
            guard.loops.leave(guard.rounds.pop())
    asyncio.run(scene())
    assert asked == []


@pytest.mark.parametrize("guard", [True, False], ids=["captured", "asked"], indirect=True)
@pytest.mark.parametrize("target", [TARGET, ("192.0.2.2", 443)], ids=["address", "name"])
def test_what_our_upstream_proxy_leads_on_for_us(guard, relay, target):
    """Captured, it goes straight on; a proxy that asks us for it has us as its own upstream proxy."""
    async def scene():
        proxy, through = Process(pid=relay[0], exe="/usr/sbin/proxy"), [("127.0.0.1", relay[1])]
        assert await guard.judge(proxy, through=through) == ""      # its own
        guard.loops.leave(guard.rounds.pop())
        assert await guard.judge(BROWSER, through=through) == ""
        guard.dial(relay[1], through[0])
        why = await guard.judge(proxy, target=target, through=through)
        assert (guard.rounds[1].direct, bool(why)) == ((True, False) if guard.loops.captured else (False, True))
        assert await guard.judge(BROWSER, through=through) == ""
        assert not guard.rounds[2].direct
    asyncio.run(scene())


def test_our_hello_that_comes_back_is_refused_whoever_brings_it(guard):
    async def scene():
        assert await guard.judge(BROWSER, HELLO) == ""
        guard.loops.sent(guard.rounds[0], HELLO)
        assert "ClientHello" in await guard.judge(None, HELLO, client="203.0.113.1")
        assert await guard.judge(None, HELLO[:11] + bytes(32) + HELLO[43:], client="203.0.113.1") == ""
        guard.loops.leave(guard.rounds.pop(0))
        assert await guard.judge(None, HELLO) == ""
    asyncio.run(scene())


@pytest.mark.parametrize("event", [None, "answer", "end"])
def test_a_chain_of_unknown_clients_is_held_back_and_then_refused(guard, relay, event):
    async def scene():
        with socket.create_server(("127.0.0.1", 0)) as origin:
            for _ in range(loops.MAX_ROUNDS):
                assert await guard.judge(None) == ""
                guard.dial(origin.getsockname()[1])
            peer, _ = origin.accept()
            began = asyncio.get_running_loop().time()
            waiting = asyncio.ensure_future(guard.judge(None))
            await asyncio.sleep(0.1)
            with contextlib.suppress(OSError):
                if event == "answer":
                    peer.send(b"ServerHello")
                elif event == "end":
                    guard.sockets[1].close()
            why = await waiting
            took = asyncio.get_running_loop().time() - began
            peer.close()
            assert bool(why) is (event is None)
            assert "somebody at 198.51.100.7" in why or event
            assert (took >= loops.HOLD) is (event is None)
    asyncio.run(scene())


@pytest.mark.parametrize(("arrived", "dialled", "count"), [
    pytest.param([1, 2, 3, 4], [], 0, id="nothing has left"),
    pytest.param([1, 2, 3, 4], [5, 6, 7], 0, id="a browser: all, and then all"),
    pytest.param([1, 2, 3, 10, 11], [5, 6, 7], 1, id="a browser, twice"),
    pytest.param([1, 3, 5, 7], [2, 4, 6], 3, id="each because of the one before"),
])
def test_turns(arrived, dialled, count):
    assert turns(arrived, dialled) == count


@pytest.mark.parametrize("data", [b"", HELLO[:42], b"GET / HTTP/1.1\r\nhost: a-host-with-a-long-name.test\r\n\r\n",
                                  bytes([22, 3, 1, 0, 10]) + HELLO[5:]])
def test_no_random(data):
    assert random_of(data) is None
