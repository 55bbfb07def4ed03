"""Keep the customer's own values from leaving: accounts, names, numbers, known by their hashes only."""

import zlib
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from addons.exactindex import PREFIX, SHORT_PREFIX, Index
from addons.fold import Block, Words, starts
from addons.leaks import MOST, LeakFilter
from addons.verdict import Finding, Verdict, masked

#: Bytes between the values of a row, at most: what is kept to compare with is that of this many bytes.
WIDEST: Final = 4000
#: Values that a new one is compared with, the newest: each costs a hash.
RECENT: Final = 64


@dataclass(frozen=True, slots=True)
class _Match:
    start: int
    end: int
    column: int
    digest: bytes
    sample: str

    @property
    def key(self) -> tuple[int, bytes]:
        return self.column, self.digest


@dataclass
class ExactData(LeakFilter):
    """Values of an index that `lockgate fingerprint values` made: in any case, with or without spaces and dashes.

    `columns` names those that count; none means all.  With `require: 2` (or more) a value counts only if so many
    columns of the same row stand within `within` bytes, as a name and its account.  Fewer findings in one message than
    `minimum` pass; more lead to `action`.  `salt_file` is for an index that was made with one.
    """

    index: Path
    salt_file: Path | None = None
    columns: tuple[str, ...] = ()
    require: int = 1
    within: int = 500
    minimum: int = 1
    files: list[Path] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._index = Index(self.index, self.salt_file)
        self.files = [self.index, *([self.salt_file] if self.salt_file else [])]
        names = [column.name for column in self._index.columns]
        if unknown := [name for name in self.columns if name not in names]:
            raise ValueError(f"columns: the index has no {unknown[0]!r}; it has {', '.join(names)}")
        self._wanted = frozenset(i for i, name in enumerate(names) if not self.columns or name in self.columns)
        if not 1 <= self.require <= len(self._wanted):
            raise ValueError(f"require: {self.require} is not between 1 and the number of columns, {len(self._wanted)}")
        if self.require > 1 and self._index.pairs is None:
            raise ValueError("require: the index was made with --alone, and does not know what is one row")
        if not 0 <= self.within <= WIDEST:
            raise ValueError(f"within: {self.within} is not between 0 and {WIDEST} bytes")
        if not 1 <= self.minimum <= MOST:
            raise ValueError(f"minimum: {self.minimum} is not between 1 and {MOST}")

    def scanner(self, where: str = "body") -> "_Finder":
        return _Finder(self._index, self._wanted, self.require, self.within, where)

    def weigh(self, found: list[Finding], host: str) -> Verdict | None:
        counted = [f for f in found if self.require == 1 or "+" in f.rule]  # the value that completes a row
        if len(counted) < self.minimum:
            return None
        reason = f"known data in the request: {counted[-1].rule} in {counted[-1].where}"
        return Verdict(self._action, reason, tuple(found[-MOST:]))


class _Finder:
    """Finds the values of one text, in the order in which they begin."""

    def __init__(self, index: Index, wanted: frozenset[int], require: int, within: int, where: str) -> None:
        self._index, self._wanted, self._require = index, wanted, require
        self._within, self._where = within, where
        self._words = Words(index.words - 1)
        self._until = [0] * len(index.columns)  # where each column's last value ends: none begins before
        self._recent: deque[_Match] = deque(maxlen=RECENT)
        self._told: deque[_Match] = deque(maxlen=RECENT)

    def feed(self, data: bytes) -> list[Finding]:
        return [finding for block in self._words.feed(data) for finding in self._block(block)]

    def _block(self, block: Block) -> list[Finding]:
        joined, at = b"".join(block.words), starts(block.words)
        table, mask, crc = self._index.prefilter.table, self._index.prefilter.mask, zlib.crc32
        due = at[: block.due]
        size = PREFIX
        likely = [
            (i, size) for i, a in enumerate(due) if table[(c := crc(joined[a : a + size])) >> 3 & mask] >> (c & 7) & 1
        ]
        if self._index.short:
            size = SHORT_PREFIX
            likely += [
                (i, 0) for i, a in enumerate(due) if table[(c := crc(joined[a : a + size])) >> 3 & mask] >> (c & 7) & 1
            ]
            likely.sort()
        found: list[Finding] = []
        for first, shortest in likely:
            for match in self._matches(block, joined, at, first, shortest):
                found += self._weighed(match)
        return found

    def _matches(self, block: Block, joined: bytes, at: list[int], first: int, shortest: int) -> list[_Match]:
        """Return the longest value of each column that begins with this word and has so many letters, or too few for
        that way to look for it."""
        index, begin, best = self._index, at[first], dict[int, tuple[int, bytes]]()
        longest = index.longest if shortest else PREFIX - 1
        for words, end in enumerate(at[first + 1 : first + 1 + index.words], 1):
            if (length := end - begin) > longest:
                break
            if length < shortest or words > index.by_length[length][0]:
                continue
            digest, columns = index.find(joined[begin:end])
            for column in columns:
                if column in self._wanted:
                    best[column] = first + words - 1, digest
        matches = []
        for column, (last, digest) in sorted(best.items()):
            start, end = block.span(first, last)
            if start >= self._until[column]:
                self._until[column] = end
                matches.append(_Match(start, end, column, digest, masked(block.raw((start, end)))))
        return matches

    def _weighed(self, match: _Match) -> list[Finding]:
        if self._require == 1:
            return [self._finding(match, self._name(match))]
        near = [each for each in self._recent if match.start - each.end <= self._within]
        self._recent = deque((each for each in near if each.key != match.key), maxlen=RECENT)
        self._recent.append(match)
        row = _row(partial(self._belong), [match], near, self._require)
        if not row:
            return []
        rule = "+".join(self._index.columns[i].name for i in sorted(each.column for each in row))
        others = [self._finding(each, self._name(each)) for each in row[1:] if each not in self._told]
        self._told.extend(row)
        return [*others, self._finding(match, rule)]

    def _belong(self, one: _Match, other: _Match) -> bool:
        return one.column != other.column and self._index.belong(one.key, other.key)

    def _name(self, match: _Match) -> str:
        return self._index.columns[match.column].name

    def _finding(self, match: _Match, rule: str) -> Finding:
        kind = f"exact.{self._name(match)}"
        return Finding(rule, kind, self._where, match.start, match.end, match.sample, int.from_bytes(match.digest))


def _row(belong: "partial[bool]", chosen: list[_Match], others: list[_Match], count: int) -> list[_Match]:
    """Return `count` matches, of which each belongs to each, that begin with the chosen ones; or none."""
    if len(chosen) == count:
        return chosen
    fit = [each for each in others if belong(chosen[-1], each)]
    for number, each in enumerate(fit):
        if row := _row(belong, [*chosen, each], fit[number + 1 :], count):
            return row
    return []
