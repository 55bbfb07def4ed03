"""Which protocol layers a connection gets, and the limits on the HTTP that clients and origins send."""

from collections.abc import Callable

from mitmproxy import http
from mitmproxy.net.http import http1 as http1_wire
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientTLSLayer, ServerTLSLayer, TCPLayer
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode, ResponseProtocolError
from mitmproxy.proxy.layers.http._events import ErrorCode
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server
from mitmproxy.proxy.layers.http._http2 import Http2Server
import h2.errors

from proxy import answers
from proxy.engine import Cancel
from proxy.events import incident
from proxy.session import Session
from proxy.stream import Stream

#: Bytes of a message head over HTTP/1.  nginx and Apache take 8 K a line and some 32 K in all, Node 16 K, h11 64 K.
MAX_HEAD = 64 * 1024
#: Seconds a client has for a whole request head once it may send one, and for its first (Apache: RequestReadTimeout 20).
HEAD_LIMIT = 10.0


class Top(layer.Layer):
    """The outermost layer: TLS or not is known by now, since the first bytes have been looked at."""

    def __init__(self, context: Context, session: Session, mode: HTTPMode) -> None:
        super().__init__(context)
        self.session = session
        self.http_mode = mode

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        child: layer.Layer
        if self.session.connection.tls:
            child = ServerTLSLayer(self.context)
            child.child_layer = ClientTLSLayer(self.context)
        else:
            child = layer.NextLayer(self.context)
        self._handle_event = child.handle_event  # type: ignore[method-assign]
        yield from child.handle_event(event)


def top(mode: HTTPMode) -> Callable[[Context, Session], layer.Layer]:
    return lambda context, session: Top(context, session, mode)


def next_layer(session: Session, nextlayer: layer.NextLayer) -> None:
    """mitmproxy asks what follows: HTTP, or something that the policy lets pass unread or not at all."""
    context = nextlayer.context
    data = nextlayer.data_client()
    mode = context.layers[0].http_mode if isinstance(context.layers[0], Top) else HTTPMode.transparent
    if starts_like_tls_record(data):    # TLS in TLS has no business on these ports
        nextlayer.layer = Refused(context, session, "TLS within TLS")
    elif context.client.alpn in (b"h2", b"http/1.1") or looks_like_http(data):
        nextlayer.layer = Http(context, session, mode)
    elif context.client.alpn or len(data) >= SNIFF or nextlayer.data_server() or (data and not _could_be_http(data)):
        if session.rules().policy.capture.other == "relay" and session.refused is None:
            nextlayer.layer = TCPLayer(context)
        else:
            nextlayer.layer = Refused(context, session, "not HTTP")


#: Bytes of a request line looked at before a connection is called "not HTTP": the longest method and a space.
SNIFF = 24


def looks_like_http(data: bytes) -> bool:
    """A method and a space begin it (RFC 9112, 3), or the HTTP/2 preface (RFC 9113, 3.4)."""
    method, space, _ = data[:SNIFF].partition(b" ")
    return bool(space) and _could_be_http(method)


def _could_be_http(data: bytes) -> bool:
    method = data[:SNIFF].partition(b" ")[0]
    return method.isascii() and method.replace(b"-", b"").isalpha() and method.isupper()


class Refused(layer.Layer):
    """Something that cannot be inspected: closed before a byte of it goes on, and recorded."""

    def __init__(self, context: Context, session: Session, what: str) -> None:
        super().__init__(context)
        session.recorder.uninspectable(session.connection, what)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)
            if self.context.server.connected:
                yield commands.CloseConnection(self.context.server)


class Http(HttpLayer):
    """mitmproxy's HTTP layer with our streams and our client side in it."""

    def __init__(self, context: Context, session: Session, mode: HTTPMode) -> None:
        super().__init__(context, mode)
        self.session = session
        client_side = H2 if context.client.alpn == b"h2" else H1
        self.connections[context.client] = client_side(context.fork())

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        stream = Stream(self.context.fork(), stream_id, self.session, self)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield from super()._handle_event(event)
        if isinstance(event, events.DataReceived) and event.connection is not self.context.client:
            yield from self._check_head(event)

    def _check_head(self, event: events.DataReceived) -> layer.CommandGenerator[None]:
        """An origin's endless response head must not fill the memory: mitmproxy has no limit there."""
        side = self.connections.get(event.connection)
        leaf = side.context.layers[-1] if side else None
        if isinstance(leaf, Http1Client) and leaf.state == leaf.read_headers and len(leaf.buf) > MAX_HEAD:
            yield commands.CloseConnection(event.connection)
            if leaf.stream_id in self.streams:
                yield from self.event_to_child(self.streams[leaf.stream_id], ResponseProtocolError(
                    leaf.stream_id, "The origin's response head is too large.", ErrorCode.GENERIC_SERVER_ERROR))


class H1(Http1Server):
    """The client's side of HTTP/1: a head is bounded in bytes and in time."""

    _wakeup: commands.RequestWakeup | None = None

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Wakeup):
            if event.command is self._wakeup and self.state == self.read_headers:
                yield from self._refuse(408, f"No complete request within {HEAD_LIMIT:.0f} seconds.")
            return
        first = isinstance(event, events.Start)
        yield from super()._handle_event(event)
        if self.state == self.read_headers:
            if len(self.buf) > MAX_HEAD:
                yield from self._refuse(431, f"The request's headers are larger than {MAX_HEAD // 1024} KiB.")
            elif self._wakeup is None and (first or self.buf):
                self._wakeup = commands.RequestWakeup(HEAD_LIMIT)
                yield self._wakeup
        elif self._wakeup is not None:
            yield Cancel(self._wakeup)
            self._wakeup = None

    def _refuse(self, status: int, reason: str) -> layer.CommandGenerator[None]:
        response = answers.refusal(None, status, reason, incident=incident())
        yield commands.SendData(self.conn, http1_wire.assemble_response(response))
        yield commands.CloseConnection(self.conn)
        self.buf = type(self.buf)()
        self.state = self.done


class H2(Http2Server):
    """The client's side of HTTP/2: a stream that was answered in the middle of its request ends with NO_ERROR.

    RFC 9113, 8.1: the request that follows a complete response is not needed; other codes make clients discard it.
    """

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError) and event.code is ErrorCode.CANCEL and self.answered(event.stream_id):
            self.h2_conn.reset_stream(event.stream_id, h2.errors.ErrorCodes.NO_ERROR)
            self.streams.pop(event.stream_id, None)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())
        else:
            yield from super()._handle_event(event)

    def answered(self, stream_id: int) -> bool:
        return not self.is_closed(stream_id) and not self.is_open_for_us(stream_id)


__all__ = ["Http", "Top", "http", "looks_like_http", "next_layer", "top"]
