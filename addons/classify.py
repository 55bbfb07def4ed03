"""Labels for every request: protocol, direction, content, kind, application, category."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import yaml
from mitmproxy import http

from addons.names import host_of
from addons.sniff import ENOUGH, kind, mismatch
from addons.verdict import DONE, BodyScanner, Verdict, label, labels

CATALOGUE: Final = Path(__file__).with_name("catalogue.yaml")
#: A body of this size, or one whose end is not known beforehand, is a transfer and not an answer.
LARGE: Final = 1024 * 1024
#: Hosts whose labels are remembered: the working set of a busy computer.
_REMEMBERED: Final = 4096

Headers = dict[bytes, bytes]

_UPLOADS: Final = frozenset({b"POST", b"PUT", b"PATCH"})
_GRPC: Final = b"application/grpc"
_SSE: Final = b"text/event-stream"
_MEDIA: Final = (b"image/", b"video/", b"audio/")
_FILES: Final = (b"application/octet-stream", b"application/zip", b"application/gzip", b"application/pdf")


@cache
def catalogue(path: Path = CATALOGUE) -> dict[str, tuple[str, ...]]:
    """Return suffix -> labels, read once."""
    loaded: list[dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))
    return {
        host: (f"app:{entry['app']}", *(f"category:{name}" for name in entry["categories"]))
        for entry in loaded
        for host in entry["hosts"]
    }


@lru_cache(_REMEMBERED)
def host_labels(host: str) -> tuple[str, ...]:
    """Return the labels of the longest suffix of the host that the catalogue knows."""
    known, name = catalogue(), host
    while name:
        if name in known:
            return known[name]
        name = name.partition(".")[2]
    return ()


@dataclass
class Http:
    """Labels for rules and events; decides nothing.

    `protocol:` http/1.1, http/2, websocket, grpc, sse; `direction:` upload or download; `kind:` api, page, download,
    upload or stream; `content:` what the first bytes of a body are, with `mismatch` where the declared type says
    otherwise; `app:` and `category:` by host.
    """

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        headers = {name.lower(): value.lower() for name, value in flow.request.data.headers.fields}
        uploads = flow.request.data.method in _UPLOADS and headers.get(b"content-length") != b"0"
        _label(flow, _protocol(flow.request, headers), f"direction:{'upload' if uploads else 'download'}")
        with suppress(ValueError):
            _label(flow, *host_labels(host_of(flow.request)))
        if told := _request_kind(headers, uploads):
            _label(flow, told)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is None:
            return
        headers = {name.lower(): value.lower() for name, value in flow.response.data.headers.fields}
        if headers.get(b"content-type", b"").startswith(_SSE):
            _label(flow, "protocol:sse")
        if not any(name.startswith("kind:") for name in labels(flow)):
            _label(flow, _response_kind(headers))

    def requestbody(self, flow: http.HTTPFlow) -> BodyScanner:
        return _sniffer(flow, flow.request.headers.get("content-type", ""))

    def responsebody(self, flow: http.HTTPFlow) -> BodyScanner | None:
        return _sniffer(flow, flow.response.headers.get("content-type", "")) if flow.response else None


def _sniffer(flow: http.HTTPFlow, declared: str) -> BodyScanner:
    """Return a scanner that looks at the first bytes and is then done."""
    head = b""

    def scan(data: bytes) -> Verdict | None:
        nonlocal head
        head += data[: ENOUGH - len(head)]
        if data and len(head) < ENOUGH:
            return None
        if head:
            found = kind(head)
            _label(flow, f"content:{found}", *(("mismatch",) if mismatch(declared, found) else ()))
        return DONE

    return scan


def _protocol(request: http.Request, headers: Headers) -> str:
    if headers.get(b"content-type", b"").startswith(_GRPC):
        return "protocol:grpc"
    if b"websocket" in (headers.get(b"upgrade"), headers.get(b":protocol")):
        return "protocol:websocket"
    return "protocol:http/2" if request.data.http_version.startswith(b"HTTP/2") else "protocol:http/1.1"


def _request_kind(headers: Headers, uploads: bool) -> str | None:
    """Return what the request alone tells; None where the answer has to."""
    declared, accept = headers.get(b"content-type", b""), headers.get(b"accept", b"")
    if declared.startswith(_GRPC) or b"upgrade" in headers or _SSE in accept:
        return "kind:stream"
    if uploads and (declared.startswith((b"multipart/", b"application/octet-stream", *_MEDIA)) or _is_large(headers)):
        return "kind:upload"
    if b"x-requested-with" in headers or b"json" in declared or accept.startswith(b"application/json"):
        return "kind:api"
    return None


def _response_kind(headers: Headers) -> str:
    declared = headers.get(b"content-type", b"")
    if declared.startswith((_SSE, b"video/", b"audio/")):
        return "kind:stream"
    if headers.get(b"content-disposition", b"").startswith(b"attachment"):
        return "kind:download"
    if b"json" in declared or declared.startswith((b"application/xml", b"text/xml")):
        return "kind:api"
    if declared.startswith(_FILES) or _is_large(headers):
        return "kind:download"
    return "kind:page"


def _is_large(headers: Headers) -> bool:
    length = headers.get(b"content-length", b"")
    return length.isdigit() and int(length[:18]) >= LARGE


def _label(flow: http.HTTPFlow, *names: str) -> None:
    for name in names:
        label(flow, name)
