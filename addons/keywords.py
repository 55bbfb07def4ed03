"""Words and phrases that say what a text is about, weighed against each other."""

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from addons.fold import Block, Words, fold
from addons.leaks import MOST, Finder, Finds, LeakFilter
from addons.listed import listed
from addons.scan import Pattern, PatternSet, mark
from addons.verdict import Finding, Verdict, masked

#: Words of a phrase.
MOST_WORDS: Final = 16
#: Terms of one filter; a million would take 200 MB.
MOST_TERMS: Final = 200_000
#: Ways to write terms that are remembered within a text.
MOST_KNOWN: Final = 256
#: Bytes that a regular expression may match.
LONGEST_MATCH: Final = 512
#: What a term may be followed by, after a bar: a weight, and what differs from the filter's own options.
_OPTIONS: Final = re.compile(r"(?s)(?P<term>.+?)(?:\s+\|(?P<options>(?:\s*(?:\d+(?:\.\d+)?|case|part))+)\s*)?")
_CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")
_ANCHOR: Final = re.compile(r"(?<!\\)(?:\\\\)*(?:[$^]|\\[AZz])")


@dataclass(frozen=True, slots=True)
class Term:
    """One entry; `text` is a phrase, or a regular expression between slashes."""

    text: str
    weight: float = 1.0
    case: bool = False
    part: bool = False

    @property
    def regex(self) -> str:
        return self.text[1:-1] if len(self.text) > 2 and self.text[0] == self.text[-1] == "/" else ""


def term(line: str, *, case: bool = False, part: bool = False) -> Term:
    """Read `project falcon`, `Falcon | 3 case`, `leak | part` or `/FAL-[0-9]{4}/ | 5`."""
    match = _OPTIONS.fullmatch(line.strip())
    if match is None:
        raise ValueError("an empty term")
    words = (match["options"] or "").split()
    weights = [float(word) for word in words if word not in ("case", "part")]
    if len(weights) > 1:
        raise ValueError(f"{line!r}: more than one weight")
    return Term(match["term"], weights[0] if weights else 1.0, case or "case" in words, part or "part" in words)


@dataclass
class Keywords(LeakFilter):
    """Terms in the URL, headers, body and WebSocket messages of requests: `terms`, and a line each in `lists`.

    A term is a phrase: its words in any case (unless `case`), with or without accents, over any spaces, line breaks and
    punctuation; only whole words (unless `part`).  `/regex/` is a regular expression, case and all.  `Falcon | 3 case`
    gives one a weight and options of its own.  When the weights of what was found reach `threshold`, that leads to
    `action`: `count: all` adds up every hit, `unique` each term once; with `near`, only hits that begin within so many
    bytes of each other are added up.  At least the last hundred hits of a message count.
    """

    terms: tuple[str, ...] = ()
    lists: tuple[Path, ...] = ()
    threshold: float = 1
    count: str = "all"
    near: int = 0
    case: bool = False
    part: bool = False
    files: list[Path] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.files = list(self.lists)
        if self.threshold <= 0 or self.near < 0:
            raise ValueError("threshold, near: neither may be negative, and nothing is found without a threshold")
        if self.count not in ("all", "unique"):
            raise ValueError(f"count: {self.count!r} is neither all nor unique")
        found = [("terms", line) for line in self.terms]
        found += [(f"{path}:{number}", line) for path in self.lists for number, line in listed(path)]
        if not 1 <= len(found) <= MOST_TERMS:
            raise ValueError(f"terms, lists: between 1 and {MOST_TERMS} terms, please")
        self._dictionary = _Dictionary()
        for place, line in found:
            try:
                self._dictionary.add(term(line, case=self.case, part=self.part))
            except (ValueError, re.error) as error:
                raise ValueError(f"{place}: {error}") from None
        if self.threshold > (reach := self._reach()):
            raise ValueError(f"threshold: {self.threshold:g} is never reached, {MOST} hits weigh {reach:g} at most")
        self._dictionary.compile()

    def _reach(self) -> float:
        """The most that the hits that count may weigh."""
        weights = sorted(self._dictionary.weights.values(), reverse=True)
        return sum(weights[:MOST]) if self.count == "unique" else MOST * weights[0]

    def scanner(self, where: str = "body") -> Finds:
        return _Finder(self._dictionary, where)

    def weigh(self, found: list[Finding], host: str) -> Verdict | None:
        for last in range(len(found) - 1, -1, -1):
            within = [each for each in found if self._near(each, found[last])] if self.near else found
            score = self._score(within)
            if score >= self.threshold:
                rule, where = within[-1].rule, within[-1].where
                reason = f"keywords in the request: {rule} in {where}, score {score:g}"
                return Verdict(self._action, reason, tuple(within[-MOST:]))
            if not self.near:
                break
        return None

    def _near(self, one: Finding, last: Finding) -> bool:
        return one.where == last.where and 0 <= last.start - one.start <= self.near

    def _score(self, found: list[Finding]) -> float:
        rules = [each.rule for each in found]
        return sum(map(self._dictionary.weights.__getitem__, set(rules) if self.count == "unique" else rules))


class _Dictionary:
    """The terms, ready to be looked for: phrases among the folded words, expressions in the bytes."""

    def __init__(self) -> None:
        self.weights: dict[str, float] = {}
        self.phrases: list[list[Term]] = []  # those of one folded form
        self.overlap = 0
        self.automaton: Any = None
        self.patterns: PatternSet | None = None
        self._numbers: dict[bytes, int] = {}
        self._expressions: list[Pattern] = []

    def add(self, term: Term) -> None:
        self.weights[term.text] = term.weight
        if term.regex:
            re.compile(term.regex)
            if _ANCHOR.search(_CLASS.sub("", term.regex)):
                raise ValueError(f"{term.text}: ^, $ and \\Z mean nothing in a stream")
            flags = "" if term.case else "(?i)"
            self._expressions.append(Pattern(term.text, (flags + term.regex).encode(), longest=LONGEST_MATCH))
            return
        words = fold(term.text.encode())
        if not 1 <= len(words) <= MOST_WORDS:
            raise ValueError(f"{term.text!r}: a term has 1 to {MOST_WORDS} words of letters and digits")
        border = b"" if term.part else b" "
        form = border + b" ".join(words) + border
        number = self._numbers.setdefault(form, len(self._numbers))
        self.phrases += [[]] * (number == len(self.phrases))
        self.phrases[number] = [*self.phrases[number], term]
        self.overlap = max(self.overlap, len(words) - 1)

    def compile(self) -> None:
        if self._numbers:
            automaton = import_module("ahocorasick_rs")
            self.automaton = automaton.BytesAhoCorasick(list(self._numbers))
        if self._expressions:
            try:
                self.patterns = _compiled(tuple(self._expressions))
            except Exception as error:  # the engine's own, of whichever library it is
                raise ValueError(f"an expression cannot be used here: {error}") from None


@lru_cache(8)
def _compiled(patterns: tuple[Pattern, ...]) -> PatternSet:
    return PatternSet(patterns)


class _Finder:
    """Finds the terms of one text."""

    def __init__(self, dictionary: _Dictionary, where: str) -> None:
        self._dictionary, self._where = dictionary, where
        self._words = Words(dictionary.overlap)
        self._known: dict[bytes, tuple[str, str, int]] = {}
        self._expressions = Finder(dictionary.patterns, _kind, where) if dictionary.patterns else None

    def feed(self, data: bytes) -> list[Finding]:
        found: list[Finding] = []
        if self._dictionary.automaton is not None:
            for block in self._words.feed(data):
                found += self._block(block)
        return found + self._expressions.feed(data) if self._expressions else found

    def _block(self, block: Block) -> list[Finding]:
        """Return the hits that begin with one of the words that are due."""
        text = b" " + b" ".join(block.words) + b" "
        hits = self._dictionary.automaton.find_matches_as_indexes(text, overlapping=True)
        if not hits:
            return []
        begins, at = [], 1
        for word in block.words:
            begins.append(at)
            at += len(word) + 1
        found: list[Finding] = []
        for number, start, end in sorted(hits, key=itemgetter(1, 2)):
            first, last = bisect_right(begins, start + 1) - 1, bisect_right(begins, end - 1) - 1
            if first < block.due:
                found += self._findings(block, self._dictionary.phrases[number], first, max(first, last))
        return found

    def _findings(self, block: Block, terms: list[Term], first: int, last: int) -> list[Finding]:
        start, end = block.span(first, last)
        raw = block.raw((start, end))
        if (known := self._known.get(raw)) is None:  # a flood repeats itself
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            written = b" ".join(raw.split()).decode("utf-8", "replace")
            known = self._known[raw] = written, masked(raw), mark(raw)
        written, sample, same = known
        return [
            Finding(each.text, _kind(each.text), self._where, start, end, sample, same)
            for each in terms
            if not each.case or each.text in written
        ]


def _kind(_name: str) -> str:
    return "keyword"
