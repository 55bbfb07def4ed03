"""URL rules that the engine lacks: `to=`, `denyallow=`, `method=`, `domain=name.*`, `strict3p`, ports, look-around ...

One rule, and whether it covers a request; `urlindex` has many of them.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from publicsuffixlist import PublicSuffixList

from addons.filterlist import TYPES, is_regex, split
from addons.names import parents

#: Characters of a URL that are compared; what follows is data.  Bounds what a hostile URL can cost.
MAX_URL: Final = 16384
#: Host names whose owners are remembered: the working set of a busy computer.
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
def registrable(host: str) -> str:
    """Return the name that somebody owns (public suffix and one label); addresses and bare suffixes are their own."""
    if host[-1:].isdigit() or ":" in host:
        return host
    return _SUFFIXES.privatesuffix(host) or host


@lru_cache(_REMEMBERED)
def entity(host: str) -> tuple[str, ...]:
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
        for name in (*parents(host), *entity(host)) if host else ():
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
        return self.expression is None or bool(self.expression.search(url, 0, MAX_URL))

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
    if host and re.fullmatch(r"[\w.-]*\w", body):
        body += "\0"      # `||name` ends where a label does: not in the middle of `name-of-another`
    pieces = [_piece(piece) for piece in body.split("*")]
    first = (r"^[a-z][a-z0-9+.-]*://(?:[^/?#]*\.)?" if host else "^" if start else "") + pieces[0]
    if len(pieces) == 1:
        return re.compile(first + ("$" if end else ""), flags)
    last = f".*{pieces[-1]}$" if end else f"(?>.*?{pieces[-1]})"
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in pieces[1:-1]) + last, flags | re.DOTALL)


def _piece(text: str) -> str:
    """Return what stands between two asterisks as an expression; `^` is a separator or the end."""
    separated = re.escape(text).replace(r"\^", r"(?:[^\w.%\x80-\U0010ffff-]|$)")
    return separated.replace("\0", r"(?![\w%-])")
