"""What the parts of office documents share: XML that is read as it comes, by expat, without entities of its own."""

from typing import Final
from xml.parsers import expat

from addons.decode import Unscannable
from addons.views.container import Container
from addons.views.tree import View

#: Bytes of a part without text after which its text is taken to have ended: nothing is held back for what comes later.
QUIET: Final = 8 * 1024
#: Bytes of one tag or comment, which expat keeps until it is whole.
MAX_TAG: Final = 4 * 1024 * 1024
_HEADS: Final = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe<\0", b"\xfe\xff\0<", b" ", b"\t", b"\r", b"\n")


class Part(Container):
    """A reader of one XML part; derive, and say what its elements mean."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._pieces: list[str] = []
        self._fed, self._quiet = b"", 0
        self._size = self._read = 0     # bytes that came, and up to which they have been read
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
        self._size += len(data)
        self._parse(data, False)
        self._read = max(self._read, self._parser.CurrentByteIndex)     # -1 within what is not whole
        if self._size - self._read > MAX_TAG:
            raise Unscannable("a part of a document with a tag that does not end")
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
