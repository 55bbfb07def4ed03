"""URL rules that the engine lacks: `to=`, `denyallow=`, `method=`, `domain=name.*`, `strict3p`, ports, look-around ...

Theory of operation.  A rule is filed where a request that it covers leads to it at once: under the host that its
pattern names, a domain that the page must have, a domain that is asked, or a word of the pattern; what has none of
these is tried for every request.  Only what is found there is compared.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from publicsuffixlist import PublicSuffixList

from addons.filterlist import TYPES, is_regex, split

#: Words of URLs and patterns; shorter ones are in half of all URLs.
WORD: Final = re.compile(r"[0-9a-z%]{3,}")
#: Words that say nothing of a request.
_COMMON: Final = frozenset({"http", "https", "www", "com", "net", "org"})
#: Characters of a URL that are compared; what follows is data.  Bounds what a hostile URL can cost.
MAX_URL: Final = 4096
#: Host names whose parents are remembered: the working set of a busy computer.
_REMEMBERED: Final = 4096

_SUFFIXES: Final = PublicSuffixList()


class Asked(NamedTuple):
    """A request as rules see it; `source` is the page's host.  `third` is None where it is unknown: either may be."""

    url: str
    host: str
    source: str
    type: str
    third: bool | None
    method: str = "GET"
    page: str = ""


@lru_cache(_REMEMBERED)
def parents(host: str) -> tuple[str, ...]:
    """Return the name and all names above it."""
    labels = host.split(".")
    return tuple(".".join(labels[at:]) for at in range(len(labels)))


@lru_cache(_REMEMBERED)
def registrable(host: str) -> str:
    """Return the name that somebody owns (public suffix and one label); addresses and bare suffixes are their own."""
    if host[-1:].isdigit() or ":" in host:
        return host
    return _SUFFIXES.privatesuffix(host) or host


@lru_cache(_REMEMBERED)
def _entity(host: str) -> tuple[str, ...]:
    """Return the names of `host` without the public suffix: `a.b.co.uk` is `a.b.*` and `b.*`."""
    suffix = _SUFFIXES.publicsuffix(host) or ""
    rest = host.removesuffix(suffix).rstrip(".") if suffix != host else ""
    return tuple(f"{name}.*" for name in parents(rest)) if rest else ()


@dataclass(slots=True)
class Domains:
    """The value of `domain=` or `to=`: names, entities (`name.*`) and regular expressions, wanted and unwanted."""

    wanted: frozenset[str]
    unwanted: frozenset[str]
    patterns: tuple[tuple[bool, re.Pattern[str]], ...] = ()

    @classmethod
    def of(cls, value: str) -> "Domains":
        """Raises re.error."""
        wanted, unwanted, patterns = set[str](), set[str](), []
        for each in re.split(r"\|(?![^/]*/(?:\||$))", value) if "/" in value else value.split("|"):
            negated, name = each.startswith("~"), each.removeprefix("~").strip().lower().rstrip(".")
            if len(name) > 2 and name[0] == name[-1] == "/":
                patterns.append((negated, re.compile(name[1:-1])))
            elif name:
                name = name if name.isascii() else name.encode("idna").decode("ascii")
                (unwanted if negated else wanted).add(name.removeprefix("*."))
        return cls(frozenset(wanted), frozenset(unwanted), tuple(patterns))

    def cover(self, host: str) -> bool:
        """The nearest entry decides: `a.com|~b.a.com` covers a.com without b.a.com.  An unknown host is none."""
        if any(negated and pattern.search(host) for negated, pattern in self.patterns):
            return False
        for name in (*parents(host), *_entity(host)) if host else ():
            if name in self.unwanted:
                return False
            if name in self.wanted:
                return True
        if not self.wanted and all(negated for negated, _ in self.patterns):
            return True
        return bool(host) and any(not negated and pattern.search(host) for negated, pattern in self.patterns)


@dataclass
class Rule:
    """One rule of ours.  Raises ValueError where its pattern is no expression."""

    text: str
    exception: bool = field(init=False)
    important: bool = False
    bad: bool = False
    page: bool = False              # an exception for all that a page asks for
    types: frozenset[str] = frozenset(TYPES) - {"document"}
    third: bool | None = None
    strict: bool | None = None      # strict3p, strict1p: host names compared whole
    case: bool = False
    source: Domains | None = None
    to: Domains | None = None
    denyallow: Domains | None = None
    methods: tuple[frozenset[str], frozenset[str]] | None = None
    pattern: str = ""

    def __post_init__(self) -> None:
        self.exception, self.pattern, options = split(self.text)
        named, without = set[str](), set[str]()
        for option in options:
            name, _, value = option.partition("=")
            negated, name = name.startswith("~"), name.removeprefix("~")
            if name in TYPES:
                (without if negated else named).add(name)
            elif value:
                self._valued(name, value)
            else:
                self._flag(name, negated)
        if named or without:
            self.types = frozenset(named or set(TYPES) - {"document"}) - without
        elif re.fullmatch(r"\|\|[^/*?]+\^?", self.pattern):      # a whole site, its pages as well
            self.types = frozenset(TYPES)
        self.page = self.exception and "document" in named
        if is_regex(self.pattern):      # others are made when they are needed: most never are
            try:
                _ = self.expression
            except re.error as error:
                raise ValueError(f"{self.text[:80]!r}: {error}") from None

    def _flag(self, name: str, negated: bool) -> None:
        if name in ("third-party", "first-party"):
            self.third = (name == "third-party") != negated
        elif name in ("strict3p", "strict1p"):
            self.strict = (name == "strict3p") != negated
        elif name == "match-case":
            self.case = True
        elif name == "important":
            self.important = True
        elif name == "badfilter":
            self.bad = True

    def _valued(self, name: str, value: str) -> None:
        try:
            if name == "domain":
                self.source = Domains.of(value)
            elif name == "to":
                self.to = Domains.of(value)
            elif name == "denyallow":
                self.denyallow = Domains.of(value)
            elif name == "method":
                words = value.upper().split("|")
                unwanted = frozenset(word[1:] for word in words if word[0] == "~")
                self.methods = (frozenset(word for word in words if word[0] != "~"), unwanted)
        except (re.error, UnicodeError, IndexError) as error:
            raise ValueError(f"{self.text[:80]!r}: {error}") from None

    @cached_property
    def expression(self) -> re.Pattern[str] | None:
        return expression(self.pattern, self.case)

    def covers(self, asked: Asked) -> bool:
        """Tell whether a request is one of those that the rule is about."""
        return asked.type in self.types and self._parties(asked) and self._domains(asked) and self.finds(asked.url)

    def finds(self, url: str) -> bool:
        return self.expression is None or bool(self.expression.search(url))

    def _parties(self, asked: Asked) -> bool:
        if self.third is not None and asked.third is not None and self.third != asked.third:
            return False
        return self.strict is None or not asked.source or self.strict == (asked.source != asked.host)

    def _domains(self, asked: Asked) -> bool:
        if self.methods is not None:
            wanted, unwanted = self.methods
            if asked.method in unwanted or (wanted and asked.method not in wanted):
                return False
        return ((self.source is None or self.source.cover(asked.source))
                and (self.to is None or self.to.cover(asked.host))
                and (self.denyallow is None or not self.denyallow.cover(asked.host)))  # fmt: skip


def expression(pattern: str, case: bool) -> re.Pattern[str] | None:
    """Compile a pattern; None covers every URL.  Raises re.error.

    Each piece between two asterisks is an atomic group: the leftmost place is as good as any, so nothing backtracks.
    """
    flags = re.ASCII | (0 if case else re.IGNORECASE)
    if is_regex(pattern):
        return re.compile(pattern[1:-1], flags)
    host, start, end = pattern.startswith("||"), pattern.startswith("|"), len(pattern) > 1 and pattern.endswith("|")
    body = pattern[2 if host else int(start) : len(pattern) - end]
    if not body.strip("*"):
        return None
    pieces = [re.escape(piece).replace(r"\^", r"(?:[^\w.%\x80-\U0010ffff-]|$)") for piece in body.split("*")]
    first = (r"^[a-z][a-z0-9+.-]*://(?:[^/?#]*\.)?" if host else "^" if start else "") + pieces[0]
    if len(pieces) == 1:
        return re.compile(first + ("$" if end else ""), flags)
    last = f".*{pieces[-1]}$" if end else f"(?>.*?{pieces[-1]})"
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in pieces[1:-1]) + last, flags | re.DOTALL)


class _Index:
    """Rules of one sort, filed so that few are compared."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._hosts: dict[str, list[Rule]] = {}
        self._sources: dict[str, list[Rule]] = {}
        self._words: dict[str, list[Rule]] = {}
        self._rest: tuple[Rule, ...] = ()
        for rule in rules:
            self._file(rule)
        self._entities = any(name.endswith(".*") for table in (self._hosts, self._sources) for name in table)
        self._of_host = lru_cache(_REMEMBERED)(self._by_host)
        self._of_source = lru_cache(_REMEMBERED)(self._by_source)

    def _file(self, rule: Rule) -> None:
        if host := _anchor(rule.pattern):
            self._hosts.setdefault(host, []).append(rule)
        elif names := _plain(rule.to):
            for name in names:
                self._hosts.setdefault(name, []).append(rule)
        elif names := _plain(rule.source):
            for name in names:
                self._sources.setdefault(name, []).append(rule)
        elif word := _word(rule.pattern):
            self._words.setdefault(word, []).append(rule)
        else:
            self._rest += (rule,)

    def _by_host(self, host: str) -> tuple[Rule, ...]:
        return _under(self._hosts, host, self._entities)

    def _by_source(self, host: str) -> tuple[Rule, ...]:
        return _under(self._sources, host, self._entities)

    def find(self, asked: Asked) -> Rule | None:
        """Return a rule that covers the request, an important one before others."""
        best = None
        for rule in self._near(asked):
            if rule.covers(asked):
                if rule.important:
                    return rule
                best = best or rule
        return best

    def _near(self, asked: Asked) -> tuple[Rule, ...]:
        near = self._of_host(asked.host) + self._of_source(asked.source) + self._rest
        if self._words:
            for word in self._words.keys() & WORD.findall(asked.url.lower()):
                near += tuple(self._words[word])
        return near


class Matcher:
    """Rules that block, and exceptions, which are asked only once something would block."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        known = list(rules)
        gone = {_without_bad(rule.text) for rule in known if rule.bad}
        known = [rule for rule in known if not rule.bad and rule.text not in gone]
        self._blocks = _Index(rule for rule in known if not rule.exception)
        self._exceptions = _Index(rule for rule in known if rule.exception)
        self._pages = _Index(rule for rule in known if rule.page)

    def find(self, asked: Asked) -> Rule | None:
        """Return a rule that covers the request, an important one before others."""
        return self._blocks.find(asked)

    def excused(self, asked: Asked) -> Rule | None:
        """Return the exception for the request, or for all that the page asks for that it comes from."""
        if asked.page:
            page = asked._replace(url=asked.page, host=asked.source, type="document", third=False)
            if found := self._pages.find(page):
                return found
        return self._exceptions.find(asked)


def _under(table: dict[str, list[Rule]], host: str, entities: bool) -> tuple[Rule, ...]:
    """Return what is filed under a name, those above it and, if there are any, its entities."""
    if not table:
        return ()
    found: list[Rule] = []
    name = host
    while name:
        found += table.get(name, ())
        name = name.partition(".")[2]
    for name in _entity(host) if entities and host else ():
        found += table.get(name, ())
    return tuple(found)


def _without_bad(text: str) -> str:
    pattern, _, options = text.rpartition("$")
    kept = [option for option in options.split(",") if option != "badfilter"]
    return f"{pattern}${','.join(kept)}" if kept else pattern


def _anchor(pattern: str) -> str:
    """Return the whole name that a pattern begins with, if it names one: `||name.example^`, `||name.example:8080/x`."""
    found = re.match(r"\|\|([a-z0-9.-]+)(?=[/^:?])", pattern, re.IGNORECASE)
    return found[1].lower() if found else ""


def _plain(domains: Domains | None) -> frozenset[str]:
    """Return the wanted names and entities, if there is no expression among the wanted."""
    if domains is None or any(not negated for negated, _ in domains.patterns):
        return frozenset()
    return domains.wanted


def _word(pattern: str) -> str:
    """Return the longest whole word of a pattern: one that every URL which it covers has as a word, too."""
    if is_regex(pattern):
        return ""
    whole = [found[0] for found in re.finditer(r"(?<=[^0-9a-z%*])[0-9a-z%]{3,}(?=[^0-9a-z%*])", f"{_ends(pattern)}")]
    return max((word for word in whole if word not in _COMMON), key=len, default="")


def _ends(pattern: str) -> str:
    """Bars stay as borders; an open end is like an asterisk, as a longer word may begin or end there."""
    return ("" if pattern.startswith("|") else "*") + pattern.lower() + ("" if pattern.endswith("|") else "*")
