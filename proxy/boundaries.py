"""Where a message ends in a stream of messages: gRPC, server-sent events and the like."""

from collections.abc import Callable

from addons.deltas import AWS, LINES


def message_boundary(content_type: str) -> Callable[[bytes], bool] | None:
    """A function that says, after each piece, whether a message has just ended.

    There everything is judged and released, so that a duplex stream never waits for bytes that come only after an
    answer (gRPC over HTTP/2, "Length-Prefixed-Message"; HTML standard, 9.2.5 "Parsing an event stream").
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return _Events()
    if kind in LINES:
        return lambda piece: piece.endswith(b"\n")
    if kind == AWS:
        return _AwsEvents()
    if kind.startswith("application/grpc"):
        return _GrpcMessages()
    return None


class _Events:
    """An event ends with an empty line, which may come in two pieces."""

    ENDS = b"\n\n", b"\r\r", b"\r\n\r\n"

    def __init__(self) -> None:
        self._tail = b""

    def __call__(self, piece: bytes) -> bool:
        self._tail = (self._tail + piece[-4:])[-4:]
        return self._tail.endswith(self.ENDS)


class _GrpcMessages:
    """Follows the five-byte prefixes: a compressed flag and the length, big endian."""

    PREFIX = 5

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def __call__(self, piece: bytes) -> bool:
        position = 0
        while position < len(piece):
            if self._left:
                step = min(self._left, len(piece) - position)
                self._left -= step
                position += step
            else:
                step = self.PREFIX - len(self._head)
                self._head += piece[position : position + step]
                position += step
                if len(self._head) == self.PREFIX:
                    self._left = int.from_bytes(self._head[1:], "big")
                    self._head = b""
        return not self._left and not self._head


class _AwsEvents:
    """Follows the lengths of frames, which count all of a frame (AWS, "Event stream encoding")."""

    LENGTH = 4

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def __call__(self, piece: bytes) -> bool:
        position = 0
        while position < len(piece):
            if self._left:
                step = min(self._left, len(piece) - position)
                self._left -= step
            else:
                step = self.LENGTH - len(self._head)
                self._head += piece[position : position + step]
                if len(self._head) == self.LENGTH:
                    self._left = max(0, int.from_bytes(self._head) - self.LENGTH)
                    self._head = b""
            position += step
        return not self._left and not self._head
