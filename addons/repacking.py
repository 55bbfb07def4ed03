"""Values masked in whole bodies: decoded, masked wherever they are, and encoded again.

Text (see `masking`), stacked content codings, gzip files, zip archives and the office documents that are such.  What
this does not know stays as it is; who uses it judges the result again, and refuses what still holds a value.
"""

import gzip
import io
import zipfile
import zlib
from typing import Final

import brotli
import zstandard

from addons.decode import Unscannable, decoder
from addons.masking import Spans, Work, in_text

#: Bytes that may have to be held of what is inside one body.
MAX_INSIDE: Final = 32 * 1024 * 1024
#: Archives in archives.
MAX_DEPTH: Final = 4
#: An ordinary effort: the client chose its own, which nobody can tell afterwards.
LEVEL: Final = 6
QUALITY: Final = 5


class Unchangeable(ValueError):
    """It cannot be put together again as it was."""


def body(raw: bytes, coding: str, spans: Spans) -> Work:
    """Mask what a body holds that came with this Content-Encoding; raise `Unchangeable`, or `Unscannable`."""
    data = unpacked(raw, coding)
    new = yield from _Inside(spans).masked(data)
    return raw if new == data else packed(new, coding)


def unpacked(raw: bytes, coding: str) -> bytes:
    """Take off content codings; raise `Unscannable`."""
    stream, out, size = decoder(coding), list[bytes](), 0
    for part in (stream.feed(raw), stream.end()):
        for piece in part:
            out.append(piece)
            if (size := size + len(piece)) > MAX_INSIDE:
                raise Unscannable("it is too large to be changed")
    return b"".join(out)


def packed(data: bytes, coding: str) -> bytes:
    """Put content codings on, as RFC 9110, 8.4 lists them: in the order in which they were applied."""
    for name in coding.lower().split(","):
        match name.strip():
            case "gzip" | "x-gzip":
                data = gzip.compress(data, LEVEL, mtime=0)
            case "deflate":
                data = zlib.compress(data, LEVEL)
            case "br":
                data = brotli.compress(data, quality=QUALITY)
            case "zstd":
                data = zstandard.ZstdCompressor().compress(data)
    return data


class _Inside:
    """What is inside one body."""

    def __init__(self, spans: Spans) -> None:
        self._spans, self._left, self._depth = spans, MAX_INSIDE, 0

    def masked(self, data: bytes) -> Work:
        self._left -= len(data)
        if self._left < 0 or self._depth > MAX_DEPTH:
            raise Unchangeable("it is too large, or too deep, to be changed")
        self._depth += 1
        try:
            if data.startswith(b"PK\3\4"):
                return (yield from self._zip(data))
            if data.startswith(b"\x1f\x8b\x08"):
                return (yield from self._gzip(data))
            if data.startswith(b"--") and b"\r\n\r\n" in data:
                return (yield from self._parts(data))
            return (yield from in_text(data, self._spans, self.masked if self._depth <= MAX_DEPTH else None))
        finally:
            self._depth -= 1

    def _parts(self, data: bytes) -> Work:
        """Each part of a multipart body by itself (RFC 2046, 5.1.1); its head is a text of its own."""
        line = data.partition(b"\r\n")[0].rstrip()
        parts = data.split(b"\r\n" + line)
        for i, part in enumerate(parts):
            head, empty, content = part.partition(b"\r\n\r\n")
            new = yield from in_text(head, self._spans)
            content = (yield from self.masked(content)) if content else b""
            parts[i] = new + empty + content
        return (b"\r\n" + line).join(parts)

    def _gzip(self, data: bytes) -> Work:
        try:
            plain = unpacked(data, "gzip")
        except Unscannable:
            return data
        new = yield from self.masked(plain)
        return data if new == plain else packed(new, "gzip")

    def _zip(self, data: bytes) -> Work:
        """Entries stay in their order, with their names, dates and kinds of compression (APPNOTE 6.3)."""
        changed, target = False, io.BytesIO()
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w") as made:
                made.comment = old.comment
                for entry in sorted(old.infolist(), key=lambda each: each.header_offset):
                    if entry.flag_bits & 1:
                        return data
                    if entry.file_size > self._left:
                        raise Unchangeable("it is too large to be changed")
                    plain = old.read(entry)
                    new = yield from self.masked(plain)
                    changed |= new != plain
                    made.writestr(_like(entry), new, entry.compress_type)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error, ValueError, OSError) as error:
            if isinstance(error, Unchangeable):
                raise
            return data
        return target.getvalue() if changed else data


def _like(entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """The head of an entry that takes another's place."""
    new = zipfile.ZipInfo(entry.filename, entry.date_time)
    new.compress_type, new.external_attr, new.comment = entry.compress_type, entry.external_attr, entry.comment
    new.create_system, new.internal_attr = entry.create_system, entry.internal_attr
    return new
