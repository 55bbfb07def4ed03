"""Bypassed connections: bytes as they are, half-closes and ends passed on."""

import asyncio
import socket
import struct
from contextlib import ExitStack

import pytest

from proxy import splice as module
from proxy.splice import Moved, splice


async def joined(client_says, origin_says, first=b""):
    """Let both ends send and close their half; return what each got, and what was counted."""
    loop = asyncio.get_running_loop()
    client, ours = socket.socketpair()
    theirs, origin = socket.socketpair()
    for sock in (client, ours, theirs, origin):
        sock.setblocking(False)

    async def send(sock, data):
        await loop.sock_sendall(sock, data)
        sock.shutdown(socket.SHUT_WR)

    async def end(sock, data):
        sending, got = asyncio.ensure_future(send(sock, data)), b""
        while more := await loop.sock_recv(sock, 65536):
            got += more
        await sending
        return got

    with client, ours, theirs, origin:
        ends = asyncio.gather(end(client, client_says), end(origin, origin_says))
        await asyncio.wait_for(splice(ours, theirs, first, moved := Moved()), 5)
        return *(await ends), moved


@pytest.mark.parametrize(("client_says", "origin_says", "first"), [
    pytest.param(b"hello", b"world", b"", id="both"),
    pytest.param(b"", b"220 ready", b"", id="the origin alone"),
    pytest.param(b"rest", b"", b"first ", id="with what was read before"),
    pytest.param(b"x" * 3_000_000, b"y" * 3_000_000, b"", id="much both ways"),
])
def test_splice(client_says, origin_says, first):
    to_client, to_origin, moved = asyncio.run(joined(client_says, origin_says, first))
    assert (to_client, to_origin) == (origin_says, first + client_says)
    assert moved == Moved(len(to_origin), len(to_client))


def test_idle(monkeypatch):
    """Two ends that say nothing are not kept for ever."""
    monkeypatch.setattr(module, "IDLE_LIMIT", 0.1)

    async def run():
        pairs = socket.socketpair(), socket.socketpair()
        ends = [sock for pair in pairs for sock in pair]
        for sock in ends:
            sock.setblocking(False)
        try:
            await asyncio.wait_for(splice(pairs[0][0], pairs[1][0], b"", moved := Moved()), 5)
        finally:
            for sock in ends:
                sock.close()
        return moved

    assert asyncio.run(run()) == Moved()


def test_reset_ends_both():
    async def run():
        client, ours = socket.socketpair()
        theirs, origin = socket.socketpair()
        with client, ours, theirs, origin:
            for sock in (ours, theirs):
                sock.setblocking(False)
            origin.close()
            client.close()
            await asyncio.wait_for(splice(ours, theirs, b"", moved := Moved()), 5)
        return moved

    assert asyncio.run(run()) == Moved()


def test_what_moved_before_it_was_cancelled_is_counted():
    async def run():
        client, ours = socket.socketpair()
        theirs, origin = socket.socketpair()
        with client, ours, theirs, origin:
            for sock in (ours, theirs, origin):
                sock.setblocking(False)
            moved = Moved()
            task = asyncio.create_task(splice(ours, theirs, b"hello", moved))
            assert await asyncio.get_running_loop().sock_recv(origin, 100) == b"hello"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return moved

    assert asyncio.run(run()) == Moved(5, 0)


def tcp_pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = stack.enter_context(socket.create_connection(listener.getsockname()))
        other = stack.enter_context(listener.accept()[0])
    for sock in (one, other):
        sock.setblocking(False)
    return one, other


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("who", ["client", "origin"])
def test_a_reset_is_passed_on_behind_what_was_sent_before_it(who):
    """A clean end would make an answer that was cut look whole."""
    async def run():
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            (client, ours), (theirs, origin) = tcp_pair(stack), tcp_pair(stack)
            talks, hears = (client, origin) if who == "client" else (origin, client)
            joined = loop.create_task(splice(ours, theirs, b"", Moved()))
            await loop.sock_sendall(talks, b"x" * 1000)
            reset(talks)        # loopback: what was sent has arrived
            await asyncio.wait_for(joined, 5)
            ours.close()
            theirs.close()
            assert len(await loop.sock_recv(hears, 2000)) == 1000
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(hears, 1)

    asyncio.run(run())


def test_after_a_reset_nothing_waits_on_the_descriptors():
    """It would be woken in the place of the next connection that has them, which then hangs."""
    async def run():
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            (client, ours), (theirs, _) = tcp_pair(stack), tcp_pair(stack)
            joined = loop.create_task(splice(ours, theirs, b"", Moved()))
            await asyncio.sleep(0.05)
            reset(client)
            await asyncio.wait_for(joined, 5)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert not loop.remove_reader(theirs)

    asyncio.run(run())
