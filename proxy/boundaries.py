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
        return _Framed(4, whole=True)       # of a frame (AWS, "Event stream encoding")
    if kind.startswith("application/grpc"):
        return _Framed(5)       # behind the compressed flag
    return None


class _Events:
    """An event ends with an empty line, which may come in two pieces."""

    ENDS = b"\n\n", b"\r\r", b"\r\n\r\n"

    def __init__(self) -> None:
        self._tail = b""

    def __call__(self, piece: bytes) -> bool:
        self._tail = (self._tail + piece[-4:])[-4:]
        return self._tail.endswith(self.ENDS)


class _Framed:
    """Follows messages that say their length in a prefix of so many bytes, the last four of which are the length, big
    endian; `whole`: it counts the prefix as well."""

    def __init__(self, prefix: int, *, whole: bool = False) -> None:
        self._prefix, self._counted = prefix, prefix if whole else 0
        self._head = b""
        self._left = 0

    def __call__(self, piece: bytes) -> bool:
        position = 0
        while position < len(piece):
            if self._left:
                step = min(self._left, len(piece) - position)
                self._left -= step
            else:
                step = self._prefix - len(self._head)
                self._head += piece[position : position + step]
                if len(self._head) == self._prefix:
                    self._left = max(0, int.from_bytes(self._head[-4:]) - self._counted)
                    self._head = b""
            position += step
        return not self._left and not self._head
