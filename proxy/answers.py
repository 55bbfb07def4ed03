"""What a refused client gets to read: a page or a problem document, with the incident, the filter and the reason."""

import html
import json

from mitmproxy import http

#: No cache may keep a refusal, no script may run in it, and it is not the origin's (RFC 9111, 5.2.2.5).
_HEADERS = {"cache-control": "no-store", "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
            "x-content-type-options": "nosniff"}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; margin: 12vh auto; max-width: 36rem; padding: 0 1rem; color: #1d2730 }}
 h1 {{ font-size: 1.5rem }} dl {{ display: grid; grid-template-columns: auto 1fr; gap: .3rem 1rem }}
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


def refusal(request: http.Request | None, status: int, detail: str, *, incident: str, rule: str = "",
            host: str = "the origin") -> http.Response:
    """Return an answer fit for the client: a page where it accepts one, else `application/problem+json` (RFC 9457)."""
    title = _TITLES.get(status, "Refused")
    facts = {"incident": incident, "filter": rule, "host": host}
    if request is not None and _wants_page(request.headers.get("accept", "")):
        rows = "".join(f"<dt>{key}</dt><dd>{html.escape(value)}</dd>" for key, value in facts.items() if value)
        body = _PAGE.format(title=title, detail=html.escape(detail), rows=rows, host=html.escape(host))
        kind = "text/html; charset=utf-8"
    else:
        body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail,
                           **{key: value for key, value in facts.items() if value}}) + "\n"
        kind = "application/problem+json"
    headers = {"content-type": kind, **_HEADERS}
    response = http.Response.make(status, body.encode(), headers)
    if request is None or not request.is_http2:
        response.headers["connection"] = "close"
    return response


def _wants_page(accept: str) -> bool:
    """HTML named, and not after JSON: enough to tell a browser from a program (RFC 9110, 12.5.1)."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    if "text/html" not in kinds:
        return False
    return not any("json" in kind for kind in kinds[: kinds.index("text/html")])
