"""Texts in other charsets than UTF-8, as UTF-8.

Only what is not ASCII where the text is needs this for patterns to be found at all: UTF-16, UTF-32, UTF-7.  What is
declared to be in another charset is read for the sake of words that are not English.
"""

import codecs
import re
from typing import Final

from addons.views.near import Unwriter
from addons.views.tree import View

#: Byte order marks (Unicode, 23.8); the longer ones first.
_MARKS: Final = ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
                 (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_FIRST: Final = tuple({mark[:1] for mark, _ in _MARKS})
#: Charsets in which every byte is a character, and those below 128 are ASCII's.
_SINGLE: Final = re.compile(r"iso8859|latin|cp125\d|koi8|mac-|cp(?:437|850|852|855|858|860|862|866)|tis-620")
#: Charsets of several bytes, UTF-7, and EBCDIC, in which nothing is where ASCII has it.
_SEVERAL: Final = re.compile(r"shift_jis|cp932|euc|gb|big5|iso2022|hz|cp949|johab|utf-7|utf-16|utf-32"
                              r"|cp(?:037|273|424|500|875|1026|1140)")
_DECLARED: Final = re.compile(r"""(?i)[;,\s]\s*charset\s*=\s*["']?([\w.:+-]{1,40})""")
#: Who declares more is not understood by anybody.
MAX_CHARSETS: Final = 2
#: `<?xml` (XML 1.0, F.1).
_EBCDIC_XML: Final = b"\x4c\x6f\xa7\x94\x93"
_CONTROL: Final = bytes((*range(9), *range(0x0E, 0x20), *range(0x7F, 0xA0)))
#: Bytes that tell a charset by their zeros.
_FEW: Final = 8


def declared_charsets(declared: str) -> list[str]:
    """Return the charsets of a media type under Python's names, those that need decoding.  Of several parameters some
    programs take the first, and some the last."""
    names: list[str] = []
    for found in _DECLARED.finditer(declared):
        try:
            name = codecs.lookup(found[1]).name
        except (LookupError, ValueError):
            continue
        name = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(name, name)   # no mark: Encoding standard, 4.2
        if name not in names and (_SINGLE.match(name) or _SEVERAL.match(name)):
            names.append(name)
    return names[:MAX_CHARSETS]


def marked_charset(head: bytes) -> str:
    """Return the charset that a byte order mark says, or an empty name."""
    if head[:1] not in _FIRST:
        return ""
    return next((name for mark, name in _MARKS if head.startswith(mark)), "")


def shown_charset(head: bytes) -> str:
    """Return the charset that the zeros of mostly English text, or of markup, show, or an empty name."""
    if head.startswith(_EBCDIC_XML):    # and what is ASCII in other EBCDIC is the same in this
        return "cp037"
    head = head[: len(head) & ~3]
    if len(head) < _FEW or 0 not in head:
        return ""
    zeros, quarter = [head[i::4].count(0) for i in range(4)], len(head) // 4
    if zeros[2] == zeros[3] == quarter and not zeros[0]:
        return "utf-32-le"
    if zeros[0] == zeros[1] == quarter and not zeros[3]:
        return "utf-32-be"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if odd > quarter and even * 10 <= odd and _is_text(head[::2]):
        return "utf-16-le"
    if even > quarter and odd * 10 <= even and _is_text(head[1::2]):
        return "utf-16-be"
    return ""


def _is_text(head: bytes) -> bool:
    """True if hardly a byte is no character: else it is data with strings in it, and those are at any place."""
    return len(head) - len(head.translate(None, _CONTROL)) <= len(head) // 16


class Charset:
    """Reads a whole view in one charset."""

    def __init__(self, view: View, name: str) -> None:
        self._view = view
        self._decoder = codecs.getincrementaldecoder(name)("replace")
        self._out = view.inside(name, declared=view.declared.partition(";")[0].strip(), transform=True)
        self._first = True

    def feed(self, data: bytes) -> None:
        self._tell(self._decoder.decode(data))

    def pause(self) -> None:
        self._tell(self._decoder.decode(b"", True))
        self._decoder.reset()
        self._out.pause()

    def end(self) -> None:
        self._tell(self._decoder.decode(b"", True))
        self._out.end()

    def _tell(self, text: str) -> None:
        if self._first and text:
            self._first, text = False, text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
        # What the decoder keeps is one character, or some of UTF-7: HOLD covers it.
        self._out.feed(text.encode("utf-8", "replace"))


class SingleBytes(Unwriter):
    """Reads a text that is ASCII for the most part, in a charset of 256 characters."""

    _form = re.compile(rb"([\x80-\xff]+)")

    def __init__(self, view: View, name: str) -> None:
        self.step = self._name = name
        super().__init__(view)

    def parts(self, text: bytes, last: bool) -> list[bytes]:
        return [text] if text.isascii() else self._form.split(text)

    def values(self, parts: list[bytes]) -> list[bytes]:
        return [part.decode(self._name, "replace").encode() for part in parts]


def charset_reader(view: View, name: str) -> Charset | SingleBytes:
    return SingleBytes(view, name) if _SINGLE.match(name) else Charset(view, name)


#: A character of ASCII after zeros, of which there are more where a charset is taken for another.
_PAIRS: Final = rb"(?:\0{1,7}[\t\n\r -~])"
#: Longer strings are told before they end.
_LONG: Final = 1024
#: The beginning of a string that is too short yet.
_PART: Final = 48
_BEGINNING: Final = re.compile(_PAIRS + rb"{0,5}\0{0,7}\Z")
#: Three of them, whose search goes from zero to zero, and how many bytes there are for each where that is fast.
_THREE: Final = re.compile(
    rb"\0(?:X(?:\0X){2}|\0\0(?:X(?:\0{3}X){2}|\0{4}X(?:\0{7}X){2}))".replace(b"X", rb"[\t\n\r -~]"))
_FEW_ZEROS: Final = 16
_CLASSES: Final = bytes(ord("0") if c == 0 else ord("x") if 32 <= c < 127 or c in b"\t\n\r" else 32 for c in range(256))


def _wide(text: bytes) -> bool:
    """True if strings may be here; a regular expression alone would take its time with zeros."""
    if text.count(b"\0") * _FEW_ZEROS < len(text):
        return _THREE.search(text) is not None
    classes = text.translate(_CLASSES)
    return any((b"0" * zeros + b"x") * 3 in classes for zeros in (1, 3, 7))


def maybe_wide(text: bytes) -> bool:
    """True if strings of wide characters may be here."""
    return 0 in text and _wide(text)


def _without_beginning(text: bytes) -> bytes:
    begun = _BEGINNING.search(text, max(0, len(text) - _PART))
    return text[: begun.start()] if begun else text


class WideStrings(Unwriter):
    """Finds UTF-16 and UTF-32 in binary data: characters of ASCII with zeros between.

    The zeros are taken out, which reads both byte orders at any place: the first character of little endian order
    stands before its zeros, and so before what is taken for the string.
    """

    step = "wide"
    _form = re.compile(b"(" + _PAIRS + b"{6,})")
    _more = re.compile(_PAIRS + b"+")

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._within = False

    def parts(self, text: bytes, last: bool) -> list[bytes]:
        if 0 not in text or not (self._within or _wide(text)):
            self._within = False
            return [text] if last else [_without_beginning(text)]
        head: list[bytes] = []
        if self._within and (more := self._more.match(text)):
            head, text = [b"", more[0]], text[more.end() :]
        parts = head + self._form.split(text)
        within, self._within = self._within, False
        if not last:
            parts[-1] = _without_beginning(parts[-1])
            if len(parts) > 1 and not parts[-1]:
                if len(parts[-2]) < _LONG:
                    self._within = within and len(parts) == 3
                    del parts[-2:]
                else:
                    self._within = True
            elif within and not parts[0] and len(parts) == 1:
                self._within = True
        return parts

    def values(self, parts: list[bytes]) -> list[bytes]:
        return [part.translate(None, b"\0") for part in parts]
