"""Reads HTTP from the two streams of plaintext of one TLS connection, looking on: nothing is ever answered. No I/O.

`Http1` lets two h11 connections follow each other, one in either role; `Http2` reads frames (RFC 9113) with hyperframe
and hpack. What cannot be read, for the look began in mid-connection or the program speaks something else, ends with
`Unreadable`, and the rest of the connection is nobody's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import h11
from hpack import Decoder
from hpack.exceptions import HPACKError
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
)
from mitmproxy import http

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Bytes of a message's head: as the proxy itself allows.
MAX_HEAD = 64 * 1024
#: Bytes of a frame: the largest that common programs announce; RFC 9113, 4.2 would allow 16 MiB.
MAX_FRAME = 1 << 20
#: Requests at once on a connection, ten times what browsers do.
MAX_STREAMS = 1000
#: Bytes of the table that compresses heads, whatever the ends agree on (RFC 7541, 4.2).
MAX_TABLE = 1 << 16


class Unreadable(Exception):
    """Why the connection cannot be read any further."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request or a response begins; `key` numbers the exchanges of the connection."""

    key: int
    message: http.Request | http.Response


@dataclass(frozen=True, slots=True)
class Data:
    key: int
    from_client: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The message is complete; with an `error`, the exchange ended early."""

    key: int
    from_client: bool
    error: str = ""


type Event = Head | Data | End


class Plaintext:
    """One connection: `feed` what either end sent, in the order in which it was seen."""

    def __init__(self) -> None:
        self._first = b""
        self._http: Http1 | Http2 | None = None

    def feed(self, data: bytes, *, from_client: bool) -> Iterator[Event]:
        """Yield what the data completes.  Raises Unreadable; nothing may be fed after that."""
        if self._http is None:
            if not from_client:
                raise Unreadable("the look began in the middle, or the server speaks first")
            self._first += data
            if len(self._first) < len(PREFACE) and PREFACE.startswith(self._first):
                return
            data, self._first = self._first, b""
            self._http = Http2() if data.startswith(PREFACE) else Http1()
        yield from self._http.feed(data, from_client=from_client)


class Http1:
    """The request side reads what the client sends, and is told of the responses as if it had sent them; the response
    side the other way round."""

    def __init__(self) -> None:
        self._requests = h11.Connection(h11.SERVER, MAX_HEAD)
        self._responses = h11.Connection(h11.CLIENT, MAX_HEAD)
        self._key = 1

    def feed(self, data: bytes, *, from_client: bool) -> Iterator[Event]:
        try:
            (self._requests if from_client else self._responses).receive_data(data)
            while True:
                events = [*self._read(self._requests, self._responses), *self._read(self._responses, self._requests)]
                yield from events
                if h11.DONE == self._requests.our_state == self._requests.their_state:
                    self._requests.start_next_cycle()
                    self._responses.start_next_cycle()
                    self._key += 1
                elif not events:
                    return
        except h11.ProtocolError as error:
            raise Unreadable(f"not HTTP/1.1 as we read it: {error}") from None

    def _read(self, one: h11.Connection, other: h11.Connection) -> Iterator[Event]:
        from_client = one is self._requests
        while True:
            event = one.next_event()
            if event is h11.PAUSED and one.their_state is h11.SWITCHED_PROTOCOL:
                raise Unreadable("it went over to another protocol (WebSocket, CONNECT)")
            if not isinstance(event, h11.Event) or isinstance(event, h11.ConnectionClosed):
                return
            other.send(event)
            match event:
                case h11.Request():
                    yield Head(self._key, _request(event))
                case h11.Response():
                    yield Head(self._key, http.Response(
                        _version(event), event.status_code, bytes(event.reason), _fields(event), None, None, 0, 0))
                case h11.Data():
                    yield Data(self._key, from_client, bytes(event.data))
                case h11.EndOfMessage():
                    yield End(self._key, from_client)


def _request(event: h11.Request) -> http.Request:
    fields = _fields(event)
    return http.Request(fields.get("host", ""), 443, bytes(event.method), b"https", b"", bytes(event.target),
                        _version(event), fields, None, None, 0, 0)


def _version(event: h11.Request | h11.Response) -> bytes:
    return b"HTTP/" + bytes(event.http_version)


def _fields(event: h11.Request | h11.Response) -> http.Headers:
    return http.Headers([(bytes(name), bytes(value)) for name, value in event.headers.raw_items()])


@dataclass(slots=True)
class _Side:
    """What one end sends."""

    heads: Decoder = field(default_factory=Decoder)
    rest: bytes = b""
    #: A head in several frames: its stream, does it end the stream, and its bytes so far.
    head: tuple[int, bool, bytes] | None = None


@dataclass(slots=True)
class _Stream:
    answered: bool = False                      # its final response has begun
    ended: set[bool] = field(default_factory=set)


class Http2:
    def __init__(self) -> None:
        self._sides = {True: _Side(), False: _Side()}
        self._preface = len(PREFACE)
        self._open: dict[int, _Stream] = {}
        for side in self._sides.values():
            side.heads.max_header_list_size = MAX_HEAD
            side.heads.max_allowed_table_size = MAX_TABLE

    def feed(self, data: bytes, *, from_client: bool) -> Iterator[Event]:
        if from_client and self._preface:
            data, self._preface = data[self._preface:], 0
        side, at = self._sides[from_client], 0
        side.rest += data
        try:
            while (frame := _frame_at(side.rest, at)) is not None:
                at += 9 + frame.body_len
                yield from self._frame(frame, side, from_client)
        except (HyperframeError, HPACKError, ValueError) as error:
            raise Unreadable(f"not HTTP/2 as we read it: {error}") from None
        side.rest = side.rest[at:]

    def _frame(self, frame: Frame, side: _Side, from_client: bool) -> Iterator[Event]:
        key, flags = frame.stream_id, frame.flags
        match frame:
            case HeadersFrame():
                side.head = key, "END_STREAM" in flags, frame.data
            case ContinuationFrame() if side.head is not None:
                side.head = *side.head[:2], side.head[2] + frame.data
            case PushPromiseFrame():
                raise Unreadable("the server pushes")       # browsers have given it up; its heads would be missed
            case DataFrame() if key in self._open:
                if frame.data:
                    yield Data(key, from_client, bytes(frame.data))
                if "END_STREAM" in flags:
                    yield from self._end(key, from_client)
            case RstStreamFrame() if self._open.pop(key, None) is not None:
                yield End(key, from_client, f"reset with code {frame.error_code}")
            case SettingsFrame() if SettingsFrame.HEADER_TABLE_SIZE in frame.settings:
                size = min(frame.settings[SettingsFrame.HEADER_TABLE_SIZE], MAX_TABLE)
                self._sides[not from_client].heads.max_allowed_table_size = max(size, 4096)
        if side.head is not None and "END_HEADERS" in flags:
            (key, ended, block), side.head = side.head, None
            yield from self._head(key, side.heads.decode(block, raw=True), from_client)
            if ended:
                yield from self._end(key, from_client)
        elif side.head is not None and len(side.head[2]) > MAX_HEAD:
            raise Unreadable("a head without an end")

    def _head(self, key: int, fields: Iterable[tuple[bytes, bytes]], from_client: bool) -> Iterator[Event]:
        fields = list(fields)
        pseudo = {name: value for name, value in fields if name.startswith(b":")}
        headers = http.Headers([(name, value) for name, value in fields if not name.startswith(b":")])
        if from_client and key not in self._open:
            if len(self._open) >= MAX_STREAMS:
                raise Unreadable(f"more than {MAX_STREAMS} requests at once")
            self._open[key] = _Stream()
            authority = pseudo.get(b":authority", b"")
            yield Head(key, http.Request(
                (authority or headers.get("host", "").encode()).decode("ascii", "replace"), 443,
                pseudo.get(b":method", b""), pseudo.get(b":scheme", b"https"), authority, pseudo.get(b":path", b""),
                b"HTTP/2.0", headers, None, None, 0, 0))
        elif (not from_client and (stream := self._open.get(key)) and not stream.answered
              and not pseudo.get(b":status", b"1").startswith(b"1")):
            stream.answered = True
            yield Head(key, http.Response(b"HTTP/2.0", int(pseudo[b":status"]), b"", headers, None, None, 0, 0))

    def _end(self, key: int, from_client: bool) -> Iterator[Event]:
        if (stream := self._open.get(key)) is not None:
            yield End(key, from_client)
            stream.ended.add(from_client)
            if len(stream.ended) == 2:
                del self._open[key]


def _frame_at(data: bytes, at: int) -> Frame | None:
    """The frame that begins there, if it is whole."""
    if len(data) < at + 9:
        return None
    frame, length = Frame.parse_frame_header(memoryview(data)[at:at + 9])
    if length > MAX_FRAME:
        raise Unreadable(f"a frame of {length} bytes")
    if len(data) < at + 9 + length:
        return None
    frame.parse_body(memoryview(data)[at + 9:at + 9 + length])
    frame.body_len = length
    return frame
