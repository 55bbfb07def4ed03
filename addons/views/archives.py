"""Compressed files, and archives that cannot be read here, which is said."""

import re
import zlib
from collections.abc import Callable
from typing import Final

from addons.decode import Unscannable
from addons.views.container import Container, Refused, guessed
from addons.views.tree import Reader, View
from addons.views.unpack import Inflate, Stream, Zstd, bzip2, lzma_alone, xz

#: Bytes of the header of a gzip member: names are short, and nothing else in it may be long.
MAX_HEADER: Final = 64 * 1024
_SUFFIX: Final = re.compile(r"\.(?:t?gz|t?bz2?|t?xz|lzma|zst|tzst)\Z", re.IGNORECASE)

#: How each kind is unpacked, and its step in a path.
PACKED: Final[dict[str, tuple[str, Callable[[], Stream]]]] = {
    "application/gzip": ("gzip", lambda: Inflate(zlib.MAX_WBITS | 16)),
    "application/bzip2": ("bzip2", bzip2),
    "application/xz": ("xz", xz),
    "application/zstd": ("zstd", Zstd),
    "application/lzma": ("lzma", lzma_alone),
}
#: How each begins.
MAGICS: Final = {"gzip": b"\x1f\x8b\x08", "bzip2": b"BZh", "xz": b"\xfd7zXZ\0", "zstd": b"\x28\xb5\x2f\xfd",
                 "lzma": b"\x5d\0\0"}
#: What nobody here can read.
UNREAD: Final[dict[str, str]] = {
    "application/7z": "a 7z archive",
    "application/rar": "a RAR archive",
    "application/cab": "a cabinet archive",
    "application/arj": "an ARJ archive",
    "application/lzh": "an LHA archive",
    "application/xar": "a xar archive",
    "application/lzip": "a file packed by lzip",
    "application/compress": "a file packed by compress",
    "application/lz4": "a file packed by lz4",
    "application/lzop": "a file packed by lzop",
    "application/age": "a file encrypted by age",
    "application/openssl-encrypted": "a file encrypted by openssl",
}


def unread(view: View) -> Reader:
    return Refused(view, f"{UNREAD[view.kind]}, which cannot be read")


class Packed(Container):
    """A reader of one compressed file: its streams, one behind the other, are one view with the name it had."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._kind, self._make = PACKED[view.kind]
        self._stream: Stream | None = None
        self._head: bytes | None = b"" if self._kind == "gzip" else None
        self._started = self._behind = False
        self._streams, self._next = 0, b""
        self._magic = MAGICS[self._kind]

    def take(self, data: bytes) -> None:
        if self._behind:
            self.give(data)
            return
        if self._head is not None:
            self._head += data
            if (name := gzip_name(self._head)) is None:
                return
            data, self._head = self._head, None
            self._begin(name)
        self._unpack(data)

    def finish(self) -> None:
        if (self._head or self._stream is not None) and not guessed(self.view):
            raise Unscannable(f"{self._kind} data is cut short")

    def _begin(self, name: str) -> None:
        self._started = True
        self.open(f"{self._kind}:{name}" if name else self._kind, name or _SUFFIX.sub("", self.view.name))

    def _unpack(self, data: bytes) -> None:
        if not self._started:
            self._begin("")
        while data:
            if self._stream is None:
                data = data.lstrip(b"\0")       # some pad to blocks
                if not data:
                    return
                if not self._goes_on(data):
                    return
                data, self._next = self._next, b""
                self._stream = self._make()
            came = False
            for piece in self._stream.feed(data):
                self.give(piece)
                came = True
            self.waited(len(data), came)
            data, ended = self._stream.rest, self._stream.ended
            if not ended:
                return
            self._stream = None
            self._streams += 1

    def _goes_on(self, data: bytes) -> bool:
        """True if another stream begins here; what is something else is read by what it is, as unpackers leave it."""
        self._next += data
        if not self._streams:
            return True
        if len(self._next) < len(self._magic) and self._magic.startswith(self._next):
            return False
        if self._next.startswith(self._magic):
            return True
        self.open("behind")
        self._behind = True
        self.give(self._next)
        self._next = b""
        return False


def is_zlib(head: bytes) -> bool:
    """True if this may be a zlib stream of the usual window (RFC 1950, 2.2)."""
    return head[:1] == b"\x78" and len(head) > 2 and int.from_bytes(head[:2]) % 31 == 0 and not head[1] & 0x20


class Deflated(Container):
    """A reader of a bare zlib stream, if it is one: two bytes and no name do not say so for sure."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._stream: Inflate | None = Inflate(zlib.MAX_WBITS)

    def take(self, data: bytes) -> None:
        if self._stream is None:
            return
        came = False
        pieces = self._stream.feed(data)
        while True:
            try:
                piece = next(pieces, b"")
            except Unscannable:
                self._stream = None
                self.close()
                return
            if not piece:
                break
            if self.child is None:
                self.open("zlib")
            self.give(piece)
            came = True
        self.waited(len(data), came)
        if self._stream.ended:
            self._stream = None
            self.close()


def gzip_name(head: bytes) -> str | None:
    """Return the file name in the header of a gzip member (RFC 1952, 2.3); None if more of it must come."""
    if len(head) < 10:
        return None
    flags, at = head[3], 10
    if flags & 4:
        if len(head) < 12:
            return None
        at = 12 + int.from_bytes(head[10:12], "little")
    if not flags & 8:
        return ""
    end = head.find(b"\0", at)
    if end < 0:
        if len(head) > MAX_HEADER:
            raise Unscannable("the header of a gzip file does not end")
        return None
    return head[at:end].decode("latin-1")
