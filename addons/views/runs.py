"""Runs of base64, base32 and hexadecimal digits in a text (RFC 4648), decoded where that gives something.

Theory of operation.  A *run* is letters and digits without end, with the signs of both alphabets of base64, over line
breaks as mail makes them.  Candidates are found by translating the text to three letters and looking for many of one:
ordinary text has few.  Each is judged once: base64 of ASCII text has a form that other words do not have, group by
group, which also shows where it begins; containers have their first bytes.  What is short goes into one view for all;
what is long is decoded as it comes, whatever it is.
"""

import base64
import binascii
import re
from typing import Final

from addons.sniff import SIGNATURES
from addons.views.near import Excerpt, TextReader
from addons.views.tree import View

#: Letters and digits in a row that make a candidate: base64 of ten bytes.
SHORT: Final = 14
#: The same in hexadecimal digits: 11 bytes are a social security number.
SHORT_HEX: Final = 22
#: A run that is still going on after so many characters is decoded as it comes.
LONG: Final = 2048
#: Characters of a group that may still be there when the next come, with the break of a line.
BACK: Final = 16
#: Characters of a line before a break that a run may go on over: mail has 76, PEM 64 (RFC 2045, 6.8; RFC 7468).
LINE: Final = 32
#: Base64 of the smallest container that holds anything: gzip of a few words.
CONTAINER: Final = 40

_ALNUM: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CLASSES: Final = bytes(ord("x") if c in _ALNUM else ord("y") if c in b"+/-_" else ord(" ") for c in range(256))
_CORE: Final = b"x" * SHORT
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_BREAKS: Final = b"\r\n \t"
_BREAK: Final = re.compile(rb"\r?\n[ \t]?(?=[A-Za-z0-9+/_-])")
_BREAK_PART: Final = re.compile(rb"\r?(?:\n[ \t]?)?\Z")
_ANY: Final = rb"[A-Za-z0-9+/_-]"
#: Three bytes of ASCII text: of the first the upper six bits, the lower two and the upper four of the second ...
_GROUP: Final = rb"[CDI-Za-f][AC-HQS-Xgi-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589]" + _ANY
#: The same of UTF-16, little or big endian: every other byte is 0, so groups come in pairs.
_WIDE: Final = rb"[I-Za-f][AQgw][AB]" + _ANY + rb"A[C-H][AEIMQUYcgkosw048]A"
#: Five bytes of ASCII text in base32.
_GROUP32: Final = rb"[E-P][ABEFIJMNQRUVYZ45][A-Z2-7][C-HS-X][ACEGIKMOQSUWY246][I-Z2-7][BCDJKLRSTZ23][A-Z2-7]"
_TEXT: Final = re.compile(_GROUP * 3)
_TEXT32: Final = re.compile(_GROUP32 * 2)
_WIDE_TEXT: Final = re.compile(_WIDE * 2)
#: A byte of ASCII text in hexadecimal, often enough to be no hash.
_HEX_TEXT: Final = re.compile(rb"(?:[2-7][0-9a-fA-F]){11}")
_HEX: Final = b"0123456789abcdefABCDEF"
_HEXES: Final = re.compile(rb"[0-9a-fA-F]+")
_DIGITS32: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_NOT_32: Final = b"abcdefghijklmnopqrstuvwxyz0189+/-_"
_BASE32: Final = re.compile(rb"[A-Z2-7]+")
_NOT_HEX: Final = b"GHIJKLMNOPQRSTUVWXYZghijklmnopqrstuvwxyz+/-_"
_UNPRINTABLE: Final = bytes(c for c in range(0x20) if c not in b"\t\n\r") + b"\x7f"


def _prefixes() -> re.Pattern[bytes]:
    """Base64 of the first bytes of what holds something, as far as they fill characters."""
    kinds = ("application/", "text/pem")
    magics = [magic for kind, at, magic in SIGNATURES if not at and kind.startswith(kinds) and len(magic) > 1]
    return re.compile(b"|".join(re.escape(base64.b64encode(m)[: len(m) * 8 // 6]) for m in magics))


_MAGIC: Final = _prefixes()


def decoded(run: bytes) -> bytes:
    """Decode base64 in either alphabet, without padding or with a character too many."""
    run = run[: len(run) - (len(run) % 4 == 1)].translate(_TO_STANDARD)
    return binascii.a2b_base64(run + b"==="[: -len(run) % 4])


def unbase32(run: bytes) -> bytes:
    """Decode base32 without padding."""
    run = run[: len(run) - {1: 1, 3: 1, 6: 1}.get(len(run) % 8, 0)]
    return base64.b32decode(run + b"=" * (-len(run) % 8))


def unhex(run: bytes) -> bytes:
    """Decode hexadecimal digits; one too many is left out."""
    return binascii.a2b_hex(run[: len(run) & ~1])


def _whole(digits: re.Pattern[bytes], run: bytes, at: int) -> bytes:
    """Return the digits of a kind from a place on."""
    match = digits.match(run, at)
    return match[0] if match else b""


def _narrow(value: bytes) -> bytes:
    """Return UTF-16, of either order, as UTF-8."""
    little = value[1::2].count(0) >= value[::2].count(0)
    return value.decode("utf-16-le" if little else "utf-16-be", "replace").encode("utf-8", "replace")


class Runs(TextReader):
    """Finds runs and opens views of what they hold."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._text = {step: Excerpt(view, step) for step in ("base64", "base32", "hex")}
        self._long: _Long | None = None

    def read(self, text: bytes, last: bool) -> int:
        start = 0
        classes = text.translate(_CLASSES)
        if self._long is not None:
            start = self._go_on(text, classes, last)
            if self._long is not None:
                return start
        while (found := classes.find(_CORE, start)) >= 0:
            begin = max(start, classes.rfind(b" ", start, found) + 1)
            end = classes.find(b" ", found)
            if end < 0 or end - begin >= LINE:
                end = self._end(text, classes, begin)
            if end < 0:
                if not last and len(text) - begin < LONG:
                    return self._passed(begin)
                end = len(text)
            if end - begin >= LONG:
                self._long = _Long(self.view, text[begin:end], self.at + begin)
                start = self._go_on(text, classes, last, begin)
                if self._long is not None:
                    return start
            else:
                self._judge(text[begin:end], self.at + begin, self.at + end)
                start = end
        if last:
            return self._passed(len(text))
        return self._passed(max(start, classes.rfind(b" ") + 1, len(text) - LONG))

    def pause(self) -> None:
        super().pause()
        for text in self._text.values():
            text.pause()

    def end(self) -> None:
        super().end()
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

    def _judge(self, run: bytes, start: int, end: int) -> None:
        """Tell what a whole run stands for, if it makes sense.  Names and hashes must get through here fast."""
        if len(run) >= CONTAINER:
            run = run.translate(None, _BREAKS)
            if _MAGIC.match(run):
                self._open(decoded(run), start)
                return
        if not run.translate(None, _HEX):
            self._judge_hex(run, start, end)
        elif run.islower():             # some letter of the base64 of any text is a capital
            return
        elif run.isupper() and (sense := _TEXT32.search(run)):
            self._text["base32"].tell(unbase32(_whole(_BASE32, run, sense.start())), start, end)
        elif sense := _TEXT.match(run) or _TEXT.search(run):
            at = sense.start()
            value = decoded(run if at % 4 == 0 else run[at:])
            if len(run) >= 2 * SHORT or value.translate(None, _UNPRINTABLE) == value:
                self._text["base64"].tell(value, start, end)
        elif run.count(b"A") >= len(run) // 4 and (sense := _WIDE_TEXT.search(run)):
            self._text["base64"].tell(_narrow(decoded(run[sense.start() % 4 :])), start, end)

    def _judge_hex(self, run: bytes, start: int, end: int) -> None:
        if len(run) < SHORT_HEX:
            return
        # Of a text, every other digit is 2 to 7.
        at = 0
        if run[:-1:2].translate(None, b"234567"):
            at = -1 if run[1:-1:2].translate(None, b"234567") else 1
        if at < 0 and len(run) >= 2 * CONTAINER and (sense := _HEX_TEXT.search(run)):
            at = sense.start()
        if at >= 0:
            self._text["hex"].tell(unhex(_whole(_HEXES, run, at)), start, end)

    def _open(self, value: bytes, start: int) -> None:
        """Give a value a view of its own: first bytes tell what it is."""
        view = self.view.inside("base64", transform=True, since=start)
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
                    long.end()
                    self._long = None
                return stop
            end = broken.end()
        long.feed(text[start:end], self.at + start)
        if last:
            long.end()
            self._long = None
        return end


class _Long:
    """A run that is decoded as it comes; its first LONG characters say how."""

    def __init__(self, view: View, head: bytes, since: int) -> None:
        head = head[:LONG].translate(None, _BREAKS)
        self._skip, self._left = 0, b""
        if not head.translate(None, _HEX):
            step, self._others, self._decode, self._group = "hex", _NOT_HEX, unhex, 2
        elif not head.translate(None, _DIGITS32):
            step, self._others, self._decode, self._group = "base32", _NOT_32, unbase32, 8
        else:
            step, self._others, self._decode, self._group = "base64", b"", decoded, 4
            sense = None if _MAGIC.match(head) or _TEXT.match(head) else _TEXT.search(head)
            self._skip = sense.start() % 4 if sense else 0
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
