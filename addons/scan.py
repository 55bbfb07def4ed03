r"""Find many patterns in a stream of bytes, with the same answer however the stream is cut.

Theory of operation.  A *match* of a pattern is a position at which its expression matches, judged by Python's `re` on
the text itself.  Trying 200 expressions everywhere is hopeless, so an engine says where to look: Hyperscan (Vectorscan)
reports where matches end, the fallback where keywords begin.  An engine may point at too much, never at too little.
A position is judged once, when the `REACH` bytes behind it have come or the stream has ended: what is judged is thus a
fixed piece of the text, whatever the engine and the size of the chunks.

A pattern is written in the dialect that `re` and Hyperscan share; it must not match more than `longest` bytes, look
further than `LOOK` bytes to either side, or use `^`, `$` and `\Z`, which mean the end of what has come so far.
"""

import re
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Final, NamedTuple

from addons.engines import (
    CARRY,
    LOOK,
    REACH,
    Engine,
    Hyperscan,
    Keywords,
    Pattern,
    Perscan,
    Region,
    engine,
    shortest,
)

__all__ = [
    "CARRY", "LOOK", "REACH", "Engine", "Hit", "Hyperscan", "Keywords", "Pattern", "PatternSet", "Perscan", "Region",
    "Stream", "engine", "group", "shortest",
]  # fmt: skip


def group(match: re.Match[bytes]) -> int:
    """Return the number of the first group that takes part in a match, 0 if none does: it is the value."""
    if not match.re.groups or match.start(1) >= 0:
        return match.re.groups and 1
    return next((number for number in range(2, match.re.groups + 1) if match.start(number) >= 0), 0)


#: Bytes that are looked at together: small pieces wait for each other, for a value is told of in time all the same,
#: REACH and BATCH bytes behind its start.
BATCH: Final = 256
#: Bytes of a word that names a value, and what joins it; it may stand before the value or behind it.
LABEL: Final = 256
#: Stands behind the last byte of a text: what asks for no letter there has none.
BEHIND: Final = b"\n"
#: What a spelling may change.
_SIGNS: Final = re.compile(rb"%[0-9A-Fa-f]{2}|[^0-9A-Za-z\x80-\xff]+")


class Hit(NamedTuple):
    """A value found: absolute offsets, the index of its pattern, its first bytes, a hash that knows it again, and what
    `accept` named it."""

    start: int
    pattern: int
    end: int
    head: bytes
    mark: int = 0
    name: str = ""


def mark(value: bytes) -> int:
    """Return a hash that is the same of a value in other spellings: in a URL, with other signs between its parts."""
    return hash(_SIGNS.sub(b"", value).lower())


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


def _after_signs(
    rule: Pattern, expression: re.Pattern[bytes], text: bytes, at: int, stop: int
) -> Iterator[re.Match[bytes]]:
    """Yield the same, and skip what has no sign of a match."""
    signs = re.compile(rule.sign)
    while sign := signs.search(text, at, stop):
        match = expression.search(text, max(at, sign.start() - rule.lead), stop)
        if not match:
            return
        yield match
        at = match.start() + 1


class PatternSet:
    """Patterns, compiled once; `stream()` for each text."""

    def __init__(self, patterns: Sequence[Pattern], kind: Callable[[Sequence[Pattern]], Engine] = engine) -> None:
        self.patterns = tuple(patterns)
        self.expressions = [re.compile(p.regex) for p in self.patterns]
        #: The longest keyword of each.
        self.widths = [max(map(len, p.keywords), default=0) for p in self.patterns]
        #: Bytes before what is new that may be part of what the engine looks for.
        self.back = min(CARRY, max((p.longest + p.before for p in self.patterns), default=0) + LOOK + LABEL)
        self._engine = kind(self.patterns)

    def stream(self) -> "Stream":
        return Stream(self, self._engine)


class Stream:
    """One text, in pieces."""

    def __init__(self, patterns: PatternSet, engine: Engine) -> None:
        self._set = patterns
        self._engine: Engine | None = engine
        self._tail = b""
        self._new = b""         # what has not been looked at
        self._seen = 0
        self._waiting: dict[int, list[tuple[int, int]]] = {}
        self._judged: dict[int, int] = {}
        self._hits: dict[int, int] = {}
        self._found: list[Hit] = []

    def feed(self, data: bytes) -> list[Hit]:
        """Return the hits that are now certain, in the order of their values; b"" ends the text."""
        if self._engine is None:
            return []
        new, last = self._new + data, not data
        if len(new) < BATCH and not last:
            self._new = new
            return []
        self._new = b""
        base = self._seen - len(self._tail)
        text = self._tail + new + BEHIND if last else self._tail + new
        begin = max(0, len(self._tail) - self._set.back)
        for pattern, low, high in self._engine.look(text[begin:], len(self._tail) - begin, base + begin):
            self._add(pattern, low, high)
        if last:
            self._engine = None
        self._seen += len(new)
        horizon = self._seen if last else self._seen - REACH
        for pattern in sorted(self._waiting):
            self._judge(pattern, text, base, horizon)
        self._tail = text[-CARRY:]
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
        at, final = low - base, last - base
        stop = final + rule.longest + LOOK
        matches: Iterable[re.Match[bytes]]
        if at == final:
            match = expression.match(text, at, stop)
            matches = (match,) if match else ()
        elif rule.keywords and not rule.before and not rule.ahead:
            # A match begins with a keyword: to find those takes a tenth of the time that `search` needs at each byte.
            window = text[at : final + self._set.widths[pattern]].lower()
            starts = sorted({at + place for word in rule.keywords for place in _places(word, window)})
            matches = filter(None, map(expression.match, repeat(text), starts, repeat(stop)))
        else:
            matches = (_after_signs(rule, expression, text, at, stop) if rule.sign else
                       _overlapping(expression, text, at, stop))
        for match in matches:
            if match.start() > final or (rule.enough and self._hits.get(pattern, 0) >= rule.enough):
                break
            if not (said := rule.accept(match)):
                continue
            start, end = match.span(group(match))
            for name, until in ((("", end),) if said is True else said or ()):
                self._hits[pattern] = self._hits.get(pattern, 0) + 1
                until = min(until, self._seen - base)
                value = text[start:until]
                insort(self._found, Hit(base + start, pattern, base + until, value[:8], mark(value), name))

    def _due(self, horizon: int) -> list[Hit]:
        count = next((i for i, hit in enumerate(self._found) if hit.start > horizon), len(self._found))
        due, self._found = self._found[:count], self._found[count:]
        return due
