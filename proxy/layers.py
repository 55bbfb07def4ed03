"""Which protocol layers a connection gets, and how requests find their way to origins.

One of the files that know mitmproxy's internals (see `engine.py`).
"""

from typing import Any

from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import TCPLayer
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpLayer,
    HTTPMode,
    RegisterHttpConnection,
)

from addons.protocols import by_bytes
from addons.verdict import label
from proxy import http1, http2
from proxy.session import Session
from proxy.stream import Stream
from proxy.tlslayers import ClientTls, OriginTls

#: Methods that alone make a line HTTP; any other needs the version at its end (RFC 9110, 9.3; RFC 5789).  Browsers send
#: some in lower case, as a page names them: `patch` is no PATCH (Fetch, 2.2.1).
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
#: Bytes of a first line beyond which it is taken for HTTP's: nobody else begins with so long a one.
MAX_LINE = 8192
#: Bytes that may wait for an origin or a client whose HTTP/2 window is closed; as much as a socket's own buffer.
BACKLOG = 64 * 1024
#: Origins of one client's connection remembered although they have gone; plain proxying may meet many.
MANY = 32

type Commands = layer.CommandGenerator[None]


def outermost(context: Context, session: Session) -> layer.Layer:
    """The first layer: TLS or not is known by now, since the first bytes have been looked at."""
    if session.connection.tls:
        origin = OriginTls(context, session)
        origin.child_layer = ClientTls(context)
        origin.child_layer.child_layer = layer.NextLayer(context, ask_on_start=True)
        return origin
    return Relay(context, session) if session.silent else layer.NextLayer(context)


def next_layer(session: Session, nextlayer: layer.NextLayer) -> None:
    """mitmproxy asks what follows: HTTP, or something that the policy lets pass unread or not at all."""
    context = nextlayer.context
    data = nextlayer.data_client()
    http_negotiated = context.client.alpn in (b"h2", b"http/1.1")
    if starts_like_tls_record(data) and not http_negotiated:    # TLS in TLS has no business on these ports
        label(session.connection, "protocol:tls")
        nextlayer.layer = Refused(context, session, "TLS within TLS")
    elif http_negotiated or (is_http := looks_like_http(data)):
        nextlayer.layer = Http(context, session)
    elif context.client.alpn or nextlayer.data_server() or is_http is False:
        spoken = by_bytes(data, nextlayer.data_server()) or ("tls" if session.connection.tls else "tcp")
        label(session.connection, f"protocol:{spoken}")
        nextlayer.layer = Relay(context, session) if session.relays else Refused(context, session, "not HTTP")
    session.settled = nextlayer.layer is not None


def looks_like_http(data: bytes) -> bool | None:
    """Is it a request line (RFC 9112, 3) or the preface of HTTP/2 (RFC 9113, 3.4)?  None: that cannot be said yet."""
    line, ended, _ = data.lstrip(b"\r\n")[:MAX_LINE].partition(b"\n")
    method, space, rest = line.partition(b" ")
    if method and not method.replace(b"-", b"").isalpha():
        return False
    if (space and method in METHODS) or len(line) == MAX_LINE:
        return True
    return rest.rstrip().rpartition(b" ")[2].startswith(b"HTTP/") if ended else None


class Refused(layer.Layer):
    """Something that cannot be inspected: closed before a byte of it goes on, and recorded."""

    def __init__(self, context: Context, session: Session, what: str) -> None:
        super().__init__(context)
        session.recorder.uninspectable(session, what)

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)
            if self.context.server.connected:
                yield commands.CloseConnection(self.context.server)


class Relay(TCPLayer):
    """What the policy lets pass unread.  Nobody gets HTTP or TLS past us by letting the origin speak first."""

    def __init__(self, context: Context, session: Session) -> None:
        super().__init__(context, ignore=True)      # a flow would keep every byte for ever
        self._session = session
        self._first = b"" if session.silent else None
        session.congested = lambda _: self._paused is not None
        session.settled = True

    def relay_messages(self, event: events.Event) -> Commands:
        client = self.context.client
        if self._first is not None and isinstance(event, events.DataReceived) and event.connection is client:
            self._first += event.data
            is_http = looks_like_http(self._first)
            if starts_like_tls_record(self._first) or is_http:
                self._session.recorder.uninspectable(self._session, "TLS or HTTP after a silence")
                self._handle_event = self.done
                yield commands.CloseConnection(self.context.server)
                yield commands.CloseConnection(client)
                return
            if is_http is None:
                return
            event, self._first = events.DataReceived(event.connection, self._first), None
        yield from super().relay_messages(event)


class Http(HttpLayer):
    """mitmproxy's HTTP layer with our streams and our two sides in it."""

    streams: dict[int, Stream]  # type: ignore[assignment]

    def __init__(self, context: Context, session: Session) -> None:
        super().__init__(context, HTTPMode.regular if session.find else HTTPMode.transparent)
        self.session = session
        self.sides: dict[Connection, Any] = {}
        fork = context.fork()
        client = http2.ClientSide(fork, session, self._room_above) if context.client.alpn == b"h2" \
            else http1.ClientSide(fork, session)
        self.connections[context.client] = self.sides[context.client] = client
        session.congested = self._congested

    def make_stream(self, stream_id: int) -> Commands:
        stream = Stream(self.context.fork(), stream_id, self.session, self)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def _handle_event(self, event: events.Event) -> Commands:
        server = self.context.server
        if isinstance(event, events.DataReceived) and event.connection is server and server not in self.connections:
            yield from self._begin_side(self.context.fork())    # an HTTP/2 origin greets before it is asked
        yield from super()._handle_event(event)
        for connection, side in list(self.sides.items()):
            if side.owing:
                yield from self.event_to_child(self.connections[connection], http2.Eased())

    # -- origins

    def make_side(self, context: Context) -> layer.Layer:
        """Make the origin's side for a connection that is established."""
        is_h2 = context.server.alpn == b"h2"
        side = http2.OriginSide(context, self._room_below) if is_h2 else http1.OriginSide(
            context, self.session.forwarded.get(context.server, b""))
        self.sides[context.server] = side
        return side

    def _begin_side(self, context: Context) -> Commands:
        side = self.connections[context.server] = self.make_side(context)
        yield from self.event_to_child(side, events.Start())

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> Commands:
        """Find the connection that takes the request, or open one."""
        for connection in list(self.connections) if reuse else ():
            if not event.connection_spec_matches(connection):
                continue
            if connection in self.waiting_for_establishment:
                self.waiting_for_establishment[connection].append(event)
                return
            side = self.sides.get(connection)
            if connection.connected and side is not None and not side.retiring and not side.busy:
                yield from self._found(event, (connection, None))
                return
        server, context = self.context.server, self.context.fork()
        ours = server not in self.connections and event.connection_spec_matches(server)
        if ours and server.error:       # tried before the client's handshake; the next request may try again
            self.connections[server] = layer.NextLayer(context)
            yield from self._found(event, (None, server.error))
            return
        first: layer.Layer = Origin(context, self)
        if not (ours and server.connected):
            context.server = Server(address=event.address, transport_protocol=event.transport_protocol)
            if event.tls:
                context.server.sni = server.sni or self.context.client.sni or event.address[0]
                first = OriginTls(context, self.session)
                first.child_layer = Origin(context, self)
        self._forget()
        self.connections[context.server] = first
        self.waiting_for_establishment[context.server].append(event)
        yield from self.event_to_child(first, events.Start())

    def _found(self, event: GetHttpConnection, reply: tuple[None, str] | tuple[Connection, None]) -> Commands:
        stream = self.command_sources.pop(event)
        yield from self.event_to_child(stream, GetHttpConnectionCompleted(event, reply))

    def _forget(self) -> None:
        """Drop origins that have gone and that no request refers to."""
        if len(self.connections) > MANY:
            used = {stream.flow.server_conn for stream in self.streams.values()} | {self.context.client}
            for gone in [c for c in self.connections if c.state is ConnectionState.CLOSED and c not in used]:
                del self.connections[gone]
                self.sides.pop(gone, None)

    # -- holding back

    def _congested(self, end: Connection) -> bool:
        """Must reading from this end wait until what it sent has been passed on?  HTTP/2 has its windows for that."""
        side = self.sides.get(end)
        if isinstance(side, http1.ClientSide):
            return side.overfull or not self._room_above(side.stream_id)
        return isinstance(side, http1.OriginSide) and side.busy and not self._room_below(side.stream_id)

    def _room_above(self, stream_id: int) -> bool:
        """Can a piece of this request go on to its origin?"""
        stream = self.streams.get(stream_id)
        if stream is None:
            return True
        side = self.sides.get(stream.flow.server_conn) if stream.asked else None
        return not stream.waiting and (side is None or side.backlog(stream_id) < BACKLOG)

    def _room_below(self, stream_id: int | None) -> bool:
        """Can a piece of this response go on to the client?"""
        stream = self.streams.get(stream_id or 0)
        return stream is None or (not stream.waiting and self.sides[self.context.client].backlog(stream_id) < BACKLOG)


class Origin(layer.Layer):
    """Opens the connection and then is the side that speaks the origin's protocol."""

    def __init__(self, context: Context, parent: Http) -> None:
        super().__init__(context)
        self._parent = parent

    def _handle_event(self, event: events.Event) -> Commands:
        server = self.context.server
        error = None if server.connected else (yield commands.OpenConnection(server))
        if not error:
            side = self._parent.make_side(self.context)
            self._handle_event = side.handle_event  # type: ignore[method-assign]
            yield from side.handle_event(event)
        yield RegisterHttpConnection(server, error)
