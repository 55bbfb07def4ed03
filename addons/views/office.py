"""The texts of Office Open XML and OpenDocument files, from the parts of their zip archives.

A part's text is a view `text` inside it: runs joined to paragraphs, so that a number of which some digits are bold is
one number; table cells in their row, between tabs.  Sheets of a workbook name most of their strings by number, and the
strings come after them: rows with all in place follow as `rows` at the end of the archive, as long as they are few
enough to keep; the strings themselves have been heard by then in any case.
"""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Final
from xml.parsers import expat

from addons.decode import Unscannable
from addons.views.container import Container
from addons.views.tree import View
from addons.views.zips import Zip

#: Bytes of rows, and of shared strings, of one workbook that are kept to be put together.
MAX_ROWS: Final = 4 * 1024 * 1024
MAX_STRINGS: Final = 4 * 1024 * 1024
#: Bytes of a part without text after which its text is taken to have ended: nothing is held back for what comes later.
QUIET: Final = 64 * 1024
#: Digits of a number in a cell.
MAX_DIGITS: Final = 40
_REFERENCE: Final = re.compile(rb"\0(\d+)\0")
_HEADS: Final = (b"<", b"\xef\xbb\xbf<")


class Part(Container):
    """A reader of one XML part; derive, and say what its elements mean."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._pieces: list[str] = []
        self._fed, self._quiet = b"", 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self.text
        self._parser.EntityDeclHandler = _refuse_entities

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins; `name` is without its prefix."""

    def stop(self, name: str) -> None:
        """It ends."""

    def text(self, text: str) -> None:
        """Text in the element that began last."""
        self._pieces.append(text)

    def say(self, text: str) -> None:
        self._pieces.append(text)

    def take(self, data: bytes) -> None:
        if len(self._fed) < 4:
            self._fed += data[:4]
            if len(self._fed) >= 4 and not self._fed.startswith(_HEADS):
                raise Unscannable("a part of a document in an unusual encoding")
        self._quiet += len(data)
        self._parse(data, False)
        if self._quiet > QUIET and self.child is not None:
            self.child.pause()

    def finish(self) -> None:
        if self._fed:
            self._parse(b"", True)

    def _parse(self, data: bytes, last: bool) -> None:
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as error:
            raise Unscannable(f"a part of a document is no XML: {error}") from None
        finally:
            text, self._pieces = "".join(self._pieces), []
            if text:
                self._quiet = 0
                (self.child or self.open("text")).feed(text.encode("utf-8", "replace"))

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.start(name.rpartition(":")[2], attributes)

    def _end(self, name: str) -> None:
        self.stop(name.rpartition(":")[2])


def _refuse_entities(*_args: object) -> None:
    raise Unscannable("a part of a document declares entities of its own")


class Paragraphs(Part):
    """Word and PowerPoint: text stands in `t`, everything else between elements is layout."""

    _TEXTS: Final = frozenset(("t", "delText", "instrText", "text"))
    _SIGNS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._inside = False
        self._cells = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._inside = name in self._TEXTS
        self._cells += name == "tc"
        if name in self._SIGNS:
            self.say(self._SIGNS[name])

    def stop(self, name: str) -> None:
        self._inside = False
        if name == "p":
            self.say(" " if self._cells else "\n")
        elif name == "tc":
            self._cells -= 1
            self.say("\t")
        elif name == "tr":
            self.say("\n")

    def text(self, text: str) -> None:
        if self._inside:
            self.say(text)


class OpenDocument(Part):
    """OpenDocument: text stands in paragraphs and headings, whatever spans are in them."""

    _SIGNS: Final = {"tab": "\t", "line-break": "\n"}

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._depth = self._cells = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name in ("p", "h"):
            self._depth += 1
        elif name == "table-cell":
            self._cells += 1
        elif name == "s":
            count = attributes.get("text:c", "1")
            self.say(" " * (min(int(count), 100) if count.isdecimal() and len(count) < 9 else 1))
        elif name in self._SIGNS:
            self.say(self._SIGNS[name])

    def stop(self, name: str) -> None:
        if name in ("p", "h"):
            self._depth -= 1
            self.say(" " if self._cells else "\n")
        elif name == "table-cell":
            self._cells -= 1
            self.say("\t")
        elif name == "table-row":
            self.say("\n")

    def text(self, text: str) -> None:
        if self._depth:
            self.say(text)


class Properties(Part):
    """Anything else: each element's text is a line."""

    def stop(self, name: str) -> None:
        self.say("\n")


class Manifest(Part):
    """What an OpenDocument file says of its parts."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "encryption-data":
            raise Unscannable("an encrypted OpenDocument file")

    def text(self, text: str) -> None:
        pass


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
        """Return the rows with their strings in place."""

        def string(match: re.Match[bytes]) -> bytes:
            index = int(match[1][:9])
            return self.strings[index] if index < len(self.strings) else b""

        return _REFERENCE.sub(string, self.rows) if self.strings else b""


class Strings(Part):
    """The shared strings of a workbook; what says how to pronounce them (`rPh`) is heard beside them."""

    def __init__(self, view: View, book: Book) -> None:
        super().__init__(view)
        self._book, self._string = book, list[str]()
        self._inside = self._aside = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._inside = name == "t"
        self._aside |= name == "rPh"
        if name == "si":
            self._string.clear()

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
            if not self._aside and self._book.size <= MAX_STRINGS:
                self._string.append(text)


class Sheet(Part):
    """A sheet of a workbook: a line each row, a tab after each cell."""

    def __init__(self, view: View, book: Book) -> None:
        super().__init__(view)
        self._book = book
        self._kind, self._inside, self._shared = "", False, False
        self._value: list[str] = []
        self._row: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._inside = name in ("v", "t", "f", "oddHeader", "oddFooter")
        if name == "c":
            self._kind = attributes.get("t", "n")

    def stop(self, name: str) -> None:
        if self._inside:
            value, self._value = "".join(self._value), []
            shared = name == "v" and self._kind == "s"
            self._shared |= shared
            if not shared:
                value = number(value) if name == "v" and self._kind == "n" else value
                self.say(value)
            self._row.append(f"\0{value}\0" if shared and value.isdecimal() else value)
        self._inside = False
        if name in ("c", "f", "oddHeader", "oddFooter"):
            self.say("\t")
            self._row.append("\t")
        elif name == "row":
            self.say("\n")
            if self._shared:
                self._book.row("".join(self._row) + "\n")
            self._row, self._shared = [], False

    def text(self, text: str) -> None:
        if self._inside:
            self._value.append(text)


def number(value: str) -> str:
    """Return a number of a cell as it would be read: long ones are written `4.1111E+15`."""
    if "E" not in value or len(value) > MAX_DIGITS:
        return value
    try:
        plain = Decimal(value)
        return f"{plain:f}" if abs(plain.adjusted()) < MAX_DIGITS else value
    except InvalidOperation:
        return value


class Archive(Zip):
    """A zip archive whose parts may be those of a document."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._book = Book()
        self._parts: tuple[tuple[re.Pattern[str], Callable[[View], Container]], ...] = (
            (re.compile(r"xl/worksheets/[^/]+\.xml"), lambda part: Sheet(part, self._book)),
            (re.compile(r"xl/sharedStrings\.xml"), lambda part: Strings(part, self._book)),
            (re.compile(r"xl/(?:comments|threadedComments|drawings|charts)\S*\.xml|xl/workbook\.xml"), Properties),
            (re.compile(r"(?:word|ppt)/(?!theme|styles|fontTable|settings)\S+\.xml"), Paragraphs),
            (re.compile(r"(?:.+/)?(?:content|styles)\.xml"), OpenDocument),
            (re.compile(r"(?:.+/)?meta\.xml|docProps/\S+\.xml|customXml/\S+\.xml"), Properties),
            (re.compile(r"META-INF/manifest\.xml"), Manifest),
        )

    def open(self, step: str, name: str = "", declared: str = "", since: int | None = None) -> View:
        view = super().open(step, name, declared, since)
        if name.endswith(".xml"):
            self.also = next((make(view) for form, make in self._parts if form.fullmatch(name)), None)
        return view

    def finish(self) -> None:
        super().finish()
        if rows := self._book.whole():
            self.whole("rows", rows)


class Hidden(Archive):
    """A zip archive that stands in something else, if one does."""

    lenient = True
