"""The door: accepts connections, learns where they were going and what they want, and settles their verdict.

The first bytes are read once and handed on, to the origin or to the engine, as if nobody had looked.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from mitmproxy import options

from addons.connection import Connection, Process
from addons.verdict import Action
from proxy import destination, explicit, upstreamproxy
from proxy.bypass import Bypasses, by_name
from proxy.chain import Decision
from proxy.destination import Address
from proxy.engine import Handler, Hook
from proxy.events import incident
from proxy.gate import blocked_by_name, judge
from proxy.hello import MAX_HELLO, BadHello, ClientHello, Incomplete, parse
from proxy.layers import outermost
from proxy.loops import Loops
from proxy.records import Records
from proxy.session import Rules, Session
from proxy.splice import Moved, hang_up, splice

log = logging.getLogger(__name__)

#: Seconds to find out which program a connection belongs to; it waits for us meanwhile.
OWNER_LIMIT = 0.5
#: Connections at once.  Each may need two descriptors; the launcher raises the limit on open files to fit.
MAX_CONNECTIONS = 10_000
#: A fatal TLS alert (RFC 8446, 6.2).
DECODE_ERROR = b"\x15\x03\x01\x00\x02\x02\x32"
#: What events name as the rule where a connection came round to us, and where our upstream proxy brings it.
LOOP, CHAIN = "loop", "capture.upstream_proxy"
#: Connections that the kernel may keep ready for us.
BACKLOG = 1024

type Find = Callable[[str, int], Awaitable[tuple[Address, ...]]]
type Owner = Callable[[Address, Address], asyncio.Future[Process | None]]
type Origin = Callable[[Address, Address], asyncio.Future[tuple[Process | None, Address | None]]]


@dataclass(slots=True)
class Door:
    """What a listener needs to serve: everything but the sockets."""

    opts: options.Options
    hooks: dict[str, Hook]
    rules: Callable[[], Rules]
    records: Records
    owner: Owner
    explicit: bool                      # clients speak to us as a proxy; else the kernel knows the destination
    bypasses: Bypasses
    origin: Origin | None = None        # where the redirector knows the destination instead
    reflected: bool = False             # clients come from their servers' addresses (`divert`)
    own: set[Address] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    loops: Loops = field(init=False)

    def __post_init__(self) -> None:
        self.loops = Loops(lambda client, server: self.owner(client, server), captured=not self.explicit)

    # -- accepting

    def listen(self, host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::" and
                                    self.reflected)
        sock.setblocking(False)
        self.own.add((destination.plain(sock.getsockname()[0]), sock.getsockname()[1]))
        return sock

    async def accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(sock)
            except OSError as error:    # out of descriptors, most likely: those that serve must get on
                log.error("cannot accept: %s", error)
                await asyncio.sleep(0.1)
                continue
            if len(self.tasks) >= MAX_CONNECTIONS:
                log.error("more than %d connections: one refused", MAX_CONNECTIONS)
                client.close()
                continue
            task = loop.create_task(self._one(client))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            await asyncio.sleep(0)      # sock_accept returns at once while there are more: many could starve all else

    async def _one(self, client: socket.socket) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)    # an urgent byte is a byte (RFC 6093)
        with client:    # a second close does nothing; a spliced or refused socket is still ours
            try:
                source = destination.reflected(client) if self.reflected else destination.peer(client)
            except OSError:     # it has gone already
                return
            session = Session(Connection(None, explicit.UNKNOWN, source, tls=False), self.rules, self.records,
                              guard=self.loops)
            self.records.sessions.begin(session, client)
            try:
                await self._attend(client, session)
            finally:
                for each in session.rounds:
                    self.loops.leave(each)
                self.records.ended(session)

    async def _attend(self, client: socket.socket, session: Session) -> None:
        try:
            async with asyncio.timeout(2 * self.rules().policy.limits.hello):
                first = await self._arrive(client, session)
            await self._serve(client, session, first)
        except (OSError, TimeoutError) as error:
            log.info("connection ended early: %s", error or type(error).__name__)
        except explicit.Refusal as error:
            session.refuse(str(error), number := incident())
            await explicit.refuse(client, error.answer(number))
        except explicit.Served as page:
            await explicit.refuse(client, page.answer)
        except BadHello as error:
            self.records.uninspectable(session, f"malformed TLS ({error})")
            await explicit.refuse(client, DECODE_ERROR)
        except Exception:
            log.exception("a connection failed; it is closed")

    # -- learning

    async def _arrive(self, client: socket.socket, session: Session) -> bytes:
        """Learn where the client wants to go, what it speaks and who it is; return the bytes read."""
        connection = session.connection
        if self.origin is not None:
            connection.process, connection.address = await self._told(self.origin, client)
            return await self._look(client, session, b"")
        if not self.explicit:
            connection.address = self._original(client)
            owner = self.owner(connection.client, connection.address)
            try:
                return await self._look(client, session, b"")
            finally:
                connection.process = await self._owner(owner)
        connection.process = await self._owner(self.owner(connection.client, client.getsockname()[:2]))
        rules = self.rules()
        target = await explicit.greet(client, rules.admission, direct=rules.policy.capture.fail == "open")
        connection.host, connection.address = target.host, target.address
        find = partial(self._find, here=destination.is_here(client))
        if target.plain:
            session.find = find
            return target.rest
        try:
            await self._lead(session, find)
        except explicit.Refusal as error:
            error.spoken = target.spoken
            raise
        await explicit.accept(client, target.spoken)
        return await self._look(client, session, target.rest)

    async def _look(self, client: socket.socket, session: Session, read: bytes) -> bytes:
        """Read the client's first words, or find that it has none; return them."""
        hello, first = await self._hello(client, read)
        session.silent = not first
        if hello is not None:
            _describe(session, hello)
        return first

    async def _lead(self, session: Session, find: Find) -> None:
        """Look up where the tunnel goes, if that is anybody's business."""
        connection = session.connection
        session.refused = blocked_by_name(session, connection)
        if session.refused is None:
            routes = await find(*connection.address)
            connection.address, session.routes = routes[0], {routes[0]: routes}

    async def _told(self, origin: Origin, client: socket.socket) -> tuple[Process | None, Address]:
        """Whose connection it is and where it was going, from the redirector; of a stranger's it knows nothing."""
        host, port = client.getsockname()[:2]
        process, address = await origin(destination.peer(client), (destination.plain(host), port))
        if address is None:
            log.error("a connection that was not captured came to lockgate and is closed")
            raise ConnectionError("nobody knows where it was going")
        return process, self._not_ourselves(address)

    def _find(self, host: str, port: int, *, here: bool) -> Awaitable[tuple[Address, ...]]:
        return explicit.find(host, port, self.own, self.rules().via, here=here)

    def _original(self, client: socket.socket) -> Address:
        return self._not_ourselves(destination.original(client))

    def _not_ourselves(self, address: Address) -> Address:
        if destination.ours(*address, self.own):
            log.error("a connection came round to lockgate itself and is closed")
            raise ConnectionError("it leads to lockgate itself")
        return address

    async def _owner(self, owner: asyncio.Future[Process | None]) -> Process | None:
        try:
            async with asyncio.timeout(OWNER_LIMIT):
                return await owner
        except TimeoutError:
            return None

    async def _hello(self, client: socket.socket, first: bytes) -> tuple[ClientHello | None, bytes]:
        """Read until a whole ClientHello is there, or it is clear that none comes.

        A client that says nothing may wait for the origin to speak first: no bytes are returned.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.rules().policy.limits.hello):
                while isinstance(hello := parse(first) if first else Incomplete(1), Incomplete):
                    more = await loop.sock_recv(client, MAX_HELLO)
                    if not more:
                        raise ConnectionError("closed before its first message was complete")
                    first += more
        except TimeoutError:
            if first:
                raise
            return None, b""
        return hello if isinstance(hello, ClientHello) else None, first

    # -- serving

    async def _serve(self, client: socket.socket, session: Session, first: bytes) -> None:
        connection, decision = session.connection, session.refused
        if decision is None and session.find is None:
            routes = session.routes.get(connection.address, (connection.address,))
            verdict, decision, routes = judge(session, connection, routes)
            connection.address, session.routes = routes[0], {routes[0]: routes}
            if verdict != "block" and (why := await session.came_round(connection, first)):
                verdict, decision = "block", Decision(Action.BLOCK, LOOP, why)
            if session.direct:
                verdict, decision = "bypass", Decision(Action.ALLOW, CHAIN, "ours, by way of the upstream proxy")
            else:
                verdict, decision = await self.bypasses.settle(session, session.hello, verdict, decision)
            if verdict == "bypass":
                assert decision is not None
                await self._bypass(client, session, first, decision)
                return
            session.refused = decision
        if session.silent and not session.relays:
            self.records.uninspectable(session, "the client says nothing")
            return
        if decision is not None and decision.action is Action.KILL:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))   # close sends a reset
            return
        await self._inspect(client, session, first)

    async def _inspect(self, client: socket.socket, session: Session, first: bytes) -> None:
        reader = asyncio.StreamReader()
        if first:
            reader.feed_data(first)
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, client)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        handler = Handler(session, self.hooks, self.opts, reader, writer)
        handler.run_layer(outermost)
        await handler.serve()

    async def _bypass(self, client: socket.socket, session: Session, first: bytes, decision: Decision) -> None:
        connection = session.connection
        name = connection.host if by_name(self.rules().policy, connection) else None
        try:
            async with asyncio.timeout(self.rules().policy.limits.answer / 2):        # the proof has had its part
                # no other address has proved to be the name's
                via = None if session.direct else self.rules().via
                origin = await upstreamproxy.dial(via, [connection.address], name)
        except OSError:
            await hang_up(client)       # as near to a refusal as one that was accepted can come
            raise
        with origin:
            self.records.connection(connection, "bypass", decision, flow_id=session.flow_id)
            session.sent(first)
            moved = Moved()
            try:
                await splice(client, origin, first, moved)
            finally:
                self.records.bypassed(connection, decision, moved, flow_id=session.flow_id)


def _describe(session: Session, hello: ClientHello) -> None:
    """Add to the connection what its ClientHello says; a tunnel to one name with TLS for another is refused."""
    connection = session.connection
    session.hello = hello
    connection.tls, connection.alpn = True, hello.alpn
    connection.ja3, connection.ja4 = hello.ja3, hello.ja4
    connection.unnamed, connection.ech = hello.sni is None, hello.ech
    asked, connection.host = connection.host, hello.sni or connection.host
    if asked and connection.host != asked and not destination.numeric(asked):
        session.refused = Decision(Action.BLOCK, "lockgate", f"This is a tunnel to {asked}, not to {connection.host}.")
