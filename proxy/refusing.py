"""How a stream ends otherwise than by the origin's answer: refused, overdue, broken off, its WebSocket closed.

One of the files that know mitmproxy's internals (see `engine.py`).
"""

import re
from typing import TYPE_CHECKING

from mitmproxy import flow, http
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    DropStream,
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpStream,
    RequestData,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)
from mitmproxy.proxy.layers.http._events import ErrorCode
from mitmproxy.proxy.layers.websocket import WebsocketLayer

from addons.verdict import Action
from proxy import answers, websocket
from proxy.engine import Abort, Cancel
from proxy.session import Session, Transfer

if TYPE_CHECKING:
    from proxy.layers import Http

type Commands = layer.CommandGenerator[None]

#: Octets that no field may hold (RFC 9110, 5.5); HTTP/2 could carry them.
UNSAFE = re.compile(rb"[\0\r\n]")
#: An origin that ends a stream so has its reasons, which are the client's business.
PASSED_ON = (ErrorCode.KILL, ErrorCode.HTTP_1_1_REQUIRED, ErrorCode.CANCEL)


class RefusingStream(HttpStream):
    """mitmproxy's stream with refusals and waiting times of our own."""

    def __init__(self, context: Context, stream_id: int, session: Session, parent: "Http") -> None:
        super().__init__(context, stream_id)
        self.session = session
        self.parent = parent
        self.asked = False              # the origin has, or is about to have, the request's head
        self.head_given = False         # the client has the response's head
        self.request_ended = False
        self.wakeup: commands.RequestWakeup | None = None
        self._transfer: Transfer | None = None

    @property
    def transfer(self) -> Transfer:
        if self._transfer is None:
            self._transfer = self.session.of(self.flow)
        return self._transfer

    @property
    def waiting(self) -> bool:
        """Does it wait for a hook or a connection, so that what arrives is kept in memory?"""
        child = self.child_layer
        return self._paused is not None or (child is not None and child._paused is not None)

    def _handle_event(self, event: events.Event) -> Commands:
        if not isinstance(event, events.Wakeup):
            yield from super()._handle_event(event)
        elif event.command is self.wakeup and self.server_state == self.state_wait_for_response_headers:
            self.wakeup = None
            limit = self.session.rules().policy.limits.answer
            self.transfer.refusal = (504, f"The origin sent no answer within {limit} seconds.")
            yield from self.refuse()

    def answered(self) -> Commands:
        """No need to wait any longer."""
        if self.wakeup is not None:
            self.parent.command_sources.pop(self.wakeup, None)
            yield Cancel(self.wakeup)
            self.wakeup = None

    # -- where mitmproxy would do it in its own way

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        """Requests are looked at in `gate.py`, before any filter; a malformed response becomes a page."""
        if request:
            return False
        response = self.flow.response
        assert response is not None
        try:
            validate_headers(response)
            if response.status_code == 101 and "upgrade" not in self.flow.request.headers:
                raise ValueError("nobody asked for another protocol")
            if UNSAFE.search(b" ".join(value for _, value in response.headers.fields)):
                raise ValueError("a header field holds a NUL, CR or LF")
        except ValueError as error:
            self.transfer.refusal = (502, f"The origin's response is malformed: {error}.")
            yield from self.refuse()
            return True
        return False

    def handle_connect(self) -> Commands:
        """Tunnels are opened at the door or not at all."""
        yield HttpRequestHeadersHook(self.flow)
        yield from self.refuse()

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        made: bool = yield from super().make_server_connection()
        self.asked = made
        return made

    def check_killed(self, emit_error_hook: bool) -> layer.CommandGenerator[bool]:
        """Has an addon, or the client by leaving, ended the flow?  A malformed request deserves its answer instead."""
        killed = self.flow.error is not None and self.flow.error.msg == flow.Error.KILLED_MESSAGE
        left = [e for e in self._paused_event_queue if isinstance(e, RequestProtocolError) and not self._malformed(e)]
        if not killed and not left:
            return False
        yield from self.answered()
        yield from self._leave_origin()
        yield SendHttp(ResponseProtocolError(self.stream_id, "killed", ErrorCode.KILL), self.context.client)
        yield from self.end("killed" if killed else left[0].message)
        return True

    def _malformed(self, event: RequestProtocolError) -> bool:
        """Not just the end of the client, or of its wish: over HTTP/2 these look alike."""
        return event.code is ErrorCode.GENERIC_CLIENT_ERROR and not self.flow.request.is_http2

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> Commands:
        """A side that fails before the answer has begun gets the client a page that says so."""
        yield from self.answered()
        unanswered = not self.head_given and self.state_errored not in (self.client_state, self.server_state)
        if isinstance(event, RequestProtocolError):
            if unanswered and self._malformed(event):
                self.transfer.refusal = (400, f"The request is malformed: {event.message}.")
                yield from self.refuse()
                return
            yield from self._leave_origin()
        elif unanswered and event.code not in PASSED_ON and self.server_state != self.state_done:
            self.transfer.refusal = (508, self.session.looped) if self.session.looped else (
                502, f"The origin could not be reached or failed: {event.message}.")
            yield from self.refuse()
            return
        else:       # nobody wants the rest of a request that has been answered in whole
            code = ErrorCode.CANCEL if self.server_state == self.state_done else event.code
            yield SendHttp(ResponseProtocolError(self.stream_id, event.message, code), self.context.client)
        yield from self.end(event.message)

    # -- refusing

    def refuse(self) -> Commands:
        """Answer the client in the origin's place, wherever the exchange stands, and give up the origin's side."""
        yield from self.answered()
        decision = self.transfer.exchange.decision
        if self.transfer.refusal is None and decision is not None and decision.action is Action.KILL:
            yield from self.end(decision.reason)
            yield Abort()
            return
        if self.head_given or self._manner == "reset":
            yield from self.cut(decision.told if decision else "refused")
            return
        yield from self._leave_origin()
        self.flow.response = response = self._page()
        ended = not response.raw_content    # a gRPC client takes the head for trailers only if it ends the stream
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=ended), self.context.client)
        if self.flow.request.method != "HEAD" and response.raw_content:
            yield SendHttp(ResponseData(self.stream_id, response.raw_content), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        if not self.request_ended:
            yield SendHttp(ResponseProtocolError(self.stream_id, "", ErrorCode.CANCEL), self.context.client)
        yield from self.end("")

    def cut(self, reason: str) -> Commands:
        """The response's head has left, so no page can be sent any more: both sides are cut, which the client sees."""
        yield from self._leave_origin()
        yield SendHttp(ResponseProtocolError(self.stream_id, reason, ErrorCode.KILL), self.context.client)
        yield from self.end(reason)

    def _leave_origin(self) -> Commands:
        """Cancel what of the request and of its answer is still to come."""
        if self.asked and not self.client_state == self.server_state == self.state_done:
            yield SendHttp(RequestProtocolError(self.stream_id, "refused", ErrorCode.CANCEL), self.flow.server_conn)

    def _page(self) -> http.Response:
        transfer, decision = self.transfer, self.transfer.exchange.decision
        if transfer.refusal is None and decision is not None and decision.answered and self.flow.response is not None:
            return self.flow.response
        status, reason = transfer.refusal or (403, decision.told if decision else "refused")
        rule = decision.rule if decision and not transfer.refusal else ""
        return answers.refusal(self.flow.request, status, reason, incident=transfer.incident, rule=rule,
                               host=transfer.host or "the origin", manner=self._manner)

    @property
    def _manner(self) -> answers.Manner:
        """How the rule that decided wants its refusals answered; what no rule decided gets words."""
        return "page" if self.transfer.refusal is not None else self.transfer.exchange.manner

    def end(self, error: str) -> Commands:
        """Whatever may still arrive for this stream is of no interest."""
        self.client_state = self.server_state = self.state_errored
        if error:
            self.flow.error = self.flow.error or flow.Error(error)
            yield HttpErrorHook(self.flow)
        self.session.recorder.exchange(self.session, self.transfer, error)
        yield from self.drop()

    def drop(self) -> Commands:
        self.flow.live = False
        yield DropStream(self.stream_id)

    # -- WebSocket

    def passthrough(self, event: events.Event) -> Commands:
        """mitmproxy's layer relays the messages; what stops one ends both sides."""
        yield from super().passthrough(event)
        child = self.child_layer
        if not isinstance(child, WebsocketLayer) or not self.flow.live:
            return
        decision = self.transfer.exchange.decision
        if self.transfer.exchange.stopped and decision is not None:
            yield from self._close_websocket(child, websocket.POLICY_VIOLATION, f"blocked: {decision.told}")
        elif websocket.too_big(child):
            yield from self._close_websocket(child, websocket.TOO_BIG, "the message is too large to be inspected")

    def _close_websocket(self, child: WebsocketLayer, code: int, reason: str) -> Commands:
        client = self.context.client
        self._handle_event = self.state_errored  # type: ignore[method-assign,assignment]
        for side, frame in websocket.closing(child, code, reason):
            if side.conn is client:
                yield SendHttp(ResponseData(self.stream_id, frame), client)
                yield SendHttp(ResponseProtocolError(self.stream_id, "", ErrorCode.PASSTHROUGH_CLOSE), client)
            else:
                yield SendHttp(RequestData(self.stream_id, frame), side.conn)
                yield SendHttp(RequestProtocolError(self.stream_id, "", ErrorCode.PASSTHROUGH_CLOSE), side.conn)
        yield from self.end(reason)
