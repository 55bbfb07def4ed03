"""The sockets of one connection: origins dialled, both ends read no faster than the other can take, and closed so that
the last words arrive.

One of the files that know mitmproxy's internals (see `engine.py`).
"""

import asyncio
import contextlib
import time

from mitmproxy import options
from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events, server

from proxy.destination import dial, peer, words
from proxy.dialled import dialled
from proxy.session import Session

#: Bytes read at once.
CHUNK = 65536
#: A client that we closed on may go on sending what it had begun, and hears nothing while it does: a reset would take
#: our last words from it (RFC 9112, 9.6).  Bytes and seconds that it is listened to (nginx: lingering_timeout, 5 s).
LINGER_BYTES, LINGER_LIMIT = 16 * 1024 * 1024, 5.0


class Transports(server.LiveConnectionHandler):
    """mitmproxy's connection handler with dialling, reading and closing of our own."""

    session: Session

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opts: options.Options,
                 mode: server.mode_specs.ProxyMode) -> None:
        super().__init__(reader, writer, opts, mode)
        self._loop = asyncio.get_running_loop()
        self._dialled: set[Server] = set()
        self._eased = asyncio.Event()       # something was handled: those that wait look again
        self._last_words = False            # the client's connection ends by our own wish

    def deliver(self, event: events.Event) -> None:
        raise NotImplementedError

    # -- reading

    async def handle_connection(self, connection: Connection) -> None:
        """Read until the peer or we end it; then, where the peer has closed its half only, until we close ours."""
        io = self.transports[connection]
        assert io.reader is not None
        assert io.writer is not None
        cancelled = None
        try:
            await self._read(connection, io.reader)  # type: ignore[arg-type]
            connection.state &= ~ConnectionState.CAN_READ
        except OSError as error:
            connection.error = words(error)
            connection.state = ConnectionState.CLOSED
        except asyncio.CancelledError as error:
            connection.state, cancelled = ConnectionState.CLOSED, error
        self.deliver(events.ConnectionClosed(connection))
        try:
            if connection.state is ConnectionState.CAN_WRITE:
                await asyncio.Event().wait()
            elif cancelled is not None and connection is self.client and self._last_words:
                await self._linger(io.reader, io.writer)  # type: ignore[arg-type]
        except asyncio.CancelledError as error:
            cancelled = error
        with contextlib.suppress(OSError):
            io.writer.close()
        self.transports.pop(connection, None)
        if cancelled is not None:
            raise cancelled

    async def _read(self, connection: Connection, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK):
            self.deliver(events.DataReceived(connection, data))
            await self._drain()
            while self.session.congested(connection) or (connection is self.client and self._meeting()):
                self._eased.clear()
                await self._eased.wait()

    def _meeting(self) -> bool:
        """Is an origin being dialled, or in its handshake?  What TLS or HTTP/1 send meanwhile would fill the memory."""
        return self.client.alpn != b"h2" and any(
            origin.timestamp_tcp_setup is None or (origin.tls and not origin.tls_established and origin.connected)
            for origin in self._dialled)

    async def _drain(self) -> None:
        """Nobody is read from while somebody's transport is full."""
        for io in tuple(self.transports.values()):
            if io.writer is not None:
                try:
                    await io.writer.drain()
                except OSError as error:
                    if io.handler is not None:
                        io.handler.cancel(f"it cannot be written to: {error}")

    @staticmethod
    async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say that we have finished, and hear the client out, within bounds."""
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            async with asyncio.timeout(LINGER_LIMIT):
                writer.write_eof()
                left = LINGER_BYTES
                while left > 0 and (data := await reader.read(CHUNK)):
                    left -= len(data)

    # -- closing

    def close_connection(self, connection: Connection, half_close: bool = False) -> None:
        io = self.transports.get(connection)
        if io is None:
            return
        if connection is self.client and not half_close:
            self._last_words = True
        super().close_connection(connection, half_close)

    def abort(self, why: str) -> None:
        """End it all at once, with resets."""
        self._last_words = False
        for io in list(self.transports.values()):
            if io.writer is not None:
                io.writer.transport.abort()  # type: ignore[union-attr]
            if io.handler is not None:
                io.handler.cancel(why)

    # -- origins

    async def open_connection(self, command: commands.OpenConnection) -> None:
        """Dial; the connection and the handshake that follows may each take half of the time to an answer."""
        connection = command.connection
        assert isinstance(connection, Server)
        limit = self.session.rules().policy.limits.answer / 2
        self._dialled.add(connection)
        try:
            async with asyncio.timeout(limit):
                reader, writer = await self._dial(connection)
        except TimeoutError:
            return self._not_opened(command, f"no connection within {limit:g} s")
        except OSError as error:
            return self._not_opened(command, words(error))
        connection.timestamp_tcp_setup = time.time()
        connection.state = ConnectionState.OPEN
        connection.peername = writer.get_extra_info("peername")
        connection.sockname = writer.get_extra_info("sockname")
        self.transports[connection] = server.ConnectionIO(asyncio.current_task(), reader, writer)
        timer = self._loop.call_later(limit, self._handshake_overdue, connection)
        try:
            self.deliver(events.OpenConnectionCompleted(command, None))
            await self.handle_connection(connection)
        finally:
            timer.cancel()
            self._dialled.discard(connection)
            connection.timestamp_end = time.time()

    async def _dial(self, connection: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if connection.address is None:
            raise OSError("no address to connect to")
        connection.timestamp_start = time.time()
        host, port = connection.address[:2]
        if (addresses := self.session.routes.get((host, port))) is None:
            reader, writer = await asyncio.open_connection(host, port)
            dialled.note(writer.get_extra_info("socket"))
            return reader, writer
        sock = await dial(addresses)
        if self.session.find is None:       # events say where it went; the others' connection has no one origin
            self.session.connection.address = peer(sock)
        return await asyncio.open_connection(sock=sock)

    def _not_opened(self, command: commands.OpenConnection, reason: str) -> None:
        command.connection.error = reason
        self._dialled.discard(command.connection)
        self.transports.pop(command.connection, None)
        self.deliver(events.OpenConnectionCompleted(command, reason))

    def _handshake_overdue(self, connection: Server) -> None:
        if connection.tls and not connection.tls_established and (io := self.transports.get(connection)) and io.reader:
            assert isinstance(io.reader, asyncio.StreamReader)
            io.reader.feed_eof()    # the TLS layer reports it as a failed handshake
