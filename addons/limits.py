"""Limits on the form of messages: methods, sizes."""

import re
from dataclasses import dataclass
from typing import Final

from mitmproxy import http

from addons.verdict import BodyScanner, Verdict, block

#: Of a length, so many digits: a number that has them is over any limit, and one of thousands is none for `int`.
_DIGITS: Final = 20
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass
class Methods:
    """Methods that may be used, or may not.

    With `allow` all others are blocked; with `block` these are.  Names are compared in any case.  GET is also how a
    WebSocket begins, and OPTIONS is what a browser asks before it lets a page's script ask another site.
    """

    allow: tuple[str, ...] = ()
    block: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.allow) == bool(self.block):
            raise ValueError("give either `allow` or `block`")
        if bad := [name for name in (*self.allow, *self.block) if not _TOKEN.fullmatch(name)]:
            raise ValueError(f"not a method: {bad[0]!r}")
        self.allow, self.block = _upper(self.allow), _upper(self.block)

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        method = flow.request.method.upper()
        if method in self.block or (self.allow and method not in self.allow):
            return block(f"method {method[:40]} is not allowed here")
        return None


def _upper(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.upper() for name in names)


@dataclass
class Sizes:
    """Sizes in bytes that messages may have; 0 is no limit.

    `request` and `response` are of bodies.  One that announces more is refused at once; all others are counted as they
    pass, after decoding, and stopped where they grow beyond.  `url` is of path and query, `headers` of a request's
    header fields.
    """

    request: int = 0
    response: int = 0
    url: int = 0
    headers: int = 0

    def __post_init__(self) -> None:
        limits = (self.request, self.response, self.url, self.headers)
        if min(limits) < 0 or not any(limits):
            raise ValueError("give a limit of 1 byte or more: request, response, url, headers")

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        request = flow.request
        if self.url and len(request.data.path) > self.url:
            return block(f"URL of {len(request.data.path)} bytes: more than {self.url}")
        if self.headers and (size := sum(len(n) + len(v) for n, v in request.data.headers.fields)) > self.headers:
            return block(f"header fields of {size} bytes: more than {self.headers}")
        return _announced(request, self.request, "request")

    def requestbody(self, flow: http.HTTPFlow) -> BodyScanner | None:
        return _counting(flow.request, self.request, "request")

    def responseheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        if flow.response is None or flow.request.method.upper() == "HEAD" or flow.response.status_code == 304:
            return None     # the length is that of what is not sent (RFC 9110, 8.6)
        return _announced(flow.response, self.response, "response")

    def responsebody(self, flow: http.HTTPFlow) -> BodyScanner | None:
        return _counting(flow.response, self.response, "response") if flow.response else None

    def websocket_message(self, flow: http.HTTPFlow) -> Verdict | None:
        message = flow.websocket.messages[-1] if flow.websocket else None
        if message is None:
            return None
        what, limit = ("request", self.request) if message.from_client else ("response", self.response)
        return _over(len(message.content), limit, f"WebSocket {what}")


def _over(size: int, limit: int, what: str) -> Verdict | None:
    return block(f"{what} of {size} bytes or more: only {limit} are allowed") if limit and size > limit else None


def _announced(message: http.Message, limit: int, what: str) -> Verdict | None:
    length = message.headers.get("content-length", "")
    return _over(int(length.lstrip("0")[:_DIGITS] or 0), limit, what) if length.isdecimal() else None


def _counting(message: http.Message, limit: int, what: str) -> BodyScanner | None:
    """Return a scanner that counts; None where the announced length, of a body without a coding, says it all."""
    plain = message.headers.get("content-encoding", "identity").strip().lower() in ("", "identity")
    if not limit or (plain and message.headers.get("content-length", "").isdecimal()):
        return None
    seen = 0

    def scan(data: bytes) -> Verdict | None:
        nonlocal seen
        seen += len(data)
        return _over(seen, limit, what)

    return scan
