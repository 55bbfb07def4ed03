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
    CONTAINER,
    DIGITS32,
    HEX,
    HEX_MAGIC,
    HEX_TEXT,
    HEXES,
    MAGIC,
    NOT_32,
    NOT_HEX,
    OTHER,
    SHORT_HEX,
    TEXT32,
    UNPRINTABLE,
    decoded,
    is_text,
    is_vain,
    narrow,
    sense,
    unbase32,
    unhex,
    whole,
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
#: Words remembered of a view.
_MOST_VAIN: Final = 1024
_BREAK: Final = re.compile(rb"\r?\n[ \t]?(?=[A-Za-z0-9+/_-])")
_BREAK_PART: Final = re.compile(rb"\r?(?:\n[ \t]?)?\Z")


def maybe_runs(text: bytes) -> bool:
    """True if a run may be here."""
    return _CORE in text.translate(_CLASSES)


class Runs(TextReader):
    """Finds runs and opens views of what they hold."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._text = {step: Excerpt(view, step, whole=True) for step in ("base64", "base32", "hex")}
        self._long: _Long | None = None
        self._vain: set[bytes] = set()      # words that were judged: names come again and again

    def read(self, text: bytes, last: bool) -> int:
        start = 0
        classes = text.translate(_CLASSES)
        if self._long is not None:
            start = self._go_on(text, classes, last)
            if self._long is not None:
                return self._passed(start)
        while (found := classes.find(_CORE, start)) >= 0:
            begin = max(start, classes.rfind(b" ", start, found) + 1)
            end = classes.find(b" ", found)
            if end < 0 or (end - begin >= LINE and text[end] in b"\r\n"):
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
                if end - begin > LINE and b"\n" in run:
                    run = run.translate(None, _BREAKS)
                if run in self._vain:
                    pass
                elif is_vain(run):
                    self._forget(run)
                else:
                    self._judge(run, self.at + begin, self.at + end)
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

    def _forget(self, run: bytes) -> None:
        if len(self._vain) >= _MOST_VAIN:
            self._vain.clear()
        self._vain.add(run)

    def _judge(self, run: bytes, start: int, end: int) -> None:
        """Tell what a whole run stands for, if it makes sense.  Names and hashes must get through here fast."""
        if len(run) >= CONTAINER and MAGIC.match(run):
            self._open(decoded(run), start)
        elif not run.translate(None, HEX) or run[:2] in (b"0x", b"0X"):
            self._judge_hex(run[2:] if run[1] in b"xX" else run, start, end)
        elif run.islower() or (not run.translate(None, DIGITS32) and self._is_base32(run, start, end)):
            return      # some letter of the base64 of any text is a capital
        elif (at := zeros_from(run)) >= 0 and ((value := narrow(decoded(run[at:]))) or len(run) >= ANYTHING):
            self._text["base64"].tell(value or decoded(run[at:]), start, end)
        elif (at := sense(run)) >= 0:
            value = decoded(run if at % 4 == 0 else run[at:])
            if len(run) >= 2 * SHORT or value.translate(None, UNPRINTABLE) == value:
                self._text["base64"].tell(value, start, end)
        elif len(run) >= ANYTHING or (len(run) >= OTHER and not run.isalpha() and is_text(decoded(run))):
            self._text["base64"].tell(decoded(run), start, end)

    def _is_base32(self, run: bytes, start: int, end: int) -> bool:
        text = TEXT32.search(run)
        if text is None and len(run) < CONTAINER:
            return False
        value = unbase32(run[text.start() :] if text and text.start() % 8 else run)
        self._text["base32"].tell(narrow(value) or value, start, end)
        return True

    def _judge_hex(self, run: bytes, start: int, end: int) -> None:
        if len(run) < SHORT_HEX:
            return
        at = 0
        if len(run) >= CONTAINER and HEX_MAGIC.match(run.lower()):
            self._open(unhex(run), start, "hex")
        elif run.count(b"00") >= len(run) // 8 and (value := narrow(unhex(run))):
            self._text["hex"].tell(value, start, end)
        else:
            # Of a text, every other digit is 2 to 7.
            if run[:-1:2].translate(None, b"234567"):
                at = -1 if run[1:-1:2].translate(None, b"234567") else 1
            if at < 0 and len(run) >= 2 * CONTAINER and (text := HEX_TEXT.search(run)):
                at = text.start()
            if at >= 0 or len(run) >= ANYTHING:
                self._text["hex"].tell(unhex(whole(HEXES, run, max(0, at))), start, end)

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
