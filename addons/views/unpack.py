"""Decompressors for files and for entries of archives: bounded steps, and they know where their data ends.

Those of `addons.decode` are for Content-Encoding, where nothing may follow; here something does.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import zstandard

from addons.decode import PIECE, ZSTD_STEP, ZSTD_WINDOW, Unscannable

#: What an xz or lzma decoder may take: the preset -9 has a dictionary of 64 MiB, of which short data touches little.
XZ_MEMORY: Final = 68 * 1024 * 1024


class Stream(Protocol):
    """One compressed stream.  `feed` yields bounded pieces and is to be exhausted; then `rest` is what came behind the
    end, if `ended`."""

    ended: bool
    rest: bytes

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class Inflate:
    """deflate (RFC 1951), zlib or gzip, by zlib's `wbits`."""

    def __init__(self, wbits: int = -zlib.MAX_WBITS) -> None:
        self._stream = zlib.decompressobj(wbits)
        self.ended, self.rest = False, b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        more = True
        while (data or more) and not self.ended:
            try:
                piece = self._stream.decompress(data, PIECE)
            except zlib.error as error:
                raise Unscannable(f"corrupt deflate data: {error}") from None
            data, more = self._stream.unconsumed_tail, len(piece) == PIECE
            if self._stream.eof:
                self.ended, self.rest = True, self._stream.unused_data
            if piece:
                yield piece


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Blocks:
    """bzip2, xz and lzma: Python's decompressors of one interface."""

    def __init__(self, name: str, stream: _Decompressor) -> None:
        self._name, self._stream = name, stream
        self.ended, self.rest = False, b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        while not self.ended:
            try:
                piece = self._stream.decompress(data, PIECE)
            except (OSError, lzma.LZMAError, ValueError, EOFError) as error:
                raise Unscannable(f"corrupt {self._name} data: {error}") from None
            data = b""
            if self._stream.eof:
                self.ended, self.rest = True, self._stream.unused_data
            if piece:
                yield piece
            if self._stream.needs_input:
                return


class Zstd:
    """One frame (RFC 8878, 3.1)."""

    def __init__(self) -> None:
        self._stream = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()
        self.ended, self.rest = False, b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), ZSTD_STEP):
            try:
                piece = self._stream.decompress(data[at : at + ZSTD_STEP])
            except zstandard.ZstdError as error:
                raise Unscannable(f"corrupt zstd data: {error}") from None
            if self._stream.eof:
                self.ended, self.rest = True, self._stream.unused_data + data[at + ZSTD_STEP :]
            for start in range(0, len(piece), PIECE):
                yield piece[start : start + PIECE]
            if self.ended:
                return


class ZipLzma:
    """LZMA as zip has it (APPNOTE 5.8.8): a header of its own before what the `.lzma` format calls properties."""

    def __init__(self) -> None:
        self._head, self._stream = b"", lzma_alone()
        self.ended, self.rest = False, b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        if len(self._head) < 9:
            taken = 9 - len(self._head)
            self._head, data = self._head + data[:taken], data[taken:]
            if len(self._head) < 9:
                return
            if self._head[2:4] != b"\5\0":
                raise Unscannable("corrupt lzma data: odd properties")
            data = self._head[4:] + b"\xff" * 8 + data      # of unknown length
        yield from self._stream.feed(data)
        self.ended, self.rest = self._stream.ended, self._stream.rest


class Stored:
    """Nothing to decode; ends when its archive says so."""

    ended, rest = False, b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), PIECE):
            yield data[at : at + PIECE]


def bzip2() -> Stream:
    return Blocks("bzip2", bz2.BZ2Decompressor())


def xz() -> Stream:
    return Blocks("xz", lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY))


def lzma_alone() -> Stream:
    return Blocks("lzma", lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=XZ_MEMORY))


#: What a zip's compression methods mean (APPNOTE 4.4.5).
ZIP_METHODS: Final[dict[int, Callable[[], Stream]]] = {
    0: Stored, 8: Inflate, 12: bzip2, 14: ZipLzma, 93: Zstd, 20: Zstd, 95: xz,
}
