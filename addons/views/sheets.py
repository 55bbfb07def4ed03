"""The sheets of a workbook (ECMA-376, part 1, 18): rows as lines, cells between tabs.

Sheets name most of their strings by number, and the strings come after them: rows with all in place follow as `rows`
at the end of the archive, as long as they are few enough to keep; the strings themselves have been heard by then in
any case.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Final

from addons.views.tree import View
from addons.views.xmlparts import Part

#: Bytes of rows, and of shared strings, of one workbook that are kept to be put together.
MAX_ROWS: Final = 4 * 1024 * 1024
MAX_STRINGS: Final = 4 * 1024 * 1024
#: And of the rows with their strings in place: one long string may be named in a million cells.
MAX_WHOLE: Final = 16 * 1024 * 1024
#: Characters of one value, of which spreadsheets allow 32767; a longer one is told as it comes.
MAX_VALUE: Final = 64 * 1024
#: Digits of a number in a cell.
MAX_DIGITS: Final = 40
_REFERENCE: Final = re.compile(rb"\0(\d+)\0")


class Book:
    """What is known of a workbook: rows that wait for strings, and the strings."""

    def __init__(self) -> None:
        self.rows, self.strings = bytearray(), list[bytes]()
        self.size = 0

    def add(self, string: str) -> None:
        self.size += len(string) + 64
        if self.size <= MAX_STRINGS:
            self.strings.append(string.encode("utf-8", "replace"))

    def row(self, text: str) -> None:
        if len(self.rows) < MAX_ROWS:
            self.rows += text.encode("utf-8", "replace")

    def whole(self) -> bytes:
        """Return the rows with their strings in place, as many as fit."""
        out, at = bytearray(), 0
        for match in _REFERENCE.finditer(self.rows) if self.strings else ():
            index = int(match[1][:9])
            out += self.rows[at : match.start()]
            out += self.strings[index] if index < len(self.strings) else b""
            at = match.end()
            if len(out) > MAX_WHOLE:
                return bytes(out)
        return bytes(out + self.rows[at:]) if self.strings else b""


class Strings(Part):
    """The shared strings of a workbook; what says how to pronounce them (`rPh`) is heard beside them."""

    def __init__(self, view: View, book: Book) -> None:
        super().__init__(view)
        self._book, self._string, self._size = book, list[str](), 0
        self._inside = self._aside = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._inside = name == "t"
        self._aside |= name == "rPh"
        if name == "si":
            self._string.clear()
            self._size = 0

    def stop(self, name: str) -> None:
        self._inside = False
        if name == "rPh":
            self._aside = False
        elif name == "si":
            self._book.add("".join(self._string))
            self.say("\n")

    def text(self, text: str) -> None:
        if self._inside:
            self.say(text)
            if not self._aside and self._book.size + self._size <= MAX_STRINGS:
                self._size += len(text)
                self._string.append(text)


class Sheet(Part):
    """A sheet of a workbook: a line each row, a tab after each cell."""

    def __init__(self, view: View, book: Book) -> None:
        super().__init__(view)
        self._book = book
        self._kind, self._inside, self._shared = "", False, False
        self._value: list[str] = []
        self._length = 0                # of the value, as far as it has come
        self._row: list[str] = []
        self._size = 0                  # of the row, as far as it is kept

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._inside = name in ("v", "t", "f", "oddHeader", "oddFooter")
        if name == "c":
            self._kind = attributes.get("t", "n")

    def stop(self, name: str) -> None:
        if self._inside:
            value, long = "".join(self._value), self._length > MAX_VALUE
            self._value, self._length = [], 0
            shared = name == "v" and self._kind == "s" and not long
            self._shared |= shared
            if not shared:
                value = number(value) if name == "v" and self._kind == "n" and not long else value
                self.say(value)
            self._keep(f"\0{value}\0" if shared and value.isdecimal() else value)
        self._inside = False
        if name in ("c", "f", "oddHeader", "oddFooter"):
            self.say("\t")
            self._keep("\t")
        elif name == "row":
            self.say("\n")
            if self._shared:
                self._book.row("".join(self._row) + "\n")
            self._row, self._size, self._shared = [], 0, False

    def text(self, text: str) -> None:
        if self._inside:
            self._length += len(text)
            self._value.append(text)
            if self._length > MAX_VALUE:
                self.say("".join(self._value))
                self._value = []

    def _keep(self, text: str) -> None:
        if self._size < MAX_ROWS:
            self._size += len(text)
            self._row.append(text)


def number(value: str) -> str:
    """Return a number of a cell as it would be read: long ones are written `4.1111E+15`."""
    if "E" not in value or len(value) > MAX_DIGITS:
        return value
    try:
        plain = Decimal(value)
        return f"{plain:f}" if abs(plain.adjusted()) < MAX_DIGITS else value
    except InvalidOperation:
        return value
