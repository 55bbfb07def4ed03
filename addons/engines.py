"""What says where in a text to look for matches: Hyperscan, or keywords.  See `scan.py` for how it is used.

Of a text that comes in pieces, an engine is shown each piece with the CARRY bytes before it, and remembers nothing: the
state of a stream of Hyperscan would take 100 KB for the rules of `secrets`, of every text that is open.
"""

import importlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

#: Bytes that must follow a position before it is judged.  Less than the 4096 that the chain holds back, so that a
#: value is reported before its first byte has left.
REACH: Final = 2048
#: How far a pattern, or what accepts its matches, may look before and behind a match.
LOOK: Final = 64
#: What is kept of the text already seen: a position waits for REACH bytes, its match may begin `before` its keyword.
CARRY: Final = REACH + 1024

#: From where to where (absolute, inclusive) matches of a pattern, given by its index, may begin.
Region = tuple[int, int, int]
#: Where matches of the patterns end, as they are reported.
Ends = defaultdict[int, list[int]]


def anything(_match: re.Match[bytes]) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Pattern:
    """An expression, whose first group that takes part (else the whole) is the value.

    Each match has one of the lower-case `keywords` at most `before` bytes after its start, unless there are none.
    A match may also begin up to `ahead` bytes behind its keyword or trigger, as a number does behind its label.
    `accept` is the last word on a match: entropy, check digits, context; it may also name what begins there, with the
    position of each end.  `trigger` is what Hyperscan, which ignores lookarounds, shall look for in place of the
    expression where that saves many vain reports: something that ends in or at the end of every match.  After `enough`
    hits in a text no more are looked for, if it is not 0.  `sign`, if any, is quickly looked for: each match has it,
    and begins at most `lead` bytes before it.
    """

    name: str
    regex: bytes
    keywords: tuple[bytes, ...] = ()
    before: int = 0
    longest: int = 256
    accept: Callable[[re.Match[bytes]], bool | tuple[tuple[str, int], ...]] = anything
    trigger: bytes | tuple[bytes, ...] = b""
    ahead: int = 0
    enough: int = 0
    sign: bytes = b""
    lead: int = 0

    def __post_init__(self) -> None:
        if self.longest + LOOK > REACH or self.before + LOOK > CARRY - REACH:
            raise ValueError(f"{self.name}: matches must be shorter than {REACH - LOOK} bytes")


class Engine(Protocol):
    """Where to look; compiled once."""

    def look(self, text: bytes, known: int, base: int) -> list[Region]:
        """Return where matches may begin that show behind the first `known` bytes of this piece of a text, which begins
        at the place `base` of the whole."""


class Perscan:
    """Hyperscan by pyperscan (Linux, macOS)."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        pyperscan = importlib.import_module("pyperscan")
        flag, self._go_on = pyperscan.Flag.PREFILTER, pyperscan.Scan.Continue
        self._reach = [(p.longest, p.ahead) for p in patterns]
        self._ends: Ends = defaultdict(list)
        database = pyperscan.BlockDatabase(
            *(pyperscan.Pattern(text, flag, tag=i) for i, text in _expressions(patterns))
        )
        self._scanner = database.build(self._ends, self._reporting())

    def look(self, text: bytes, known: int, base: int) -> list[Region]:
        self._scanner.scan(text)
        return _regions(self._ends, self._reach, known, base)

    def _reporting(self) -> Callable[[Ends, int, int, int], object]:
        go_on = self._go_on

        def on_match(ends: Ends, pattern: int, _start: int, end: int) -> object:
            ends[pattern].append(end)
            return go_on

        return on_match


class Hyperscan:
    """Hyperscan by the package of that name (Windows, which pyperscan does not serve)."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        hyperscan = importlib.import_module("hyperscan")
        self._reach = [(p.longest, p.ahead) for p in patterns]
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(
            expressions=[text for _, text in _expressions(patterns)],
            ids=[i for i, _ in _expressions(patterns)],
            flags=[hyperscan.HS_FLAG_PREFILTER] * len(_expressions(patterns)),
        )

    def look(self, text: bytes, known: int, base: int) -> list[Region]:
        ends: Ends = defaultdict(list)
        self._database.scan(text, match_event_handler=self._on_match, context=ends)
        return _regions(ends, self._reach, known, base)

    @staticmethod
    def _on_match(pattern: int, _start: int, end: int, _flags: int, ends: Ends) -> None:
        ends[pattern].append(end)


def _expressions(patterns: Sequence[Pattern]) -> list[tuple[int, bytes]]:
    """Return what Hyperscan looks for, with the index of the pattern that it is for."""
    triggers = [p.trigger or shortest(p.regex) for p in patterns]
    return [(i, text) for i, t in enumerate(triggers) for text in ((t,) if isinstance(t, bytes) else t)]


def shortest(regex: bytes) -> bytes:
    """Return the expression without its open end: one report where the shortest match ends, not one a byte."""
    return re.sub(rb"\{([1-9]\d*),\d+\}(\)?)(?:\(\?!(?:[^()]|\(\?:[^()]*\))*\))?$", rb"{\1}\2", regex)


def _regions(ends: Ends, reach: list[tuple[int, int]], known: int, base: int) -> list[Region]:
    """Return the regions for these ends, and forget them.  What ends in what is known was reported when that came."""
    regions: list[Region] = []
    for pattern, found in ends.items():
        if new := sorted(base + end for end in found if end > known):
            regions += _joined(pattern, new, *reach[pattern])
    ends.clear()
    return regions


def _joined(pattern: int, ends: list[int], behind: int, ahead: int) -> Iterator[Region]:
    """Yield the regions that end so, those that meet as one: a flood has a report every few bytes."""
    gap, first = behind + ahead + 1, 0
    if ends[-1] - ends[0] > gap:
        for at, (one, other) in enumerate(pairwise(ends), 1):
            if other - one > gap:
                yield pattern, max(0, ends[first] - behind), ends[at - 1] + ahead
                first = at
    yield pattern, max(0, ends[first] - behind), ends[-1] + ahead


class Keywords:
    """The fallback without SIMD code: keywords by Aho-Corasick."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        ahocorasick = importlib.import_module("ahocorasick_rs")
        self._used_by: dict[bytes, list[tuple[int, int, int]]] = {}
        for i, p in enumerate(patterns):
            for word in set(p.keywords):
                self._used_by.setdefault(word, []).append((i, p.before, p.ahead))
        self._words = sorted(self._used_by)
        self._automaton = ahocorasick.BytesAhoCorasick(self._words or [b"\0never"])
        self._everywhere = [i for i, p in enumerate(patterns) if not p.keywords]

    def look(self, text: bytes, known: int, base: int) -> list[Region]:
        regions = [(i, 0, base + len(text)) for i in self._everywhere]
        for number, start, end in self._automaton.find_matches_as_indexes(text.lower(), overlapping=True):
            if end > known:
                at = base + start
                used = self._used_by[self._words[number]]
                regions += [(i, max(0, at - before), at + ahead) for i, before, ahead in used]
        return regions


def engine(patterns: Sequence[Pattern]) -> Engine:
    """Compile the patterns for the best engine that is installed."""
    kinds: Iterable[type[Perscan | Hyperscan | Keywords]] = (Perscan, Hyperscan)
    for kind in kinds:
        try:
            return kind(patterns)
        except ImportError:
            continue
    return Keywords(patterns)
