"""Views of a message, and the tree that they make.  See the package for how they work together."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from addons.decode import Unscannable
from addons.sniff import ENOUGH, kind

#: Views inside views.  A picture in a document in an archive in a form is 6; nobody wraps deeper than this by need.
MAX_DEPTH: Final = 16
#: Views of one message.  An archive of a source tree has some thousand entries.
MAX_VIEWS: Final = 20_000
#: Bytes in all views: what is small may expand freely, what is large by FACTOR.  Base64 in JSON is seen 4 times.
FREE: Final = 64 * 1024 * 1024
FACTOR: Final = 24
#: Bytes of a view that must follow a place before all is said about it; the same as the chain's HOLD.
HOLD: Final = 4096
#: Bytes between two marks of where a view's bytes stand in the body: what is held back is this much more than needed.
MARK: Final = 256
#: Characters of a name from outside, in a path.
MAX_NAME: Final = 80

#: Gets the bytes of one view, and at last b"".
Listener = Callable[[bytes], None]


class Hear(Protocol):
    """Who listens to a tree."""

    def opened(self, view: "View") -> Listener | None:
        """A view has begun, its `kind` is known: return what shall get its bytes, or None."""

    def unscannable(self, view: "View", reason: str) -> None:
        """What is in this view cannot be read, or not all of it.  Said once for each view and reason."""


class Reader(Protocol):
    """A decoder: takes the bytes of its view, opens views inside it and feeds those.

    Raises `Unscannable` for what it cannot read; it is not called again then, and its view is heard on undecoded.
    """

    def feed(self, data: bytes) -> None: ...
    def end(self) -> None: ...


class Budget:
    """What one message may cost."""

    def __init__(self) -> None:
        self.taken = self.spent = self.views = 0

    def spend(self, size: int) -> None:
        self.spent += size
        if self.spent > max(FREE, FACTOR * self.taken):
            raise Unscannable(f"it holds more than {FACTOR} times its size")

    def open(self, depth: int) -> None:
        self.views += 1
        if self.views > MAX_VIEWS:
            raise Unscannable(f"it holds more than {MAX_VIEWS} parts")
        if depth > MAX_DEPTH:
            raise Unscannable(f"it is nested more than {MAX_DEPTH} deep")


class View:
    """One text, as a stream.  Made by the tree or by `inside`; whoever opened it calls `feed`, then `end`.

    `declared` is the media type that it is said to have, with parameters, or empty; `name` its file name or that of
    its field; `kind` what its first bytes say (see `sniff`), empty until they are there.
    """

    __slots__ = ("_head", "_listener", "_marks", "_pinned", "_readers", "declared", "depth", "ended", "kind", "name",
                 "offset", "path", "text_depth", "tree")

    def __init__(self, tree: "Tree", path: str, depth: int, name: str = "", declared: str = "",
                 text_depth: int = 0) -> None:
        self.tree, self.path, self.depth, self.name, self.declared = tree, path, depth, name, declared
        self.text_depth = text_depth        # text transforms (escapes, base64 ...) between a container and this
        self.kind = ""
        self.offset = 0                     # bytes fed
        self.ended = False
        self._head: bytes | None = b""      # until it is known what this is
        self._readers: list[Reader] = []
        self._listener: Listener | None = None
        self._marks: deque[tuple[int, int]] = deque([(0, tree.at)])
        self._pinned = False

    def inside(self, step: str, *, name: str = "", declared: str = "", transform: bool = False) -> "View":
        """Open a view inside this one; `step` is its part of the path, `transform` says that it is this text in
        another spelling and not something of its own."""
        return self.tree.open(self, step, name, declared, transform)

    def feed(self, data: bytes) -> None:
        if not data:
            return
        self.tree.budget.spend(len(data))
        if self._head is None:
            self._pass(data)
            return
        self._head += data
        if len(self._head) >= ENOUGH or self.tree.known(self):
            self._begin()

    def end(self) -> None:
        """No more comes.  A view that was never fed is not heard of."""
        if self.ended:
            return
        if self._head:
            self._begin()
        self.ended = True
        for reader in tuple(self._readers):
            self._guarded(reader, reader.end)
        if self._listener is not None:
            self._listener(b"")
        self._readers, self._listener = [], None
        if not self._pinned:
            self.tree.views.discard(self)

    def alone(self) -> None:
        """Nothing inside is read any more, it is only heard."""
        self._readers, self._pinned = [], False
        self.ended = self.ended and self._listener is None
        if self._listener is None and self._head is None and not self.ended:
            self._listener = self.tree.hear.opened(self)

    @property
    def pinned(self) -> bool:
        return self._pinned

    def pin(self) -> None:
        """Nothing from the beginning of this view on may leave before `unpin`: it can only be read as a whole."""
        self._pinned = True

    def unpin(self) -> None:
        self._pinned = False
        if self.ended:
            self.tree.views.discard(self)

    def undecided(self) -> int:
        """Where in the body that begins which listeners have not yet made up their mind about."""
        if self._pinned:
            return self._marks[0][1]
        marks, settled = self._marks, self.offset - HOLD
        while len(marks) > 1 and marks[1][0] <= settled:
            marks.popleft()
        return marks[0][1]

    def _begin(self) -> None:
        head, self._head = self._head or b"", None
        self.kind = kind(head)
        self._readers, heard = self.tree.choose(self, head)
        self._listener = self.tree.hear.opened(self) if heard else None
        self._pass(head)

    def _pass(self, data: bytes) -> None:
        self.offset += len(data)
        if not self._pinned and self.offset - self._marks[-1][0] >= MARK:
            self._marks.append((self.offset - len(data), self.tree.at))
        if self._listener is not None:
            self._listener(data)
        for reader in tuple(self._readers):
            self._guarded(reader, reader.feed, data)

    def _guarded(self, reader: Reader, call: Callable[..., None], *args: bytes) -> None:
        try:
            call(*args)
        except Unscannable as error:
            if reader in self._readers:
                self._readers.remove(reader)
            self.tree.hear.unscannable(self, str(error))


class Tree:
    """All views of one message.  `feed` the body, then `end`; `clear` bytes of it may leave.

    What needs to wait (a document read by another process) is put off with `later`: then `waiting` is true, and
    `settle` must be awaited before the tree is fed again, or at the latest before it has `end`ed for good.
    """

    def __init__(self, hear: Hear, name: str = "body", declared: str = "", file: str = "") -> None:
        self.hear, self.budget = hear, Budget()
        self.at = 0                         # where in the body the piece begins that is being fed
        self.views: set[View] = set()       # those that are open
        self._later: list[tuple[Awaitable[object], Callable[[object], None], View]] = []
        self.root = View(self, name, 0, file, declared)
        self.views.add(self.root)
        self._fed = 0

    def feed(self, data: bytes) -> None:
        self.budget.taken += len(data)
        self.at, self._fed = self._fed, self._fed + len(data)
        try:
            self.root.feed(data)
        except Unscannable as error:        # the budget: what the readers hold is given up, the body is heard as it is
            self.hear.unscannable(self.root, str(error))

    def end(self) -> None:
        self.at = self._fed
        self.root.end()

    @property
    def clear(self) -> int:
        """Bytes of the body of which all is said."""
        return min((view.undecided() for view in self.views if view.kind or view is self.root), default=self._fed)

    def open(self, parent: View, step: str, name: str, declared: str, transform: bool) -> View:
        self.budget.open(parent.depth + 1)
        depth = parent.text_depth + 1 if transform else 0
        view = View(self, f"{parent.path} > {printable(step)}", parent.depth + 1, name, declared, depth)
        self.views.add(view)
        return view

    def choose(self, view: View, head: bytes) -> tuple[list[Reader], bool]:
        """Return the readers of a view and whether it is to be heard as it is."""
        from addons.views.choosing import choose  # it imports the readers, which import this

        return choose(view, head)

    def known(self, view: View) -> bool:
        """True if no first bytes are needed to tell what a view is: it is declared as a stream of messages."""
        from addons.views.choosing import known

        return known(view)

    def later(self, view: View, result: Awaitable[object], then: Callable[[object], None]) -> None:
        """Call `then` with the result once it is there; it may open views inside `view`, whose start stays pinned."""
        view.pin()
        self._later.append((result, then, view))

    @property
    def waiting(self) -> bool:
        return bool(self._later)

    @property
    def pinned(self) -> bool:
        """Is something collected that can only be read as a whole?"""
        return any(view.pinned for view in self.views)

    def give_up(self) -> None:
        """Drop all readers, wherever they stand: from now on only the body as it is will be heard."""
        self.views, self._later = {self.root}, []
        self.root.alone()

    async def settle(self) -> None:
        while self._later:
            result, then, view = self._later.pop(0)
            try:
                then(await result)
            except Unscannable as error:
                self.hear.unscannable(view, str(error))
            finally:
                view.unpin()


def printable(step: str) -> str:
    """Return a step of a path in which no name from outside can forge another."""
    step = step.replace(">", "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}")
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in step)
    return shown if len(shown) <= MAX_NAME else shown[: MAX_NAME - 1] + "…"
