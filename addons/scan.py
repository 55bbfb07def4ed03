r"""Find many patterns in a stream of bytes, with the same answer however the stream is cut.

Theory of operation.  A *match* of a pattern is a position at which its expression matches, judged by Python's `re` on
the text itself.  Trying 200 expressions everywhere is hopeless, so an engine says where to look: Hyperscan (Vectorscan)
reports where matches end, the fallback where keywords begin.  An engine may point at too much, never at too little.
A position is judged once, when the `REACH` bytes behind it have come or the stream has ended: what is judged is thus a
fixed piece of the text, whatever the engine and the size of the chunks.

A pattern is written in the dialect that `re` and Hyperscan share; it must not match more than `longest` bytes, look
further than `LOOK` bytes to either side, or use `^`, `$` and `\Z`, which mean the end of what has come so far.
"""

import importlib
import re
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

#: Bytes that must follow a position before it is judged.  Less than the 4096 that the chain holds back, so that a
#: value is reported before its first byte has left.
REACH: Final = 2048
#: How far a pattern, or what accepts its matches, may look before and behind a match.
LOOK: Final = 64
#: What is kept of the text already seen: a position waits for REACH bytes, its match may begin `before` its keyword.
CARRY: Final = REACH + 1024
#: Scanners kept for use again.
FREE: Final = 64

#: From where to where (absolute, inclusive) matches of a pattern, given by its index, may begin.
Region = tuple[int, int, int]
#: Fed with the text in pieces, and at last with b"", after which it may serve another text.
Trigger = Callable[[bytes], list[Region]]


def anything(_match: re.Match[bytes]) -> bool:
    return True


def group(match: re.Match[bytes]) -> int:
    """Return the number of the first group that takes part in a match, 0 if none does: it is the value."""
    if not match.re.groups or match.start(1) >= 0:
        return match.re.groups and 1
    return next((number for number in range(2, match.re.groups + 1) if match.start(number) >= 0), 0)


@dataclass(frozen=True, slots=True)
class Pattern:
    """An expression, whose first group that takes part (else the whole) is the value.

    Each match has one of the lower-case `keywords` at most `before` bytes after its start, unless there are none.
    A match may also begin up to `ahead` bytes behind its keyword or trigger, as a number does behind its label.
    `accept` is the last word on a match: entropy, check digits, context; it may also name what begins there, with the
    position of each end.  `trigger` is what Hyperscan, which ignores
    lookarounds, shall look for in place of the expression where that saves many vain reports: something that ends in or
    at the end of every match.  After `enough` hits in a text no more are looked for, if it is not 0.
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

    def __post_init__(self) -> None:
        if self.longest + LOOK > REACH or self.before + LOOK > CARRY - REACH:
            raise ValueError(f"{self.name}: matches must be shorter than {REACH - LOOK} bytes")


class Hit(NamedTuple):
    """A value found: absolute offsets, the index of its pattern, its first bytes, a hash that knows it again, and what
    `accept` named it."""

    start: int
    pattern: int
    end: int
    head: bytes
    mark: int = 0
    name: str = ""


class Engine(Protocol):
    """Where to look; compiled once, opened for each stream."""

    def open(self) -> Trigger: ...


class Perscan:
    """Hyperscan by pyperscan (Linux, macOS)."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        pyperscan = importlib.import_module("pyperscan")
        flag, self._go_on = pyperscan.Flag.PREFILTER, pyperscan.Scan.Continue
        self._reach = [(p.longest, p.ahead) for p in patterns]
        self._free: list[Trigger] = []
        self._database = pyperscan.StreamDatabase(
            *(pyperscan.Pattern(text, flag, tag=i) for i, text in _expressions(patterns))
        )

    def open(self) -> Trigger:
        if self._free:
            return self._free.pop()
        ends: list[tuple[int, int]] = []
        scanner = self._database.build(ends, self._on_match)

        def trigger(data: bytes) -> list[Region]:
            if data:
                return _regions(scanner.scan, ends, self._reach, data)
            # To make a scanner takes ten times as long as to scan the head of a request.
            scanner.reset()
            ends.clear()
            if len(self._free) < FREE:
                self._free.append(trigger)
            return []

        return trigger

    def _on_match(self, ends: list[tuple[int, int]], pattern: int, _start: int, end: int) -> object:
        ends.append((pattern, end))
        return self._go_on


class Hyperscan:
    """Hyperscan by the package of that name (Windows, which pyperscan does not serve)."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        hyperscan = importlib.import_module("hyperscan")
        self._reach = [(p.longest, p.ahead) for p in patterns]
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_STREAM)
        self._database.compile(
            expressions=[text for _, text in _expressions(patterns)],
            ids=[i for i, _ in _expressions(patterns)],
            flags=[hyperscan.HS_FLAG_PREFILTER] * len(_expressions(patterns)),
        )

    def open(self) -> Trigger:
        ends: list[tuple[int, int]] = []
        stream = self._database.stream(match_event_handler=self._on_match, context=ends)
        stream.__enter__()

        def trigger(data: bytes) -> list[Region]:
            # The stream does not keep its database alive: this function does, by `self`.
            if data:
                return _regions(stream.scan, ends, self._reach, data)
            stream.__exit__(None, None, None)
            return []

        return trigger

    @staticmethod
    def _on_match(pattern: int, _start: int, end: int, _flags: int, ends: list[tuple[int, int]]) -> None:
        ends.append((pattern, end))


def _expressions(patterns: Sequence[Pattern]) -> list[tuple[int, bytes]]:
    """Return what Hyperscan looks for, with the index of the pattern that it is for."""
    triggers = [p.trigger or shortest(p.regex) for p in patterns]
    return [(i, text) for i, t in enumerate(triggers) for text in ((t,) if isinstance(t, bytes) else t)]


def shortest(regex: bytes) -> bytes:
    """Return the expression without its open end: one report where the shortest match ends, not one a byte."""
    return re.sub(rb"\{([1-9]\d*),\d+\}(\)?)(?:\(\?!(?:[^()]|\(\?:[^()]*\))*\))?$", rb"{\1}\2", regex)


def _regions(
    scan: Callable[[bytes], object], ends: list[tuple[int, int]], reach: list[tuple[int, int]], data: bytes
) -> list[Region]:
    scan(data)
    if not ends:
        return []
    regions = [(p, max(0, end - reach[p][0]), end + reach[p][1]) for p, end in sorted(ends)]
    ends.clear()
    return regions


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
        self._overlap = max(map(len, self._words), default=1) - 1
        self._everywhere = [i for i, p in enumerate(patterns) if not p.keywords]

    def open(self) -> Trigger:
        seen, tail = 0, b""

        def trigger(data: bytes) -> list[Region]:
            nonlocal seen, tail
            text = tail + data.lower()
            base = seen - len(tail)
            regions = [(i, 0, seen + len(data)) for i in self._everywhere]
            for number, start, end in self._automaton.find_matches_as_indexes(text, overlapping=True):
                if end > len(tail):
                    at = base + start
                    used = self._used_by[self._words[number]]
                    regions += [(i, max(0, at - before), at + ahead) for i, before, ahead in used]
            seen += len(data)
            tail = text[-self._overlap :] if self._overlap else b""
            return regions

        return trigger


def engine(patterns: Sequence[Pattern]) -> Engine:
    """Compile the patterns for the best engine that is installed."""
    kinds: Iterable[type[Perscan | Hyperscan | Keywords]] = (Perscan, Hyperscan)
    for kind in kinds:
        try:
            return kind(patterns)
        except ImportError:
            continue
    return Keywords(patterns)


def _places(word: bytes, text: bytes) -> Iterator[int]:
    """Yield where a word begins."""
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + 1)


def _overlapping(expression: re.Pattern[bytes], text: bytes, at: int, stop: int) -> Iterator[re.Match[bytes]]:
    """Yield a match for each start that has one."""
    while match := expression.search(text, at, stop):
        yield match
        at = match.start() + 1


class PatternSet:
    """Patterns, compiled once; `stream()` for each text."""

    def __init__(self, patterns: Sequence[Pattern], kind: Callable[[Sequence[Pattern]], Engine] = engine) -> None:
        self.patterns = tuple(patterns)
        self.expressions = [re.compile(p.regex) for p in self.patterns]
        #: The longest keyword of each.
        self.widths = [max(map(len, p.keywords), default=0) for p in self.patterns]
        self._engine = kind(self.patterns)

    def stream(self) -> "Stream":
        return Stream(self, self._engine.open())


class Stream:
    """One text, in pieces."""

    def __init__(self, patterns: PatternSet, trigger: Trigger) -> None:
        self._set = patterns
        self._trigger: Trigger | None = trigger
        self._tail = b""
        self._seen = 0
        self._waiting: dict[int, list[tuple[int, int]]] = {}
        self._judged: dict[int, int] = {}
        self._hits: dict[int, int] = {}
        self._found: list[Hit] = []

    def feed(self, data: bytes) -> list[Hit]:
        """Return the hits that are now certain, in the order of their values; b"" ends the text."""
        if self._trigger is None:
            return []
        for pattern, low, high in self._trigger(data):
            self._add(pattern, low, high)
        if not data:
            self._trigger = None
        base = self._seen - len(self._tail)
        self._seen += len(data)
        horizon = self._seen - REACH if data else self._seen
        if self._waiting:
            text = self._tail + data
            for pattern in sorted(self._waiting):
                self._judge(pattern, text, base, horizon)
        self._tail = data[-CARRY:] if len(data) >= CARRY else (self._tail + data)[-CARRY:]
        return self._due(horizon)

    def _add(self, pattern: int, low: int, high: int) -> None:
        regions = self._waiting.setdefault(pattern, [])
        if regions and low <= regions[-1][1] + 1:
            first, last = regions[-1]
            regions[-1] = (min(first, low), max(high, last))
        else:
            regions.append((low, high))

    def _judge(self, pattern: int, text: bytes, base: int, horizon: int) -> None:
        """Try all starts up to the horizon; what lies beyond it goes on waiting."""
        regions, later = self._waiting.pop(pattern), []
        for low, high in regions:
            low = max(low, self._judged.get(pattern, 0))
            last = min(high, horizon)
            if low <= last:
                self._search(pattern, text, base, low, last)
                self._judged[pattern] = last + 1
            if high > horizon:
                later.append((max(low, horizon + 1), high))
        if later:
            self._waiting[pattern] = later

    def _search(self, pattern: int, text: bytes, base: int, low: int, last: int) -> None:
        rule, expression = self._set.patterns[pattern], self._set.expressions[pattern]
        at, final, stop = low - base, last - base, last - base + rule.longest + LOOK
        if rule.keywords and not rule.before and not rule.ahead:
            # A match begins with a keyword: to find those takes a tenth of the time that `search` needs at each byte.
            window = text[at : final + self._set.widths[pattern]].lower()
            starts = sorted({at + place for word in rule.keywords for place in _places(word, window)})
            matches: Iterable[re.Match[bytes] | None] = (expression.match(text, s, stop) for s in starts if s <= final)
        else:
            matches = _overlapping(expression, text, at, stop)
        for match in filter(None, matches):
            if match.start() > final or (rule.enough and self._hits.get(pattern, 0) >= rule.enough):
                break
            (start, end), said = match.span(group(match)), rule.accept(match)
            for name, till in ((("", end),) if said is True else said or ()):
                self._hits[pattern] = self._hits.get(pattern, 0) + 1
                value = text[start:till]
                insort(self._found, Hit(base + start, pattern, base + till, value[:8], hash(value), name))

    def _due(self, horizon: int) -> list[Hit]:
        count = next((i for i, hit in enumerate(self._found) if hit.start > horizon), len(self._found))
        due, self._found = self._found[:count], self._found[count:]
        return due
