"""What readers of texts share: pieces put together, and a view of what is written otherwise and of what stands near.

A text in which something is written otherwise is not copied whole: only NEAR bytes on both sides come along, so that a
name before a value and the rest of a value behind it are seen with it, and gaps are closed by a border.
"""

from operator import eq
from typing import Final

from addons.decode import Unscannable
from addons.views.tree import BORDER, HOLD, View

#: Bytes before and behind what is written otherwise; what proximity rules look at.
NEAR: Final = 1024
#: The same in binary data, of which much looks like escapes by chance.
NEAR_DATA: Final = 128
#: After so many bytes in which nothing is written otherwise, what was told is to be judged: what is held back until
#: then is this much.  Each time costs HOLD bytes of padding.
LAG: Final = 16 * 1024
#: Pieces smaller than this are put together: a decoder called for every byte is slow.
BATCH: Final = 256
#: Text in text in text: more than any program writes.
MAX_TEXT_DEPTH: Final = 5
_AMPERSAND: Final = ord("&")
#: Of those, so many of base64 and its like are an intention; what looks like one more after other steps is a guess.
MAX_PACKED: Final = 3


class Excerpt:
    """The view of what is told out of a text; opened when first something is.

    With `whole`, what is told at once is a text of its own, and the first says what the view is.
    """

    def __init__(self, view: View, step: str, whole: bool = False) -> None:
        self._view, self._step, self._whole = view, step, whole
        self._out: View | None = None
        self._since = self._told = 0            # places in the view from which and until which is told
        self._begun = 0                         # where began what was not yet judged for sure
        self._pieces: list[bytes] = []

    def tell(self, data: bytes, since: int, until: int) -> None:
        """Give what the bytes from one place to another stand for.  What does not touch gets a border between."""
        if not data:
            self._told = max(self._told, until) if since <= self._told else self._told
            return
        if self._out is None:
            self._since = since
            if self._view.text_depth >= MAX_TEXT_DEPTH:
                if _packed(self._view) < MAX_PACKED:
                    return
                raise Unscannable(f"it is wrapped more than {MAX_TEXT_DEPTH} times")
            self._out = self._view.inside(self._step, transform=True, since=since)
            self._begun = since
            if self._whole:
                self._out.feed(data, since)
                self._out.begin()
                self._told = until
                return
        elif since > self._told:
            # Little pieces, far from each other, would otherwise be held back until they are HOLD bytes together.
            if since >= self._begun + LAG:
                self.pause()
                self._begun = since
            elif self._pieces or self._out.offset:
                self._pieces.append(BORDER)
        if not self._pieces:
            self._since = since
        self._told = until
        self._pieces.append(data)

    def passed(self, place: int) -> None:
        """Nothing is to be told any more of what is before this place."""
        if self._out is not None:
            self._flush()
            if place >= self._told + LAG:
                self._out.pause()

    def pause(self) -> None:
        if self._out is not None:
            self._flush()
            self._out.pause()

    def end(self) -> None:
        if self._out is not None:
            self._flush()
            self._out.end()
            self._out = None

    def _flush(self) -> None:
        if self._pieces and self._out is not None:
            pieces, self._pieces = self._pieces, []
            self._out.feed(b"".join(pieces), self._since)


def _packed(view: View) -> int:
    """How often what is read has been decoded from a run of letters: that is no chance, and no accident."""
    return sum(step.startswith(("base64", "base32", "hex")) for step in view.path.split(" > "))


def lags(view: View, inside: View, place: int) -> bool:
    """True if of a view inside another so little is told that at this place much is held back for it."""
    waiting = inside.undecided()
    return waiting is not None and view.origin(place) - waiting >= LAG


class TextReader:
    """Collects small pieces; `read` gets a text and says how much of it is done with.  The rest comes again."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.at = 0                 # place in the view of the text that is being read
        self._pending, self._kept = b"", 0

    def read(self, text: bytes, last: bool) -> int:
        """Take a text that begins at `self.at`; with `last` nothing follows that belongs to it, all is to be taken."""
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        text = self._pending + data if self._pending else data
        if len(text) - self._kept < BATCH:
            self._pending = text
        else:
            self._read(text, last=False)

    def pause(self) -> None:
        self._read(self._pending, last=True)

    def end(self) -> None:
        self._read(self._pending, last=True)

    def _read(self, text: bytes, last: bool) -> None:
        if text:
            taken = self.read(text, last)
            if len(text) - taken > HOLD:
                raise AssertionError("a reader keeps more than the chain holds back")
            self.at += taken
            self._pending = text[taken:]
            self._kept = len(self._pending)


class Unwriter(TextReader):
    """A text reader that tells, with what is near, what `unwritten` finds."""

    step = ""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._out = Excerpt(view, self.step)
        self._near = NEAR_DATA if view.kind == "data" else NEAR
        self._end = -NEAR           # where the last that was written otherwise ended
        self._before = b""          # the last of what is not told

    def parts(self, text: bytes, last: bool) -> list[bytes]:
        """Split a text: what stands for itself, what is written otherwise, what stands for itself ...; one part less
        than the text if its end must wait for more."""
        raise NotImplementedError

    def values(self, parts: list[bytes]) -> list[bytes]:
        """Return what is meant by what is written otherwise."""
        raise NotImplementedError

    def read(self, text: bytes, last: bool) -> int:
        parts = self.parts(text, last)
        if len(parts) == 1:
            self._plain(parts[0], self.at)
            return len(parts[0])
        taken = sum(map(len, parts))
        written = parts[1::2]
        values = self.values(written)
        if _AMPERSAND in text and any(map(eq, values, written)):      # only names of characters can be unknown
            parts, values = _without_vain(parts, values)
            written = parts[1::2]
        if len(parts) == 1:
            self._plain(parts[0], self.at)
        else:
            parts[1::2] = values
            self._tell(parts, written, self.at + taken - len(parts[-1]))
        return taken

    def _tell(self, parts: list[bytes], written: list[bytes], end: int) -> None:
        """Tell parts, in which values stand in place of what is written; the last begins at `end`."""
        place, start = self.at, 0
        # Almost always it is one block: what is far apart is rare.
        if max(map(len, parts[2:-1:2]), default=0) > 2 * self._near:
            for i in range(2, len(parts) - 1, 2):
                if len(parts[i]) > 2 * self._near:
                    stop = place + sum(map(len, parts[start:i:2])) + sum(map(len, written[start // 2 : i // 2]))
                    self._block(parts[start:i], place, stop)
                    place, start = stop, i
        self._block(parts[start:-1], place, end)
        self._plain(parts[-1], end)

    def pause(self) -> None:
        super().pause()
        self._out.pause()

    def end(self) -> None:
        super().end()
        self._out.end()

    def _block(self, parts: list[bytes], place: int, end: int) -> None:
        """Tell parts, of which the first stands for itself and may be long, from one place to another."""
        self._plain(parts[0], place)
        place += len(parts[0])
        self._end = end
        self._out.tell(self._before + b"".join(parts[1:]), place - len(self._before), end)
        self._before = b""

    def _plain(self, text: bytes, place: int) -> None:
        """Tell what is near the last, and remember the end of the rest."""
        if place < self._end + self._near and text:
            near = text[: self._end + self._near - place]
            self._out.tell(near, place, place + len(near))
            text, place = text[len(near) :], place + len(near)
        if len(text) >= self._near:
            self._before = text[-self._near:]
        elif text:
            self._before = (self._before + text)[-self._near:]
        self._out.passed(place + len(text))


def _without_vain(parts: list[bytes], values: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Make those part of what is around them that stand for themselves after all."""
    out, meant, plain = list[bytes](), list[bytes](), [parts[0]]
    for i, value in enumerate(values):
        if value == parts[2 * i + 1]:
            plain.append(value)
        else:
            out += b"".join(plain), parts[2 * i + 1]
            meant.append(value)
            plain = []
        plain.append(parts[2 * i + 2])
    return [*out, b"".join(plain)], meant
