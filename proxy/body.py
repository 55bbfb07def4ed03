"""One message body on its way: decoded under bounds, scanned as it streams, its last bytes held back.

The scanners see every piece before it leaves.  What leaves is the body as it came; what is held back is counted in
decoded bytes, since a compressed kilobyte can hold a megabyte of text.
"""

from collections import deque
from collections.abc import Callable

from addons.decode import Unscannable, decoder
from addons.verdict import DONE, Action, BodyScanner
from proxy.chain import Decision, Rule

#: Decoded bytes held back while scanners are listening.  A rule must have seen enough of a value to name it within
#: HOLD - 4 bytes of its start; then at most the value's first 4 characters have left.
HOLD = 4096


type Scanners = list[tuple[Rule, BodyScanner]]


class Body:
    """`feed` raw chunks, then `end`; both return what may leave now, and the decision that stops the body, if any.

    Alerts go to `note`.  After a decision that stops it nothing more may be fed.  `boundary` says after each piece
    whether a message of a stream has ended; then its scanners are told so and `renew` gives those of the next.
    """

    def __init__(self, scanners: Scanners, coding: str, note: Callable[[Decision], bool],
                 boundary: Callable[[bytes], bool] | None = None, renew: Callable[[], Scanners] = list) -> None:
        self._scanners = scanners
        self._decoder = decoder(coding)
        self._identity = coding.strip().lower() in ("", "identity")
        self._note = note
        self._boundary = boundary
        self._renew = renew
        self._held: deque[tuple[bytes, int]] = deque()      # raw chunk, decoded bytes up to its end
        self._decoded = 0
        self._stopped: Decision | None = None

    @property
    def done(self) -> bool:
        """Nobody is listening any more: the rest may pass untouched."""
        return not self._scanners

    @property
    def held(self) -> int:
        """Raw bytes that have not been released."""
        return sum(len(raw) for raw, _ in self._held)

    def feed(self, raw: bytes) -> tuple[list[bytes], Decision | None]:
        if self.done:
            return [raw], None
        at_boundary = False
        try:
            for piece in self._decoder.feed(raw):
                self._decoded += len(piece)
                at_boundary = self._boundary is not None and self._boundary(piece)
                if not self._scan(piece):
                    return [], self._stopped
            if at_boundary:
                if not self._scan(b""):
                    return [], self._stopped
                self._scanners = self._renew()
        except Unscannable as error:
            if self._unscannable(error):
                return [], self._stopped
        self._held.append((raw, self._decoded))
        return self._release(0 if at_boundary or self.done else HOLD), None

    def end(self) -> tuple[list[bytes], Decision | None]:
        if not self.done:
            try:
                for piece in self._decoder.end():
                    self._decoded += len(piece)
                    if not self._scan(piece):
                        return [], self._stopped
                if not self._scan(b""):
                    return [], self._stopped
            except Unscannable as error:
                if self._unscannable(error):
                    return [], self._stopped
        return self._release(0), None

    def _scan(self, piece: bytes) -> bool:
        """Show a piece to the scanners in order; return whether the body may go on."""
        for rule, scanner in tuple(self._scanners):
            result = rule.guarded(scanner, piece)
            if result is None:
                continue
            if result is DONE:
                self._scanners.remove((rule, scanner))
                continue
            decision = rule.verdict(result)
            if decision is None or not self._note(decision):
                continue
            if decision.action is Action.ALLOW:     # no later filter has a say
                self._scanners = self._scanners[: self._scanners.index((rule, scanner))]
                break
            self._stopped = decision
            return False
        return True

    def _unscannable(self, error: Unscannable) -> bool:
        """The body cannot be read: each listening rule's `on_error` answers; return whether one stops it."""
        for rule, _ in self._scanners:
            decision = rule.failure(f"unscannable body: {error}")
            if self._note(decision):
                self._stopped = decision
                return True
        self._scanners = []
        return False

    def _release(self, hold: int) -> list[bytes]:
        """Take what lies more than `hold` decoded bytes before the end."""
        out: list[bytes] = []
        limit = self._decoded - hold
        while self._held and self._held[0][1] <= limit:
            out.append(self._held.popleft()[0])
        if self._identity and self._held:           # undecoded bytes can be cut exactly
            raw, end = self._held[0]
            if (keep := end - limit) < len(raw):
                out.append(raw[: len(raw) - keep])
                self._held[0] = (raw[len(raw) - keep :], end)
        return out


def message_boundary(content_type: str) -> Callable[[bytes], bool] | None:
    """A function that says, after each piece, whether a gRPC message or an event has just ended.

    There everything is judged and released, so that a duplex stream never waits for bytes that come only after an
    answer
    (gRPC over HTTP/2, "Length-Prefixed-Message"; HTML standard, 9.2.5 "Parsing an event stream").
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return _Events()
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
