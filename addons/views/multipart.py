"""Multipart bodies (RFC 2046, 5.1; RFC 7578) and whole e-mails (RFC 5322), as they stream.

Each part is a view `multipart[1]` with its file's or field's name; its headers are a view inside it.  Where a transfer
encoding is declared, the part is seen both as it stands, since HTTP servers ignore that header, and decoded.  Text
before the first and after the last boundary is heard as well.  Delimiters may end their line with a bare LF, and begin
after one: some servers take them so, and for all others it only means that a part is heard in two pieces.
"""

import binascii
import re
from typing import Final

from addons.decode import Unscannable
from addons.views.budget import printable
from addons.views.container import Container, Refused
from addons.views.fields import boundary, headers, parameters
from addons.views.tree import Reader, View

#: Headers of one part or mail; mails that were passed on often have 20 KiB of signatures.
MAX_HEADERS: Final = 64 * 1024
#: RFC 2046 allows boundaries of 70 characters; more is read too, but not without end.
MAX_BOUNDARY: Final = 256
#: White space that may follow a delimiter on its line.
MAX_PADDING: Final = 256
#: How a part is declared here whose transfer encoding is taken off beside it: as text, it needs no reader.  No header
#: can say this.
ENCODED: Final = "transfer\nencoded"
_FIRST: Final = re.compile(rb"--([^\r\n]{1,%d}?)[ \t]*\r?\n" % MAX_BOUNDARY)
_AFTER: Final = re.compile(rb"(--)|[ \t]*\r?\n")
_PARTIAL: Final = re.compile(rb"-|[ \t]{0,%d}\r?" % MAX_PADDING)
_EMPTY: Final = re.compile(rb"(?:\A|\n)\r?\n")
_NOT_BASE64: Final = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))


class Base64:
    """Decodes base64 as it comes, whatever stands between its characters (RFC 2045, 6.8)."""

    def __init__(self, sink: View) -> None:
        self._sink, self._rest = sink, b""

    def feed(self, data: bytes) -> None:
        text = self._rest + data.translate(None, _NOT_BASE64)
        whole = len(text) & ~3
        self._rest = text[whole:]
        self._sink.feed(binascii.a2b_base64(text[:whole]))

    def end(self) -> None:
        if len(self._rest) > 1:
            self._sink.feed(binascii.a2b_base64(self._rest + b"=" * (4 - len(self._rest))))
        self._sink.end()


class Quoted:
    """Decodes quoted-printable as it comes (RFC 2045, 6.7)."""

    def __init__(self, sink: View) -> None:
        self._sink, self._rest = sink, b""

    def feed(self, data: bytes) -> None:
        text = self._rest + data
        # What a later byte may change: white space before a line's end, and an unfinished escape.
        tail = re.compile(rb"(?:=[^\n]{0,2}|[ \t]+\r?)\Z").search(text, max(0, len(text) - MAX_PADDING))
        cut = tail.start() if tail else len(text)
        if len(text) - cut >= MAX_PADDING:
            cut = len(text)
        self._rest = text[cut:]
        self._sink.feed(binascii.a2b_qp(text[:cut]))

    def end(self) -> None:
        self._sink.feed(binascii.a2b_qp(self._rest))
        self._sink.end()


_TRANSFER: Final[dict[bytes, type[Base64] | type[Quoted]]] = {b"base64": Base64, b"quoted-printable": Quoted}
#: Those that change nothing.
_PLAIN: Final = (b"", b"7bit", b"8bit", b"binary")


class Part(Container):
    """A reader of headers, an empty line and content: a part, or a whole message."""

    def __init__(self, view: View, step: str = "message", sure: bool = True) -> None:
        super().__init__(view)
        self._step, self._sure = step, sure
        self._since = max(0, view.read - MAX_BOUNDARY - MAX_PADDING)    # headers are kept until all are there
        self._block: bytes | None = b""
        self._decoder: Base64 | Quoted | None = None

    def take(self, data: bytes) -> None:
        if self._block is None:
            self._content(data)
            return
        seen = max(0, len(self._block) - 3)
        block = self._block + data
        empty = _empty_line(block, seen)
        if empty:
            self._begin(block[: empty[0]])
            self._content(block[empty[1] :])
        elif len(block) > MAX_HEADERS and self._sure:
            raise Unscannable("the headers of a part do not end")
        elif len(block) > MAX_HEADERS:
            self._begin(b"")
            self._content(block)
        else:
            self._block = block

    def finish(self) -> None:
        if self._block:
            self._begin(self._block)
        self.close()

    def close(self) -> None:
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.end()
        super().close()

    def _begin(self, block: bytes) -> None:
        self._block = None
        try:
            known, bad = headers(block), False
        except Unscannable:
            known, bad = {}, True
        about = parameters(b";" + known.get("content-disposition", b"").partition(b";")[2])
        kind = known.get("content-type", b"").decode("latin-1").strip()
        name = about.get("filename") or parameters(kind.encode("latin-1")).get("name") or about.get("name", "")
        coding = known.get("content-transfer-encoding", b"").strip().lower()
        transfer = _TRANSFER.get(coding)
        part = self.open(self._step, name, ENCODED if transfer else kind, self._since)
        if self._sure and coding not in _TRANSFER and coding not in _PLAIN:
            part.unscannable(f"a part in transfer encoding {printable(coding.decode('latin-1'))}")
        if bad and self._sure:
            part.unscannable("a part has a malformed header")
        if block := block.strip():
            shown = part.inside("headers", since=0)
            shown.feed(block)
            shown.end()
        if transfer:
            step = "base64" if transfer is Base64 else "quoted-printable"
            self._decoder = transfer(part.inside(step, name=name, declared=kind))

    def _content(self, data: bytes) -> None:
        self.give(data)
        if self._decoder is not None:
            self._decoder.feed(data)


def _empty_line(block: bytes, start: int) -> tuple[int, int] | None:
    """Return where the first empty line begins, and where it ends."""
    match = _EMPTY.search(block, start)
    return match.span() if match else None


class Multipart(Container):
    """A reader of parts.  Without a boundary, the first line is taken for one, and little is believed of the rest."""

    def __init__(self, view: View, boundary: str = "") -> None:
        super().__init__(view)
        self._declared = bool(boundary)
        self._delimiter = b"\n--" + boundary.encode("utf-8", "replace") if boundary else b""
        self._count, self._ended, self._bare = 0, False, False
        self._text: Reader | None = None    # who reads what stands between two delimiters
        self._buffer, self._skip = b"\r\n", 2   # a delimiter may come first: as if a line had ended here

    def take(self, data: bytes) -> None:
        buffer = self._buffer + data
        if not self._delimiter:
            if not (first := _FIRST.match(buffer, 2)):
                if len(buffer) > MAX_BOUNDARY + MAX_PADDING:
                    raise Unscannable("a multipart body without a boundary")
                self._buffer = buffer
                return
            self._delimiter = b"\n--" + first[1]
        start = seek = 0
        self._bare = self._bare or b"\r" + self._delimiter[1:] in buffer
        while (at := buffer.find(self._delimiter, seek)) >= 0:
            behind = at + len(self._delimiter)
            after = _AFTER.match(buffer, behind)
            if after is None and _PARTIAL.fullmatch(buffer, behind):
                break   # what follows will tell
            if after is None:
                seek = behind
                continue
            self._say(buffer[start : at - buffer.startswith(b"\r", max(0, at - 1))])
            self._next(last=after[1] is not None)
            # The delimiter's own line end may also be the one before the next delimiter.
            start = seek = after.end() - (0 if after[1] else 1)
            self._skip = 0 if after[1] else 1
        keep = at if at >= 0 else max(start, seek, len(buffer) - len(self._delimiter))
        keep -= keep > start + self._skip and buffer.startswith(b"\r", keep - 1)
        keep = max(keep, min(start + self._skip, len(buffer)))
        if keep - start > self._skip:
            self._say(buffer[start:keep])
            start = keep
        self._buffer = buffer[start:]

    def finish(self) -> None:
        self._say(self._buffer)
        self._buffer = b""
        if self._text is not None:
            self._text.end()
        if self._declared and self._bare:       # which some take for the end of a line
            raise Unscannable("a multipart body with bare carriage returns before boundaries")
        if self._declared and not self._count:
            raise Unscannable("a multipart body in which the boundary does not come")

    def close(self) -> None:
        text, self._text = self._text, None
        if isinstance(text, Container):
            text.close()
        super().close()

    def _say(self, data: bytes) -> None:
        data, self._skip = data[self._skip :], max(0, self._skip - len(data))
        if not data:
            return
        if self._text is None and self.child is None:
            data = data.lstrip(b"\r\n")
            if not data:
                return
            self.open("epilogue" if self._ended else "preamble")
        if self._text is not None:
            self._text.feed(data)
        else:
            self.give(data)

    def _next(self, last: bool) -> None:
        if self._text is not None:
            self._text.end()
        self.close()
        if last:
            self._ended = True
            return
        self._count, self._ended = self._count + 1, False       # some go on reading after the last boundary
        self._text = Part(self.view, f"multipart[{self._count}]", self._declared)


def multipart(view: View) -> Reader:
    """Return a reader of the boundary that is declared, or of the one that comes first."""
    try:
        text = boundary(view.declared.encode("utf-8", "replace"))
    except Unscannable as error:
        return Refused(view, str(error))
    return Multipart(view, text[:MAX_BOUNDARY])


class Mail(Part):
    """A message that is not declared as one."""

    def __init__(self, view: View) -> None:
        super().__init__(view, sure=False)
