"""Many URL rules, so that few are compared with a request.

Theory of operation.  A rule is filed where a request that it covers leads to it at once: under the host that its
pattern names, a domain that is asked, a domain that the page must have, or a word of the pattern; what has none of
these is tried for every request.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from addons.filterlist import is_regex
from addons.names import parents
from addons.urlmatch import Asked, Domains, Rule, entity

#: Words of URLs and patterns; shorter ones are in half of all URLs.
WORD: Final = re.compile(r"[0-9a-z%]{3,}")
#: Words that say nothing of a request.
_COMMON: Final = frozenset({"http", "https", "www", "com", "net", "org"})
#: Host names whose rules are remembered: the working set of a busy computer.
_REMEMBERED: Final = 4096


class _Index:
    """Rules of one sort, filed so that few are compared."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._hosts: dict[str, list[Rule]] = {}
        self._sources: dict[str, list[Rule]] = {}
        self._words: dict[str, list[Rule]] = {}
        self._rest: list[Rule] = []
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
            self._rest.append(rule)

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

    def _near(self, asked: Asked) -> list[Rule]:
        near = [*self._of_host(asked.host), *self._of_source(asked.source), *self._rest]
        if self._words:
            words = WORD.findall(asked.url.lower())
            if not self._words.keys().isdisjoint(words):
                for word in self._words.keys() & words:
                    near += self._words[word]
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
    names = (*parents(host), *(entity(host) if entities and host else ()))
    return tuple(rule for name in names for rule in table.get(name, ()))


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
    whole = [found[0] for found in re.finditer(r"(?<=[^0-9a-z%*])[0-9a-z%]{3,}(?=[^0-9a-z%*])", _ends(pattern))]
    return max((word for word in whole if word not in _COMMON), key=len, default="")


def _ends(pattern: str) -> str:
    """Bars stay as borders; an open end is like an asterisk, as a longer word may begin or end there."""
    return ("" if pattern.startswith("|") else "*") + pattern.lower() + ("" if pattern.endswith("|") else "*")
