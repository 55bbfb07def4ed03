"""Have an ICAP server, such as a virus scanner, judge requests and responses (RFC 3507)."""

import hashlib
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from mitmproxy import http

from addons.icapclient import IcapClient, Result
from addons.icapwire import Headers, IcapError, http_head
from addons.verdict import Action, Verdict

#: The port that IANA gave ICAP.
PORT: Final = 1344
MODES: Final = ("reqmod", "respmod")


@dataclass
class Icap:
    """Requests, responses or both, shown to an ICAP server before they leave.

    `url` is `icap://HOST[:PORT]/SERVICE`; where requests and responses have services of their own, use two rules.
    `modes` says what is shown: `reqmod`, `respmod`.  A server that answers in the origin's place blocks, with the
    reason that it gives.  One that wants to change a message does what `modified` says: block or alert; the message
    itself is never changed.  Bodies are shown as they travel (with their Content-Encoding) and collected for that, so
    the rule's `buffer` is the largest, and `on_error` speaks for larger ones, for a server that fails, and for one that
    is not done in `deadline`: give it some seconds.  `send_client` adds the client's address and user.
    """

    url: str
    modes: tuple[str, ...] = MODES
    modified: str = "block"
    send_client: bool = False
    _place: tuple[str, int] = field(init=False, repr=False, compare=False)
    _client: IcapClient | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "icap" or not parts.hostname or not parts.path.strip("/"):
            raise ValueError(f"url: {self.url!r} is not icap://HOST[:PORT]/SERVICE")
        try:
            self._place = parts.hostname, parts.port or PORT
        except ValueError:
            raise ValueError(f"url: {self.url!r} has no valid port") from None
        if not self.modes or set(self.modes) - set(MODES):
            raise ValueError(f"modes: {', '.join(self.modes) or 'none'}; there are {', '.join(MODES)}")
        if self.modified not in (Action.BLOCK, Action.ALERT):
            raise ValueError(f"modified: {self.modified!r} is neither block nor alert")
        # The chain collects bodies for filters that have these hooks, so a filter has only those that it was asked for.
        if "reqmod" in self.modes:
            self.request = self._request
        if "respmod" in self.modes:
            self.response = self._response

    def done(self) -> None:
        """The filter is not asked any more."""
        if self._client is not None:
            self._client.close()

    async def _request(self, flow: http.HTTPFlow) -> Verdict | None:
        data = flow.request.raw_content or b""
        head = _request_head(flow.request)
        result = await self._server().ask("REQMOD", [("req-hdr", head)], "req-body" if data else "null-body", data,
                                          self._about(flow))
        return self._judge(result, "req-hdr", head, data)

    async def _response(self, flow: http.HTTPFlow) -> Verdict | None:
        if flow.response is None:
            return None
        data = flow.response.raw_content or b""
        start = f"HTTP/1.1 {flow.response.status_code} {flow.response.reason}"
        head = http_head(start, flow.response.headers.fields, len(data))
        parts = [("req-hdr", _request_head(flow.request)), ("res-hdr", head)]
        result = await self._server().ask("RESPMOD", parts, "res-body" if data else "null-body", data,
                                          self._about(flow))
        return self._judge(result, "res-hdr", head, data)

    def _server(self) -> IcapClient:
        if self._client is None:        # not before there is a loop
            self._client = IcapClient(*self._place, self.url)
        return self._client

    def _about(self, flow: http.HTTPFlow) -> Headers:
        if not self.send_client or not flow.client_conn.peername:
            return []
        process = flow.metadata.get("process")
        user = [("X-Client-Username", process.user)] if process is not None and process.user else []
        return [("X-Client-IP", flow.client_conn.peername[0]), *user]

    def _judge(self, result: Result, part: str, head: bytes, data: bytes) -> Verdict | None:
        answer = result.answer
        if answer.status == 204:
            return None
        if answer.status != 200:
            raise IcapError(f"the ICAP server failed: {answer.status} {answer.reason}"[:200])
        if not answer.parts:
            raise IcapError("the ICAP server answers 200 without a message")
        answered = part == "req-hdr" and "res-hdr" in answer.parts
        if answered or answer.why or _refuses(answer.parts.get(part, b""), head):
            return Verdict(Action.BLOCK, _reason(result))
        if _same(answer.parts.get(part, b""), head) and _same_body(result, data):
            return None
        return Verdict(Action(self.modified), "the ICAP server wants to change the message")


def _request_head(request: http.Request) -> bytes:
    return http_head(f"{request.method} {request.pretty_url} HTTP/1.1", request.headers.fields,
                     len(request.raw_content or b""))


def _reason(result: Result) -> str:
    answer = result.answer
    status = answer.parts.get("res-hdr", b"").partition(b"\r\n")[0].decode("latin-1").partition(" ")[2]
    return f"the ICAP server refuses it: {answer.why or status or 'it gives no reason'}"[:300]


def _refuses(theirs: bytes, ours: bytes) -> bool:
    """Is it an error in place of the origin's response?"""
    return theirs[9:10] in (b"4", b"5") and theirs[9:12] != ours[9:12] and theirs.startswith(b"HTTP/")


def _same(theirs: bytes, ours: bytes) -> bool:
    """Is it the same message?  What servers add on the way (`Via`, `X-...`) changes nothing; the start line does."""
    return theirs.partition(b"\r\n")[0].split(b" ")[:2] == ours.partition(b"\r\n")[0].split(b" ")[:2]


def _same_body(result: Result, data: bytes) -> bool:
    return result.size == len(data) and (not data or result.digest == hashlib.sha256(data).digest())
