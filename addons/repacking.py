"""Values masked in whole bodies: decoded, masked wherever they are, and encoded again.

Text (see `masking`), stacked content codings, gzip files, zip archives and the office documents that are such.  What
this does not know stays as it is; who uses it judges the result again, and refuses what still holds a value.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
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
#: Bytes packed or unpacked without yielding: half a millisecond's.
STEP: Final = 16 * 1024

#: Takes a piece and returns what is packed so far, and ends.
type Coder = tuple[Callable[[bytes], bytes], Callable[[], bytes]]


class Unchangeable(ValueError):
    """It cannot be put together again as it was."""


def body(raw: bytes, coding: str, spans: Spans) -> Work:
    """Mask what a body holds that came with this Content-Encoding; raise `Unchangeable`, or `Unscannable`."""
    data = yield from unpacked(raw, coding)
    new = yield from _Inside(spans).masked(data)
    return raw if new == data else (yield from packed(new, coding))


def unpacked(raw: bytes, coding: str) -> Work:
    """Take off content codings; raise `Unscannable`."""
    stream, out, size = decoder(coding), list[bytes](), 0
    for part in (stream.feed(raw), stream.end()):
        for piece in part:
            out.append(piece)
            if (size := size + len(piece)) > MAX_INSIDE:
                raise Unscannable("it is too large to be changed")
            yield
    return b"".join(out)


def packed(data: bytes, coding: str) -> Work:
    """Put content codings on, as RFC 9110, 8.4 lists them: in the order in which they were applied."""
    for name in coding.lower().split(","):
        if make := _CODERS.get(name.strip()):
            feed, end = make()
            out = list[bytes]()
            for piece in _pieces(data):
                out.append(feed(piece))
                yield
            data = b"".join([*out, end()])
    return data


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[at : at + STEP] for at in range(0, len(data), STEP))


def _zlib(wbits: int) -> Coder:
    made = zlib.compressobj(LEVEL, wbits=wbits)
    return made.compress, made.flush


def _brotli() -> Coder:
    made = brotli.Compressor(quality=QUALITY)
    return made.process, made.finish


def _zstd() -> Coder:
    made = zstandard.ZstdCompressor().compressobj()
    return made.compress, made.flush


_CODERS: Final[dict[str, Callable[[], Coder]]] = {
    "gzip": lambda: _zlib(zlib.MAX_WBITS | 16), "x-gzip": lambda: _zlib(zlib.MAX_WBITS | 16),
    "deflate": lambda: _zlib(zlib.MAX_WBITS), "br": _brotli, "zstd": _zstd}


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
            plain = yield from unpacked(data, "gzip")
        except Unscannable:
            return data
        new = yield from self.masked(plain)
        return data if new == plain else (yield from packed(new, "gzip"))

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
                    plain = yield from _read(old, entry)
                    new = yield from self.masked(plain)
                    changed |= new != plain
                    with made.open(_like(entry, len(new)), "w") as file:
                        for piece in _pieces(new):
                            file.write(piece)
                            yield
        except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error, ValueError, OSError) as error:
            if isinstance(error, Unchangeable):
                raise
            return data
        return target.getvalue() if changed else data


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Work:
    out = list[bytes]()
    with archive.open(entry) as file:
        while piece := file.read(STEP):
            out.append(piece)
            yield
    return b"".join(out)


def _like(entry: zipfile.ZipInfo, size: int) -> zipfile.ZipInfo:
    """The head of an entry that takes another's place, with so many bytes."""
    new = zipfile.ZipInfo(entry.filename, entry.date_time)
    new.compress_type, new.external_attr, new.comment = entry.compress_type, entry.external_attr, entry.comment
    new.create_system, new.internal_attr, new.file_size = entry.create_system, entry.internal_attr, size
    return new
