"""What readers of containers share: one view open at a time, closed whatever happens."""

from addons.decode import Unscannable
from addons.views.tree import Reader, View


class Container:
    """A reader of something that holds other things one after the other; derive, and give `take` and `finish`.

    The view that is open when its reader fails ends there: what was heard of it counts, nothing is held back for it.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.child: View | None = None
        self.also: Reader | None = None     # a reader of what the child holds that only this one could choose

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
        if also is not None and child is not None:
            try:
                also.end()
            except Unscannable as error:
                child.unscannable(str(error))
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
                self.child.unscannable(str(error))

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
