"""A lean mitmproxy: its protocol layers and our own master, hook table and connection handler round them.

Stock mitmdump offers every hook to some 35 addons through tasks and locks.  Here a hook name maps to the one function
that handles it; a function that does not wait is called at once, with no task and no lock.

One of the three files that know mitmproxy's internals (with `stream.py` and `tlsface.py`).
"""

import asyncio
import contextlib
import inspect
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from proxy import lean  # noqa: F401, I001 before mitmproxy's addons
from mitmproxy import addonmanager, master, options
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, events, layer, mode_specs, server, server_hooks

from proxy.session import Session
from proxy.tlsface import CIPHERS, Tls

log = logging.getLogger(__name__)

#: Seconds until an origin must have accepted the connection.  Clients themselves give up after 10 to 30.
CONNECT_LIMIT = 5.0
#: Seconds until an origin must have finished the TLS handshake, counted from the connection.
HANDSHAKE_LIMIT = 5.0
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


def lean_options(roots: str) -> tuple[master.Master, options.Options]:
    """Return a master without addons and the options that the layers read; `roots` is the upstream trust bundle."""
    opts = options.Options()
    lean = master.Master(opts)
    loader = addonmanager.Loader(lean)
    Proxyserver().load(loader)      # the layers' options are defined there
    Tls.load(Tls.__new__(Tls), loader)
    opts.update(
        connection_strategy="lazy", rawtcp=False, validate_inbound_headers=True, tcp_timeout=IDLE_LIMIT,
        ssl_verify_upstream_trusted_ca=roots, ciphers_client=CIPHERS, ciphers_server=CIPHERS,
        http2_ping_keepalive=0)     # a ping timer a connection, for origins that do not need it
    return lean, opts


class Handler(server.LiveConnectionHandler):
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
        self._busy = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._wakeups: dict[commands.RequestWakeup, asyncio.TimerHandle] = {}
        self._loop = asyncio.get_running_loop()
        context = self.layer.context
        self.client.sockname = context.server.address = session.connection.address

    def run_layer(self, make: Callable[[Any, Session], layer.Layer]) -> None:
        self.layer = make(self.layer.context, self.session)

    async def serve(self) -> None:
        """Run until both sides are closed."""
        try:
            await self.handle_client()
        finally:
            for timer in self._wakeups.values():
                timer.cancel()
            self._wakeups.clear()

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
        except Exception:
            log.exception("a layer failed; the connection is closed")
            self._abort()
        finally:
            self._busy = False

    def _carry_out(self, command: commands.Command) -> None:
        match command:
            case commands.SendData():
                if (io := self.transports.get(command.connection)) and io.writer and not io.writer.is_closing():
                    io.writer.write(command.data)
            case commands.StartHook():
                self._start_hook(command)
            case commands.Log():
                log.log(min(command.level, logging.INFO), "%s", command.message)
            case commands.OpenConnection():
                task = self._spawn(self.open_connection(command))
                self.transports[command.connection] = server.ConnectionIO(handler=task)
            case commands.CloseTcpConnection():
                if command.connection in self.transports:
                    self.close_connection(command.connection, command.half_close)
            case commands.CloseConnection():
                if command.connection in self.transports:
                    self.close_connection(command.connection, False)
            case commands.RequestWakeup():
                self._wakeups[command] = self._loop.call_later(command.delay, self._wake, command)
            case Cancel():
                if timer := self._wakeups.pop(command.wakeup, None):
                    timer.cancel()
            case _:
                raise TypeError(f"unexpected command: {command}")

    def _wake(self, command: commands.RequestWakeup) -> None:
        if self._wakeups.pop(command, None):
            self.deliver(events.Wakeup(command))

    def _abort(self) -> None:
        self._events.clear()
        for io in list(self.transports.values()):
            if io.writer is not None:
                io.writer.transport.abort()  # type: ignore[union-attr]
            if io.handler is not None:
                io.handler.cancel("a layer failed")

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- hooks

    def _start_hook(self, hook: commands.StartHook) -> None:
        handler = self._hooks.get(hook.name)
        waiting = handler(self.session, *hook.args()) if handler else None
        if waiting is None:
            if hook.blocking:
                self._events.append(events.HookCompleted(hook))
        else:
            self._finish_hook(hook, waiting)

    def _finish_hook(self, hook: commands.StartHook, waiting: Awaitable[None]) -> None:
        """Most hooks that may wait do not: start the task eagerly and only keep it if it really does."""

        async def wait() -> None:
            await waiting

        task = asyncio.Task(wait(), loop=self._loop, eager_start=True)
        if task.done():
            task.result()
            if hook.blocking:
                self._events.append(events.HookCompleted(hook))
            return
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._hook_done(hook, done))

    def _hook_done(self, hook: commands.StartHook, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception():
            log.error("a hook failed; the connection is closed", exc_info=None if task.cancelled() else task.exception())
            self._abort()
        elif hook.blocking:
            self.deliver(events.HookCompleted(hook))

    async def handle_hook(self, hook: commands.StartHook) -> None:
        handler = self._hooks.get(hook.name)
        if handler and inspect.isawaitable(waiting := handler(self.session, *hook.args())):
            await waiting

    # -- origins

    async def open_connection(self, command: commands.OpenConnection) -> None:
        """Dial, with a limit on the connection and on the handshake that follows."""
        connection = command.connection
        assert isinstance(connection, Server)
        try:
            if not connection.address:
                raise OSError("no address to connect to")
            await self.handle_hook(server_hooks.ServerConnectHook(
                server_hooks.ServerConnectionHookData(server=connection, client=self.client)))
            if connection.error:
                raise OSError(connection.error)
            connection.timestamp_start = time.time()
            async with asyncio.timeout(CONNECT_LIMIT):
                reader, writer = await asyncio.open_connection(*connection.address[:2], local_addr=connection.sockname)
        except TimeoutError:
            return self._not_opened(command, f"no connection within {CONNECT_LIMIT:.0f} s")
        except OSError as error:
            return self._not_opened(command, str(error) or type(error).__name__)
        connection.timestamp_tcp_setup = time.time()
        connection.state = ConnectionState.OPEN
        connection.peername = writer.get_extra_info("peername")
        connection.sockname = writer.get_extra_info("sockname")
        self.transports[connection] = server.ConnectionIO(asyncio.current_task(), reader, writer)
        limit = self._loop.call_later(HANDSHAKE_LIMIT, self._handshake_overdue, connection)
        try:
            self.deliver(events.OpenConnectionCompleted(command, None))
            await self.handle_connection(connection)
        finally:
            limit.cancel()
            connection.timestamp_end = time.time()

    def _not_opened(self, command: commands.OpenConnection, reason: str) -> None:
        command.connection.error = reason
        self.transports.pop(command.connection, None)
        self.deliver(events.OpenConnectionCompleted(command, reason))

    def _handshake_overdue(self, connection: Server) -> None:
        if connection.tls and not connection.tls_established and (io := self.transports.get(connection)) and io.reader:
            io.reader.feed_eof()    # the TLS layer takes it for the close of a handshake and reports the failure
            with contextlib.suppress(OSError):
                io.writer.close()  # type: ignore[union-attr]
