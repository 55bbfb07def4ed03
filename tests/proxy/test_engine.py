"""One connection's handler: events in turn, hooks in place, and an end that the client can read."""

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass

import pytest
from mitmproxy.proxy import commands, events, layer

from addons.connection import Connection
from proxy.chain import Chain
from proxy.engine import Abort, Cancel, Handler, lean_options
from proxy.policy import default_policy
from proxy.session import Rules, Session

RULES = Rules(default_policy(), Chain([]))


def serve(make, client, hooks=None):
    """Run a layer against what a client does; return what `client` returns."""
    async def run():
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        session = Session(Connection("a.test", ("192.0.2.1", 443), ("127.0.0.1", 1), tls=False), lambda: RULES, None)
        session.settled = True
        handler = Handler(session, hooks or {}, lean_options()[1], reader, writer)
        handler.run_layer(lambda context, _: make(context))
        server = asyncio.ensure_future(handler.serve())
        mine = await asyncio.open_connection(sock=theirs)
        try:
            return await asyncio.wait_for(client(*mine), 10)
        finally:
            mine[1].close()
            await asyncio.wait_for(server, 10)

    return asyncio.run(run())


class Scripted(layer.Layer):
    """Does what its function yields for each event."""

    act = None

    def _handle_event(self, event):
        yield from self.act(event)


def scripted(act):
    return type("S", (Scripted,), {"act": lambda self, event: act(self, event)})


async def say(reader, writer, data=b"x"):
    writer.write(data)
    return await reader.read()


def test_crash_closes_the_connection(caplog):
    def act(_, event):
        if isinstance(event, events.DataReceived):
            raise ZeroDivisionError
        yield from ()

    with caplog.at_level(logging.ERROR), contextlib.suppress(ConnectionError):
        assert serve(scripted(act), say) == b""
    assert "a layer failed" in caplog.text


def test_last_words_are_read():
    """The client goes on sending after we have closed; a reset would take our words from it."""
    def act(self, event):
        if isinstance(event, events.DataReceived):
            yield commands.SendData(self.context.client, b"bye" * 1000)
            yield commands.CloseConnection(self.context.client)

    async def client(reader, writer):
        for _ in range(100):
            writer.write(b"z" * 10_000)
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        return await reader.read()

    assert serve(scripted(act), client) == b"bye" * 1000


def test_abort():
    def act(_, event):
        if isinstance(event, events.DataReceived):
            yield Abort()

    with contextlib.suppress(ConnectionError):
        assert serve(scripted(act), say) == b""


def test_wakeups_can_be_taken_back():
    woken = []

    def act(self, event):
        if isinstance(event, events.Start):
            self.first, self.second = commands.RequestWakeup(0.05), commands.RequestWakeup(0.1)
            yield self.first
            yield self.second
            yield Cancel(self.first)
        if isinstance(event, events.Wakeup):
            woken.append(event.command is self.second)
            yield commands.CloseConnection(self.context.client)

    serve(scripted(act), say)
    assert woken == [True]


@dataclass
class SomeHook(commands.StartHook):
    """Offered to `some`."""

    what: str


@pytest.mark.parametrize("kind", ["none", "synchronous", "does not wait", "waits"])
def test_hooks(kind):
    """The layer goes on when the hook is done, and what arrived meanwhile comes after."""
    order = []

    async def eager(_session, _hook):
        order.append("hook")

    async def waits(_session, _hook):
        await asyncio.sleep(0.02)
        order.append("hook")

    hooks = {"none": {}, "synchronous": {"some": lambda _session, _hook: order.append("hook")},
             "does not wait": {"some": eager}, "waits": {"some": waits}}[kind]

    def act(self, event):
        if isinstance(event, events.DataReceived):
            yield SomeHook("x")
            order.append(event.data)
            if b"2" in event.data:
                yield commands.CloseConnection(self.context.client)

    async def client(reader, writer):
        writer.write(b"1")
        await asyncio.sleep(0.005)
        writer.write(b"2")
        return await reader.read()

    serve(scripted(act), client, hooks)
    assert order == ([b"1", b"2"] if kind == "none" else ["hook", b"1", "hook", b"2"])


def test_failing_hook_closes_the_connection(caplog):
    async def fails(_session, _hook):
        await asyncio.sleep(0)
        raise ZeroDivisionError

    def act(_, event):
        if isinstance(event, events.DataReceived):
            yield SomeHook("x")

    async def client(reader, writer):
        writer.write(b"x")
        try:
            return await reader.read()
        except ConnectionError:
            return b""

    with caplog.at_level(logging.ERROR):
        assert serve(scripted(act), client, {"some": fails}) == b""
    assert "a hook failed" in caplog.text
