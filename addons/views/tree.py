"""Views of a message, and the tree that they make.  See the package for how they work together.

What may leave is kept in *marks*: with a view's bytes goes the place in the body that they may stem from, always an
earlier one rather than a later.  Every open view holds back the place of its last HOLD bytes, since those who hear it
may need so many more to decide; so a reader may keep up to HOLD bytes of its view to itself, and says with `since`
where what it tells late began.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from addons.decode import Unscannable
from addons.sniff import ENOUGH, kind
from addons.views.budget import Budget, printable
from addons.views.roles import Hear, Listener, Reader, Then

__all__ = ["BORDER", "HOLD", "Hear", "Listener", "Reader", "Tree", "View"]
#: Bytes of a view that must follow a place before all is said about it; the same as the chain's HOLD.
HOLD: Final = 4096
#: Bytes between two marks: what is held back is this much more than needed.
MARK: Final = 256
#: The most that readers get at once: what they then hold the event loop for stays under a millisecond.
STEP: Final = 16 * 1024
#: Stands between texts that do not follow each other: in no word, and part of no value.
BORDER: Final = b"\0"
_PAD: Final = BORDER * HOLD


class View:
    """One text, as a stream.  Made by the tree or by `inside`; whoever opened it calls `feed`, then `end`.

    `declared` is the media type that it is said to have, with parameters, or empty; `name` its file name or that of
    its field; `kind` what its first bytes say (see `sniff`), empty until they are there; `offset` the
    bytes fed and `read` those that readers were done with before the piece that they are reading.
    """

    __slots__ = ("_came", "_early", "_head", "_inner", "_listener", "_marks", "_now", "_owner", "_paused", "_pinned",
                 "_readers", "_reading", "_told", "declared", "depth", "ended", "flows", "kind", "name", "offset",
                 "parent", "path", "read", "text_depth", "tree")

    def __init__(self, tree: "Tree", parent: "View | None", path: str, name: str = "", declared: str = "",
                 transform: bool = False) -> None:
        self.tree, self.parent, self.path, self.name, self.declared = tree, parent, path, name, declared
        self.depth: int = parent.depth + 1 if parent else 0
        # Text transforms (escapes, base64 ...) between a container and this.
        self.text_depth: int = parent.text_depth + 1 if parent and transform else 0
        self.kind = ""
        self.offset = self.read = 0
        self.ended = False
        self.flows: bool = parent is not None and parent.flows      # neither it nor what is in it holds the body back
        self._head: bytes | None = b""                  # until it is known what this is
        self._early = bool(declared) and tree.known(self)     # that needs no bytes to know
        self._readers: list[Reader] = []
        self._reading: Reader | None = None             # the one that is being called
        self._owner = parent._reading if parent else None
        self._inner: set[View] = set()
        self._listener: Listener | None = None
        self._now: int = parent._now if parent else 0   # place in the body of what comes
        self._came = self._now                          # and of what comes next
        self._marks = deque([(0, self._now)])           # bytes from here on stem from there on
        self._pinned: int | None = None
        self._paused = False
        self._told: set[str] | None = None

    def inside(self, step: str, *, name: str = "", declared: str = "", transform: bool = False,
               since: int | None = None) -> "View":
        """Open a view inside this one.

        `step` is its part of the path; `transform` says that it is this text in another spelling and not something of
        its own; `since` is where in this view it begins, if that is before the piece that is being read.
        """
        self.tree.budget.open(self.depth + 1)
        view = View(self.tree, self, f"{self.path} > {printable(step)}", name, declared, transform)
        if since is not None:
            view._came = view._now = self.origin(since)
            view._marks[0] = 0, view._now
        self._inner.add(view)
        self.tree.views.add(view)
        return view

    def feed(self, data: bytes, since: int | None = None) -> None:
        """Take the next bytes; `since` is the place in the view around this that they begin at, where the reader knows
        it; else they are taken to begin where those before did end."""
        if not data:
            return
        if self.parent is not None:
            self.tree.budget.spend(len(data))
            around = self.parent
            self._now = around.origin(since) if since is not None else min(
                self._came, around.origin(max(0, around.read - HOLD)))
            self._came = around._now
            self._mark()
        self._paused = False
        self.offset += len(data)
        if self._head is None:
            self._pass(data)
            return
        self._head += data
        if self._early or len(self._head) >= ENOUGH:
            self._begin()

    def begin(self) -> None:
        """What has come is enough to tell what this is."""
        if self._head:
            self._begin()

    def end(self) -> None:
        """No more comes.  A view that was never fed is not heard of."""
        if self.ended:
            return
        self.begin()
        self.ended = True
        for reader in tuple(self._readers):
            self.guarded(reader, reader.end)
        for view in tuple(self._inner):
            if view._pinned is None:
                view.end()
        if self._listener is not None:
            self._listener(b"")
        self._readers, self._listener = [], None
        if self._pinned is None:
            self._gone()

    def pause(self) -> None:
        """For a while nothing follows, and then not the next of it: what came is to be judged now."""
        if self.ended or self._paused or not self.offset:
            return
        if self._head is not None:
            self._begin()
        self.offset += len(_PAD)
        self._pass(_PAD)
        for reader in tuple(self._readers):
            if (pause := getattr(reader, "pause", None)) is not None:
                self.guarded(reader, pause)
        self._paused = True

    def settled(self) -> None:
        """All that came is told and judged.  For the reader of a stream of messages, when one of them has ended."""
        self._paused = True

    def pin(self, since: int = 0) -> None:
        """Nothing from this place in the view on may leave before `unpin`: it can only be read as a whole."""
        self._pinned = self.origin(since)
        self.tree.views.add(self)

    def unpin(self) -> None:
        self._pinned = None
        if self.ended:
            self._gone()

    def origin(self, place: int) -> int:
        """Where in the body that begins which stands at this place of the view, or a little before that."""
        if self.parent is None:
            return place
        return next((body for at, body in reversed(self._marks) if at <= place), self._marks[0][1])

    def undecided(self) -> int | None:
        """Where in the body that begins which listeners have not yet made up their mind about; None if nothing is."""
        if self._pinned is not None:
            return self._pinned
        if self._paused or self.flows:
            return None
        return self.origin(0 if self._head is not None else max(0, self.offset - HOLD))

    def alone(self) -> None:
        """Nothing inside is read any more, it is only heard."""
        self._readers, self._inner, self._pinned, self._reading = [], set(), None, None
        self.ended = self.ended and self._listener is None
        if self._listener is None and self._head is None and not self.ended:
            self._listener = self.tree.hear.opened(self)

    def unscannable(self, reason: str) -> None:
        """Tell who hears that not all in this view can be read."""
        self._told = self._told or set()
        if reason not in self._told:
            self._told.add(reason)
            self.tree.hear.unscannable(self, reason)

    def _mark(self) -> None:
        marks = self._marks
        if self._paused:
            marks.clear()
            marks.append((self.offset, self._now))
        elif self._now != marks[-1][1] and self.offset - marks[-1][0] >= MARK:
            marks.append((self.offset, self._now))
            while marks[1][0] <= self.offset - HOLD:
                marks.popleft()

    def _begin(self) -> None:
        head, self._head = self._head or b"", None
        self.kind = kind(head[:ENOUGH])
        self._readers, heard = self.tree.choose(self, head[:ENOUGH])
        self._listener = self.tree.hear.opened(self) if heard else None
        self._now = self._marks[0][1]
        self._pass(head)

    def _pass(self, data: bytes) -> None:
        self.read = self.offset - len(data)
        if self._listener is not None:
            self._listener(data)
        for reader in tuple(self._readers):
            self.guarded(reader, reader.feed, data)

    def join(self, reader: Reader, data: bytes) -> None:
        """Let one more reader begin, with what it would have had so far."""
        self._readers.append(reader)
        self.guarded(reader, reader.feed, data)

    def guarded(self, reader: Reader, call: Callable[..., None], *args: bytes) -> None:
        """Call a reader, unless it has failed before."""
        if reader not in self._readers:
            return
        around, self._reading = self._reading, reader
        try:
            call(*args)
        except Unscannable as error:
            self._drop(reader, str(error))
        except Exception as error:      # a message that its reader was not made for: chosen answer, not luck
            self._drop(reader, f"its reader failed ({type(error).__name__})")
        finally:
            self._reading = around

    def _drop(self, reader: Reader, reason: str) -> None:
        if reader in self._readers:
            self._readers.remove(reader)
        for view in tuple(self._inner):
            if view._owner is reader or not self._readers:
                view.end()
        self.unscannable(reason)

    def _gone(self) -> None:
        self.tree.views.discard(self)
        if self.parent is not None:
            self.parent._inner.discard(self)


class Tree:
    """All views of one message.  `feed` the body, then `end`; `clear` bytes of it may leave.

    What needs to wait (a document read by another process) is put off with `later`: then `waiting` is true, and
    `settle` must be awaited before the tree is fed again, or at the latest before it has `end`ed for good.
    """

    def __init__(self, hear: Hear, name: str = "body", declared: str = "", file: str = "") -> None:
        self.hear, self.budget = hear, Budget()
        self.views: set[View] = set()       # those that are open
        self._later: list[tuple[Awaitable[object], Then, View]] = []
        self.root = View(self, None, name, file, declared)
        self.views.add(self.root)

    def feed(self, data: bytes) -> None:
        for at in range(0, len(data), STEP):
            self.budget.take(min(STEP, len(data) - at))
            self.root._now = self.root.offset
            self.root.feed(data[at : at + STEP] if len(data) > STEP else data)

    def end(self) -> None:
        self.budget.take(0)
        self.root.end()

    @property
    def clear(self) -> int:
        """Bytes of the body of which all is said.  What once was clear has left, whatever this says later."""
        places = [place for view in self.views if (place := view.undecided()) is not None]
        return max(0, min(places, default=self.root.offset))

    def choose(self, view: View, head: bytes) -> tuple[list[Reader], bool]:
        """Return the readers of a view and whether it is to be heard as it is."""
        from addons.views.choosing import choose  # it imports the readers, which import this

        return choose(view, head)

    def known(self, view: View) -> bool:
        """True if no first bytes are needed to tell what a view is: it is declared as a stream of messages."""
        from addons.views.choosing import known

        return known(view)

    def later(self, view: View, result: Awaitable[object], then: Then) -> None:
        """Call `then` with the result once it is there; it may open views inside `view`, whose start stays pinned, and
        yields where others may have their turn."""
        view.pin()
        self._later.append((result, then, view))

    @property
    def waiting(self) -> bool:
        return bool(self._later)

    @property
    def pinned(self) -> bool:
        """Is something collected that can only be read as a whole?"""
        return any(view._pinned is not None for view in self.views)

    def give_up(self) -> None:
        """Drop all readers, wherever they stand: from now on only the body as it is will be heard."""
        self.views, self._later = {self.root}, []
        self.root.alone()

    async def settle(self) -> None:
        while self._later:
            result, then, view = self._later.pop(0)
            try:
                for _ in then(await result) or ():
                    await asyncio.sleep(0)
                    self.budget.take(0)
            except Unscannable as error:
                view.unscannable(str(error))
            except Exception as error:      # as in `guarded`
                view.unscannable(f"its reader failed ({type(error).__name__})")
            finally:
                view.unpin()
