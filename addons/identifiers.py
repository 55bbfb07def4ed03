r"""Identifiers of people and companies by country: from the TOML table to patterns.

A *form* is a way to write an identifier.  Some are evidence by themselves: a grouping that nothing else has, letters in
their places, a strong check.  The others are mere digits, which count only near a word that names them (see `near`).
"""

import importlib
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from addons import identifier_checks
from addons.near import Named
from addons.scan import Pattern

TABLE: Final = Path(__file__).with_name("rules") / "identifiers.toml"

#: A value takes at most so many bytes, the longest being an IBAN with spaces.
LONGEST: Final = 48

_SIGNS: Final = {"9": r"\d", "A": "[A-Z]", "X": "[0-9A-Z]", "_": "[ ./-]?", " ": " ", ".": r"\."}
#: Nothing that would make the value a part of something longer: of a number, a word, a file name, a time.
_AFTER: Final = rb"(?![\w@]|[.:/-]\w|%[0-9])"
_EDGE: Final = rb"(?:^|[^\w]|\\[nrt]|%[0-9A-Fa-f]{2})"
_HEX: Final = b"0123456789abcdefABCDEF"
#: What must not stand right before a value: money, signs, addresses.
_NEVER_BEFORE: Final = b"+$#@&~^\\"

Check = Callable[[str], bool]
#: Says of a value that it is no finding.
Allowed = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Identifier:
    """One kind: how it is written, alone (`own`) or near a word (`named`), and its check."""

    kind: str
    country: str
    check: Check
    own: bytes
    named: bytes
    words: tuple[str, ...]
    adjectives: tuple[str, ...]
    optional: bool

    @property
    def whole(self) -> "re.Pattern[bytes]":
        """Any form of it, in any case."""
        return re.compile(b"(?i:" + b"|".join(filter(None, (self.own, self.named))) + b")" + _AFTER)

    def valid(self, value: bytes) -> bool:
        return self.check(value.decode("ascii", "replace").upper())

    def alone(self, allowed: Allowed) -> list[Pattern]:
        """Return the pattern of the forms that need no word."""

        def accept(match: re.Match[bytes]) -> bool:
            return begins(match.string, match.start()) and self.valid(match[0]) and not allowed(match[0])

        own = b"(?:" + self.own + b")"
        return [Pattern(self.kind, own + _AFTER, longest=LONGEST, accept=accept, trigger=_EDGE + own)] if self.own else []

    def near(self, allowed: Allowed) -> list[Named]:
        """Return the forms that need one."""
        if not self.named:
            return []
        expression = re.compile(b"(?i:" + self.named + b")" + _AFTER)
        return [Named(self.kind, self.words, self.adjectives, expression, lambda value: self.valid(value) and not allowed(value))]


def begins(text: bytes, start: int) -> bool:
    """True if a value may begin here: not within a longer number, word, file name or amount of money.

    But it may behind what JSON or a URL writes for a quote or a new line.
    """
    if not start:
        return True
    before, second = text[start - 1 : start], text[max(0, start - 2) : start - 1]
    if before.isalnum() or before == b"_":
        if second == b"\\":
            return before in b"nrt"
        return text[max(0, start - 3) : start - 2] == b"%" and second in _HEX and before in _HEX
    if before in b".-":
        return not (second.isalnum() or second in (b"_", b".", b"-", b")") and bool(second))
    if before in b"/:" and second:
        return not second.isdigit()
    return before not in _NEVER_BEFORE


def expression(form: str) -> bytes:
    """Return the regular expression of a form.

    >>> expression("99-9A")
    b'\\\\d\\\\d-\\\\d[A-Z]'
    """
    if form.startswith("re:"):
        return form[3:].encode()
    parts = re.findall(r"\[[^]]*\]|\{[^}]*\}|\\.|\(\?:|.", form)
    return "".join(_SIGNS.get(part, part) for part in parts).encode()


def _joined(forms: list[str]) -> bytes:
    return b"|".join(b"(?:" + expression(form) + b")" for form in forms)


@cache
def check(name: str) -> Check:
    """Return a check by its name: `pl.pesel` of stdnum, or one of ours.  ValueError if there is none."""
    if not name:
        return _anything
    if "." in name:
        module = importlib.import_module("stdnum." + name)
        found: Check = module.is_valid
        return found
    try:
        own: Check = getattr(identifier_checks, name)
    except AttributeError:
        raise ValueError(f"check: {name!r} is unknown") from None
    return own


def _anything(_value: str) -> bool:
    return True


def _identifier(kind: str, row: dict[str, Any], table: dict[str, Any]) -> Identifier:
    country = row.get("country", kind.partition("_")[0])
    words = [*row["words"]]
    for group in row["about"]:
        words += table["groups"][group]
    own = [form[1:] for form in row["forms"] if form.startswith("!")]
    named = [form for form in row["forms"] if not form.startswith("!")]
    lazy: list[Check] = []

    def checked(value: str) -> bool:
        if not lazy:  # stdnum's modules are loaded when the first value asks for them
            lazy.append(check(row.get("check", "")))
        return lazy[0](value)

    return Identifier(kind, country, checked, _joined(own), _joined(named), tuple(dict.fromkeys(words)),
                      tuple(table["countries"].get(country, ())), row.get("optional", False))


@cache
def load(path: Path = TABLE) -> dict[str, Identifier]:
    """Return the identifiers of a table by kind."""
    table = tomllib.loads(path.read_text("utf-8"))
    return {kind: _identifier(kind, row, table) for kind, row in table["kinds"].items()}
