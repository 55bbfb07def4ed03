"""The normal form of a message: one reading for us, for every filter and for whoever gets it next.

What two parsers could read as two things is refused, what only the two ends of one connection need to know goes no
further, and the rest leaves as it came (RFC 9110, 7.6.1; RFC 9112, 11.2).
"""

import re

from mitmproxy import http
from mitmproxy.net.http.validate import validate_headers

from proxy import websocket

#: RFC 9110, 5.6.2.
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: A path and a query.  A fragment is never sent (RFC 9110, 4.2.4): some cut it off, some look for it in their files.
#: Bytes beyond ASCII should be escaped; there are clients that do not, and all servers take them for what they are.
_TARGET = re.compile(rb"/[!\"$-~\x80-\xff]*")
#: No control character but the tab: the rest are read as line ends, as spaces or as the end of a string (9110, 5.5).
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
#: The largest length that fits the integers of those who come after us.
_MAX_LENGTH = 2**63 - 1

#: Fields that are for the next hop, that is for us, whether `Connection` names them or not.
_OF_THE_HOP = {"te", "keep-alive", "proxy-connection", "proxy-authorization", "http2-settings"}
#: Fields that `Connection` must not name: an origin that obeyed would lose its request's end, or its host.
_NEVER_OF_THE_HOP = {"host", "content-length", "transfer-encoding", "connection"}
_OPTIONS = {"close", "keep-alive", "upgrade"}


class Malformed(ValueError):
    """A request that no filter and no origin is to see; `status` is the answer it deserves."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def normalize_request(request: http.Request) -> None:
    """Bring a request's head into its one form, or raise `Malformed`."""
    method, path = request.data.method, request.data.path
    if not TOKEN.fullmatch(method) or (method != b"HEAD" and method.upper() == b"HEAD"):
        raise Malformed(400, "The request's method is not well formed.")
    if not (_TARGET.fullmatch(path) or (path == b"*" and method == b"OPTIONS")):
        raise Malformed(400, "The request's target is not well formed.")
    if not all(TOKEN.fullmatch(name) and _VALUE.fullmatch(value) for name, value in request.headers.fields):
        raise Malformed(400, "A header field is not well formed, or holds a control character.")
    present = {name.lower().decode() for name, _ in request.headers.fields}     # mitmproxy's own look-ups are slow
    _frame(request, present)
    if "expect" in present:
        _expect(request)
    if not request.is_http2:
        request.authority = ""      # origin-form: some origins know no other (RFC 9112, 3.2.1)
        _leave_hop(request, present)


def _frame(request: http.Request, present: set[str]) -> None:
    headers = request.headers
    try:
        validate_headers(request)
    except ValueError as error:
        raise Malformed(400, f"The request is malformed: {error}.") from None
    if "content-length" in present and int(headers["content-length"]) > _MAX_LENGTH:
        raise Malformed(400, "The request announces a body of impossible length.")
    if "transfer-encoding" in present:
        if headers["transfer-encoding"].lower() != "chunked":
            raise Malformed(400, "The request's body is compressed in transfer, and cannot be looked into.")
        headers["transfer-encoding"] = "chunked"


def _expect(request: http.Request) -> None:
    """We ask for the body ourselves; other expectations are refused, as they may be (RFC 9110, 10.1.1)."""
    headers = request.headers
    if headers["expect"].lower() != "100-continue":
        raise Malformed(417, "Nothing can be expected but 100-continue.")
    bodiless = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if request.is_http10 or (bodiless and not request.is_http2):
        del headers["expect"]


def _leave_hop(request: http.Request, present: set[str]) -> None:
    """Take off what concerns the client's connection with us alone."""
    headers = request.headers
    options = tokens(headers, "connection") if "connection" in present else set()
    if options & _NEVER_OF_THE_HOP or not all(TOKEN.fullmatch(option.encode()) for option in options):
        raise Malformed(400, "The request's Connection field names what every recipient needs.")
    for name in present & (_OF_THE_HOP | options - _OPTIONS):
        del headers[name]
    kept = options & _OPTIONS
    if "upgrade" in present:
        _upgrade(request, kept)
    else:
        kept.discard("upgrade")
    if "close" in kept:
        headers["connection"] = "close"
    elif kept != options:
        del headers["connection"]
        if kept:
            headers["connection"] = ", ".join(sorted(kept))


def _upgrade(request: http.Request, kept: set[str]) -> None:
    """Let nobody go over to what we could not read: the wish may be ignored (RFC 9110, 7.8)."""
    headers = request.headers
    if "upgrade" not in kept or headers.get("upgrade", "").lower() != "websocket":
        kept.discard("upgrade")
        headers.pop("upgrade", None)
        return
    try:
        websocket.check_request(request)
    except ValueError as error:
        raise Malformed(400, f"The WebSocket handshake is malformed: {error}.") from None


def normalize_response(response: http.Response) -> None:
    """Bring the head of an HTTP/1 response into its one form; raise ValueError for one that has none.

    What is merely careless, as some origins are, is mended as RFC 9112 says (5.1, 5.2, 6.3); browsers take it too.
    """
    headers = response.headers
    if any(name[-1:] in b" \t" or b"\r\n " in value or value[:1] == b" " or value[-1:] == b" "
           for name, value in headers.fields):
        headers.fields = tuple((name.rstrip(b" \t"), value.replace(b"\r\n ", b" ").strip(b" "))
                               for name, value in headers.fields)
    present: dict[bytes, bytes] = {}            # mitmproxy's own look-ups are slow
    for name, value in headers.fields:
        name = name.lower()
        present[name] = present[name] + b"," + value if name in present else value
    if response.status_code in (204, 304):      # they have no body, whatever is announced
        headers.pop("transfer-encoding", None)
    if response.status_code == 204:
        headers.pop("content-length", None)
    elif b"," in present.get(b"content-length", b"") and len(lengths := tokens(headers, "content-length")) == 1:
        headers["content-length"] = lengths.pop()
    if b"transfer-encoding" in present:
        _decode_transfer(headers)
    if b"close" in present.get(b"connection", b"").lower() and "close" in tokens(headers, "connection"):
        headers["connection"] = "close"


def _decode_transfer(headers: http.Headers) -> None:
    coding = headers.get("transfer-encoding", "chunked").lower()
    if coding == "identity":
        del headers["transfer-encoding"]
    elif coding != "chunked":
        raise ValueError("its body is compressed in transfer, which nobody asked for")


def stay_captured(response: http.Response) -> None:
    """Let an origin move nobody to where we do not look: other ports, other hosts, HTTP/3 (RFC 7838).

    `clear` also makes clients forget what they learned before we were there.
    """
    if "alt-svc" in response.headers:
        response.headers["alt-svc"] = "clear"


def tokens(headers: http.Headers, name: str) -> set[str]:
    """Return the members of a list field, in lower case."""
    return {member.strip(" \t").lower() for value in headers.get_all(name) for member in value.split(",")} - {""}
