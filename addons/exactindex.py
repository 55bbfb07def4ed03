"""The customer's values as an index of hashes: made from tables, read by `exactdata`.

A value is compared as its words without what stands between them (see `fold`): `DE89 3704 0044`, `de89-3704-0044`
and `DE8937040044` are one.  For each column there is a table of hashes; another has a hash for each pair of values of
one row, so that a filter can ask whether a name and an account belong together without any row being kept.
"""

import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from addons.fold import fold
from addons.hashtable import CHECK, SALT, HashTable, Prefilter, TableBuilder, hasher, read, write

KIND: Final = "values"
#: Letters and digits of a value: fewer would be found by chance; so would fewer digits, where there are only digits.
SHORTEST: Final = 5
SHORTEST_NUMBER: Final = 6
#: More is a text: that is for `documents`.
LONGEST: Final = 128
#: Words of a value, and groups that a number may be written in.
MOST_WORDS: Final = 16
GROUPS: Final = 8
#: Columns of one table: each pair of them takes a hash a row.
MOST_COLUMNS: Final = 8
#: Letters at the beginning of values by which the prefilter goes, and of those that have fewer.
PREFIX: Final = 8
SHORT_PREFIX: Final = 5
#: Words and numbers met lately that are remembered, with what they are: text repeats itself.
REMEMBERED: Final = 1 << 14
_COLUMN: Final = re.compile(r"[^\x00-\x1f+]{1,64}")


@dataclass
class Column:
    """What is known of a column; `lengths` those of its values in letters and digits, `words` the most that one has."""

    name: str
    values: int = 0
    skipped: int = 0
    words: int = 1
    lengths: set[int] = field(default_factory=set)


def canonical(value: str) -> bytes:
    """Return the value as it is compared; empty if it is too short or too long to be looked for."""
    words = fold(value.encode("utf-8", "replace"))
    joined = b"".join(words)
    enough = SHORTEST_NUMBER if joined.isdigit() else SHORTEST
    return joined if enough <= len(joined) <= LONGEST and len(words) <= MOST_WORDS else b""


def pair(one: tuple[int, bytes], other: tuple[int, bytes]) -> bytes:
    """Return what is hashed for two values of a row, each its column's number and its hash."""
    first, second = sorted((one, other))
    return b"%c%c%b%b" % (first[0], second[0], first[1], second[1])


class IndexBuilder:
    """`add` rows, then `write`.  `pairs`: rules over several columns of a row shall be possible."""

    def __init__(self, columns: Sequence[str], salt: bytes, *, pairs: bool = True) -> None:
        if not 1 <= len(columns) <= MOST_COLUMNS or len(set(columns)) != len(columns):
            raise ValueError(f"between 1 and {MOST_COLUMNS} different columns, please")
        if bad := [name for name in columns if not _COLUMN.fullmatch(name)]:
            raise ValueError(f"{bad[0]!r}: a column's name has no + and no control characters")
        self.columns = [Column(name) for name in columns]
        self._salt, self._hash = salt, hasher(salt)
        self._tables = [TableBuilder() for _ in columns]
        self._pairs = TableBuilder() if pairs and len(columns) > 1 else None
        self._checks: set[int] = set()
        self._short = False

    def add(self, row: Sequence[str]) -> None:
        """Take one row, its values in the order of the columns; empty ones are none."""
        there: list[tuple[int, bytes]] = []
        for number, (column, value) in enumerate(zip(self.columns, row)):
            if not (value := value.strip()):
                continue
            if not (plain := canonical(value)):
                column.skipped += 1
                continue
            digest = self._hash(plain).digest()
            self._tables[number].add(digest)
            self._note(column, plain, len(fold(value.encode("utf-8", "replace"))))
            there.append((number, digest))
        if self._pairs:
            for one, other in combinations(there, 2):
                self._pairs.add(self._hash(pair(one, other)).digest())

    def _note(self, column: Column, plain: bytes, words: int) -> None:
        column.values += 1
        column.lengths.add(len(plain))
        groups = GROUPS if any(map(plain.count, (b"%d" % digit for digit in range(10)))) else 1
        column.words = max(column.words, words, groups)
        self._short = self._short or len(plain) < PREFIX
        self._checks.add(check(plain))

    def write(self, path: Path, *, with_salt: bool = True) -> int:
        """Write the index and return its size in bytes.  Raises OSError."""
        made = [table.finish() for table in (*self._tables, *([self._pairs] if self._pairs else []))]
        header: dict[str, Any] = {
            "columns": [{"name": c.name, "values": c.values, "words": c.words, "lengths": sorted(c.lengths)}
                        for c in self.columns],
            "bits": [bits for bits, _, _ in made], "pairs": self._pairs is not None, "short": self._short,
            "salt": self._salt.hex() if with_salt else None, "key": proof(self._salt),
        }  # fmt: skip
        sections = [Prefilter.pack(self._checks, len(self._checks), self._salt)]
        sections += [section for _, directory, rest in made for section in (directory, rest)]
        write(path, KIND, header, sections)
        return path.stat().st_size


def check(plain: bytes) -> int:
    """Return the CRC by which the prefilter knows a value, as many bits of it as any prefilter takes."""
    return zlib.crc32(plain[: PREFIX if len(plain) >= PREFIX else SHORT_PREFIX]) & CHECK


def proof(salt: bytes) -> str:
    """Return what tells a salt from another and says nothing about it."""
    return blake2b(b"which salt", key=salt, digest_size=8).hexdigest()


def new_salt() -> bytes:
    return secrets.token_bytes(SALT)


def read_salt(path: Path) -> bytes:
    """Read a salt file, 64 hexadecimal digits.  Raises ValueError."""
    try:
        salt = bytes.fromhex(path.read_text("ascii"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError:
        salt = b""
    if len(salt) != SALT:
        raise ValueError(f"{path}: a salt is {2 * SALT} hexadecimal digits")
    return salt


class Index:
    """An index as the filter uses it."""

    def __init__(self, path: Path, salt_file: Path | None = None) -> None:
        header, sections = read(path, KIND)
        salt = read_salt(salt_file) if salt_file else bytes.fromhex(header["salt"] or "")
        if not salt:
            raise ValueError(f"{path}: made with --salt-file: name that file")
        if proof(salt) != header["key"]:
            raise ValueError(f"{salt_file or path}: not the salt that {path} was made with")
        self.columns = [Column(c["name"], c["values"], 0, c["words"], set(c["lengths"])) for c in header["columns"]]
        self.hash: partial[blake2b] = hasher(salt)
        self.prefilter = Prefilter(bytes(sections[0]), salt)
        tables = [HashTable(bits, *two) for bits, two in zip(header["bits"], _twos(sections[1:]))]
        self.pairs = tables.pop() if header["pairs"] else None
        self.tables = tables
        self.short = bool(header["short"])
        self.words = max(column.words for column in self.columns)
        self.by_length: list[tuple[int, tuple[int, ...]]] = []  # the most words, and the columns, of that length
        for length in range(LONGEST + 1):
            numbers = tuple(i for i, column in enumerate(self.columns) if length in column.lengths)
            self.by_length.append((max((self.columns[i].words for i in numbers), default=0), numbers))
        self.longest = max((length for length, (words, _) in enumerate(self.by_length) if words), default=0)
        self.find = lru_cache(REMEMBERED)(self._find)

    def _find(self, plain: bytes) -> tuple[bytes, tuple[int, ...]]:
        """Return the hash of what may be a value, and the columns that have it."""
        digest = self.hash(plain).digest()
        return digest, tuple(i for i in self.by_length[len(plain)][1] if self.tables[i].find(digest) >= 0)

    def belong(self, one: tuple[int, bytes], other: tuple[int, bytes]) -> bool:
        """True if two values, each its column's number and hash, are of one row."""
        return self.pairs is not None and self.pairs.find(self.hash(pair(one, other)).digest()) >= 0


def _twos(sections: Iterable[memoryview]) -> Iterator[tuple[memoryview, memoryview]]:
    each = iter(sections)
    return zip(each, each)
