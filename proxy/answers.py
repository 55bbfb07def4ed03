"""What a refused client gets: what it can read or show, with the incident, the filter and the reason.

Theory of operation.  Browsers say what a resource is for (`Sec-Fetch-Dest`, `Accept`): a person gets a page, an `<img>`
an image, a script tag a script without effect; gRPC has a status of its own; all others get a problem document.  Each
has incident and reason in its headers, too, which scripts of a page may read.  `placeholder` answers parts of pages
with success and nothing, for lists of advertisements; it never pretends so to a person or a program.
"""

import html
import json
import string
from typing import Literal
from urllib.parse import quote

from mitmproxy import http

from addons.requestkind import kind_of

type Manner = Literal["page", "placeholder", "reset"]

#: No cache may keep a refusal, no script may run in it, and it is not the origin's (RFC 9111, 5.2.2.5).
_HEADERS = {"cache-control": "no-store", "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
            "x-content-type-options": "nosniff"}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; margin: 12vh auto; max-width: 36rem; padding: 0 1rem; color: #1d2730 }}
 h1 {{ font-size: 1.5rem }} p {{ overflow-wrap: anywhere }}
 dl {{ display: grid; grid-template-columns: auto 1fr; gap: .3rem 1rem }}
 dt {{ color: #5b6b78 }} dd {{ margin: 0; overflow-wrap: anywhere }} footer {{ color: #5b6b78; font-size: .85rem }}
</style></head><body>
<h1>{title}</h1>
<p>{detail}</p>
<dl>{rows}</dl>
<footer>This answer comes from lockgate on this computer, not from {host}.</footer>
</body></html>
"""

_TITLES = {400: "Malformed request", 403: "Blocked by policy", 407: "Proxy authentication required",
           408: "Request not completed in time", 417: "Expectation refused", 421: "Misdirected request",
           431: "Request headers too large", 502: "Origin failed", 503: "Not available",
           504: "Origin did not answer in time", 505: "Unknown version of HTTP", 508: "Loop detected"}


#: Names of the fields that every answer of ours has.
INCIDENT, REASON = "x-lockgate-incident", "x-lockgate-reason"
#: Characters of a reason in a field; an answer's head must fit what clients accept (8 KiB and more).
_LONGEST = 500
#: What may stand in a field as it is; gRPC says the same of its message (gRPC over HTTP2, "Status-Message").
_PLAIN = "".join(sorted(set(string.printable) - set(string.whitespace) - {"%"})) + " "
#: HTTP's status as gRPC's (gRPC, "HTTP to gRPC Status Code Mapping"); 2 is UNKNOWN.
_GRPC = {400: 13, 401: 16, 403: 7, 404: 12, 407: 16, 429: 14, 502: 14, 503: 14, 504: 14}
#: One transparent pixel (GIF89a).
PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")


def refusal(request: http.Request | None, status: int, detail: str, *, incident: str, rule: str = "",
            host: str = "the origin", manner: Manner = "page") -> http.Response:
    """Return an answer fit for the client; without a request, a problem document (RFC 9457)."""
    facts = {"incident": incident, "filter": rule, "host": host}
    title = _TITLES.get(status, "Refused")
    fields = {name.lower(): value for name, value in request.data.headers.fields} if request is not None else {}
    headers = {**_HEADERS, INCIDENT: incident, REASON: field_text(detail)}
    if grpc := _grpc(fields):
        response = _response(200, b"", {**headers, "content-type": grpc, "grpc-status": str(_GRPC.get(status, 2)),
                                        "grpc-message": field_text(detail)})
    else:
        kind = kind_of(fields, "") if fields else "other"       # a name's ending says nothing of who reads it
        note = f"lockgate: {title}: {detail} (incident {incident})"
        hidden = manner == "placeholder" and status == 403
        status, body, headers["content-type"] = _part(kind, note, status, hidden) or (
            status, *_text(fields, title, status, detail, facts))
        response = _response(status, body, headers)
    _let_scripts_read(response, fields)
    if request is None or not request.is_http2:
        response.headers["connection"] = "close"
    return response


def field_text(text: str) -> str:
    """Return a text as a field may have it, all else percent-encoded."""
    return quote(text[:_LONGEST], safe=_PLAIN)


def _response(status: int, body: bytes, headers: dict[str, str]) -> http.Response:
    response = http.Response.make(status, body, headers)
    if status == 204 or "grpc-status" in headers:
        response.headers.pop("content-length", None)
    return response


def _grpc(fields: dict[bytes, bytes]) -> str:
    """Return the content type of a gRPC or gRPC-Web call, empty if it is none.  The status is in the head, as calls
    without any message have it ("Trailers-Only")."""
    kind = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return kind.decode("latin-1") if kind.startswith(b"application/grpc") and len(kind) < 64 else ""


def _part(kind: str, note: str, status: int, hidden: bool) -> tuple[int, bytes, str] | None:
    """Return status, body and type of what stands for a part of a page; None if words are better."""
    shown, comment = (200 if hidden else status), note.replace("*/", "* /").replace("--", "- -")
    match kind:
        case "image":       # browsers show it whatever the status: no broken icon
            return shown, PIXEL, "image/gif"
        case "script":
            return shown, f"/* {comment} */\n".encode(), "text/javascript; charset=utf-8"
        case "stylesheet":
            return shown, f"/* {comment} */\n".encode(), "text/css; charset=utf-8"
        case "font":
            return status, b"", "font/woff2"        # none that would be no font: the page takes its next one
        case "media":
            return shown, b"", "video/mp4"
        case "subdocument" if hidden:
            return 200, f"<!doctype html><!-- {html.escape(comment)} -->\n".encode(), "text/html; charset=utf-8"
        case "ping" if hidden:
            return 204, b"", "text/plain"
    return None


def _text(fields: dict[bytes, bytes], title: str, status: int, detail: str, facts: dict[str, str]) -> tuple[bytes, str]:
    if _wants_page(fields.get(b"accept", b"").decode("latin-1")):
        rows = "".join(f"<dt>{key}</dt><dd>{html.escape(value)}</dd>" for key, value in facts.items() if value)
        page = _PAGE.format(title=title, detail=html.escape(detail), rows=rows, host=html.escape(facts["host"]))
        return page.encode(), "text/html; charset=utf-8"
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail,
               **{key: value for key, value in facts.items() if value}}
    return (json.dumps(problem) + "\n").encode(), "application/problem+json"


def _let_scripts_read(response: http.Response, fields: dict[bytes, bytes]) -> None:
    """The answer is ours: whichever page asked may read why (Fetch, 3.2.3), and embed it (3.8)."""
    response.headers["cross-origin-resource-policy"] = "cross-origin"
    if origin := fields.get(b"origin"):
        response.headers["access-control-allow-origin"] = origin.decode("latin-1")
        response.headers["access-control-allow-credentials"] = "true"
        response.headers["access-control-expose-headers"] = f"{INCIDENT}, {REASON}, grpc-status, grpc-message"
        response.headers["vary"] = "origin"


def _wants_page(accept: str) -> bool:
    """HTML named, and not after JSON: enough to tell a browser from a program (RFC 9110, 12.5.1)."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    if "text/html" not in kinds:
        return False
    return not any("json" in kind for kind in kinds[: kinds.index("text/html")])
