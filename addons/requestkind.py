"""What kind of resource a request is for, and the page that it is for, as URL rules want to know.

Theory of operation.  A browser says both in Fetch Metadata (`Sec-Fetch-*`) and `Referer`; older browsers and programs
say less, so `Accept`, then the name's ending tell the kind.  Who says nothing has no page: then rules for third parties
and rules for first parties both hold, as nothing excuses the request.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import quote

from mitmproxy import http

from addons.names import host_of, normal
from addons.urlmatch import Asked, registrable

#: Destinations of Fetch Metadata (Fetch, 2.2.5) by the names that rules use; `empty` is told apart by the mode.
DESTINATIONS: Final = {
    "document": "document", "iframe": "subdocument", "frame": "subdocument", "fencedframe": "subdocument",
    "script": "script", "worker": "script", "sharedworker": "script", "serviceworker": "script",
    "audioworklet": "script", "paintworklet": "script", "style": "stylesheet", "xslt": "other", "image": "image",
    "font": "font", "audio": "media", "video": "media", "track": "media", "object": "object", "embed": "object",
    "report": "other", "manifest": "other", "websocket": "websocket", "json": "xmlhttprequest",
    "webidentity": "xmlhttprequest",
}  # fmt: skip
#: Names of kinds that others use (adblock-rust, WebExtensions).
NAMES: Final = {
    "xhr": "xmlhttprequest", "fetch": "xmlhttprequest", "main_frame": "document", "sub_frame": "subdocument",
    "beacon": "ping", "imageset": "image", "css": "stylesheet", "csp_report": "other", "object_subrequest": "object",
}  # fmt: skip
ENDINGS: Final = {
    "js": "script", "mjs": "script", "css": "stylesheet", "woff": "font", "woff2": "font", "ttf": "font", "otf": "font",
    "eot": "font", "png": "image", "gif": "image", "jpg": "image", "jpeg": "image", "webp": "image", "svg": "image",
    "ico": "image", "avif": "image", "bmp": "image", "mp4": "media", "webm": "media", "mp3": "media", "m4a": "media",
    "ogg": "media", "m3u8": "media", "ts": "media", "swf": "object",
}  # fmt: skip
#: Octets of a path that stay as they are: all but those that should have been percent-encoded.
ASCII: Final = "".join(map(chr, range(0x21, 0x7F)))
#: Characters of a name (RFC 1035, 2.3.4): all the names above it are looked up and remembered.
MAX_HOST: Final = 253
_HOST: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?(\[[^\]]*\]|[^/?#:]*)", re.IGNORECASE)
_ENDING: Final = re.compile(r"\.([a-z0-9]{2,5})$")


class Page(NamedTuple):
    """Where a request comes from; both are empty if that is unknown."""

    url: str
    host: str


def asked(flow: http.HTTPFlow) -> Asked:
    """Return a request as rules see it.  Raises ValueError where its host is none."""
    request = flow.request
    told = {name.lower(): value for name, value in request.data.headers.fields}
    host, path = host_of(request), quote(request.data.path, safe=ASCII)
    kind = kind_of(told, path, str(flow.metadata.get("resource_type", "")))
    page = page_of(told)
    scheme = request.scheme if kind != "websocket" else "wss" if request.scheme == "https" else "ws"
    shown = f"[{host}]" if ":" in host else host
    port = "" if request.port in (80, 443) else f":{request.port}"
    third = third_party(told.get(b"sec-fetch-site", b""), host, page.host, kind)
    return Asked(f"{scheme}://{shown}{port}{path}", host, page.host, kind, third, request.method.upper(), page.url)


def kind_of(told: dict[bytes, bytes], path: str, given: str = "") -> str:
    """Return the kind of resource; `given` is what a dry run says it is."""
    if given:
        return NAMES.get(given, given)
    if told.get(b"upgrade", b"").lower() == b"websocket" or b"sec-websocket-key" in told:
        return "websocket"
    destination = told.get(b"sec-fetch-dest", b"").decode("latin-1").lower()
    if destination == "empty":
        return _empty(told)
    if destination:
        return DESTINATIONS.get(destination) or NAMES.get(destination, "other")
    if told.get(b"ping-to") or told.get(b"content-type", b"").startswith(b"text/ping"):
        return "ping"       # <a ping> (HTML, 4.6.6)
    if told.get(b"x-requested-with", b"").lower() == b"xmlhttprequest":
        return "xmlhttprequest"
    return _by_accept(told, path)


def _empty(told: dict[bytes, bytes]) -> str:
    """fetch(), XMLHttpRequest, EventSource; and sendBeacon(), whose mode is no-cors or whose body is plain."""
    if told.get(b"ping-to") or told.get(b"content-type", b"").startswith(b"text/ping"):
        return "ping"
    if told.get(b"sec-fetch-mode", b"").lower() == b"websocket":
        return "websocket"
    return "ping" if told.get(b"sec-fetch-mode", b"").lower() == b"no-cors" else "xmlhttprequest"


def _by_accept(told: dict[bytes, bytes], path: str) -> str:
    accept = told.get(b"accept", b"").lower()
    first = accept.partition(b",")[0].partition(b";")[0].strip()
    if first.startswith(b"text/html") or first == b"application/xhtml+xml":
        return "document"
    if first.startswith(b"image/"):
        return "image"
    if first == b"text/css":
        return "stylesheet"
    if first.startswith((b"video/", b"audio/")):
        return "media"
    if first in (b"application/javascript", b"text/javascript"):
        return "script"
    found = _ENDING.search(path.partition("?")[0].lower())
    if found and found[1] in ENDINGS:
        return ENDINGS[found[1]]
    return "xmlhttprequest" if b"json" in first or b"origin" in told else "other"


def page_of(told: dict[bytes, bytes]) -> Page:
    """Return the page by `Referer`, else by `Origin`."""
    url = (told.get(b"referer") or told.get(b"origin") or b"").decode("utf-8", "replace")
    found = _HOST.match(url)
    if not found or not 0 < len(found[1]) <= MAX_HOST:
        return Page("", "")
    try:
        return Page(url, normal(found[1].strip("[]")))
    except ValueError:
        return Page("", "")


def third_party(site: bytes, host: str, source: str, kind: str) -> bool | None:
    """Is the request for somebody else than the page's owner?  None if there is no page to compare with."""
    if source:
        return registrable(host) != registrable(source)
    if kind == "document" or site in (b"none", b"same-origin", b"same-site"):
        return False
    return True if site == b"cross-site" else None
