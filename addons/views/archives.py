"""Compressed files, tar archives, and archives that cannot be read here, which is said."""

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
#: Bytes of a tar header that holds a long name, or pax records.
MAX_LONG: Final = 256 * 1024
BLOCK: Final = 512
_SUFFIX: Final = re.compile(r"\.(?:t?gz|t?bz2?|t?xz|lzma|zst|tzst)\Z", re.IGNORECASE)
_MARK: Final = b"ustar"
_OCTAL: Final = re.compile(rb"[0-7]*")

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


class Tar(Container):
    """A reader of tar archives: ustar, pax (POSIX.1) and GNU's long names; each file is a view `tar:NAME`."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._buffer = b""
        self._left = self._padding = 0      # of the entry that is open
        self._long: bytes | None = None     # a header's content that is being collected
        self._type = b""
        self._name = ""                     # as a long header gave it, for the next entry
        self._size = -1
        self._sparse = self._over = self._behind = False
        self._tail = b""

    def take(self, data: bytes) -> None:
        if self._behind:
            self._behind_it(data)
            return
        self._buffer += data
        while self._buffer:
            if self._left or self._padding:
                self._content()
            elif len(self._buffer) >= BLOCK:
                block, self._buffer = self._buffer[:BLOCK], self._buffer[BLOCK:]
                self._header(block)
            else:
                return

    def finish(self) -> None:
        if self._over and not self._left and self._buffer.strip(b"\0"):
            self._follows(b"")
        elif (self._left or self._buffer.strip(b"\0")) and not guessed(self.view):
            raise Unscannable("a tar archive is cut short")

    def _follows(self, block: bytes) -> None:
        """What stands behind the end of the archive is none of it, and read by what it is."""
        self.open("behind")
        self._behind = True
        data, self._buffer = block + self._buffer, b""
        self._behind_it(data)

    def _behind_it(self, data: bytes) -> None:
        if _MARK in self._tail + data:      # some go on over what is none (tar --ignore-zeros)
            raise Unscannable("data after the end of a tar archive")
        self._tail = (self._tail + data)[-len(_MARK) + 1 :]
        self.give(data)

    def _content(self) -> None:
        data, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        self._left -= len(data)
        if self._long is not None:
            self._long += data
        elif data:
            self.give(data)
        if self._left:
            return
        skipped = min(self._padding, len(self._buffer))
        self._buffer, self._padding = self._buffer[skipped:], self._padding - skipped
        if not self._padding:
            self._ended()

    def _ended(self) -> None:
        self.close()
        text, self._long = self._long, None
        if text is None:
            return
        self.whole("names", text)
        if self._type == b"L":
            self._name = text.rstrip(b"\0").decode("utf-8", "replace")
        elif self._type == b"x":
            self._records(text)

    def _records(self, text: bytes) -> None:
        """Take what counts from a pax header: `LENGTH KEY=VALUE\\n` each."""
        while text:
            length, _, rest = text[:20].partition(b" ")
            if not length.isdigit() or not rest or not len(length) + 2 < int(length) <= len(text):
                raise Unscannable("a tar archive with a malformed pax header")
            key, _, value = text[len(length) + 1 : int(length) - 1].partition(b"=")
            text = text[int(length) :]
            if key == b"path":
                self._name = value.decode("utf-8", "replace")
            elif key == b"size":
                if not value.isdigit() or len(value) > 20:
                    raise Unscannable("a tar archive with a malformed pax header")
                self._size = int(value)
            self._sparse |= key.startswith(b"GNU.sparse.")

    def _header(self, block: bytes) -> None:
        if not block.strip(b"\0"):
            self._over = True
            return
        written = block[148:156].strip(b" \0")
        if not _OCTAL.fullmatch(written) or int(written or b"0", 8) != sum(block) - sum(block[148:156]) + 8 * 32:
            if not self._over:
                raise Unscannable("a corrupt tar header")
            self._follows(block)
            return
        self._type, size = block[156:157], _number(block[124:136])
        if self._type in b"LKxg":
            if size > MAX_LONG:
                raise Unscannable("a tar archive with a name of endless length")
            self._long = b""
        else:
            size = self._entry(block, size)
        self._left, self._padding = size, -size % BLOCK
        if not size:
            self._ended()

    def _entry(self, block: bytes, size: int) -> int:
        plain = block[:100].rstrip(b"\0").partition(b"\0")[0]
        prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
        name = self._name or (prefix + b"/" * bool(prefix) + plain).decode("utf-8", "replace")
        size = self._size if self._size >= 0 else size
        sparse = self._sparse or self._type == b"S"
        self._name, self._size, self._sparse = "", -1, False
        self.whole("names", name.encode() + b"\n" + block[157:257].partition(b"\0")[0])
        if self._type in b"23456":      # links, devices, directories: they have no content, whatever they say
            return 0
        if sparse:
            self.refuse("a sparse file in a tar archive", f"tar:{name}", name)
        elif size:
            self.open(f"tar:{name}", name)
        return size


def _number(field: bytes) -> int:
    """Return a number of a tar header: octal, or GNU's base 256."""
    if field[:1] and field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    text = field.strip(b" \0")
    if not _OCTAL.fullmatch(text):
        raise Unscannable("a corrupt tar header")
    return int(text or b"0", 8)


