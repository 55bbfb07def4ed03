"""Keep personal data from leaving: cards, accounts, identifiers of some seventy countries, addresses."""

import fnmatch
import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

from addons import cards, identifiers, netaddresses, personal, phones
from addons.leaks import MOST, LeakFilter
from addons.near import Named, Naming, begins
from addons.scan import Hit, Pattern, PatternSet
from addons.verdict import Action, Finding, Verdict, masked

#: Kinds that have no country.
GENERAL: Final[dict[str, tuple[Pattern, ...]]] = {
    "iban": personal.IBAN, "email": personal.EMAIL, "ip": netaddresses.IP, "mac_address": netaddresses.MAC,
    "crypto": personal.CRYPTO,
}  # fmt: skip
#: Ordinary traffic is full of these: they count from ten in a message, and alert only, until `kinds` names them.
COMMON: Final = {"email": 10, "phone": 10, "ip": 10, "mac_address": 10, "postal_address": 10}
#: Loose ones: they give way to any other kind at the same place.
MINOR: Final = frozenset({"phone", "us_bank_number", "us_driver_license"})
#: Countries whose national numbers are known where the policy names none.
REGIONS: Final = ("US", "CA", "GB", "DE", "FR", "IT", "ES", "IN", "IL", "BR", "CN", "JP", "AU")
EU: Final = frozenset([
    "at", "be", "bg", "cy", "cz", "de", "dk", "ee", "es", "eu", "fi", "fr", "gr", "hr", "hu", "ie", "it", "lt", "lu",
    "lv", "mt", "nl", "pl", "pt", "ro", "se", "si", "sk",
])  # fmt: skip
#: A text so short may be an identifier and nothing else, without a word that says so.
BARE: Final = 64
#: A part of an identifier, or "and", may have no digits; what is longer is a word.
WORDLESS: Final = 3
#: Hits of a sort in one text: what they mean is clear by then.  Unless all must be known, since they are to be masked.
ENOUGH: Final = 2 * MOST
#: A bare value could be of many countries.
BARE_KINDS: Final = 16
_ALONE: Final = "alone:"
#: What `allow` may name.
_NETWORKS: Final[dict[str, tuple[str, ...]]] = {
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10",
                "0.0.0.0/32", "::1/128", "::/128", "fc00::/7", "fe80::/10"),
    "documentation": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
}  # fmt: skip
_EXAMPLES: Final = ("*@example.com", "*@example.net", "*@example.org", "*@*.example", "*@*.example.com", "*@*.test",
                    "*@*.invalid", "*@localhost.localdomain")  # fmt: skip


@dataclass(frozen=True)
class Allowed:
    """Values that are no findings: globs (`*@our.example`), networks, `private`, `documentation`."""

    entries: tuple[str, ...] = ()
    _globs: tuple[str, ...] = field(init=False)
    _networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = field(init=False)

    def __post_init__(self) -> None:
        globs, networks = list[str](), list[ipaddress.IPv4Network | ipaddress.IPv6Network]()
        for entry in self.entries:
            names = _NETWORKS.get(entry, (entry,))
            try:
                networks += [ipaddress.ip_network(name) for name in names]
            except ValueError:
                if not entry or (not entry.strip("*?")):
                    raise ValueError(f"allow: {entry!r} would allow everything") from None
                globs.append(entry.lower())
            if entry == "documentation":
                globs += _EXAMPLES
        object.__setattr__(self, "_globs", tuple(globs))
        object.__setattr__(self, "_networks", tuple(networks))

    def __call__(self, value: bytes) -> bool:
        if not self.entries:
            return False
        text = value.decode("utf-8", "replace").lower()
        if any(fnmatch.fnmatchcase(text, glob) for glob in self._globs):
            return True
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def known() -> dict[str, str]:
    """Return all kinds with their country, which is empty for those of everywhere."""
    found = dict.fromkeys(["credit_card", "phone", *GENERAL], "")
    return found | {kind: each.country for kind, each in identifiers.load().items()}


def chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the kinds that names mean, in a fixed order; ValueError for a name that means none.

    A name is a kind, a country (`de`), `eu`, `all`; with a dash before it, it is taken away.
    """
    kinds, optional = known(), {k for k, each in identifiers.load().items() if each.optional}
    wanted = set[str]()
    for name in names if any(not n.startswith("-") for n in names) else ("all", *names):
        plain = name.removeprefix("-")
        meant = {plain} if plain in kinds else {
            kind for kind, country in kinds.items()
            if plain == "all" or country == plain or (plain == "eu" and country in EU)
        } - (set() if name.startswith("-") else optional)  # fmt: skip
        if not meant:
            raise ValueError(f"kinds: {plain!r} is no kind, country or group; see docs/built-in-filters.md")
        wanted = wanted - meant if name.startswith("-") else wanted | meant
    if not wanted:
        raise ValueError("kinds: none is left")
    return tuple(kind for kind in kinds if kind in wanted)


@cache
def _compiled(kinds: tuple[str, ...], regions: tuple[str, ...], allowed: Allowed, enough: int) -> PatternSet:
    """Compile once for all instances of the same options."""
    table, made, own, named = identifiers.load(), list[Pattern](), list[Named](), list[Named]()
    for kind in kinds:
        if kind == "credit_card":
            made += cards.patterns()
        elif kind == "phone":
            phones.prepare()
            made += phones.patterns(regions)
            made.append(Naming([phones.named(regions)]).pattern())
        elif kind in GENERAL:
            made += GENERAL[kind]
        else:
            own += table[kind].alone(allowed)
            named += table[kind].near(allowed)
    made += identifiers.standing(own)
    personal.top_level()  # now, and not while a message waits
    made += [Naming(named).pattern()] if named else []
    return PatternSet([replace(_unless(allowed, pattern), enough=enough) for pattern in made])


def _unless(allowed: Allowed, pattern: Pattern) -> Pattern:
    """Return the pattern without what is allowed; what names its hits itself has seen to that."""

    def accept(match: re.Match[bytes]) -> bool | tuple[tuple[str, int], ...]:
        said = pattern.accept(match)
        return said if said is not True else not allowed(match[match.re.groups and 1])

    return replace(pattern, accept=accept) if allowed.entries else pattern


class PiiFinder:
    """Feed it a text in pieces, then b"": it returns what it finds as soon as that is certain."""

    def __init__(self, patterns: PatternSet, kinds: tuple[str, ...], allowed: Allowed, where: str) -> None:
        self._patterns, self._stream = patterns.patterns, patterns.stream()
        self._kinds, self._allowed, self._where = kinds, allowed, where
        self._ends = dict[str, int]()
        self._short: bytes | None = b""
        self._end = 0

    def feed(self, data: bytes) -> list[Finding]:
        if self._short is not None and where_is_all(self._where):
            self._short = self._short + data if len(self._short) + len(data) <= BARE else None
        hits = [(self._name(hit), hit) for hit in self._stream.feed(data)]
        found = [self._finding(name, hit) for name, hit in hits if self._is_new(name, hit)]
        if not data and self._short and not found:
            return self._bare(self._short)
        return found

    def _name(self, hit: Hit) -> str:
        return hit.name or self._patterns[hit.pattern].name

    def _is_new(self, name: str, hit: Hit) -> bool:
        new = hit.start >= (self._end if name in MINOR else self._ends.get(name, 0))
        if new:
            self._ends[name] = max(self._ends.get(name, 0), hit.end)
            self._end = max(self._end, hit.end)
        return new

    def _finding(self, name: str, hit: Hit) -> Finding:
        return Finding(name, f"pii.{name}", self._where, hit.start, hit.end, masked(hit.head), hit.mark)

    def _bare(self, text: bytes) -> list[Finding]:
        """What the whole of a short text may be, if it holds no words."""
        if any(not any(c in b"0123456789" for c in token) for token in text.split() if len(token) > WORDLESS):
            return []
        table, found = identifiers.load(), list[Finding]()
        for kind in self._kinds:
            if not (each := table.get(kind)):
                continue
            for match in each.whole.finditer(text):
                if begins(text, match.start()) and each.valid(match[0]) and not self._allowed(match[0]):
                    found.append(Finding(_ALONE + kind, f"pii.{kind}", self._where, *match.span(), masked(match[0])))
        if "credit_card" in self._kinds and cards.is_number(text.strip(b" \t\r\n\"'")):
            found.append(Finding(_ALONE + "credit_card", "pii.credit_card", self._where, 0, len(text), masked(text)))
        return found[:BARE_KINDS]


def where_is_all(where: str) -> bool:
    """True of a message's body itself: parts of it are not alone."""
    return where == "body"


@dataclass
class Pii(LeakFilter):
    """Personal data in requests: cards, accounts, national identifiers, addresses of every sort.

    `kinds` names kinds (`us_ssn`, `iban`), countries (`de`: all kinds of Germany), `eu`, `all`; a dash before a name
    takes it away.  `minimum` says from how many on a kind counts, as a number or by kind.  E-mail, phone, IP and MAC
    addresses count from ten and alert only, until `kinds` names them.  `regions` are the countries whose national
    telephone numbers are known.  `allow` lists values that are no findings: globs (`*@our.example`), networks,
    `private`, `documentation`.
    """

    kinds: tuple[str, ...] = ("all",)
    action: str = "block"
    minimum: Any = field(default_factory=dict)  # dict[str, int] | int, which no policy can express by its type
    regions: tuple[str, ...] = REGIONS
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._kinds = chosen(tuple(self.kinds))
        self._regions = tuple(region.upper() for region in self.regions)
        if unknown := set(self._regions) - phones.regions():
            raise ValueError(f"regions: {', '.join(sorted(unknown))}: no such country")
        self._minimum = self._minima()
        self._allowed = Allowed(tuple(self.allow))
        self._patterns = _compiled(self._kinds, self._regions, self._allowed, 0 if self.action == "redact" else ENOUGH)

    def _minima(self) -> Callable[[str], int]:
        given = dict.fromkeys(self._kinds, self.minimum) if isinstance(self.minimum, int) else self.minimum
        if not isinstance(given, dict):
            raise ValueError("minimum: expected a number, or numbers by kind, as in {email: 20}")
        for kind, count in given.items():
            if kind not in known():
                raise ValueError(f"minimum: {kind!r} is no kind")
            if type(count) is not int or not 1 <= count <= MOST:
                raise ValueError(f"minimum: {kind}: {count} is not between 1 and {MOST}")
        minima = COMMON | given
        return lambda kind: minima.get(kind, 1)

    def scanner(self, where: str = "body") -> PiiFinder:
        return PiiFinder(self._patterns, self._kinds, self._allowed, where)

    def weigh(self, found: list[Finding], host: str) -> Verdict | None:
        count = Counter(f.kind.removeprefix("pii.") for f in found)
        enough = {kind for kind, number in count.items() if number >= self._minimum(kind)}
        reported = [f for f in found if f.kind.removeprefix("pii.") in enough]
        if not reported:
            return None
        strong = [f for f in reported if self._is_strong(f)]
        worst = strong or reported
        kind = worst[-1].kind.removeprefix("pii.")
        reason = f"personal data in the request: {kind} in {worst[-1].where}"
        return Verdict(self._action if strong else Action.ALERT, reason, tuple(worst[-MOST:]))

    def _is_strong(self, finding: Finding) -> bool:
        kind = finding.kind.removeprefix("pii.")
        return not finding.rule.startswith(_ALONE) and (kind not in COMMON or kind in self.kinds)
