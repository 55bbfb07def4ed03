"""Recorded traffic: HAR files (HTTP Archive 1.2, as browsers save it) and mitmproxy's flow files, as flows.

Bodies in a HAR file are text, or base64, without their Content-Encoding; the header that names one is taken off, so
that nobody decodes them twice.
"""

import base64
import binascii
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from mitmproxy import connection, exceptions, http
from mitmproxy.io import FlowReader
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from wsproto.frame_protocol import Opcode

from proxy import dryrun

#: Bytes of a HAR file, which is one JSON value: a day of browsing has a tenth.
MAX_HAR = 1024 * 1024 * 1024


class RecordedError(ValueError):
    """The file, or what follows in it, is not recorded traffic; the message says where."""


def flows(path: Path) -> Iterator[tuple[int, http.HTTPFlow]]:
    """Yield number, from 1, and flow.  Other flows than those of HTTP are counted and left out.

    Raises OSError; RecordedError when the flows before a damaged place have been given out.
    """
    with path.open("rb") as file:
        begin = file.peek(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if not begin:
            raise RecordedError(f"{path}: empty")
        yield from _har(path, file) if begin == b"{" else _saved(path, file)


def _saved(path: Path, file: BinaryIO) -> Iterator[tuple[int, http.HTTPFlow]]:
    number = 0
    try:
        for number, each in enumerate(FlowReader(file).stream(), 1):
            if isinstance(each, http.HTTPFlow):
                yield number, each
    except exceptions.FlowReadException as error:
        at = f", after {number} flows" if number else ": neither a HAR file nor one of mitmproxy's flows"
        raise RecordedError(f"{path}{at}: {error}") from None


def _har(path: Path, file: BinaryIO) -> Iterator[tuple[int, http.HTTPFlow]]:
    data = file.read(MAX_HAR + 1)
    if len(data) > MAX_HAR:
        raise RecordedError(f"{path}: larger than {MAX_HAR} bytes")
    try:
        entries = json.loads(data.decode("utf-8-sig"))["log"]["entries"]
        del data
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordedError(f"{path}: not a HAR file: {type(error).__name__}: {error}") from None
    for number, entry in enumerate(entries, 1):
        try:
            yield number, _flow(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordedError(f"{path}: entry {number}: {type(error).__name__}: {error}") from None


def _flow(entry: dict[str, Any]) -> http.HTTPFlow:
    asked = entry["request"]
    parts = urlsplit(asked["url"])
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
        raise ValueError(f"not a URL of the web: {asked['url'][:80]!r}")
    url = parts._replace(scheme={"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme), fragment="").geturl()
    flow = http.HTTPFlow(connection.Client(peername=("127.0.0.1", 0), sockname=("127.0.0.1", 0)),
                         connection.Server(address=(parts.hostname, parts.port or 443)))
    body = _posted(asked.get("postData"))
    flow.request = http.Request.make(asked["method"], url, b"", _headers(asked.get("headers", ())))
    _hold(flow.request, body)
    flow.request.headers.setdefault("host", parts.netloc.rpartition("@")[2])
    if "2" in str(asked.get("httpVersion", "")):
        flow.request.http_version = "HTTP/2.0"
    answer = entry.get("response") or {}
    if answer.get("status", 0) > 0:     # browsers write 0 or -1 where none came
        flow.response = http.Response.make(int(answer["status"]), b"", _headers(answer.get("headers", ())))
        _hold(flow.response, _content(answer.get("content") or {}))
    if messages := entry.get("_webSocketMessages"):     # Chromium's
        flow.websocket = WebSocketData(messages=[_websocket(each) for each in messages])
    return flow


def _headers(pairs: list[dict[str, str]]) -> list[tuple[bytes, bytes]]:
    """The fields, without those of HTTP/2's own, which the request line says."""
    fields = ((each["name"], each["value"]) for each in pairs)
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in fields
            if not name.startswith(":")]


def _hold(message: http.Message, body: bytes) -> None:
    for name in ("content-encoding", "transfer-encoding"):
        message.headers.pop(name, None)
    dryrun.fill(message, body)


def _posted(post: dict[str, Any] | None) -> bytes:
    if not post:
        return b""
    if post.get("encoding") == "base64":
        return base64.b64decode(post["text"], validate=True)
    return str(post.get("text") or "").encode("utf-8", "surrogateescape")


def _content(content: dict[str, Any]) -> bytes:
    text = content.get("text") or ""
    if content.get("encoding") == "base64":
        return base64.b64decode(text)
    return str(text).encode("utf-8", "surrogateescape")


def _websocket(message: dict[str, Any]) -> WebSocketMessage:
    binary, data = message.get("opcode") == 2, str(message.get("data", ""))
    try:
        content = base64.b64decode(data, validate=True) if binary else data.encode("utf-8", "surrogateescape")
    except binascii.Error as error:
        raise ValueError(f"a WebSocket message that is not base64: {error}") from None
    return WebSocketMessage(Opcode.BINARY if binary else Opcode.TEXT, message.get("type") == "send", content)
