"""A lean mitmproxy: its protocol layers and our own master, hook table and connection handler round them.

Stock mitmdump offers every hook to some 35 addons through tasks and locks.  Here a hook name maps to the one function
that handles it; a function that does not wait is called at once, with no task and no lock.

With `transports.py`, `layers.py`, `http1.py`, `http2.py`, `stream.py`, `refusing.py`, `websocket.py` and `tlsface.py`
one of the files that know mitmproxy's internals; all others keep to its documented flows.
"""

# isort: off
from proxy import lean  # noqa: F401 before mitmproxy's addons
# isort: on

import asyncio
import dataclasses
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

# isort: split
from mitmproxy import addonmanager, master, options
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Connection
from mitmproxy.hooks import all_hooks
from mitmproxy.proxy import commands, events, layer, mode_specs, server

from proxy.body import Body
from proxy.session import Session
from proxy.transports import Transports

log = logging.getLogger(__name__)

#: A client's handshake and first words may take this many times the limit of its hello; the origin's handshake, within
#: it, has a limit of its own.
HANDSHAKES = 2
#: Seconds without a byte either way until a connection is closed; browsers keep theirs open for up to 5 minutes.
IDLE_LIMIT = 600

Hook = Callable[..., Awaitable[None] | None]


class Capture(mode_specs.ProxyMode):
    """The mode of our connections: diverted or asked for, their destination is known when they begin."""

    description = "captured connections"
    transport_protocol = mode_specs.TCP

    def __post_init__(self) -> None:
        """Takes no data."""


CAPTURE = Capture.parse("capture")


class Cancel(commands.Command):
    """Take back a `RequestWakeup`."""

    def __init__(self, wakeup: commands.RequestWakeup) -> None:
        self.wakeup = wakeup


class Settle(commands.Command):
    """Wait until a body has been shown to all who scan it; other streams go on."""

    blocking = True

    def __init__(self, body: Body) -> None:
        self.body = body


@dataclasses.dataclass(repr=False)
class Settled(events.CommandCompleted):
    command: Settle
    reply: None = None


class Abort(commands.Command):
    """Reset the connection with the client and all with origins."""


def lean_options() -> tuple[master.Master, options.Options]:
    """Return a master without addons and the options that the layers read."""
    opts = options.Options()
    bare = master.Master(opts)
    loader = addonmanager.Loader(bare)
    Proxyserver().load(loader)      # the layers' options are defined there
    opts.update(
        connection_strategy="lazy", rawtcp=False, validate_inbound_headers=True, tcp_timeout=IDLE_LIMIT,
        http2_ping_keepalive=0)     # a ping timer a connection, for origins that do not need it
    return bare, opts


class Handler(Transports):
    """Runs the layers of one connection.

    Differs from mitmproxy's in three ways: events are queued, not locked; hooks that do not wait run in place; and a
    crash in a layer closes the connection, where mitmproxy would let the next bytes pass.
    """

    def __init__(self, session: Session, hooks: dict[str, Hook], opts: options.Options,
                 reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer, opts, CAPTURE)
        self.session = session
        self._hooks = hooks
        self._events: deque[events.Event] = deque()
        self._unsent: dict[Connection, list[bytes]] = {}
        self._busy = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling: set[asyncio.Task[None]] = set()
        self._timers: dict[commands.RequestWakeup, asyncio.TimerHandle] = {}
        self.client.peername = session.connection.client       # of a reflected one, the socket has the server's
        self.client.sockname = self.layer.context.server.address = session.connection.address

    def run_layer(self, make: Callable[[Any, Session], layer.Layer]) -> None:
        self.layer = make(self.layer.context, self.session)

    async def serve(self) -> None:
        """Run until both sides are closed."""
        overdue = self._loop.call_later(HANDSHAKES * self.session.rules().policy.limits.hello, self._client_overdue)
        try:
            await self.handle_client()
        finally:
            overdue.cancel()
            for task in self._settling:
                task.cancel()
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    def _client_overdue(self) -> None:
        if not self.session.settled:
            self.abort("the client's handshake, or its first words, take too long")

    # -- events in, commands out

    async def server_event(self, event: events.Event) -> None:
        self.deliver(event)

    def deliver(self, event: events.Event) -> None:
        """Feed an event to the layers and carry out what they ask for; an event from within waits its turn."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        self.timeout_watchdog.last_activity = time.time()
        try:
            while self._events:
                for command in self.layer.handle_event(self._events.popleft()):
                    self._carry_out(command)
            self._send()
        except Exception:
            log.exception("a layer failed; the connection is closed")
            self._crash()
        finally:
            self._busy = False
        self._eased.set()

    def _carry_out(self, command: commands.Command) -> None:
        match command:
            case commands.SendData():
                self._unsent.setdefault(command.connection, []).append(command.data)
            case commands.StartHook():
                self._start_hook(command)
            case commands.Log():
                log.log(min(command.level, logging.INFO), "%s", command.message)
            case commands.OpenConnection():
                task = self._loop.create_task(self.open_connection(command))
                self.transports[command.connection] = server.ConnectionIO(handler=task)
            case commands.CloseConnection():
                self._send()
                half = isinstance(command, commands.CloseTcpConnection) and command.half_close
                self.close_connection(command.connection, half)
            case commands.RequestWakeup():
                self._timers[command] = self._loop.call_later(command.delay, self._wake, command)
            case Cancel():
                if timer := self._timers.pop(command.wakeup, None):
                    timer.cancel()
            case Settle():
                self._settle(command)
            case Abort():
                self.abort("aborted")
            case _:
                raise TypeError(f"unexpected command: {command}")

    def _send(self) -> None:
        """What belongs together, a head and its body, leaves together: each write is a system call and a packet."""
        for connection, chunks in self._unsent.items():
            if (io := self.transports.get(connection)) and io.writer and not io.writer.is_closing():
                io.writer.write(b"".join(chunks))
        self._unsent.clear()

    def _wake(self, command: commands.RequestWakeup) -> None:
        if self._timers.pop(command, None):
            self.deliver(events.Wakeup(command))

    def _crash(self) -> None:
        """The layers are in a state that nobody knows: nothing more is fed to them."""
        self._events.clear()
        self._unsent.clear()
        self.layer = Deaf(self.layer.context)
        self.abort("a layer failed")

    # -- hooks

    def _start_hook(self, hook: commands.StartHook) -> None:
        """Most hooks that may wait do not: a task is begun at once and only kept if it really does."""
        handler = self._hooks.get(hook.name)
        arguments = [getattr(hook, name) for name in _arguments(hook.name)]
        waiting = handler(self.session, *arguments) if handler else None
        if waiting is not None:
            task = asyncio.Task(_finish(waiting), loop=self._loop, eager_start=True)
            if not task.done():
                self._tasks.add(task)
                task.add_done_callback(lambda done: self._hook_done(hook, done))
                return
            task.result()
        if hook.blocking:
            self._events.append(events.HookCompleted(hook))

    def _hook_done(self, hook: commands.StartHook, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception():
            why = None if task.cancelled() else task.exception()
            log.error("a hook failed; the connection is closed", exc_info=why)
            self._crash()
        elif hook.blocking:
            self.deliver(events.HookCompleted(hook))

    def _settle(self, command: Settle) -> None:
        task = self._loop.create_task(command.body.settle())
        self._settling.add(task)
        task.add_done_callback(lambda done: self._settled(command, done))

    def _settled(self, command: Settle, task: asyncio.Task[None]) -> None:
        self._settling.discard(task)
        if task.cancelled():    # the connection is over
            return
        if error := task.exception():
            log.error("a body could not be scanned; the connection is closed", exc_info=error)
            self._crash()
        else:
            self.deliver(Settled(command))

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """The hooks round a connection, which mitmproxy calls from tasks: nobody here has any."""


@cache
def _arguments(hook: str) -> tuple[str, ...]:
    """The names of a hook's arguments, which `Hook.args` would look up at each call."""
    return tuple(field.name for field in dataclasses.fields(all_hooks[hook]))  # type: ignore[arg-type]


async def _finish(waiting: Awaitable[None]) -> None:
    await waiting


class Deaf(layer.Layer):
    """Takes every event and does nothing."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield from ()
