"""The proxy's end of the control channel, against a redirector that only observes."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, closing, suppress

import pytest

from addons.connection import Parent, Process
from proxy import channel as module
from proxy.channel import Channel, Lost, described, own_lookup
from redirector import wire
from redirector.plan import NO_UID


@asynccontextmanager
async def redirector(tmp_path):
    """The channel, the task that serves it, and the process at the other end."""
    ours, theirs = socket.socketpair()
    with theirs, ours:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "redirector"], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL
        )
        theirs.close()
        ours.sendall(wire.encode(wire.Start("t", str(tmp_path), None)))
        channel = Channel(ours)
        task = asyncio.create_task(channel.run())
        try:
            assert await asyncio.wait_for(asyncio.shield(channel.ready), 10) == wire.Ready("none", 0, False)
            yield channel, task, process
        finally:
            process.kill()
            process.wait()
            with suppress(Lost):
                await task


@pytest.fixture
def connection():
    """A connection of this process: client and server address."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        closing(socket.create_connection(server.getsockname())) as client,
    ):
        yield client.getsockname(), server.getsockname()


def test_it_knows_whose_connection_it_is(tmp_path, connection):
    async def ask():
        async with redirector(tmp_path) as (channel, _, _):
            return await asyncio.gather(channel.owner(*connection), channel.owner(("127.0.0.1", 1), ("127.0.0.1", 2)))

    ours, nobody = asyncio.run(ask())
    assert (ours.pid, ours.uid, nobody) == (os.getpid(), os.getuid(), None)
    assert ours.parents[0].pid == os.getppid()


@pytest.mark.parametrize("server", [("192.0.2.1", 443), None])
def test_where_a_connection_was_going_is_the_redirectors_word(server):
    async def ask():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            channel = Channel(ours)
            task = asyncio.create_task(channel.run())
            asked = channel.origin(("127.0.0.1", 1), ("127.0.0.1", 2))
            assert wire.Lookup(1, ("127.0.0.1", 1), ("127.0.0.1", 2)) in wire.Decoder().feed(theirs.recv(4096))
            theirs.sendall(wire.encode(wire.Owner(1, wire.Process(5, "x", 7), server)))
            process, found = await asyncio.wait_for(asked, 5)
            theirs.close()
            with suppress(Lost):
                await task
            return process.pid, found

    assert asyncio.run(ask()) == (7, server)


def test_without_a_redirector_its_own_eyes_serve(connection):
    async def ask():
        return await own_lookup(*connection)

    assert asyncio.run(ask()).pid == os.getpid()


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSTOP])
def test_a_redirector_that_goes_or_hangs_is_lost(tmp_path, monkeypatch, death):
    monkeypatch.setattr(module, "SILENCE_LIMIT", 0.5)

    async def lose():
        async with redirector(tmp_path) as (_, task, process):
            process.send_signal(death)
            with pytest.raises(Lost):
                await asyncio.wait_for(asyncio.shield(task), 2)

    asyncio.run(lose())


def test_stop_ends_it_in_order(tmp_path):
    async def stop():
        async with redirector(tmp_path) as (channel, task, process):
            channel.stop()
            with pytest.raises(Lost):
                await task
            return process.wait(5)

    assert asyncio.run(stop()) == 0


def test_what_it_cannot_do_is_told(tmp_path):
    async def fail():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(wire.encode(wire.Failed("apt install nftables")))
            with pytest.raises(Lost, match="apt install nftables"):
                await Channel(ours).run()

    asyncio.run(fail())


@pytest.fixture
def unread():
    """A channel whose redirector does not read, with little room between them; and the redirector's end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        theirs.setblocking(False)
        yield lambda: Channel(ours), theirs


def test_what_does_not_fit_now_follows_whole(unread):
    """A part of a line would be nonsense to the redirector, and the rules would go."""
    make, theirs = unread

    async def talk():
        channel, decoder, heard = make(), wire.Decoder(), []
        asked = [channel.owner(("127.0.0.1", 1), ("127.0.0.1", 2)) for _ in range(300)]
        channel.stop()
        assert channel._pending
        loop = asyncio.get_running_loop()
        while wire.Stop() not in heard:
            heard += decoder.feed(await asyncio.wait_for(loop.sock_recv(theirs, 1000), 2))
        assert [message.id for message in heard[:-1]] == list(range(1, 301))
        assert not [each for each in asked if each.done()]
        assert not channel._pending

    asyncio.run(talk())


def test_what_does_not_fit_at_all_is_answered_or_dropped(unread):
    make, theirs = unread

    async def talk():
        channel = make()
        asked = [channel.owner(("127.0.0.1", 1), ("127.0.0.1", 2)) for _ in range(2000)]
        assert len(channel._pending) <= module.MAX_PENDING
        answered = [each for each in asked if each.done()]
        assert answered
        assert [each.result() for each in answered] == [None] * len(answered)
        await asyncio.sleep(0)
        assert len(channel._asked) == len(asked) - len(answered)
        decoder, loop, heard = wire.Decoder(), asyncio.get_running_loop(), []
        while len(heard) < len(channel._asked):         # whole lines, as ever
            heard += decoder.feed(await asyncio.wait_for(loop.sock_recv(theirs, 1 << 16), 2))

    asyncio.run(talk())


def test_a_channel_that_was_closed_takes_everything():
    async def talk():
        ours, theirs = socket.socketpair()
        with ours:
            channel = Channel(ours)
            theirs.close()
            channel.stop()
            assert not channel._pending

    asyncio.run(talk())


def test_a_system_that_cannot_be_asked_knows_nobody(monkeypatch, connection):
    monkeypatch.setattr("redirector.sockets.NETLINK_SOCK_DIAG", 31)     # no kernel has it

    async def ask():
        return await own_lookup(*connection)

    assert asyncio.run(ask()) is None


def test_described():
    found = wire.Process(65534, "", 7, "/bin/x", ("x", "y"), (wire.Parent(3, "/bin/sh"), wire.Parent(1)), 1.0,
                         "/user.slice", name="x", service="a.service", container="lxc:b", namespaces=("mnt",))
    assert described(found) == Process(
        pid=7, exe="/bin/x", cmdline=("x", "y"), user="nobody", uid=65534, parents=(Parent(3, "/bin/sh"), Parent(1)),
        cgroup="/user.slice", name="x", started=1.0, service="a.service", container="lxc:b", namespaces=("mnt",)
    )
    assert described(None) is None


def test_nobody_knows_whose_it_was():
    found = described(wire.Process(NO_UID, "", ended=True))
    assert (found.user, found.uid, found.pid) == ("", None, 0)
