"""WebSocket (RFC 6455): its handshake, and the end that the policy, or our limits, put to a connection."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

from mitmproxy import http
from mitmproxy.proxy.layers.websocket import WebsocketConnection, WebsocketLayer
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection

#: Bytes of one message, and its fragments.  Messages are held until they are whole; browsers' own use is far below.
MAX_MESSAGE, MAX_FRAGMENTS = 16 * 1024 * 1024, 4096

#: Close codes (RFC 6455, 7.4.1).
POLICY_VIOLATION, TOO_BIG = 1008, 1009
#: Bytes of a reason: control frames hold 125 with the code (RFC 6455, 5.5).
MAX_REASON = 123

#: The one extension that we can take off (RFC 7692), and the parameters of it that zlib can do: windows of 2^9 up.
_OFFER = re.compile(r"permessage-deflate\s*(;[^,]*)?", re.IGNORECASE)
_AGREED = re.compile(r"permessage-deflate(\s*;\s*((server|client)_no_context_takeover"
                     r"|(server|client)_max_window_bits\s*=\s*\"?(9|1[0-5])\"?))*", re.IGNORECASE)
#: RFC 6455, 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def check_request(request: http.Request) -> None:
    """Raise ValueError unless this is a client's opening handshake (RFC 6455, 4.2.1).

    An origin that took it nevertheless would speak in frames while we still read HTTP, or the reverse.
    """
    headers = request.headers
    if request.data.method != b"GET" or not request.is_http11:
        raise ValueError("it is no GET of HTTP/1.1")
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise ValueError("it has a body")
    if headers.get("sec-websocket-version") != "13":
        raise ValueError("its version is not 13")
    try:
        nonce = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise ValueError("its key is not 16 bytes")


def check_response(request: http.Request, response: http.Response) -> None:
    """Raise ValueError unless this 101 answers that request's handshake (RFC 6455, 4.1)."""
    if request.headers.get("upgrade", "").lower() != "websocket":
        raise ValueError("nobody asked for another protocol")
    headers = response.headers
    key = request.headers.get("sec-websocket-key", "")
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    if headers.get("sec-websocket-accept") != base64.b64encode(digest).decode():
        raise ValueError("its WebSocket handshake is not an answer to ours")
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in headers.get("connection", "").lower():
        raise ValueError("it switches to another protocol than WebSocket")
    agreed = headers.get("sec-websocket-extensions")
    if agreed and not (_AGREED.fullmatch(agreed) and "sec-websocket-extensions" in request.headers):
        raise ValueError("it uses an extension of WebSocket that nobody asked for")


def offer_only_deflate(request: http.Request) -> None:
    """Take off the offers of extensions in which messages could not be read."""
    offers = [offer.strip() for offer in request.headers.get("sec-websocket-extensions", "").split(",")]
    if kept := [offer for offer in offers if _OFFER.fullmatch(offer)]:
        if kept != offers:
            request.headers["sec-websocket-extensions"] = ", ".join(kept)
    else:
        request.headers.pop("sec-websocket-extensions", None)


def too_big(layer: WebsocketLayer) -> bool:
    """Is a message growing beyond what may be held?"""
    return any(len(side.frame_buf) > MAX_FRAGMENTS or sum(map(len, side.frame_buf)) > MAX_MESSAGE
               for side in _sides(layer))


def closing(layer: WebsocketLayer, code: int, reason: str) -> Iterator[tuple[WebsocketConnection, bytes]]:
    """Yield each side with its close frame, empty where it has had one."""
    text = reason.encode()[:MAX_REASON].decode(errors="ignore")
    for side in _sides(layer):
        is_open = side.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING)
        yield side, side.send(CloseConnection(code, text)) if is_open else b""


def _sides(layer: WebsocketLayer) -> tuple[WebsocketConnection, ...]:
    """The client's and the origin's; they come to be with the layer's first event."""
    return (layer.client_ws, layer.server_ws) if hasattr(layer, "client_ws") else ()
