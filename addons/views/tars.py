"""Tar archives: ustar, pax (POSIX.1) and GNU's long names."""

import re
from typing import Final

from addons.decode import Unscannable
from addons.views.container import Container, guessed
from addons.views.tree import View

#: Bytes of a tar header that holds a long name, or pax records.
MAX_LONG: Final = 256 * 1024
BLOCK: Final = 512
_MARK: Final = b"ustar"
_OCTAL: Final = re.compile(rb"[0-7]*")


class Tar(Container):
    """A reader of one archive; each file is a view `tar:NAME`."""

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
        elif self._type == b"g":        # for all that follow: names are theirs, of sizes programs think otherwise
            self._records(text)
            if self._size >= 0 or self._sparse:
                raise Unscannable("a tar archive with one size for all its files")
            self._name = ""

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
