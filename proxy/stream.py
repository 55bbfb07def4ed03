"""Enforcement inside one HTTP stream: a decision becomes an answer, also in mid-body, and harms no other stream.

mitmproxy's own means do not suffice: with streaming on, its `request` hook fires when the origin has the whole body; a
response set then hangs the client; `flow.kill()` in a stream callable is ignored.  So the states that move bodies are
ours: bytes leave when `Body` releases them, and a decision ends the stream where it stands: the origin sees its
request cancelled, the client gets the real answer.

One of the three files that know mitmproxy's internals (with `engine.py` and `tlsface.py`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    DropStream, HttpStream, RequestData, RequestEndOfMessage, RequestHeaders, RequestProtocolError, RequestTrailers,
    ResponseData, ResponseEndOfMessage, ResponseHeaders, ResponseProtocolError, ResponseTrailers, SendHttp)
from mitmproxy.proxy.layers.http._events import ErrorCode
from mitmproxy.proxy.layers.http._hooks import HttpErrorHook
from mitmproxy.proxy.layers.websocket import WebsocketLayer
from mitmproxy.proxy.utils import ReceiveBuffer

from addons.verdict import Action
from proxy import answers
from proxy.body import Body
from proxy.chain import Decision
from proxy.engine import Cancel
from proxy.session import Session, Transfer

if TYPE_CHECKING:
    from proxy.layers import Http

#: Bytes of one WebSocket message, both ways.  Messages are held until they are whole; browsers' own use is far below.
MAX_MESSAGE = 16 * 1024 * 1024

#: WebSocket close codes (RFC 6455, 7.4.1).
POLICY_VIOLATION, TOO_BIG = 1008, 1009

type Commands = layer.CommandGenerator[None]


class Stream(HttpStream):
    """mitmproxy's stream with bodies, refusals and waiting times of our own."""

    def __init__(self, context: Context, stream_id: int, session: Session, parent: "Http") -> None:
        super().__init__(context, stream_id)
        self.session = session
        self._parent = parent
        self._head_sent = False
        self._wakeup: commands.RequestWakeup | None = None
        self._closing = False

    @property
    def transfer(self) -> Transfer:
        return self.session.of(self.flow)

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup):
            if event.command is self._wakeup:
                yield from self._overdue()
        else:
            yield from super()._handle_event(event)

    # -- the request

    def state_wait_for_request_headers(self, event: RequestHeaders) -> Commands:
        yield from super().state_wait_for_request_headers(event)
        if self.client_state != self.state_errored and (self.transfer.refusal or self.transfer.exchange.stopped):
            yield from self._refuse(request_ended=event.end_stream)

    def start_request_stream(self) -> Commands:
        """The request has a body that streams.  A client that announced its length sends it unasked, so our request
        to the origin can wait for the first bytes that may leave; short bodies are judged before the origin is met."""
        self.client_state = self.state_stream_request_body
        if self.transfer.refusal or self.transfer.exchange.stopped:
            return
        self.transfer.open_upload()
        if "content-length" not in self.flow.request.headers and not self.transfer.exchange.stopped:
            yield from self._send_head()

    def _send_head(self) -> layer.CommandGenerator[bool]:
        if not self._head_sent:
            self._head_sent = True
            if not (yield from self.make_server_connection()):
                self.client_state = self.state_errored
                return False
            yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, end_stream=False), self.context.server)
        return self.client_state != self.state_errored

    def state_stream_request_body(self, event: RequestData | RequestTrailers | RequestEndOfMessage) -> Commands:
        if isinstance(event, RequestTrailers):
            self.flow.request.trailers = event.trailers
            return
        ended = isinstance(event, RequestEndOfMessage)
        body = self.transfer.upload
        if body is None:
            chunks: Iterable[bytes] = [] if ended else [event.data]
        else:
            chunks, stop = body.end() if ended else body.feed(event.data)
            if stop:
                yield from self._refuse(request_ended=ended)
                return
        if (chunks or ended) and not (yield from self._send_head()):
            return
        for chunk in chunks:
            self.transfer.sent += len(chunk)
            yield SendHttp(RequestData(self.stream_id, chunk), self.context.server)
        if ended:
            yield from self._end_request(event)

    def _end_request(self, event: events.Event) -> Commands:
        self.client_state = self.state_done
        if self.flow.request.trailers:
            yield SendHttp(RequestTrailers(self.stream_id, self.flow.request.trailers), self.context.server)
        yield SendHttp(event, self.context.server)
        yield from self._await_answer()
        if self.server_state == self.state_done:
            yield from self.flow_done()

    def state_consume_request_body(self, event: RequestData | RequestTrailers | RequestEndOfMessage) -> Commands:
        """The request is collected whole: it has no body, or a filter wants it so."""
        transfer = self.transfer
        if isinstance(event, RequestData):
            if not self.request_body_buf:
                transfer.open_upload()
            if transfer.exchange.stopped or (transfer.upload is not None and transfer.upload.feed(event.data)[1]):
                yield from self._refuse(request_ended=False)
                return
            self.request_body_buf += event.data
            if len(self.request_body_buf) > transfer.buffer_request:
                yield from self._overflow()
            return
        if isinstance(event, RequestEndOfMessage):
            if transfer.upload is not None and transfer.upload.end()[1]:
                yield from self._refuse(request_ended=True)
                return
            transfer.sent = len(self.request_body_buf)
        yield from super().state_consume_request_body(event)
        if isinstance(event, RequestEndOfMessage) and self.client_state == self.state_done and not self.flow.response:
            yield from self._await_answer()

    def _overflow(self) -> Commands:
        """More than the filters that want the whole request may buffer: their `on_error` decides."""
        transfer = self.transfer
        if transfer.overflow("request"):
            yield from self._refuse(request_ended=False)
            return
        data = self._collected(self.request_body_buf, transfer.upload)
        self.client_state = self.state_stream_request_body
        if (yield from self._send_head()):
            transfer.sent += len(data)
            yield SendHttp(RequestData(self.stream_id, data), self.context.server)

    @staticmethod
    def _collected(buffer: ReceiveBuffer, body: Body | None) -> bytes:
        """What was collected and may leave now; the last of it stays with the body's scanners."""
        data = bytes(buffer)
        buffer.clear()
        return data[: len(data) - body.held] if body is not None else data

    # -- waiting for the origin

    def _await_answer(self) -> Commands:
        if self.server_state == self.state_wait_for_response_headers and self._wakeup is None:
            self._wakeup = commands.RequestWakeup(self.session.rules().policy.limits.answer)
            yield self._wakeup

    def _answered(self) -> Commands:
        if self._wakeup is not None:
            self._parent.command_sources.pop(self._wakeup, None)
            yield Cancel(self._wakeup)
            self._wakeup = None

    def _overdue(self) -> Commands:
        if self.server_state == self.state_wait_for_response_headers:
            limit = self.session.rules().policy.limits.answer
            self.transfer.refusal = (504, f"The origin sent no answer within {limit:g} seconds.")
            yield from self._refuse(request_ended=self.client_state == self.state_done)

    # -- the response

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> Commands:
        yield from self._answered()
        yield from super().state_wait_for_response_headers(event)
        if self.server_state == self.state_consume_response_body and self._response_refused():
            yield from self._refuse(request_ended=self.client_state == self.state_done)

    def _response_refused(self) -> bool:
        return bool(self.transfer.refusal) or self.transfer.exchange.stopped

    def start_response_stream(self) -> Commands:
        if self._response_refused():
            yield from self._refuse(request_ended=self.client_state == self.state_done)
        else:
            yield from super().start_response_stream()

    def state_stream_response_body(self, event: ResponseData | ResponseTrailers | ResponseEndOfMessage) -> Commands:
        transfer, body = self.transfer, self.transfer.download
        if body is not None and not isinstance(event, ResponseTrailers):
            ended = isinstance(event, ResponseEndOfMessage)
            chunks, stop = body.end() if ended else body.feed(event.data)
            if stop:
                yield from self._cut_response(stop)
                return
        elif isinstance(event, ResponseData):
            chunks = [event.data]
        else:
            chunks = []
        for chunk in chunks:
            transfer.received += len(chunk)
            yield SendHttp(ResponseData(self.stream_id, chunk), self.context.client)
        if isinstance(event, ResponseTrailers):
            assert self.flow.response
            self.flow.response.trailers = event.trailers
        elif isinstance(event, ResponseEndOfMessage):
            yield from self.send_response(already_streamed=True)

    def state_consume_response_body(self, event: ResponseData | ResponseTrailers | ResponseEndOfMessage) -> Commands:
        transfer = self.transfer
        if isinstance(event, ResponseData):
            transfer.received += len(event.data)
            if transfer.download is not None and transfer.download.feed(event.data)[1]:
                yield from self._refuse(request_ended=self.client_state == self.state_done)
                return
            self.response_body_buf += event.data
            if len(self.response_body_buf) > transfer.buffer_response:
                yield from self._overflow_response()
            return
        if isinstance(event, ResponseEndOfMessage) and transfer.download is not None and transfer.download.end()[1]:
            yield from self._refuse(request_ended=self.client_state == self.state_done)
            return
        yield from super().state_consume_response_body(event)

    def _overflow_response(self) -> Commands:
        if self.transfer.overflow("response"):
            yield from self._refuse(request_ended=self.client_state == self.state_done)
            return
        data = self._collected(self.response_body_buf, self.transfer.download)
        yield from super().start_response_stream()
        yield SendHttp(ResponseData(self.stream_id, data), self.context.client)

    def _cut_response(self, stop: Decision) -> Commands:
        """The head has left, so no page can be sent any more: both sides are cut, which the client sees as an error."""
        yield SendHttp(RequestProtocolError(self.stream_id, stop.reason, ErrorCode.CANCEL), self.context.server)
        yield SendHttp(ResponseProtocolError(self.stream_id, stop.reason, ErrorCode.KILL), self.context.client)
        yield from self._end(stop.reason)

    # -- refusing

    def _refuse(self, *, request_ended: bool) -> Commands:
        """Answer the client in the origin's place, wherever the exchange stands, and give up the origin's side."""
        yield from self._answered()
        if self._head_sent or self.server_state not in (self.state_uninitialized, self.state_wait_for_response_headers) \
                or (self.client_state == self.state_done and self.flow.server_conn in self._parent.connections):
            if self.flow.server_conn in self._parent.connections:
                yield SendHttp(RequestProtocolError(self.stream_id, "refused", ErrorCode.CANCEL), self.flow.server_conn)
        transfer, decision = self.transfer, self.transfer.exchange.decision
        if transfer.refusal is None and decision is not None and decision.action is Action.KILL:
            yield SendHttp(ResponseProtocolError(self.stream_id, "killed", ErrorCode.KILL), self.context.client)
            yield commands.CloseConnection(self.context.client)
            yield from self._end(decision.reason)
            return
        self.flow.response = response = self._page(decision)
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), self.context.client)
        if self.flow.request.method != "HEAD" and response.raw_content:
            yield SendHttp(ResponseData(self.stream_id, response.raw_content), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        if self.flow.request.is_http2 and not request_ended:
            yield SendHttp(ResponseProtocolError(self.stream_id, "", ErrorCode.CANCEL), self.context.client)
        yield from self._end("")

    def _page(self, decision: Decision | None) -> http.Response:
        if self.flow.response is not None and decision is not None and decision.reason == "answered by the addon":
            return self.flow.response
        transfer = self.transfer
        status, reason = transfer.refusal or (403, decision.reason if decision else "refused")
        rule = decision.rule if decision and not transfer.refusal else ""
        return answers.refusal(self.flow.request, status, reason, incident=transfer.incident, rule=rule,
                               host=transfer.host or self.flow.request.pretty_host)

    def _end(self, error: str) -> Commands:
        self.session.recorder.exchange(self.session, self.transfer, error)
        self.flow.live = False
        self.client_state = self.server_state = self.state_errored
        yield DropStream(self.stream_id)

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> Commands:
        """An origin that fails gets the client a page that says so, in the client's own kind of answer."""
        yield from self._answered()
        failed = isinstance(event, ResponseProtocolError) and self.server_state in (
            self.state_wait_for_response_headers, self.state_uninitialized) and self.client_state != self.state_errored
        if failed and event.code not in (ErrorCode.KILL, ErrorCode.HTTP_1_1_REQUIRED, ErrorCode.CANCEL):
            self.transfer.refusal = (502, f"The origin could not be reached or failed: {event.message}.")
            yield from self._refuse(request_ended=self.client_state == self.state_done)
            return
        yield from super().handle_protocol_error(event)

    # -- WebSocket

    def passthrough(self, event: events.Event) -> Commands:
        """Messages are relayed by mitmproxy's layer; a decision ends both sides as if the origin had closed."""
        yield from super().passthrough(event)
        if self._closing or not isinstance(self.child_layer, WebsocketLayer):
            return
        decision = self.transfer.exchange.decision
        if decision is not None and decision.action is not Action.ALLOW:
            yield from self._close_websocket(POLICY_VIOLATION, decision.reason)
        elif any(sum(map(len, side.frame_buf)) > MAX_MESSAGE for side in self._sides()):
            yield from self._close_websocket(TOO_BIG, "the message is too large to be inspected")

    def _sides(self) -> Iterable[object]:
        child = self.child_layer
        return (child.client_ws, child.server_ws) if hasattr(child, "client_ws") else ()

    def _close_websocket(self, code: int, reason: str) -> Commands:
        self._closing = True
        payload = code.to_bytes(2, "big") + f"blocked: {reason}".encode()[:100]    # control frames hold 125 bytes
        frame = b"\x88" + bytes([len(payload)]) + payload
        yield from super().passthrough(ResponseData(self.stream_id, frame))
        self.session.recorder.exchange(self.session, self.transfer, reason)


__all__ = ["HttpErrorHook", "Stream"]
