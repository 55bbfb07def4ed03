"""Who takes part in a tree of views: those who hear it, and the readers of what is inside."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from addons.views.tree import View

#: Gets the bytes of one view, and at last b"".  Must not raise: what it raises counts as a failure of the reader.
Listener = Callable[[bytes], None]
#: Goes on with what was awaited.
Then = Callable[[object], Iterator[None] | None]


class Hear(Protocol):
    """Who listens to a tree."""

    def opened(self, view: "View") -> Listener | None:
        """A view has begun, its `kind` is known: return what shall get its bytes, or None."""

    def unscannable(self, view: "View", reason: str) -> None:
        """What is in this view cannot be read, or not all of it.  Said once for each view and reason."""


class Reader(Protocol):
    """A decoder: takes the bytes of its view, opens views inside it and feeds those.

    Raises `Unscannable` for what it cannot read; it is not called again then, the views that it has opened end, and its
    own view is heard on undecoded.  A reader may have a method `pause()`: for a while no more comes, and what comes
    then does not continue this; what is not told yet is to be told now.
    """

    def feed(self, data: bytes) -> None: ...
    def end(self) -> None: ...
