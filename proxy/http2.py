"""HTTP/2 on both sides: mitmproxy's state machines with windows that hold the sender back, and graceful ends.

mitmproxy opens windows of 2 GiB and acknowledges what it has not passed on, so that one stuck stream can fill the
memory.  Here every stream has a window of its own, and its bytes are acknowledged when the other side has room.

One of the files that know mitmproxy's internals (see `engine.py`).
"""

import re
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h2.connection
import h2.errors
import h2.events
from hyperframe.frame import Frame, GoAwayFrame
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import ResponseProtocolError
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode
from mitmproxy.proxy.layers.http._http2 import Http2Client, Http2Connection, Http2Server
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection, SendH2Data

from proxy.session import Session

#: Bytes that one stream, and all of a connection together, may have under way to us: 2 MiB carry 160 Mbit/s over
#: 100 ms, and what is stuck inside us stays within 16 MiB a connection.
STREAM_WINDOW, CONNECTION_WINDOW = 2 * 1024 * 1024, 16 * 1024 * 1024

#: Streams that a client may reset within a second (CVE-2023-44487): as many as it may have open.
MAX_RESETS = 100

#: What mitmproxy would take for a number has more forms.
_STATUS = re.compile(rb"[1-9][0-9]{2}")

type Commands = layer.CommandGenerator[None]
#: Says whether what arrives on a stream (the client's number of it) can be passed on at once.
type Room = Callable[[int], bool]


@dataclass
class Eased(events.Event):
    """The other side has moved: perhaps there is room now for what was not acknowledged."""


class Retiring(h2.events.Event):
    """A GOAWAY without an error: no new streams, those up to `last_stream_id` go on (RFC 9113, 6.8)."""

    def __init__(self, last_stream_id: int) -> None:
        self.last_stream_id = last_stream_id


class Frames(BufferedH2Connection):
    """The frames of one connection, with windows of our size."""

    def __init__(self, side: "_Side") -> None:
        super().__init__(side.h2_conf)
        self.local_settings.initial_window_size = STREAM_WINDOW
        self.local_settings.acknowledge()
        self._side = side
        self.owed: Counter[int] = Counter()

    def initiate_connection(self) -> None:
        h2.connection.H2Connection.initiate_connection(self)
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def send_data(self, stream_id: int, data: Any, end_stream: bool = False, pad_length: None = None) -> None:
        """A peer may shrink a window below zero (RFC 9113, 6.9.2), of which mitmproxy does not think."""
        if 0 < len(data) <= self.max_outbound_frame_size and self.local_flow_control_window(stream_id) <= 0:
            self.stream_buffers[stream_id].append(SendH2Data(data, end_stream))
        else:
            super().send_data(stream_id, data, end_stream)

    def acknowledge_received_data(self, acknowledged_size: int, stream_id: int) -> None:
        if self._side.has_room(stream_id):
            super().acknowledge_received_data(acknowledged_size, stream_id)
        else:
            self.owed[stream_id] += acknowledged_size

    def settle(self) -> None:
        """Acknowledge what has been passed on meanwhile."""
        for stream_id, size in list(self.owed.items()):
            if self._side.has_room(stream_id):
                del self.owed[stream_id]
                super().acknowledge_received_data(size, stream_id)

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """h2 calls the connection closed at once, which would break what is still under way."""
        if frame.error_code == h2.errors.ErrorCodes.NO_ERROR:
            return [], [Retiring(frame.last_stream_id)]
        found: tuple[list[Frame], list[h2.events.Event]] = super()._receive_goaway_frame(frame)
        return found


class _Side(Http2Connection):
    """What both sides share."""

    retiring = False
    h2_conn: Frames

    def prepare(self, room: Room) -> None:
        self._room = room
        self.h2_conn = Frames(self)

    def has_room(self, stream_id: int) -> bool:
        return self._room(stream_id)

    @property
    def owing(self) -> bool:
        return bool(self.h2_conn.owed)

    def backlog(self, stream_id: int) -> int:
        """Bytes that the peer's windows keep back."""
        return sum(len(chunk.data) for chunk in self.h2_conn.stream_buffers.get(stream_id, ()))

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        """A reset that came in one read with the end before it is lost on mitmproxy: the stream is closed by then."""
        if isinstance(event, h2.events.StreamReset) and event.stream_id not in self.streams and \
                self.knows(event.stream_id):
            yield ReceiveHttp(self.ReceiveProtocolError(event.stream_id, "the stream was reset", ErrorCode.CANCEL))
            return False
        return (yield from super().handle_h2_event(event))

    def knows(self, stream_id: int) -> bool:
        """Has this stream been used?"""
        return True

    def close_connection(self, msg: str) -> Commands:
        self.h2_conn.owed.clear()
        yield from super().close_connection(msg)

    def done(self, _: events.Event) -> Commands:
        """Whatever comes after the end."""
        yield from ()

    def _settle(self) -> Commands:
        self.h2_conn.settle()
        if data := self.h2_conn.data_to_send():
            yield commands.SendData(self.conn, data)


def _pseudo(event: h2.events.RequestReceived | h2.events.ResponseReceived, name: bytes) -> bytes:
    """What h2 has seen to be there."""
    assert event.headers is not None
    return bytes(dict(event.headers)[name])


class ClientSide(_Side, Http2Server):
    """The client's side.  A stream answered in the middle of its request ends with NO_ERROR.

    RFC 9113, 8.1: the request that follows a complete response is not needed; other codes make clients discard it.
    """

    def __init__(self, context: Context, session: Session, room: Room) -> None:
        super().__init__(context)
        self.prepare(room)
        self._limit = commands.RequestWakeup(session.rules().policy.limits.hello)
        self._used = False
        self._resets: deque[float] = deque(maxlen=MAX_RESETS)

    def _handle_event(self, event: events.Event) -> Commands:
        match event:
            case Eased():
                yield from self._settle()
            case events.Wakeup():
                if not self._used:      # opened in advance and never used
                    yield from self.close_connection("no request")
            case ResponseProtocolError(code=ErrorCode.CANCEL) if self._answered(event.stream_id):
                yield from self._finish(event.stream_id)
            case _:
                yield from super()._handle_event(event)
                if isinstance(event, events.Start):
                    yield self._limit

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        if isinstance(event, Retiring):     # it will close when it has what it waits for
            return False
        if isinstance(event, h2.events.RequestReceived):
            self._used = True
            if _pseudo(event, b":scheme") not in (b"https", b"http"):   # the other one is corrected, as gRPC needs it
                self.h2_conn.reset_stream(event.stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)
                return False
        if isinstance(event, h2.events.StreamReset) and self._too_many_resets():
            yield from self.protocol_error("too many streams were reset", h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
            return True
        return (yield from super().handle_h2_event(event))

    def _too_many_resets(self) -> bool:
        """Requests that are taken back at once cost the sender nothing, and us a walk through the filters."""
        self._resets.append(now := time.monotonic())
        return len(self._resets) == MAX_RESETS and now - self._resets[0] < 1

    def _answered(self, stream_id: int) -> bool:
        """Has the whole response been given, if perhaps not yet sent?"""
        if self.is_closed(stream_id):
            return False
        buffered = self.h2_conn.stream_buffers.get(stream_id)
        return buffered[-1].end_stream if buffered else not self.is_open_for_us(stream_id)

    def _finish(self, stream_id: int) -> Commands:
        self.streams.pop(stream_id, None)
        if not self.h2_conn.stream_buffers.get(stream_id):      # else the client's window must open first
            self.h2_conn.reset_stream(stream_id, h2.errors.ErrorCodes.NO_ERROR)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())


class OriginSide(_Side, Http2Client):
    """The origin's side.  Its stream numbers are not the client's, by which everything else here goes."""

    busy = False        # it takes any number of streams, or keeps them in a queue

    def __init__(self, context: Context, room: Room) -> None:
        super().__init__(context)
        self.prepare(room)
        self.h2_conn.local_settings.enable_push = 0
        self.h2_conn.local_settings.acknowledge()

    def has_room(self, stream_id: int) -> bool:
        return self._room(self.their_stream_id.get(stream_id, 0))

    def knows(self, stream_id: int) -> bool:
        return stream_id in self.their_stream_id

    def backlog(self, stream_id: int) -> int:
        """A stream that waits in the queue for its turn has the whole of what came so far."""
        queued = sum(len(getattr(event, "data", b"")) for event in self.stream_queue.get(stream_id, ()))
        return queued + super().backlog(self.our_stream_id.get(stream_id, 0))

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, Eased):
            yield from self._settle()
        else:
            yield from super()._handle_event(event)

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        if isinstance(event, Retiring):
            yield from self._retire(event.last_stream_id)
            return False
        if isinstance(event, h2.events.ResponseReceived) and not _STATUS.fullmatch(_pseudo(event, b":status")):
            yield from self.protocol_error("its status is not a number of three digits")
            return True
        return (yield from super().handle_h2_event(event))

    def _retire(self, last: int) -> Commands:
        self.retiring = True
        for stream_id in [stream_id for stream_id in self.streams if stream_id > last]:
            del self.streams[stream_id]
            yield ReceiveHttp(ResponseProtocolError(
                stream_id, "it ended the connection before the request", ErrorCode.GENERIC_SERVER_ERROR))
        if not self.streams:
            yield commands.CloseConnection(self.conn)
