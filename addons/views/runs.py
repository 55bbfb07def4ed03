"""Runs of base64, base32 and hexadecimal digits in a text (RFC 4648), decoded where that gives something.

Theory of operation.  A *run* is letters and digits without end, with the signs of both alphabets of base64, over line
breaks as mail makes them.  Candidates are found by translating the text to three letters and looking for many of one:
ordinary text has few.  Each is judged once: base64 of ASCII text has a form that other words do not have, group by
group, which also shows where it begins; containers have their first bytes.  What is short goes into one view for all;
what is long is decoded as it comes, whatever it is.
"""

import re
from typing import Final

from addons.views.alphabets import (
    ALNUM,
    ANYTHING,
    DIGITS32,
    HEX,
    MAGIC,
    NOT_32,
    NOT_HEX,
    Meaning,
    decoded,
    meaning,
    sense,
    unbase32,
    unhex,
    zeros_from,
)
from addons.views.near import Excerpt, TextReader
from addons.views.tree import View

#: Letters and digits in a row that make a candidate: base64 of ten bytes.
SHORT: Final = 14
#: A run that is still going on after so many characters is decoded as it comes.
LONG: Final = 2048
#: Characters of a group that may still be there when the next come, with the break of a line.
BACK: Final = 16
#: Characters of a line before a break that a run may go on over: mail has 76, PEM 64 (RFC 2045, 6.8; RFC 7468).
LINE: Final = 32

_CLASSES: Final = bytes(ord("x") if c in ALNUM else ord("y") if c in b"+/-_" else ord(" ") for c in range(256))
_CORE: Final = b"x" * SHORT
_BREAKS: Final = b"\r\n \t"
_LINE_END: Final = b"\r\n"
#: Runs remembered of a view.
_MOST_JUDGED: Final = 1024
_NEW: Final = "", b"", False        # a run that is not among them
_BREAK: Final = re.compile(rb"\r?\n[ \t]?(?=[A-Za-z0-9+/_-])")
_BREAK_PART: Final = re.compile(rb"\r?(?:\n[ \t]?)?\Z")


def maybe_runs(text: bytes) -> bool:
    """True if a run may be here."""
    return len(text) >= SHORT and _CORE in text.translate(_CLASSES)


class Runs(TextReader):
    """Finds runs and opens views of what they hold."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._text = {step: Excerpt(view, step, whole=True) for step in ("base64", "base32", "hex")}
        self._long: _Long | None = None
        self._judged: dict[bytes, Meaning | None] = {}      # names come again and again

    def read(self, text: bytes, last: bool) -> int:
        start, judged = 0, self._judged
        classes = text.translate(_CLASSES)
        if self._long is not None:
            start = self._go_on(text, classes, last)
            if self._long is not None:
                return self._passed(start)
        while (core := classes.find(_CORE, start)) >= 0:
            begin = max(start, classes.rfind(b" ", start, core) + 1)
            end = classes.find(b" ", core)
            if end < 0 or (end - begin >= LINE and text[end] in _LINE_END):
                end = self._end(text, classes, begin)
            if end < 0:
                if not last and len(text) - begin < LONG:
                    return self._passed(begin)
                end = len(text)
            if end - begin >= LONG:
                self._long = _Long(self.view, text[begin:end], self.at + begin)
                start = self._go_on(text, classes, last, begin)
                if self._long is not None:
                    return self._passed(start)
            else:
                run, start = text[begin:end], end
                if end - begin > LINE and (10 in run or 13 in run):
                    run = run.translate(None, _BREAKS)
                if (found := judged.get(run, _NEW)) is _NEW:
                    found = self._judge(run)
                if found is not None:
                    self._tell(found, self.at + begin, self.at + end)
        if last:
            return self._passed(len(text))
        return self._passed(max(start, classes.rfind(b" ") + 1, len(text) - LONG))

    def pause(self) -> None:
        super().pause()
        self._finish()
        for text in self._text.values():
            text.pause()

    def end(self) -> None:
        super().end()
        self._finish()
        for text in self._text.values():
            text.end()

    def _passed(self, place: int) -> int:
        for text in self._text.values():
            text.passed(self.at + place)
        return place

    def _end(self, text: bytes, classes: bytes, begin: int) -> int:
        """Return where the run ends, -1 if it may go on after this text."""
        line = begin
        while (end := classes.find(b" ", line)) >= 0:
            if end - line < LINE:
                return end
            if (broken := _BREAK.match(text, end)) is None:
                return -1 if _BREAK_PART.match(text, end) else end
            line = broken.end()
        return -1

    def _judge(self, run: bytes) -> Meaning | None:
        found = meaning(run)
        if len(self._judged) >= _MOST_JUDGED:
            self._judged.clear()
        if len(run) < ANYTHING:
            self._judged[run] = found
        return found

    def _tell(self, found: Meaning, start: int, end: int) -> None:
        step, value, is_container = found
        if is_container:
            self._open(value, start, step)
        else:
            self._text[step].tell(value, start, end)

    def _open(self, value: bytes, start: int, step: str = "base64") -> None:
        """Give a value a view of its own: first bytes tell what it is."""
        view = self.view.inside(step, transform=True, since=start)
        view.feed(value, start)
        view.end()

    def _go_on(self, text: bytes, classes: bytes, last: bool, start: int = 0) -> int:
        """Feed the long run; return what of the text is done with."""
        long = self._long
        assert long is not None
        end = start
        while True:
            stop = classes.find(b" ", end)
            if stop < 0:
                end = len(text)
                break
            broken = _BREAK.match(text, stop)
            if broken is None:
                long.feed(text[start:stop], self.at + start)
                if last or not _BREAK_PART.match(text, stop):
                    self._finish()
                return stop
            end = broken.end()
        long.feed(text[start:end], self.at + start)
        return end

    def _finish(self) -> None:
        if self._long is not None:
            self._long.end()
            self._long = None


class _Long:
    """A run that is decoded as it comes; its first LONG characters say how."""

    def __init__(self, view: View, head: bytes, since: int) -> None:
        head = head[:LONG].translate(None, _BREAKS)
        self._skip, self._left = 2 * (head[:2] in (b"0x", b"0X")), b""
        head = head[self._skip :]
        if not head.translate(None, HEX):
            step, self._others, self._decode, self._group = "hex", NOT_HEX, unhex, 2
        elif not head.translate(None, DIGITS32):
            step, self._others, self._decode, self._group = "base32", NOT_32, unbase32, 8
        else:
            step, self._others, self._decode, self._group = "base64", b"", decoded, 4
            if not MAGIC.match(head):
                at = zeros_from(head)
                self._skip += at if at >= 0 else max(0, sense(head)) % 4
        self._out = view.inside(step, transform=True, since=since)

    def feed(self, chars: bytes, since: int) -> None:
        chars = chars.translate(None, _BREAKS + self._others)
        chars, self._skip = chars[self._skip :], max(0, self._skip - len(chars))
        chars = self._left + chars
        size = len(chars) - len(chars) % self._group
        self._left = chars[size:]
        self._out.feed(self._decode(chars[:size]), max(0, since - BACK))

    def end(self) -> None:
        self._out.feed(self._decode(self._left))
        self._out.end()
