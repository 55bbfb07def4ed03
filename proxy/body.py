"""One message body on its way: decoded under bounds, scanned as it streams, its last bytes held back.

The scanners see every piece before it leaves, and the view scanners all views inside it.  What leaves is the body as it
came; what is held back is counted in decoded bytes, since a compressed kilobyte can hold a megabyte of text.

Theory of operation.  What is to be done with a piece is a generator (`Work`) that yields wherever it may stop: None, or
what it has to wait for.  `feed` runs it for a `SLICE` of time.  If that does not do, `waits` is true, and `settle` must
be awaited before anything else is fed; it lets others have their turn between slices.
"""

import contextlib
import inspect
import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from addons.decode import Unscannable, decoder
from addons.verdict import DONE, Action, BodyScanner
from addons.views import Tree
from proxy.chain import Decision, Rule, stepwise
from proxy.deadline import Missed, limited
from proxy.hearing import Ears, Stopped, Viewers, failure
from proxy.holding import Held
from proxy.redacting import Redaction
from proxy.redacting import Work as Judging
from proxy.slices import SLICE, Sliced, Work

#: Decoded bytes held back while scanners are listening.  A rule must have seen enough of a value to name it within
#: HOLD - 4 bytes of its start; then at most the value's first 4 characters have left.
HOLD: Final = 4096
#: Raw bytes that may be held back for views that have yet to make up their mind: readers keep up to 64 KiB behind.
#: What can only be read as a whole is bounded by who reads it, and by this.
MAX_HELD: Final = 256 * 1024
MAX_PINNED: Final = 64 * 1024 * 1024
#: Decoded bytes shown at once: few at first, fewer of what takes long to read (a bomb), but never less than GRAIN.
PIECE: Final = 16 * 1024
FIRST: Final = 512
GRAIN: Final = 16
#: Seconds of processor time to read one piece, without what the filters take of it.  Usual is a hundredth of a slice.
READING: Final = 1.0
#: Seconds of processor time for all that is inside a body, filters and all: some, and as much as 2 MiB a second take.
#: Ordinary texts go at 100 MB/s, those that are nothing but escapes at 6.
FREE: Final = 3.0
PACE: Final = 2 * 1024 * 1024
#: And for what it unpacks to as much as 8 MiB a second take: of so many bytes, and of so many times its size.
UNPACKED: Final = 8 * 1024 * 1024
MOST_UNPACKED, TIMES_UNPACKED = 64 * 1024 * 1024, 32

type Scanners = list[tuple[Rule, BodyScanner]]


class Body(Sliced):
    """`feed` raw chunks, then `end`; both return what may leave now, and the decision that stops the body, if any.

    If `waits` is true then, await `settle` and take the rest from `result`.  Alerts go to `note`.  After a decision
    that stops it nothing more may be fed.  `boundary` says after each piece whether a message of a stream has ended;
    then its scanners are told so and `renew` gives those of the next.  `declared` is the content type for the views,
    `order` all the rules: one that allows silences those behind it.  `whole` and `refuses` are of `Redaction`, which
    may mask what leaves: if its length is another then, `length` says which.
    """

    def __init__(self, scanners: Scanners, coding: str, note: Callable[[Decision], bool],
                 boundary: Callable[[bytes], bool] | None = None, renew: Callable[[], Scanners] = list, *,
                 viewers: Viewers | None = None, declared: str = "", name: str = "body", file: str = "",
                 order: Sequence[Rule] = (), whole: int = 0, refuses: Callable[[], str] = str) -> None:
        super().__init__()
        self._scanners = scanners
        self._decoder = decoder(coding)
        self._note = note
        self._boundary = boundary
        self._renew = renew
        self._order = order or [rule for rule, _ in [*scanners, *(viewers or [])]]
        self._muted: frozenset[Rule] = frozenset()
        self._held = Held(exact=coding.strip().lower() in ("", "identity"))
        self._decoded = 0
        self._spent = 0.0                                   # seconds of processor time
        self._grain = FIRST if viewers else PIECE
        self._ears = Ears(viewers or [], self._said)
        self._what = coding, name, declared, file
        self._tree = self._plant() if viewers else None
        self._hold = HOLD
        self._before = self._since = 0          # decoded bytes that earlier trees, and scanners, have had
        self._redaction = Redaction(self._held, viewers or [], coding, declared, name, whole, refuses, self._judge)

    @property
    def done(self) -> bool:
        """Nobody is listening any more: the rest may pass untouched."""
        return not self._scanners and self._tree is None

    @property
    def held(self) -> int:      # raw bytes that have not been released
        return self._held.size

    @property
    def length(self) -> int | None:     # that of all the body, if it has changed
        return self._redaction.length

    def feed(self, raw: bytes) -> tuple[list[bytes], Decision | None]:
        if self.done and not self.held:
            return [raw], None
        return self._begin(self._take(raw))

    def end(self) -> tuple[list[bytes], Decision | None]:
        return self._begin(self._finish())

    async def show(self, raw: bytes | None) -> tuple[list[bytes], Decision | None]:
        """`feed`, or `end` for None, where nobody has to wait for anything else."""
        result = self.end() if raw is None else self.feed(raw)
        if self.waits:
            await self.settle()
            result = self.result()
        return result

    def _plant(self) -> Tree:
        _, name, declared, file = self._what
        return Tree(self._ears, name, declared, file)

    def _take(self, raw: bytes) -> Work:
        """Show what these bytes decode to."""
        ended, done = False, self.done
        if early := self._held.exact and not done:          # so that it can be masked
            self._held.add(raw, self._decoded + len(raw))
            self._redaction.begins(raw)
        if not done:
            try:
                for piece in self._decoder.feed(raw):
                    ended = self._boundary is not None and self._boundary(piece)
                    yield from self._show(piece)
                if ended:
                    yield from self._next_message()
            except Unscannable as error:
                yield from self._unscannable(str(error))
        if not early:
            self._held.add(raw, self._decoded)
        self._hold = 0 if ended or self.done else HOLD      # also of views: a decoder may keep some of what it took
        self._bound()
        if self._redaction.pending:
            self._stop((yield from self._redaction.mend()))

    def _next_message(self) -> Work:
        """One of a stream has ended: so have its scanners, and its views, unless a reader of the tree sees to that."""
        yield from self._scan(b"")
        self._since, self._scanners = self._decoded, [each for each in self._renew() if each[0] not in self._muted]
        if self._tree is not None and not self._tree.known(self._tree.root):
            yield from self._read(None)
            self._tree, self._before = self._tree and self._plant(), self._decoded

    def _finish(self) -> Work:
        if not self.done:
            try:
                for piece in self._decoder.end():
                    yield from self._show(piece)
                yield from self._scan(b"")
                yield from self._read(None)
            except Unscannable as error:
                yield from self._unscannable(str(error))
        if self._redaction.pending or self._redaction.collecting:
            self._stop((yield from self._redaction.finish()))
        self._hold, self._tree = 0, None

    def _judge(self, raw: bytes, viewers: Viewers, declared: str | None = None) -> Judging:
        """Judge what is to take the place of this; return what stops it."""
        coding, name, known, file = self._what
        body = Body([], coding, lambda each: each.action is not Action.ALERT, viewers=viewers, name=name, file=file,
                    declared=known if declared is None else declared, refuses=lambda: "it is masked already")
        with contextlib.suppress(Stopped):
            yield from body._take(raw)
            yield from body._finish()
        return body._stopped

    def _show(self, piece: bytes) -> Work:
        at = 0
        while at < len(piece):
            part = piece[at : at + self._grain]
            at += len(part)
            self._decoded += len(part)
            yield from self._scan(part)
            if self._tree is not None:
                yield from self._read(part)
            yield None

    # -- scanners of the body, and of its views

    def _scan(self, part: bytes) -> Work:
        """Show a part to the scanners in order."""
        for rule, scanner in tuple(self._scanners):
            if rule in self._muted:
                continue
            result = rule.guarded(scanner, part)
            if result is not None and inspect.isawaitable(result):
                result = yield rule.awaited(result)
            if result is DONE:
                self._scanners.remove((rule, scanner))
            elif result is not None:
                self._said(rule, result, self._since)

    def _read(self, part: bytes | None) -> Work:
        """Show a part to the tree, or the end of the body; what its listeners and readers wait for is awaited."""
        if (tree := self._tree) is None:
            return
        began = time.thread_time()      # on a busy computer, any time would say little of what reading takes
        if part is not None:
            self._reads(tree.feed, part)
        elif not self._reads(tree.end):
            self._reads(tree.end)       # what cannot be read is still heard to its end
        took = time.thread_time() - began
        self._spent += took
        unpacked = min(tree.budget.spent, MOST_UNPACKED + TIMES_UNPACKED * self._decoded)
        allowed = FREE + self._decoded / PACE + unpacked / UNPACKED
        if self._spent > allowed:
            self._spent = -math.inf     # said once; what is left is heard as it is, which costs little
            self._complain(tree, "it takes too long to read what is inside")
        if took > SLICE:
            self._grain = max(GRAIN, self._grain // 4)
        elif took < SLICE / 4:
            self._grain = min(PIECE, self._grain * 4 if took < SLICE / 16 else self._grain * 2)
        while self._ears.awaited or tree.waiting:
            yield from self._answers()
            if tree.waiting:
                self._complain(tree, (yield self._settled(tree)))
        if part is None:
            self._ears.leaving(tree.clear)

    def _answers(self) -> Work:
        while self._ears.awaited:
            ear, awaitable = self._ears.awaited.popleft()
            self._ears.answered(ear, (yield ear.rule.awaited(awaitable)))
            yield None

    def _reads(self, call: Callable[..., None], *args: bytes) -> bool:
        """Let the tree read, in bounded time; return whether it could."""
        tree = self._tree
        assert tree is not None
        try:
            limited(READING, call, *args)
        except (Missed, Exception) as error:
            return self._complain(tree, failure(error))
        return True

    async def _settled(self, tree: Tree) -> str:
        """Wait for what readers have put off; return why that failed, or nothing."""
        try:
            await stepwise(READING, tree.settle())
        except (Missed, Stopped, Exception) as error:
            return failure(error)
        return ""

    def _complain(self, tree: Tree, reason: str) -> bool:
        """If there is a reason, only the body as it is goes on to be heard; return whether there is none."""
        if self._stopped:
            raise Stopped
        if reason:
            tree.give_up()
            self._ears.unscannable(tree.root, reason)
        return not reason

    def _stop(self, decision: Decision | None) -> None:
        if decision is not None and self._note(decision):
            self._stopped = decision
            raise Stopped

    def _said(self, rule: Rule, result: object, base: int | None = None) -> None:
        if (decision := rule.verdict(result)) is not None and decision.action is Action.REDACT:
            decision = self._redaction.take(rule, decision, self._before if base is None else base)
        if decision is None or decision.action is not Action.ALLOW:
            self._stop(decision)
            return
        if not self._note(decision):
            return
        self._muted = frozenset(self._order[self._order.index(rule) :])     # no later filter has a say
        self._scanners = [each for each in self._scanners if each[0] not in self._muted]
        self._ears.mute(self._muted)
        if not self._ears.viewers:
            self._tree = None

    def _unscannable(self, reason: str) -> Work:
        """The body cannot be read, or no further: each listening rule has an answer to that, and to what was read."""
        for rule, _ in tuple(self._scanners):
            self._said(rule, rule.failure(f"unscannable body: {reason}"))
        yield from self._read(None)
        if self._tree is not None:
            self._ears.unscannable(self._tree.root, reason)
        self._scanners, self._tree = [], None

    def _released(self) -> list[bytes]:
        return self._held.release(self._clear())

    def _clear(self) -> int:
        """Decoded bytes that may leave."""
        return 0 if self._redaction.collecting and not (self.done and not self._redaction.pending) else self._told()

    def _told(self) -> int:
        """Decoded bytes of which all is said."""
        clear = self._decoded - self._hold
        return clear if self._tree is None else min(clear, self._before + self._ready(self._tree))

    def _ready(self, tree: Tree) -> int:
        """The same of a tree, short of what is kept for those who redact."""
        clear = tree.clear
        return clear if clear >= tree.root.offset or tree.known(tree.root) else max(0, clear - self._redaction.more)

    def _bound(self) -> None:
        """What is held back must not grow for ever; what is not gets its last word."""
        self._stop(self._redaction.outgrown())
        if (tree := self._tree) is None:
            return
        limit = MAX_PINNED if tree.pinned else MAX_HELD
        if self.held > limit and self._held.older(self._told()) > limit:
            self._complain(tree, f"more than {limit >> 10} KiB of it would have to be held back")
        self._ears.leaving(self._ready(tree))
