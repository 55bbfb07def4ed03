"""Documents of the time before XML: OLE files (doc, xls, ppt, msg) and RTF.

Of OLE files no stream is put together: text in 8 bits a character stands in them as it is, and text in UTF-16 is heard
once more as `strings`.  That finds what a document says, in pieces of at least 512 bytes and mostly all in one; it does
not find numbers that a sheet keeps as numbers.  Encrypted documents are unscannable.
"""

import re
from typing import Final

from addons.views.container import Container
from addons.views.near import lags
from addons.views.tree import BORDER, View

#: Bytes kept of a run of characters that goes on in the next piece.
KEEP: Final = 2048
#: Characters of UTF-16 (little endian) in scripts up to Arabic; ideographs cannot be told from other data.
_UNIT: Final = rb"(?:[\x07\t\n\x0b\r\x20-\x7e\xa0-\xff]\0|[^\0][\x01-\x06])"
_RUN: Final = re.compile(_UNIT + b"{4,}+")
_MORE: Final = re.compile(_UNIT + b"*+")
#: What an encrypted document has: a stream of that name; Word's flag fEncrypted (MS-DOC, 2.5.2); Excel's record
#: FilePass behind its first one (MS-XLS, 2.4.117).
_PACKAGE: Final = "EncryptedPackage".encode("utf-16-le")
_WORD: Final = re.compile(rb"\xec\xa5[\xc0-\xc2]\0.{7}(.)", re.DOTALL)
_EXCEL: Final = re.compile(rb"\x09\x08\x10\0\0\x06\x05\0.{12}\x2f\0", re.DOTALL)


class Ole(Container):
    """A reader of UTF-16 in OLE files (MS-CFB)."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._rest = b""
        self._goes_on = False       # a run of which the beginning was told
        self._tail = b""

    def take(self, data: bytes) -> None:
        self._judge(data)
        since = max(0, self.view.read - len(self._rest))
        if self.child is not None and not self._goes_on and lags(self.view, self.child, since):
            self.child.pause()
        text, told = self._rest + data, list[bytes]()
        at = 0
        if self._goes_on:
            match = _MORE.match(text)
            at = match.end() if match else 0
            self._goes_on = at >= len(text) - 1
            told += [_utf8(text[:at]), b"" if self._goes_on else BORDER]
        self._rest = text[at:] if self._goes_on else text[max(at, len(text) - 7) :]
        for match in () if self._goes_on else _RUN.finditer(text, at):
            self._run(match, text, told)
        self._say(told, since)

    def _run(self, match: re.Match[bytes], text: bytes, told: list[bytes]) -> None:
        start, end = match.span()
        if end < len(text) - 1:
            told += [_utf8(match[0]), BORDER]
            self._rest = text[max(end, len(text) - 7) :]
        elif len(text) - start <= KEEP:
            self._rest = text[start:]
        else:
            told.append(_utf8(match[0]))
            self._rest, self._goes_on = text[end:], True

    def finish(self) -> None:
        told = [_utf8(match[0]) for match in [(_MORE if self._goes_on else _RUN).match(self._rest)] if match]
        self._say(told, max(0, self.view.offset - len(self._rest)))

    def _say(self, told: list[bytes], since: int) -> None:
        if text := b"".join(told):
            if self.child is None:
                self.child = self.view.inside("strings", transform=True, since=since)
            self.child.feed(text, since)

    def _judge(self, data: bytes) -> None:
        text = self._tail + data
        word = any(match[1][0] & 1 for match in _WORD.finditer(text))
        if word or _PACKAGE in text or _EXCEL.search(text):
            self.view.unscannable("an encrypted document")
        self._tail = text[-len(_PACKAGE) + 1 :]


def _utf8(text: bytes) -> bytes:
    return text.decode("utf-16-le", "replace").encode("utf-8", "replace")


#: RTF's words and signs (Microsoft's RTF 1.9.1); a Unicode character is followed by what old readers show instead.
_TOKEN: Final = re.compile(
    rb"\\u(-?\d{1,5}) ?(?:\\'[0-9A-Fa-f]{2}|[^\\{}\r\n])?|\\'([0-9A-Fa-f]{2})"
    rb"|\\([a-z]{1,32})(-?\d{1,10})? ?|\\([^a-z'])|[{}\r\n]+", re.DOTALL)
_SIGNS: Final = {b"par": "\n", b"line": "\n", b"row": "\n", b"sect": "\n", b"page": "\n", b"cell": "\t", b"tab": "\t",
                 b"emdash": "\N{EM DASH}", b"endash": "\N{EN DASH}", b"bullet": "\N{BULLET}"}
_LITERAL: Final = {b"~": " ", b"_": "-", b"\n": "\n", b"\r": "\n"}
#: The longest token.
_TOKEN_MAX: Final = 64


class Rtf(Container):
    """A reader of RTF's text, in a view `text`; what its readers do not show, such as names of fonts, is in it too."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._rest = b""

    def take(self, data: bytes) -> None:
        text = self._rest + data
        # A token may go on in the next piece.
        cut = text.rfind(b"\\", max(0, len(text) - _TOKEN_MAX))
        cut = len(text) if cut < 0 else cut - (cut > 0 and text[cut - 1 : cut] == b"\\")
        self._rest = text[cut:]
        self._say(text[:cut])

    def finish(self) -> None:
        self._say(self._rest)

    def _say(self, text: bytes) -> None:
        since = max(0, self.view.read - _TOKEN_MAX)
        if plain := _TOKEN.sub(_plain, text):
            (self.child or self.open("text", since=since)).feed(plain, since)


def _plain(match: re.Match[bytes]) -> bytes:
    code, byte, word, _, sign = match.groups()
    if code is not None:
        shown = chr(int(code) & 0xFFFF)
    elif byte is not None:
        shown = bytes([int(byte, 16)]).decode("cp1252", "replace")
    elif word is not None:
        shown = _SIGNS.get(word, "")
    elif sign is not None:
        shown = _LITERAL.get(sign, sign.decode("latin-1") if sign in b"\\{}" else "")
    else:
        shown = ""
    return shown.encode("utf-8", "replace")
