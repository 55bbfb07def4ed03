"""What one message may cost, and how its views are named."""

import re
from typing import Final

from addons.decode import Unscannable
from addons.verdict import SAMPLE

#: Views inside views.  A picture in a document in an archive in a form is 6; nobody wraps deeper than this by need.
MAX_DEPTH: Final = 16
#: Views of one message.  An archive of a source tree has some thousand entries.
MAX_VIEWS: Final = 20_000
#: Bytes in all views: what is small may expand freely, what is large by FACTOR.  Logs shrink to a hundredth, and a text
#: is seen in up to 4 views; what it may cost in time is bounded as well, by whoever feeds the tree.
FREE: Final = 64 * 1024 * 1024
FACTOR: Final = 400
#: Bytes in all views that one piece of the body may become, whole and for each of its bytes: what is done with it holds
#: the event loop.  Deflate makes 1030 of one; what makes more of it at once is packed more than once, for nothing.
AT_ONCE: Final = 4 * 1024 * 1024
AT_ONCE_FACTOR: Final = 1100
#: Characters of a name from outside, in a path.
MAX_NAME: Final = 80


class Budget:
    """Counts what the views of one message hold, without the message itself; what is too much is `Unscannable`."""

    def __init__(self) -> None:
        self.taken = self.spent = self.views = 0
        self._enough = AT_ONCE

    def take(self, size: int) -> None:
        """So much more of the body comes; without it, others had their turn."""
        self.taken += size
        self._enough = self.spent + AT_ONCE + AT_ONCE_FACTOR * size

    def spend(self, size: int) -> None:
        self.spent += size
        if self.spent > FREE and self.spent > FACTOR * self.taken:
            raise Unscannable(f"it holds more than {FACTOR} times its size")
        if self.spent > self._enough:
            raise Unscannable(f"a few bytes of it hold more than {AT_ONCE >> 20} MiB")

    def open(self, depth: int) -> None:
        self.views += 1
        if self.views > MAX_VIEWS:
            raise Unscannable(f"it holds more than {MAX_VIEWS} parts")
        if depth > MAX_DEPTH:
            raise Unscannable(f"it is nested more than {MAX_DEPTH} deep")


#: What in a name may be a value: paths are written into logs, findings show no more than their first characters.
_VALUE: Final = re.compile(r"[A-Za-z0-9_+=-]{20,}|\d(?:[ -]?\d){6,}")


def printable(step: str) -> str:
    """Return a step of a path in which no name from outside can forge another, nor bring a value into a log."""
    step = _VALUE.sub(lambda value: value[0][:SAMPLE] + "…", step)
    if len(step) <= MAX_NAME and step.isprintable() and ">" not in step:
        return step
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in step[:MAX_NAME])
    shown = shown.replace(">", "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}")
    return shown if len(step) <= MAX_NAME else shown[:-1] + "…"
