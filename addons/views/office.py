"""The texts of Office Open XML and OpenDocument files, from the parts of their zip archives.

A part's text is a view `text` inside it: runs joined to paragraphs, so that a number of which some digits are bold is
one number; table cells in their row, between tabs.
"""

import re
from collections.abc import Callable
from typing import Final

from addons.decode import Unscannable
from addons.views.container import Container, guessed
from addons.views.sheets import Book, Sheet, Strings
from addons.views.tree import View
from addons.views.xmlparts import Part
from addons.views.zips import Zip


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


#: What only documents have, and the kinds that the first entry tells.
_DOCUMENTS: Final = ("[Content_Types].xml", "word/document.xml", "xl/workbook.xml", "ppt/presentation.xml", "mimetype")
_KINDS: Final = tuple(f"application/{name}" for name in ("docx", "xlsx", "pptx", "ooxml", "odf"))

def _paragraphs(part: View, _: Book) -> Container:
    return Paragraphs(part)


#: Readers of a document's parts by their names; some need the strings of others.
_PARTS: Final[tuple[tuple[re.Pattern[str], Callable[[View, Book], Container]], ...]] = (
    (re.compile(r"(?i)xl/worksheets/[^/]+\.xml"), Sheet),
    (re.compile(r"(?i)xl/sharedStrings\.xml"), Strings),
    (re.compile(r"(?i)xl/(?:comments|threadedComments|drawings|charts)\S*\.xml|xl/workbook\.xml"),
     lambda part, _: Properties(part)),
    (re.compile(r"(?i)(?:word|ppt)/(?!theme|styles|fontTable|settings)\S+\.xml"), _paragraphs),
    (re.compile(r"(?i)(?:.+/)?(?:content|styles)\.xml"), lambda part, _: OpenDocument(part)),
    (re.compile(r"(?i)(?:.+/)?meta\.xml|docProps/\S+\.xml|customXml/\S+\.xml"), lambda part, _: Properties(part)),
    (re.compile(r"(?i)META-INF/manifest\.xml"), lambda part, _: Manifest(part)),
)


class Archive(Zip):
    """A zip archive whose parts may be those of a document."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._book = Book()
        self._document = view.kind in _KINDS

    def open(self, step: str, name: str = "", declared: str = "", since: int | None = None) -> View:
        view = super().open(step, name, declared, since)
        self._document |= name in _DOCUMENTS
        if name.lower().endswith(".xml"):       # case does not count (ECMA-376, part 2, 6.2.2)
            other = _paragraphs if self._document else None     # relationships say which part is which
            make = next((make for form, make in _PARTS if form.fullmatch(name)), other)
            self.also = make(view, self._book) if make else None
        return view

    def believes(self, reason: str) -> bool:
        """Other archives than documents have files of these names, too."""
        return "encrypted" in reason or (self._document and not guessed(self.view))

    def finish(self) -> None:
        super().finish()
        if rows := self._book.whole():
            self.whole("rows", rows)


#: Entries that cannot be read, of what may be an archive.
MAX_DOUBTS: Final = 10_000


class Hidden(Archive):
    """A zip archive that stands in something else, if one does."""

    lenient = True

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._doubts: dict[int, str] = {}

    def refuse(self, reason: str, step: str = "", name: str = "") -> None:
        """What looks like an entry that cannot be read may be none: that is told when a directory names it."""
        if len(self._doubts) < MAX_DOUBTS:
            self._doubts[self._entry] = reason
        self.close()

    def confirmed(self, at: int) -> None:
        if reason := self._doubts.pop(at, ""):
            self.view.unscannable(reason)
