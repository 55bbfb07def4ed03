"""HTTP/1 on both sides: mitmproxy's state machines with bounds, refusals of our own, and no way to crash them.

One of the files that know mitmproxy's internals (see `engine.py`).
"""

import re
from typing import Any

import h11
from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    RequestHeaders,
    RequestProtocolError,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server, make_body_reader

from proxy import answers
from proxy.engine import Abort, Cancel
from proxy.events import incident
from proxy.normal import normalize_response
from proxy.session import Session
from proxy.upstreamproxy import STATUS, for_a_proxy
from proxy.websocket import check_response

#: Bytes of a message head, of a chunk's head, and of requests sent ahead of their turn.  nginx and Apache take 8 K a
#: line and some 32 K in all, Node 16 K, h11 64 K.
MAX_HEAD = 64 * 1024
#: mitmproxy's parser takes any white space for the spaces of a first line, and trims it from fields; others do not.
_REQUEST_LINE = re.compile(rb"[!-~]+ [!-~\x80-\xff]+ HTTP/[0-9]\.[0-9]")
_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] [1-9][0-9]{2}( [\t -~\x80-\xff]*)?")
_NOT_A_LINE = re.compile(rb"[\x00\x0b\x0c\r]")
#: Characters of a parser's complaint that a page repeats.
MAX_COMPLAINT = 200

type Commands = layer.CommandGenerator[None]


def read_request(lines: list[bytearray], tls: bool) -> http.Request:
    """Parse the head of a request; raise ValueError where mitmproxy's parser would be more lenient than others."""
    request = http1.read_request_head(_checked(lines, _REQUEST_LINE))
    if request.scheme not in ("", "https" if tls else "http"):
        raise ValueError("Its target has another scheme than its connection")
    return request


def _checked(lines: list[bytearray], first: re.Pattern[bytes]) -> list[bytes]:
    if not first.fullmatch(lines[0]):
        raise ValueError(f"Its first line is {bytes(lines[0])!r}")
    if any(_NOT_A_LINE.search(line) for line in lines):
        raise ValueError("A header field holds a NUL, a bare CR or a vertical tab")
    return [bytes(line) for line in lines]


class _Side(Http1Connection):
    """What both sides share."""

    owing = False       # as HTTP/2 may be: bytes acknowledged too late, for want of room

    def read_body(self, event: events.Event) -> Commands:
        """Pass the body on, piece by piece.  Trailers are dropped (RFC 9110, 6.5.1): no filter would have seen them."""
        assert self.stream_id is not None
        while self.state == self.read_body:
            try:
                if isinstance(event, events.DataReceived):
                    part: Any = self.body_reader(self.buf)
                else:
                    part = self._read_eof()
            except h11.ProtocolError as error:
                yield from self.broken(str(error), isinstance(event, events.ConnectionClosed))
                return
            if part is None:
                if len(self.buf) > MAX_HEAD:
                    yield from self.broken("the head of a chunk, or the trailers, are too long", False)
                return
            if isinstance(part, h11.EndOfMessage):
                yield ReceiveHttp(self.ReceiveEndOfMessage(self.stream_id))
                from_client = isinstance(self, Http1Server)
                yield from self.mark_done(request=from_client, response=not from_client)
                return
            if part.data:
                yield ReceiveHttp(self.ReceiveData(self.stream_id, bytes(part.data)))

    def _read_eof(self) -> h11.EndOfMessage:
        if self.conn.error:     # a reset is not how a body without a length may end
            raise h11.RemoteProtocolError(self.conn.error)
        return self.body_reader.read_eof()

    def broken(self, why: str, closed: bool) -> Commands:
        raise NotImplementedError

    def backlog(self, _stream_id: int) -> int:
        """What waits to be sent lies in the transport, whose own bounds hold."""
        return 0


class ClientSide(_Side, Http1Server):
    """The client's side: heads are bounded in bytes and time, and whatever is malformed is answered by us."""

    def __init__(self, context: Context, session: Session) -> None:
        super().__init__(context)
        self._session = session
        self._limit = session.rules().policy.limits.hello
        self._wakeup: commands.RequestWakeup | None = None
        self._half_closed = False
        self._moved = False         # the client was sent something since it closed its half

    @property
    def overfull(self) -> bool:
        """It sends on and on although it is not its turn."""
        return len(self.buf) > MAX_HEAD and self.state == self.wait

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup):
            if event.command is self._wakeup:
                yield from self._overdue()
            return
        yield from super()._handle_event(event)
        if self.state == self.read_headers:
            if self._wakeup is None and (self.buf or isinstance(event, events.Start)):
                yield from self._hurry()
        elif self._wakeup is not None and not self._half_closed:
            yield Cancel(self._wakeup)
            self._wakeup = None

    def _hurry(self) -> Commands:
        self._wakeup = commands.RequestWakeup(self._limit)
        yield self._wakeup

    def _overdue(self) -> Commands:
        self._wakeup = None
        if self.state == self.wait and self._moved:
            self._moved = False
            yield from self._hurry()
        elif self.state == self.wait:       # nothing to send, so nothing to tell a closed half from a client that left
            yield from self.broken("the client has gone", True)
        elif self.state == self.read_headers and self.buf:
            yield from self.refuse(408, f"No complete request within {self._limit} seconds.")
        elif self.state == self.read_headers:       # opened in advance and never used: no answer is expected
            yield commands.CloseConnection(self.conn)
            self.state = self.done

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        if isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        while (lines := self.buf.maybe_extract_lines()) == []:
            """A blank line before a request is ignored (RFC 9112, 2.2)."""
        if (len(self.buf) if lines is None else sum(map(len, lines))) > MAX_HEAD:
            yield from self.refuse(431, f"The request's headers are larger than {MAX_HEAD // 1024} KiB.")
            return
        if lines is None:
            return
        try:
            self.request = read_request(lines, self.conn.tls)
            size = http1.expected_http_body_size(self.request)
        except ValueError as error:
            yield from self.refuse(400, f"The request is malformed: {error}"[:MAX_COMPLAINT])
            return
        if not (self.request.is_http11 or self.request.is_http10):
            yield from self.refuse(505, "Only HTTP/1.0, HTTP/1.1 and, over TLS, HTTP/2 are spoken here.")
            return
        self.body_reader = make_body_reader(size)
        self.state = self.read_body
        yield ReceiveHttp(RequestHeaders(self.stream_id, self.request, size == 0))
        yield from self.state(event)

    def refuse(self, status: int, reason: str) -> Commands:
        """Answer what never became a request."""
        self._session.refuse(reason, number := incident())
        response = answers.refusal(None, status, reason, incident=number)
        yield commands.SendData(self.conn, http1.assemble_response(response))
        yield commands.CloseConnection(self.conn)
        self.buf = type(self.buf)()
        self.state = self.done

    def broken(self, why: str, closed: bool) -> Commands:
        self.state = self.done
        code = ErrorCode.CLIENT_DISCONNECTED if closed else ErrorCode.GENERIC_CLIENT_ERROR
        yield ReceiveHttp(RequestProtocolError(self.stream_id, why, code))
        if closed or self.response_done:        # else the stream's answer is still to come
            yield commands.CloseConnection(self.conn)

    def wait(self, event: events.Event) -> Commands:
        """The request is complete.  A client may close its half now and still read; most that do have gone."""
        if isinstance(event, events.ConnectionClosed):
            self._half_closed, self._moved = True, False
            yield from self._hurry()

    def send(self, event: HttpEvent) -> Commands:
        self._moved = True
        match event:
            case ResponseHeaders() if event.response.status_code == 100:
                head = http1.assemble_response_head(event.response)
                yield commands.SendData(self.conn, head)
            case ResponseProtocolError():
                if self.response and not self.response_done and not _framed(self.response):
                    yield Abort()       # a plain close would look like the end of the body
                yield commands.CloseConnection(self.conn)
                self.state = self.done
            case ResponseTrailers():
                """HTTP/1 has no place for them unless they were announced."""
            case _:
                yield from super().send(event)

    def mark_done(self, *, request: bool = False, response: bool = False) -> Commands:
        yield from super().mark_done(request=request, response=response)
        if self._half_closed and self.state == self.read_headers:
            yield commands.CloseConnection(self.conn)
            self.state = self.done


def _framed(response: http.Response) -> bool:
    return "content-length" in response.headers or "transfer-encoding" in response.headers


class OriginSide(_Side, Http1Client):
    """The origin's side: interim answers are passed over, heads are bounded, early answers are understood."""

    retiring = False
    _served = False     # whether it has answered a request

    def __init__(self, context: Context, forwarded: bytes | None = b"") -> None:
        """`forwarded`: the connection leads to an upstream proxy, which takes whole URLs; its value is our
        `Proxy-Authorization`, or None.  Empty: to the origin itself."""
        super().__init__(context)
        self._forwarded, self._port = forwarded, (context.server.address or ("", 80))[1]

    def send(self, event: HttpEvent) -> Commands:
        if self._forwarded != b"" and isinstance(event, RequestHeaders):
            event = RequestHeaders(event.stream_id, for_a_proxy(event.request, self._port, self._forwarded),
                                   event.end_stream)
        yield from super().send(event)

    @property
    def busy(self) -> bool:
        return self.stream_id is not None

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        if isinstance(event, events.ConnectionClosed):
            # On a connection that served before, clients know this, and try again on a new one (RFC 9112, 9.3.1).
            code = ErrorCode.CANCEL if self._served else ErrorCode.GENERIC_SERVER_ERROR
            yield from self._fail(self.conn.error or "it closed the connection without an answer", code)
            return
        if self.request is None or self.stream_id is None:      # nobody asked
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        try:
            while (lines := self.buf.maybe_extract_lines()) is not None:
                if not lines:       # blank lines after the last response
                    continue
                response = http1.read_response_head(_checked(lines, _STATUS_LINE))
                if not 100 <= response.status_code < 200 or response.status_code == 101:
                    yield from self._begin(response, event)
                    return
            if len(self.buf) > MAX_HEAD:
                raise ValueError("the head of its response is too large")
        except ValueError as error:
            yield from self.broken(str(error)[:MAX_COMPLAINT], False)

    def _begin(self, response: http.Response, event: events.ConnectionEvent) -> Commands:
        assert self.request is not None
        assert self.stream_id is not None
        if self._forwarded != b"" and response.status_code == 407:      # no client of ours can answer that
            raise ValueError(f"the upstream proxy {STATUS[407]}")
        normalize_response(response)
        if response.status_code == 101:
            check_response(self.request, response)
        size = http1.expected_http_body_size(self.request, response)
        if not (response.is_http11 or response.is_http10):
            raise ValueError(f"it speaks {response.http_version[:10]}")
        self.response = response
        self.retiring = size == -1      # the end of the connection is the end of the body
        self.body_reader = make_body_reader(size)
        self.state = self.read_body
        yield ReceiveHttp(ResponseHeaders(self.stream_id, response, size == 0))
        yield from self.state(event)

    def broken(self, why: str, closed: bool) -> Commands:
        yield from self._fail(why, ErrorCode.GENERIC_SERVER_ERROR)

    def _fail(self, why: str, code: ErrorCode) -> Commands:
        self.state = self.done
        yield commands.CloseConnection(self.conn)
        if self.stream_id is not None:
            yield ReceiveHttp(ResponseProtocolError(self.stream_id, why, code))

    def mark_done(self, *, request: bool = False, response: bool = False) -> Commands:
        retiring, self._served = self.retiring, self._served or response
        yield from super().mark_done(request=request, response=response)
        if self.response_done and not self.request_done:
            self.state = self.answered_early
        elif self.state == self.read_headers and retiring:
            yield commands.CloseConnection(self.conn)
            self.state = self.done

    def answered_early(self, event: events.Event) -> Commands:
        """The whole response came before the request was complete; what may follow is not for us."""
        self.buf = type(self.buf)()
        if isinstance(event, events.ConnectionClosed):
            yield from self.broken("it answered and closed before the request was complete", True)
