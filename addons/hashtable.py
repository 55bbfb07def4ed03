"""Millions of keyed hashes in four bytes each, and the file that they are kept in.

Theory of operation.  Of a value's 64-bit keyed BLAKE2 hash (RFC 7693) the first `bits` bits number a bucket, and the 32
after them are stored in it, sorted.  With at most LOAD hashes a bucket, a value that is not there is taken for one that
is with probability LOAD / 2**32 = 1.5e-8 or less, however many there are.  Ten million take 39 MiB.

Before that stands a `Prefilter`, a bit for each value of some bits of a CRC-32, at a twentieth of a hash's cost.
In the file it is under a key stream from the salt: so who has not got the salt cannot try out values.

A file is one line that names it, one line of JSON, and the sections as they are in memory, little endian, with a CRC-32
over all: that finds damage, it is no proof of origin.
"""

import contextlib
import json
import os
import sys
import tempfile
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import blake2b, shake_256
from pathlib import Path
from typing import Any, BinaryIO, Final

#: Hashes in a bucket, at most, on average.
LOAD: Final = 64
#: Bits of the CRC, between these two: 512 bytes and 4 MiB of memory.
SLOTS: Final = (12, 25)
#: The bits of the CRC that any prefilter takes.
CHECK: Final = (1 << SLOTS[1]) - 1
#: Bytes of a salt.
SALT: Final = 32
#: Bytes of a file: ten times the goal of ten million values.
MAX_FILE: Final = 1 << 30
#: Bytes of its second line.
MAX_HEADER: Final = 1 << 24

MAGIC: Final = b"lockgate fingerprints 1\n"


def hasher(salt: bytes) -> "partial[blake2b]":
    """Return the keyed hash of 8 bytes."""
    return partial(blake2b, key=salt, digest_size=8)


class HashTable:
    """Which hashes are in it, and the number of each in their order."""

    def __init__(self, bits: int, directory: bytes | memoryview, rest: bytes | memoryview) -> None:
        self._shift, self._low = 64 - bits, 32 - bits
        self._directory, self._rest = memoryview(directory).cast("I"), memoryview(rest).cast("I")
        last = self._directory[-1] if len(self._directory) == (1 << bits) + 1 else -1
        if last != len(self._rest):
            raise ValueError("the table of hashes is damaged")

    def __len__(self) -> int:
        return len(self._rest)

    def find(self, digest: bytes) -> int:
        """Return the number of a hash, or -1."""
        value = int.from_bytes(digest)
        bucket, rest = value >> self._shift, value >> self._low & 0xFFFFFFFF
        end = self._directory[bucket + 1]
        at = bisect_left(self._rest, rest, self._directory[bucket], end)
        return at if at < end and self._rest[at] == rest else -1


class TableBuilder:
    """Takes hashes one by one, 8 bytes each, and makes a table of them."""

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(256)]

    def add(self, digest: bytes) -> None:
        self._parts[digest[0]].append(int.from_bytes(digest))

    def finish(self) -> tuple[int, bytes, bytes]:
        """Return the number of bits, the directory and the hashes; equal ones once."""
        count = sum(map(len, self._parts))
        bits = min(32, max(0, (count - 1) // LOAD).bit_length())
        directory, rest, low = array("I", [0]) * ((1 << bits) + 1), array("I"), 32 - bits
        for part in self._parts:
            for value in sorted({value >> low for value in part}):
                rest.append(value & 0xFFFFFFFF)
                directory[(value >> 32) + 1] = len(rest)
        for at in range(1, len(directory)):
            directory[at] = max(directory[at], directory[at - 1])
        return bits, directory.tobytes(), rest.tobytes()


class Prefilter:
    """False for most that is not in it.  Quicker than a call: `table[(c := crc32(x)) >> 3 & mask] >> (c & 7) & 1`."""

    def __init__(self, packed: bytes, salt: bytes) -> None:
        self.mask = len(packed) - 1
        if self.mask & (self.mask + 1):
            raise ValueError("the table before the hashes is damaged")
        self.table = _stream(packed, salt)

    @staticmethod
    def pack(checks: Iterable[int], expected: int, salt: bytes) -> bytes:
        """Return the bits, under the salt's key stream, of these CRCs, of which so many are expected."""
        size = 1 << min(max((16 * expected).bit_length(), SLOTS[0]), SLOTS[1])
        bits = bytearray(size // 8)
        for check in checks:
            bits[check >> 3 & size // 8 - 1] |= 1 << (check & 7)
        return _stream(bytes(bits), salt)


def _stream(data: bytes, salt: bytes) -> bytes:
    key = shake_256(b"prefilter" + salt).digest(len(data))
    return (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(len(data))


def write(path: Path, kind: str, header: dict[str, Any], sections: Sequence[bytes]) -> None:
    """Replace a file at once; only its owner may read it.  Raises OSError."""
    check = 0
    for section in sections:
        check = zlib.crc32(section, check)
    line = json.dumps({**header, "kind": kind, "sections": [len(each) for each in sections]}, sort_keys=True)
    head = line.encode() + b"\n"
    check = zlib.crc32(head, check)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)  # mode 0600
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.writelines([MAGIC, head, *sections, check.to_bytes(4)])
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):      # what went wrong first is what is to be told
            Path(name).unlink()
        raise


def read(path: Path, kind: str) -> tuple[dict[str, Any], list[memoryview]]:
    """Return header and sections.  It is not mapped: to shorten a mapped file kills who looks into it.

    Raises ValueError that names the file.
    """
    try:
        with path.open("rb") as file:
            return _read(file, kind)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(file: BinaryIO, kind: str) -> tuple[dict[str, Any], list[memoryview]]:
    if sys.byteorder != "little":
        raise ValueError("fingerprints are made for little-endian processors")
    if (magic := file.read(len(MAGIC))) != MAGIC:
        same = magic.startswith(MAGIC.rpartition(b" ")[0])
        raise ValueError("of another version: make it anew" if same else "not made by `lockgate fingerprint`")
    line = file.readline(MAX_HEADER)
    data = file.read(MAX_FILE)
    try:
        header: dict[str, Any] = json.loads(line)
        sizes = [int(size) for size in header["sections"]]
        made_for = str(header["kind"])
    except (ValueError, KeyError, TypeError):
        raise ValueError("damaged: its second line cannot be read") from None
    if sum(sizes) + 4 != len(data):
        raise ValueError(f"damaged: {len(data)} bytes where {sum(sizes) + 4} should be")
    view, at, sections = memoryview(data), 0, list[memoryview]()
    for size in sizes:
        sections.append(view[at : at + size])
        at += size
    if zlib.crc32(line, zlib.crc32(view[:at])) != int.from_bytes(view[at:]):
        raise ValueError("damaged: the checksum does not fit")
    if made_for != kind:
        raise ValueError(f"fingerprints of {made_for}, not of {kind}")
    return header, sections
