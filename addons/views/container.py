"""What readers of containers share: one view open at a time, closed whatever happens."""

from typing import Final

from addons.decode import Unscannable
from addons.views.tree import HOLD, Reader, View

#: Bytes of packed data after which it is a block that is unpacked when it is whole, of at most 900 KB (bzip2).
BLOCK: Final = 16 * 1024


def guessed(view: View) -> bool:
    """True if a view, or what it is in, was read out of letters that may stand for something: it may end anywhere."""
    around: View | None = view
    while around is not None and not around.text_depth:
        around = around.parent
    return around is not None


class Container:
    """A reader of something that holds other things one after the other; derive, and give `take` and `finish`.

    The view that is open when its reader fails ends there: what was heard of it counts, nothing is held back for it.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.child: View | None = None
        self.also: Reader | None = None     # a reader of what the child holds that only this one could choose

    _waited, _pinned = 0, False

    def take(self, data: bytes) -> None:
        """Read some more; raises `Unscannable`."""
        raise NotImplementedError

    def finish(self) -> None:
        """No more comes; raises `Unscannable` if something is missing."""

    def feed(self, data: bytes) -> None:
        try:
            self.take(data)
        except Unscannable:
            self.close()
            raise

    def end(self) -> None:
        try:
            self.finish()
        finally:
            self.close()

    def open(self, step: str, name: str = "", declared: str = "", since: int | None = None) -> View:
        """Open the next view; the one before ends.  `since` is where in this view it began, if that is not now."""
        self.close()
        self.child = self.view.inside(step, name=name, declared=declared, since=since)
        return self.child

    def close(self) -> None:
        child, self.child = self.child, None
        also, self.also = self.also, None
        if child is not None and self._pinned:
            child.unpin()
        self._waited, self._pinned = 0, False
        if also is not None and child is not None:
            try:
                also.end()
            except Unscannable as error:
                self._doubted(child, error)
        if child is not None:
            child.end()

    def give(self, data: bytes) -> None:
        """Feed what is open."""
        if self.child is None:
            return
        self.child.feed(data)
        if self.also is not None:
            try:
                self.also.feed(data)
            except Unscannable as error:
                self.also = None
                self._doubted(self.child, error)

    def _doubted(self, child: View, error: Unscannable) -> None:
        if self.believes(str(error)):
            child.unscannable(str(error))

    def believes(self, reason: str) -> bool:
        """Is it told that `also` could not read something?"""
        return True

    def waited(self, size: int, came: bool) -> None:
        """Note that packed data came, and if anything came out of it.

        What stands before a block that is not whole yet may be half of a value: it is kept as long, and pinned, since
        that may be more than is kept of a stream.
        """
        self._waited = 0 if came else self._waited + size
        if self.child is None:
            return
        if self._waited > BLOCK and not self._pinned:
            self.child.pin(max(0, self.child.offset - HOLD))
            self._pinned = True
        elif came and self._pinned:
            self.child.unpin()
            self._pinned = False

    def whole(self, step: str, data: bytes, name: str = "") -> None:
        """Show a short text that is there already."""
        view = self.view.inside(step, name=name)
        try:
            view.feed(data)
        finally:
            view.end()

    def refuse(self, reason: str, step: str = "", name: str = "") -> None:
        """Say that what is open, or what `step` names, cannot be read, and go on with what follows it."""
        view = self.open(step, name) if step else self.child or self.view
        view.unscannable(reason)
        self.close()


class Refused:
    """The reader of what no reader can read."""

    def __init__(self, view: View, reason: str) -> None:
        self._reason = reason

    def feed(self, data: bytes) -> None:
        raise Unscannable(self._reason)

    def end(self) -> None:
        raise Unscannable(self._reason)
