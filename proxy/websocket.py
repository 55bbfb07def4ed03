"""The end of a WebSocket connection that the policy, or our limits, put to it (RFC 6455)."""

from collections.abc import Iterator

from mitmproxy.proxy.layers.websocket import WebsocketConnection, WebsocketLayer
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection

#: Bytes of one message, and its fragments.  Messages are held until they are whole; browsers' own use is far below.
MAX_MESSAGE, MAX_FRAGMENTS = 16 * 1024 * 1024, 4096

#: Close codes (RFC 6455, 7.4.1).
POLICY_VIOLATION, TOO_BIG = 1008, 1009
#: Bytes of a reason: control frames hold 125 with the code (RFC 6455, 5.5).
MAX_REASON = 123


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
