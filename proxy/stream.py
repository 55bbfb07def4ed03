"""Enforcement inside one HTTP stream: a decision becomes an answer, also in mid-body, and harms no other stream.

mitmproxy's own means do not suffice: with streaming on, its `request` hook fires when the origin has the whole body; a
response set then hangs the client; `flow.kill()` in a stream callable is ignored.  So the states that move bodies are
ours: bytes leave when `Body` releases them, and a decision ends the stream where it stands: the origin sees its
request cancelled, the client gets the real answer.

One of the files that know mitmproxy's internals (see `engine.py`).
"""

from mitmproxy import http
from mitmproxy.proxy import commands, layer
from mitmproxy.proxy.layers.http import (
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseTrailers,
    SendHttp,
)
from mitmproxy.proxy.utils import ReceiveBuffer

from proxy.body import Body
from proxy.chain import Decision
from proxy.engine import Settle
from proxy.refusing import RefusingStream

type Commands = layer.CommandGenerator[None]


class Stream(RefusingStream):
    """One request and its response on their ways through us."""

    _end_given = False

    # -- the request

    def state_wait_for_request_headers(self, event: RequestHeaders) -> Commands:
        self.request_ended = event.end_stream
        yield from super().state_wait_for_request_headers(event)
        if self.client_state == self.state_errored:
            return
        if event.end_stream and event.request.headers.get("content-length", "0") != "0":
            self.transfer.refusal = (400, "The request announces a body and has none.")
        if self.transfer.stopped:
            yield from self.refuse()

    def start_request_stream(self) -> Commands:
        """The request has a body that streams.  A client that announced its length sends it unasked, so our request
        to the origin can wait for the first bytes that may leave; short bodies are judged before the origin is met."""
        self.client_state = self.state_stream_request_body
        if self.transfer.stopped:
            return
        self.transfer.open_upload()
        if "content-length" not in self.flow.request.headers and not self.transfer.stopped:
            yield from self._send_head()

    def _send_head(self) -> layer.CommandGenerator[bool]:
        """Open the request to the origin, if that is still to be done; return whether it stands."""
        if not self.asked and (yield from self.make_server_connection()):
            headers = self.flow.request.headers
            if self.context.server.alpn != b"h2" and "content-length" not in headers:
                headers["transfer-encoding"] = "chunked"    # what HTTP/2 frames, HTTP/1 has to say
            yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, end_stream=False), self.context.server)
        return self.asked and self.client_state != self.state_errored

    def state_stream_request_body(self, event: RequestData | RequestTrailers | RequestEndOfMessage) -> Commands:
        if isinstance(event, RequestTrailers):      # no filter would have seen them
            return
        self.request_ended = ended = isinstance(event, RequestEndOfMessage)
        body, chunks = self.transfer.upload, [event.data] if isinstance(event, RequestData) else []
        if body is not None:
            chunks, stop = yield from shown(body, None if ended else chunks[0])
            if stop:
                yield from self.refuse()
                return
            _measured(self.flow.request, body)
        if (chunks or ended) and not (yield from self._send_head()):
            return
        for chunk in chunks:
            self.transfer.sent += len(chunk)
            yield SendHttp(RequestData(self.stream_id, chunk), self.context.server)
        if ended:
            self.client_state = self.state_done
            yield SendHttp(event, self.context.server)
            yield from self._await_answer()
            if self.server_state == self.state_done:
                yield from self.flow_done()

    def state_consume_request_body(self, event: RequestData | RequestTrailers | RequestEndOfMessage) -> Commands:
        """The request is collected whole: it has no body, or a filter wants it so."""
        transfer = self.transfer
        match event:
            case RequestData():
                yield from self._collect_request(event)
            case RequestEndOfMessage():
                self.request_ended = True
                if (body := transfer.upload) is not None:
                    chunks, stop = yield from shown(body, None)
                    if stop:
                        yield from self.refuse()
                        return
                    self.request_body_buf += b"".join(chunks)
                    _measured(self.flow.request, body)
                transfer.sent = len(self.request_body_buf)
                yield from self._await_answer()
                yield from super().state_consume_request_body(event)

    def _collect_request(self, event: RequestData) -> Commands:
        transfer = self.transfer
        if not transfer.collected:
            transfer.open_upload()
        transfer.collected += len(event.data)
        chunks, stop = [event.data], transfer.stopped
        if transfer.upload is not None and not stop:
            chunks, decision = yield from shown(transfer.upload, event.data)
            stop = decision is not None
        if stop:
            yield from self.refuse()
            return
        self.request_body_buf += b"".join(chunks)
        if transfer.collected <= transfer.buffer_request:
            return
        if transfer.overflow("request"):
            yield from self.refuse()
            return
        data = _taken(self.request_body_buf)
        self.client_state = self.state_stream_request_body
        if data and (yield from self._send_head()):
            transfer.sent += len(data)
            yield SendHttp(RequestData(self.stream_id, data), self.context.server)

    # -- waiting for the origin

    def _await_answer(self) -> Commands:
        """The whole request is here: from now on the time runs, also that of connecting."""
        if self.server_state == self.state_wait_for_response_headers:
            self.wakeup = commands.RequestWakeup(self.session.rules().policy.limits.answer)
            yield self.wakeup

    # -- the response

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> Commands:
        yield from self.answered()
        yield from super().state_wait_for_response_headers(event)
        if self.server_state == self.state_consume_response_body and self.transfer.stopped:
            yield from self.refuse()

    def start_response_stream(self) -> Commands:
        if self.transfer.stopped:
            yield from self.refuse()
            return
        self._frame()
        assert self.flow.response is not None
        if self.transfer.download is not None and self.flow.response.headers.get("content-length", "0") != "0":
            self.server_state = self.state_stream_response_body     # what its first bytes refuse gets words, not a cut
        else:       # who streams without a length may wait for our client's next word
            yield from self._give_head()

    def _give_head(self) -> Commands:
        if not self.head_given:
            self.head_given = True
            yield from super().start_response_stream()

    def _frame(self) -> None:
        """Where only the end of the connection would end the body, chunks do: a cut must not look like the end."""
        response, request = self.flow.response, self.flow.request
        assert response is not None
        if (request.is_http11 and request.method != "HEAD" and response.status_code not in (101, 204, 304)
                and "content-length" not in response.headers and "transfer-encoding" not in response.headers):
            response.headers["transfer-encoding"] = "chunked"
            response.http_version = "HTTP/1.1"

    def state_stream_response_body(self, event: ResponseData | ResponseTrailers | ResponseEndOfMessage) -> Commands:
        transfer, body = self.transfer, self.transfer.download
        if isinstance(event, ResponseTrailers):
            assert self.flow.response
            self.flow.response.trailers = event.trailers
            return
        ended, chunks = isinstance(event, ResponseEndOfMessage), [event.data] if isinstance(event, ResponseData) else []
        if body is not None:
            chunks, stop = yield from shown(body, None if ended else chunks[0])
            if stop:
                yield from (self.cut(stop.reason) if self.head_given else self.refuse())
                return
            _measured(self.flow.response, body)
        if chunks or ended:
            yield from self._give_head()
        for chunk in chunks:
            transfer.received += len(chunk)
            yield SendHttp(ResponseData(self.stream_id, chunk), self.context.client)
        if ended:
            yield from self.send_response(already_streamed=True)

    def state_consume_response_body(self, event: ResponseData | ResponseTrailers | ResponseEndOfMessage) -> Commands:
        transfer = self.transfer
        if isinstance(event, ResponseData):
            yield from self._collect_response(event)
            return
        if isinstance(event, ResponseEndOfMessage):
            if (body := transfer.download) is not None:
                chunks, stop = yield from shown(body, None)
                if stop:
                    yield from self.refuse()
                    return
                self.response_body_buf += b"".join(chunks)
                _measured(self.flow.response, body)
            self._frame()
        yield from super().state_consume_response_body(event)

    def _collect_response(self, event: ResponseData) -> Commands:
        transfer = self.transfer
        transfer.received += len(event.data)
        chunks = [event.data]
        if transfer.download is not None:
            chunks, stop = yield from shown(transfer.download, event.data)
            if stop:
                yield from self.refuse()
                return
        self.response_body_buf += b"".join(chunks)
        if transfer.received <= transfer.buffer_response:
            return
        if transfer.overflow("response"):
            yield from self.refuse()
            return
        data = _taken(self.response_body_buf)
        yield from self.start_response_stream()
        if data:
            yield from self._give_head()
            yield SendHttp(ResponseData(self.stream_id, data), self.context.client)

    def send_response(self, already_streamed: bool = False) -> Commands:
        """mitmproxy keeps the end of an early answer back until the request has ended, too."""
        yield from super().send_response(already_streamed)
        self.head_given = True
        if self.server_state == self.state_done and self.client_state != self.state_done:
            self._end_given = True
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def flow_done(self) -> Commands:
        if self._end_given:
            yield from self.drop()
        else:
            yield from super().flow_done()


def shown(body: Body, data: bytes | None) -> layer.CommandGenerator[tuple[list[bytes], Decision | None]]:
    """Show a body's next bytes, or its end, to who scans it; the stream waits where they do, and only the stream."""
    result = body.end() if data is None else body.feed(data)
    if body.waits:
        yield Settle(body)
        result = body.result()
    return result


def _taken(buffer: ReceiveBuffer) -> bytes:
    """What was collected and may leave; the last of it is still with the body's scanners."""
    data = bytes(buffer)
    buffer.clear()
    return data


def _measured(message: http.Message | None, body: Body) -> None:
    """A body that was put together again may have another length than was announced."""
    if body.length is not None and message is not None and "content-length" in message.headers:
        message.headers["content-length"] = str(body.length)
