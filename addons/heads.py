"""What the head of a message says of it: its protocol, and what kind of message it is."""

from typing import Final

from mitmproxy import http

from addons import operation

#: A body of this size, or one whose end is not known beforehand, is a transfer and not an answer.
LARGE: Final = 1024 * 1024
Headers = dict[bytes, bytes]

UPLOADS: Final = frozenset({b"POST", b"PUT", b"PATCH"})
_GRPC: Final = b"application/grpc"
SSE: Final = b"text/event-stream"
_DOH: Final = b"application/dns-message"
_MEDIA: Final = (b"image/", b"video/", b"audio/")
_FILES: Final = (b"application/octet-stream", b"application/zip", b"application/gzip", b"application/pdf")
#: What a PUT carries that is no file: the state of a resource.
_TEXTS: Final = (b"json", b"xml", b"form", b"graphql")
#: Sub-protocols of WebSocket (IANA, "WebSocket Subprotocol Name Registry") that have a label of their own.
_SOCKETS: Final = {b"mqtt": "mqtt", b"mqttv3.1": "mqtt", b"graphql-ws": "graphql", b"graphql-transport-ws": "graphql",
                   b"wamp.2.json": "wamp", b"v12.stomp": "stomp", b"v11.stomp": "stomp", b"xmpp": "xmpp",
                   b"sip": "sip", b"amqp": "amqp", b"ocpp1.6": "ocpp", b"ocpp2.0.1": "ocpp"}  # fmt: skip


def protocol(request: http.Request, headers: Headers) -> str:
    if headers.get(b"content-type", b"").startswith(_GRPC):
        return "protocol:grpc"
    if b"websocket" in (headers.get(b"upgrade"), headers.get(b":protocol")):
        return "protocol:websocket"
    if _DOH in (headers.get(b"content-type"), headers.get(b"accept")):
        return "protocol:doh"
    return "protocol:http/2" if request.data.http_version.startswith(b"HTTP/2") else "protocol:http/1.1"


def streams(headers: Headers, path: bytes, names: list[str]) -> None:
    """Add what is known of a stream: a gRPC method, what is spoken over a WebSocket."""
    if headers.get(b"content-type", b"").startswith(_GRPC) and (method := operation.grpc_method(path)):
        names.append(f"op:grpc:{method}")
    spoken = {each.strip() for each in headers.get(b"sec-websocket-protocol", b"").split(b",")}
    names += {f"protocol:{_SOCKETS[each]}": None for each in spoken if each in _SOCKETS}


def request_kind(headers: Headers, uploads: bool, method: bytes) -> str | None:
    """Return what the request alone tells; None where the answer has to."""
    declared, accept = headers.get(b"content-type", b""), headers.get(b"accept", b"")
    if declared.startswith(_GRPC) or b"upgrade" in headers or SSE in accept:
        return "kind:stream"
    if uploads and (declared.startswith((b"multipart/", b"application/octet-stream", *_MEDIA)) or is_large(headers)):
        return "kind:upload"
    if method == b"PUT" and uploads and not any(word in declared for word in _TEXTS):
        return "kind:upload"
    if b"x-requested-with" in headers or b"json" in declared or accept.startswith(b"application/json"):
        return "kind:api"
    return None


def response_kind(headers: Headers) -> str:
    declared = headers.get(b"content-type", b"")
    if declared.startswith((SSE, b"video/", b"audio/")):
        return "kind:stream"
    if headers.get(b"content-disposition", b"").startswith(b"attachment"):
        return "kind:download"
    if b"json" in declared or declared.startswith((b"application/xml", b"text/xml")):
        return "kind:api"
    if declared.startswith(_FILES) or is_large(headers):
        return "kind:download"
    return "kind:page"


def length(headers: Headers) -> int | None:
    text = headers.get(b"content-length", b"")
    return int(text[:18]) if text.isdigit() else None


def is_large(headers: Headers) -> bool:
    return (length(headers) or 0) >= LARGE
