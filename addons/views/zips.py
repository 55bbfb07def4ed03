"""Zip archives as they stream (PKWARE's APPNOTE.TXT), each entry a view `zip:NAME`.

Entries are taken by their local headers, wherever those stand; the central directory, which most programs go by, comes
last and is compared: if it names an entry that was not read as such, or with another size, two readers would see two
archives, and that is said.  What lies between entries is heard as part of the archive's own view.
"""

import re
import zlib
from collections.abc import Callable
from typing import Final

from addons.decode import Unscannable
from addons.views.container import Container, guessed
from addons.views.tree import View
from addons.views.unpack import ZIP_METHODS, Stored, Stream, ZipLzma
from addons.views.ziprecords import CENTRAL, END, LOCAL, is_utf8, sizes64

#: Entries of which it is remembered where they were; 16 MiB at worst.
MAX_ENTRIES: Final = 100_000
#: Names shown one by one, before their entries; those of large archives come in batches, which cost less.
NAMES_ALONE: Final = 500
NAMES_BATCH: Final = 100
#: The kinds that are zip archives (see `sniff`).
ZIPS: Final = tuple(f"application/{name}" for name in ("zip", "docx", "xlsx", "pptx", "ooxml", "odf", "epub", "jar"))
_RECORD: Final = re.compile(rb"PK(?:\x03\x04|\x01\x02|\x05\x06|\x06\x06)")
#: What may end the data of an entry of unknown size: its descriptor, or the next record if that has no signature.
_DESCRIPTOR: Final = re.compile(rb"PK(?:\x07\x08|\x03\x04|\x01\x02)")
#: The longest descriptor: signature, CRC, and two sizes of 8 bytes.
_LONGEST: Final = 24
_ENCRYPTED: Final = 0x0001 | 0x0040 | 0x2000
_STREAMED: Final = 0x0008
_AES: Final = 99


#: The hash of its name, the size of its data or -1, and its method.
type _Entry = tuple[int, int, int]


class Zip(Container):
    """A reader of entries."""

    #: That this is an archive is a guess: a program that unpacks itself, a picture with something behind it.
    lenient = False

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._buffer, self._at = b"", 0             # and where in the view it begins
        self._step: Callable[[], bool] = self._seek
        self._stream: Stream = Stored()
        self._left = -1                             # bytes of the entry's data to come, -1 if unknown
        self._crc = self._size = 0                  # of an entry that was stored with unknown size
        self._names: list[bytes] = []
        self._count = 0
        self._entry = 0                             # where the last local header is
        self._seen: dict[int, _Entry] = {}          # by local headers: offset -> entry
        self._listed: list[tuple[int, _Entry]] = []     # by the central directory
        self._directory = self._directory64 = -1    # where it begins, and where the 64-bit end record says so
        self._whole = self.lenient

    def take(self, data: bytes) -> None:
        self._buffer += data
        while self._step():
            pass

    def finish(self) -> None:
        self._show_names()
        if self._step == self._stored:
            self._hear(len(self._buffer))
        if not guessed(self.view) and (self._step != self._seek or not self._whole):
            self.fault("a zip archive " + ("is cut short" if self._step != self._seek else "without its directory"))

    def fault(self, reason: str) -> None:
        """The archive is not what it says."""
        if not self.lenient:
            raise Unscannable(reason)

    def confirmed(self, at: int) -> None:
        """The directory names an entry at this place."""

    @staticmethod
    def refused(reason: str) -> None:
        raise Unscannable(reason)

    def _drop(self, size: int) -> None:
        self._buffer, self._at = self._buffer[size:], self._at + size

    # Steps: each returns True if the next may go on with what is left, False if more must come.

    def _seek(self) -> bool:
        """Find the next record."""
        match = _RECORD.search(self._buffer)
        if not match:
            self._drop(max(0, len(self._buffer) - 3))
            return False
        self._drop(match.start())
        record = self._buffer[2]
        self._step = {3: self._local, 1: self._central, 5: self._end, 6: self._end64}[record]
        return True

    def _nothing(self) -> bool:
        """What looked like a record is none."""
        self._drop(4)
        self._step = self._seek
        return True

    def _local(self) -> bool:
        if len(self._buffer) < 30:
            return False
        version, flags, method, _, _, _, size, full, names, extras = LOCAL.unpack_from(self._buffer)
        if version & 0xFF > 99 or not (method in ZIP_METHODS or method < 20 or 92 < method < 100) or not names:
            return self._nothing()
        if len(self._buffer) < 30 + names + extras:
            return False
        name, extra = self._buffer[30 : 30 + names], self._buffer[30 + names : 30 + names + extras]
        if self.lenient and not is_utf8(name):
            return self._nothing()
        size = sizes64(extra, full, size)[1]
        unknown = bool(flags & _STREAMED) and size == 0
        self._remember(name, -1 if unknown else size, method)
        self._drop(30 + names + extras)
        self._open(name, flags, method, -1 if unknown else size)
        return True

    def _remember(self, name: bytes, size: int, method: int) -> None:
        if len(self._seen) >= MAX_ENTRIES:
            raise Unscannable(f"a zip archive of more than {MAX_ENTRIES} entries")
        self._whole = self.lenient
        self._entry = self._at
        self._seen[self._at] = (hash(name), size, method)
        self._count += 1
        self._names.append(name)
        if self._count <= NAMES_ALONE or len(self._names) >= NAMES_BATCH:
            self._show_names()

    def _show_names(self) -> None:
        names, self._names = self._names, []
        if names:
            self.whole("names", b"\n".join(names) + b"\n")

    def _open(self, raw: bytes, flags: int, method: int, size: int) -> None:
        name = raw.decode("utf-8" if flags & 0x800 or (not raw.isascii() and is_utf8(raw)) else "cp437", "replace")
        self._left, self._step = size, self._skip
        if flags & _ENCRYPTED or method == _AES:
            self.refuse("an encrypted entry of a zip archive", f"zip:{name}", name)
        elif method not in ZIP_METHODS:
            self.refuse(f"a zip entry packed by method {method}", f"zip:{name}", name)
        elif size or not name.endswith("/"):
            self._stream, self._crc, self._size = ZIP_METHODS[method](), 0, 0
            self._step = self._stored if size < 0 and method == 0 else self._unpack
            self.open(f"zip:{name}", name)
        if self._step == self._skip and size < 0:
            self._step = self._seek

    def _skip(self) -> bool:
        taken = min(self._left, len(self._buffer))
        self._drop(taken)
        self._left -= taken
        if not self._left:
            self._step = self._seek
        return not self._left

    def _unpack(self) -> bool:
        """Pass on what an entry holds, as far as it has come."""
        taken = len(self._buffer) if self._left < 0 else min(self._left, len(self._buffer))
        data = self._buffer[:taken]
        self._drop(taken)
        self._left -= taken if self._left >= 0 else 0
        try:
            self._pass(data)
        except _Corrupt as error:
            self.refuse(str(error))
            if self._left < 0:      # where it ends is unknown: look for the next entry in what was taken for its data
                self._buffer, self._at = data + self._buffer, self._at - len(data)
            self._step = self._skip if self._left > 0 else self._seek
            return True
        if self._stream.ended:
            self._buffer, self._at = self._stream.rest + self._buffer, self._at - len(self._stream.rest)
            self._measured(self._size - len(self._stream.rest))
        elif self._left:
            return False
        elif self._size and not isinstance(self._stream, Stored | ZipLzma):     # LZMA may end with its size
            self.refuse("a zip entry is longer than the archive says")
        self.close()
        self._step = self._seek
        return True

    def _pass(self, data: bytes) -> None:
        pieces, came = self._stream.feed(data), False
        self._size += len(data)
        while True:
            try:
                piece = next(pieces, b"")
            except Unscannable as error:
                raise _Corrupt(f"a zip entry: {error}") from None
            if not piece:
                break
            self.give(piece)
            came = True
        self.waited(len(data), came)

    def _stored(self) -> bool:
        """Pass on data that is not packed and of unknown size: its end is where the descriptor fits what came."""
        start = 0
        while match := _DESCRIPTOR.search(self._buffer, start):
            at = match.start()
            if len(self._buffer) - at < _LONGEST and match[0] == b"PK\7\x08":
                self._hear(at)
                return False
            if (end := self._descriptor(at, match[0] == b"PK\7\x08")) >= 0:
                self._hear(end)
                self._measured(self._size)
                self.close()
                self._step = self._seek
                return True
            start = at + 2
        self._hear(max(0, len(self._buffer) - 2 * _LONGEST))
        return False

    def _measured(self, size: int) -> None:
        """Note how long an entry was that did not say so."""
        name, known, method = self._seen[self._entry]
        self._seen[self._entry] = name, size if known < 0 else known, method

    def _descriptor(self, at: int, signed: bool) -> int:
        """Return how much of the buffer is data if a descriptor stands at, or unsigned before, this place; else -1."""
        for width in (4, 8):
            start = at + 4 if signed else at - 4 - 2 * width
            end = start - 4 if signed else start
            if end < 0 or len(self._buffer) < start + 4 + 2 * width:
                continue
            crc, size = (int.from_bytes(self._buffer[i : i + n], "little") for i, n in ((start, 4), (start + 4, width)))
            if size == self._size + end and crc == zlib.crc32(self._buffer[:end], self._crc):
                return end
        return -1

    def _hear(self, size: int) -> None:
        data = self._buffer[:size]
        self._crc, self._size = zlib.crc32(data, self._crc), self._size + size
        self._drop(size)
        if data:
            self.give(data)

    def _central(self) -> bool:
        if len(self._buffer) < 46:
            return False
        fields = CENTRAL.unpack_from(self._buffer)
        size, full, names, extras, comments, offset = *fields[7:9], *fields[9:12], fields[15]
        if len(self._buffer) < 46 + names + extras + comments:
            return False
        name, extra = self._buffer[46 : 46 + names], self._buffer[46 + names : 46 + names + extras]
        _, size, offset = sizes64(extra, full, size, offset)
        if not self._listed:
            self._directory = self._at
        if len(self._listed) >= MAX_ENTRIES:
            raise Unscannable(f"a zip archive of more than {MAX_ENTRIES} entries")
        self._listed.append((offset, (hash(name), size, fields[3])))
        self._drop(46 + names + extras + comments)
        self._step = self._seek
        return True

    def _end64(self) -> bool:
        if len(self._buffer) < 56:
            return False
        self._directory64 = int.from_bytes(self._buffer[48:56], "little")
        return self._nothing()

    def _end(self) -> bool:
        if len(self._buffer) < 22:
            return False
        _, _, _, count, size, offset, _ = END.unpack_from(self._buffer)
        if offset == 0xFFFFFFFF and self._directory64 >= 0:
            offset, size, count = self._directory64, 0xFFFFFFFF, 0xFFFF
        directory = self._directory if self._listed else self._at
        moved = directory - offset      # by what stands before the archive
        # Where all this fits, it is no guess any more that this is an archive, and not the last piece of one.
        sure = self._listed and len(self._listed) == count and directory + size == self._at and moved >= 0
        fault = Zip.refused if sure else self.fault
        if (size != 0xFFFFFFFF and directory + size != self._at and self._directory64 < 0) \
                or (count != 0xFFFF and count != len(self._listed)) or moved < 0:
            self.fault("the directory of a zip archive is not where its end says")
        for at, (name, packed, method) in self._listed:
            if self._seen.get(at + moved) not in ((name, packed, method), (name, -1, method)):
                fault("the directory of a zip archive names what is not there")
            self.confirmed(at + moved)
        self._listed, self._directory, self._directory64, self._whole = [], -1, -1, True
        return self._nothing()


class _Corrupt(Exception):
    """The data of one entry cannot be unpacked; the next may be."""
