"""Bytes written as numbers one by one: `[103, 104, 112]`, `67:68:70`, `0x67, 0x68`.

So `JSON.stringify` writes a Buffer, Java a byte[] (with negative numbers), and debuggers everything.  A list is ten
numbers or more; what they stand for is told whatever it is, since lists of small numbers are rare, and what they stand
for is a third of their size.
"""

import re
from typing import Final

from addons.sniff import kind
from addons.views.alphabets import CONTAINER, unhex
from addons.views.near import Excerpt, TextReader
from addons.views.tree import View

#: Numbers that make a list.
SHORT: Final = 10
#: The end of a text that may be a list is kept, up to so many bytes; a list that is longer is told as it comes.
LONG: Final = 2048
#: More than SHORT numbers have with their separators.
BACK: Final = 512
#: A number out of the range of bytes stands for a border.
_BYTES: Final = {str(n).encode(): n & 0xFF for n in range(-128, 256)}
_SEPARATORS: Final = b":, \t\r\n"


#: Three numbers of a list, whose search goes from comma to comma.
_SOME: Final = re.compile(rb",(?<=[\d \t\r\n],)[ \t\r\n]{0,24}-?\d{1,3}[ \t\r\n]{0,2},[ \t\r\n]{0,24}-?\d")
#: Of three numbers with separators between, one of these is in the middle.
_SIGNS: Final = b",dd,dd,", b",dd,,", b"dxdd,", b"dXdd,"


def maybe_bytes(text: bytes) -> bool:
    """True if a list of bytes may be here."""
    return _SOME.search(text) is not None and ByteLists.likely(text)


def maybe_hex(text: bytes) -> bool:
    """True if a list of bytes in hexadecimal digits may be here."""
    classes = text.translate(HexLists._classes)
    return any(classes.find(sign) >= 0 for sign in _SIGNS) and HexLists.likely(text)


class ByteLists(TextReader):
    """Finds lists of one form."""

    step = "bytes"
    characters, digits = b"0123456789-, \t\r\n", b"0123456789-"
    #: White space as far as pretty-printed JSON indents.
    separator = rb"(?:,[ \t\r\n]{0,24}+|[ \t\r\n]{1,2}+,[ \t\r\n]{0,24}+)"
    number = rb"-?+\d{1,3}+(?![\w.])"
    #: Digits and separators: where these do not stand, there is no list.
    _classes = bytes(ord("d") if c in b"0123456789" else c if c == ord(",") else 0x20 for c in range(256))
    _shape = re.compile(rb"d,(?:d{1,3},){5}")
    _ignored = b" \t\r\n-"
    shortest = 2 * SHORT - 1
    #: What is no byte: where many of the first numbers are such, they count something.
    large = re.compile(rb"25[6-9]|2[6-9]\d|[3-9]\d\d")

    def __init__(self, view: View) -> None:
        super().__init__(view)
        more = rb"(?:%b%b)" % (self.separator, self.number)
        self._list = re.compile(rb"(?<![\w.])%b%b{%d,}+" % (self.number, more, SHORT - 1))
        self._more = re.compile(more + b"++")
        self._texts = Excerpt(view, self.step, whole=True)
        self._file: View | None = None      # of a list that stands for a file
        self._before = b""                  # the byte before what is read
        self._going = False                 # a list has begun and may go on
        self._vain = False                  # and its numbers are no bytes

    def read(self, text: bytes, last: bool) -> int:
        stop, long = self._stop(text, last)
        place = self._lists(text, stop)
        if place < stop:
            self._ended()
            if long:
                stop = max(place, stop - BACK)
        self._going = self._going and place == stop and not last
        self._before = text[stop - 1 : stop] or self._before
        self._texts.passed(self.at + stop)
        return stop

    def pause(self) -> None:
        super().pause()
        self._ended()
        self._texts.pause()

    def end(self) -> None:
        super().end()
        self._ended()
        self._texts.end()

    def decode(self, numbers: bytes) -> bytes:
        return bytes([_BYTES.get(n, 0) for n in numbers.replace(b",", b" ").split()])

    @classmethod
    def likely(cls, text: bytes) -> bool:
        return cls._shape.search(text.translate(cls._classes, cls._ignored)) is not None

    def _stop(self, text: bytes, last: bool) -> tuple[int, bool]:
        """Return how much of a text to read now, and whether that ends within what may be a list."""
        if last:
            return len(text), False
        stop = len(text.rstrip(self.characters))
        if len(text) - stop < LONG:
            return stop, False
        stop = len(text.rstrip(self.digits).rstrip(_SEPARATORS))
        return (stop, True) if len(text) - stop < BACK else (len(text), False)

    def _lists(self, text: bytes, stop: int) -> int:
        """Tell all lists up to a place; return where the last of them ends."""
        place = 0
        if self._going and (more := self._more.match(text, 0, stop)):
            place = more.end()
            self._tell(more[0], 0, place)
        if place == stop or not self.likely(text):
            return place
        lead = len(self._before)
        for found in self._list.finditer(self._before + text, place + lead, stop + lead):
            numbers = found[0]
            if len(numbers) < self.shortest:
                continue
            vain = len(self.large.findall(numbers, 0, 6 * SHORT)) > SHORT // 4
            if len(numbers) < BACK and (vain or len(self.decode(numbers)) < SHORT):
                continue
            self._ended()
            start, place = found.start() - lead, found.end() - lead
            self._going = True
            self._vain = vain
            if not vain and len(numbers) > CONTAINER and self._is_file(numbers):
                self._file = self.view.inside(self.step, transform=True, since=self.at + start)
            self._tell(numbers, start, place)
        return place

    def _tell(self, numbers: bytes, start: int, end: int) -> None:
        if self._vain:
            return
        if self._file is not None:
            self._file.feed(self.decode(numbers), self.at + start)
        else:
            self._texts.tell(self.decode(numbers), self.at + start, self.at + end)

    def _is_file(self, numbers: bytes) -> bool:
        return kind(self.decode(numbers[:BACK])).startswith("application/")

    def _ended(self) -> None:
        self._going = False
        if self._file is not None:
            self._file.end()
            self._file = None


class HexLists(ByteLists):
    """The same in hexadecimal digits."""

    step = "hex"
    characters, digits = b"0123456789abcdefABCDEFxX:, \t\r\n", b"0123456789abcdefABCDEFxX"
    separator = rb"(?::|[ \t\r\n]{0,2},[ \t\r\n]{0,24}|[ \t\r\n]{1,2})"
    number = rb"(?:0[xX])?[0-9A-Fa-f]{2}(?!\w)"
    _classes = bytes(ord("d") if c in b"0123456789abcdefABCDEF" else c if c in b"xX" else ord(",") if c in _SEPARATORS
                     else 0x20 for c in range(256))
    _shape = re.compile(rb"dd,(?:,{0,12}(?:d[xX])?dd,){5}")
    _ignored = b""
    shortest = 3 * SHORT - 1
    large = re.compile(rb"(?!)")

    def decode(self, numbers: bytes) -> bytes:
        return unhex(numbers.lower().replace(b"0x", b"").translate(None, _SEPARATORS))
