"""Take Content-Encoding off a body as it streams, in pieces of bounded size and in bounded memory (RFC 9110, 8.4.1).

What cannot be decoded for sure cannot be scanned, and what follows is the caller's decision: `Unscannable`.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import brotli
import zstandard

#: The most bytes that one step yields.
PIECE: Final = 64 * 1024
#: Nobody stacks more codings than this except to hide something.
MAX_LAYERS: Final = 3
#: A bomb is what inflates to more than FREE and by more than RATIO.  Repetitive logs reach 100, gzip's limit is 1030,
#: and 32 MiB of output is a few tenths of a second of work.
FREE: Final = 32 * 1024 * 1024
RATIO: Final = 200
#: Window that a zstd decoder should allow, and that ours does (RFC 8878, 3.1.1.1.2): the bound of its memory.
ZSTD_WINDOW: Final = 8 * 1024 * 1024
#: zstandard's push interface has no limit for its output; 4 bytes can become a block of 128 KiB, 64 at most 2 MiB.
ZSTD_STEP: Final = 64
#: A coding of which all programs of Amazon say it first, though it is put on last.
AWS: Final = "aws-chunked"
#: Bytes of a line between chunks: a size and a signature of 64 digits, or a checksum.
MAX_LINE: Final = 1024
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;chunk-signature=[0-9a-f]{64})?")
_TRAILER: Final = re.compile(rb"(?i)x-amz-[\w-]{1,40}:\s?[\w+/=-]{1,140}")


class Unscannable(ValueError):
    """The body cannot be decoded as declared: unknown coding, corrupt, cut short, trailing garbage, a bomb."""


class Layer(Protocol):
    """One coding.  `feed` yields bounded pieces; `finish` raises `Unscannable` unless the data was whole."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...
    def finish(self) -> None: ...


class _Inflate:
    """gzip with its members one after the other (RFC 1952, 2.2), or a single zlib stream (RFC 1950)."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._stream = zlib.decompressobj(wbits)
        self._fed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                if self._wbits != zlib.MAX_WBITS | 16:
                    raise Unscannable("data after the end of a deflate stream")
                self._stream = zlib.decompressobj(self._wbits)
            self._fed = True
            try:
                piece = self._stream.decompress(data, PIECE)
            except zlib.error as error:
                raise Unscannable(f"corrupt gzip or deflate data: {error}") from None
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if piece:
                yield piece
            if len(piece) == PIECE and not data and not self._stream.eof:
                yield from self._rest()

    def _rest(self) -> Iterator[bytes]:
        """All input is taken, but the output limit was hit: more may be waiting inside."""
        while piece := self._stream.decompress(b"", PIECE):
            yield piece

    def finish(self) -> None:
        if self._fed and not self._stream.eof:
            raise Unscannable("gzip or deflate data is cut short")


class _Deflate:
    """`deflate` means zlib, but some send the raw stream: the first two bytes tell (RFC 1950, 2.2)."""

    def __init__(self) -> None:
        self._head = b""
        self._inflate: _Inflate | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            self._head += data
            if len(self._head) < 2:
                return
            is_zlib = self._head[0] & 0x0F == 8 and int.from_bytes(self._head[:2]) % 31 == 0
            self._inflate = _Inflate(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
            data, self._head = self._head, b""
        yield from self._inflate.feed(data)

    def finish(self) -> None:
        if self._head:
            raise Unscannable("deflate data is cut short")
        if self._inflate:
            self._inflate.finish()


class _Brotli:
    """RFC 7932."""

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()
        self._fed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        # What comes back is empty only when nothing is left inside; `can_accept_more_data` does not say so.
        piece = data
        while piece:
            if self._stream.is_finished():
                if data:
                    raise Unscannable("data after the end of a brotli stream")
                return
            self._fed = True
            try:
                piece = self._stream.process(data, output_buffer_limit=PIECE)
            except brotli.error:
                raise Unscannable("corrupt brotli data") from None
            data = b""
            yield from _cut(piece)

    def finish(self) -> None:
        if self._fed and not self._stream.is_finished():
            raise Unscannable("brotli data is cut short")


class _Zstd:
    """Frames one after the other (RFC 8878, 3.1)."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        self._frame = self._decompressor.decompressobj()
        self._fed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), ZSTD_STEP):
            step = data[at : at + ZSTD_STEP]
            while step:
                if self._frame.eof:
                    self._frame = self._decompressor.decompressobj()
                self._fed = True
                try:
                    piece = self._frame.decompress(step)
                except zstandard.ZstdError as error:
                    raise Unscannable(f"corrupt zstd data: {error}") from None
                step = self._frame.unused_data
                yield from _cut(piece)

    def finish(self) -> None:
        if self._fed and not self._frame.eof:
            raise Unscannable("zstd data is cut short")


class _AwsChunked:
    """Chunks with signatures, as Amazon's SDKs upload to S3: `SIZE;chunk-signature=...`, data, and trailers.

    ("Signature calculations: transferring a payload in multiple chunks", Amazon S3 API reference.)
    """

    def __init__(self) -> None:
        self._line, self._left, self._fed = b"", 0, False
        self._ended = self._whole = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._fed, at = self._fed or bool(data), 0
        while at < len(data):
            if self._left > 2:
                piece = data[at : at + self._left - 2]
                self._left, at = self._left - len(piece), at + len(piece)
                yield piece
                continue
            end = data.find(b"\n", at) + 1
            self._line, at = self._line + data[at : end or len(data)], end or len(data)
            if len(self._line) > MAX_LINE:
                raise Unscannable("corrupt aws-chunked data: a line is too long")
            if end:
                self._ends_line()

    def finish(self) -> None:
        if self._fed and not (self._whole and not self._line):
            raise Unscannable("aws-chunked data is cut short")

    def _ends_line(self) -> None:
        line, self._line = self._line.rstrip(b"\r\n"), b""
        if self._left:          # the line end behind a chunk
            if line:
                raise Unscannable("corrupt aws-chunked data: a chunk is longer than it says")
            self._left = 0
        elif self._ended:
            if self._whole or not (not line or _TRAILER.fullmatch(line)):
                raise Unscannable("corrupt aws-chunked data behind the last chunk")
            self._whole = not line
        else:
            if not (head := _CHUNK.fullmatch(line)):
                raise Unscannable("corrupt aws-chunked data: no size of a chunk")
            size = int(head[1], 16)
            self._left, self._ended = size and size + 2, not size


_CODINGS: Final[dict[str, Callable[[], Layer]]] = {
    "gzip": lambda: _Inflate(zlib.MAX_WBITS | 16),
    "x-gzip": lambda: _Inflate(zlib.MAX_WBITS | 16),
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
    AWS: _AwsChunked,
}


class Decoder:
    """All codings of one body; made by `decoder()`.  After an `Unscannable` it is of no more use."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers
        self._taken = 0
        self._given = [0] * len(layers)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what these bytes decode to, in pieces of at most `PIECE`; to be exhausted before the next call."""
        return self._decoded(data) if self._layers else _cut(data)

    def end(self) -> Iterator[bytes]:
        """Yield what is left; raise `Unscannable` if the body should have gone on."""
        for layer in self._layers:
            layer.finish()
        return iter(())

    def _decoded(self, data: bytes) -> Iterator[bytes]:
        for piece in _cut(data):
            self._taken += len(piece)
            yield from self._through(piece, 0)

    def _through(self, data: bytes, index: int) -> Iterator[bytes]:
        if index == len(self._layers):
            yield from _cut(data)
            return
        for piece in self._layers[index].feed(data):
            self._given[index] += len(piece)
            if self._given[index] > max(FREE, RATIO * self._taken):
                raise Unscannable(f"body inflates to more than {RATIO} times its size")
            yield from self._through(piece, index + 1)


def decoder(content_encoding: str) -> Decoder:
    """Return a decoder for the value of a Content-Encoding header, empty if there is none."""
    if not content_encoding:
        return Decoder([])
    names = [name.strip().lower() for name in content_encoding.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    names.sort(key=AWS.__eq__)
    if len(names) > MAX_LAYERS:
        raise Unscannable(f"more than {MAX_LAYERS} content codings")
    if unknown := [name for name in names if name not in _CODINGS]:
        raise Unscannable(f"unknown content coding {unknown[0][:40]!r}")
    return Decoder([_CODINGS[name]() for name in reversed(names)])


def _cut(data: bytes) -> Iterator[bytes]:
    if 0 < len(data) <= PIECE:
        yield data
        return
    for at in range(0, len(data), PIECE):
        yield data[at : at + PIECE]
