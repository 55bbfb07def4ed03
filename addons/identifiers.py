r"""Identifiers of people and companies by country: from the TOML table to patterns.

A *form* is a way to write an identifier.  Some are evidence by themselves: a grouping that nothing else has, letters in
their places, a strong check.  The others are mere digits, which count only near a word that names them (see `near`).
"""

import importlib
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from addons import european_checks, identifier_checks
from addons.near import BEGINS, Named, begins, stands
from addons.scan import Pattern
from addons.shapes import shape

TABLE: Final = Path(__file__).with_name("rules") / "identifiers.toml"

#: A value takes at most so many bytes, the longest being an IBAN with spaces.
LONGEST: Final = 48

_SIGNS: Final = {"9": r"\d", "A": "[A-Z]", "X": "[0-9A-Z]", "_": "[ ./-]?", " ": " ", ".": r"\."}
#: Nothing that would make the value a part of something longer: of a number, a word, a file name, a time.
_AFTER: Final = rb"(?![\w@]|[.:/-]\w|%[0-9])"
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

    def alone(self, allowed: Allowed) -> list[Named]:
        """Return the forms that need no word."""
        return [self._named(self.own, allowed)] if self.own else []

    def near(self, allowed: Allowed) -> list[Named]:
        """Return the forms that need one."""
        return [self._named(b"(?i:" + self.named + b")", allowed)] if self.named else []

    def _named(self, forms: bytes, allowed: Allowed) -> Named:
        def accept(value: bytes) -> bool:
            return self.valid(value) and not allowed(value)

        expression = re.compile(b"(?:" + forms + b")" + _AFTER)
        return Named(self.kind, self.words, self.adjectives, expression, accept)


#: What every form that needs no word has in it.  Few and simple, so that the engine is fast: they replace some sixty.
_TRIGGERS: Final = (
    rb"\d[-. ]\d\d[-. ]\d{4}",
    rb"\d{6}(?:[-+/]\d{3}|[A-Z]|-[A-Z0-9]{3}|\([0-9A]\))",
    rb"\d{7}-[A-Z]",
    rb"\d\.\d{2,3}-[0-9kK]",
    rb"\d(?:/\d{4}-\d\d|\.\d-\d{3}\.\d|-\d{7,8}-\d)|[VEJPG]-\d{8}-\d",
    rb"\d-\d\d-\d{5}|-\d{5}-\d\d-\d|\d{3}-\d{3}-\d{3} \d\d",
    rb"\d{4}(?:-\d{4}-\d| \d{4} \d{4}| \d{5} \d)",
    rb"\d\d \d{3} \d{3} \d{3}",
    rb"[A-Z]{2} \d\d \d\d \d\d [A-D]|[12] \d\d \d\d [0-9][0-9AB] \d{3} \d{3}|\d{8} \d [A-Z]{2}\d",
    rb"756\.\d{4}\.|CHE-\d{3}\.|[A]TU\d{8}|FR[0-9A-Z]{2}\d{9}|BE [01]\d{3}\.|CZ\d{8}|HR[AB] ?\d",
    rb"\d[A-Z][A-Z0-9]\d-[A-Z][A-Z0-9]\d-|[A-Z]{5}\d{4}[A-Z]|[A-Z]\d\d[A-Z]\d{3}[A-Z]|[RST]\d\d[A-Z]{2}\d{4}[A-Z]",
    rb"(?:^|[^\w.])[1-9]\d{5}(?:19|20)\d{6}",
)
#: Where one may begin.
_START: Final = BEGINS + rb"(?<![0-9A-Za-z_])(?=[A-Z]{0,6}+[ -]?+[0-9])"


def standing(kinds: Sequence[Named]) -> list[Pattern]:
    """Return the pattern that finds these kinds wherever they stand; its hits have their names."""
    if not kinds:
        return []
    any_of = re.compile(b"|".join(each.expression.pattern for each in kinds))

    def accept(match: re.Match[bytes]) -> tuple[tuple[str, int], ...]:
        text, start = match.string, match.start()
        if not any_of.match(text, start) or not begins(text, start):
            return ()
        values = ((each, each.expression.match(text, start)) for each in kinds)
        return tuple((each.kind, value.end()) for each, value in values
                     if value and stands(text, start, value.end()) and each.check(value[0]))

    start = _START + shape(tuple(each.expression.pattern for each in kinds))
    return [Pattern("standing", start, longest=LONGEST, accept=accept, trigger=_TRIGGERS)]


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
        return _careful(module.is_valid)
    own: Check | None = getattr(european_checks, name, None) or getattr(identifier_checks, name, None)
    if own is None:
        raise ValueError(f"check: {name!r} is unknown")
    return own


def _careful(check: Check) -> Check:
    """Return a check that refuses what stdnum stumbles over: `cn.ric` raises KeyError for some counties."""

    def careful(value: str) -> bool:
        try:
            return check(value)
        except (LookupError, ValueError, ArithmeticError):
            return False

    return careful


def _anything(_value: str) -> bool:
    return True


def _identifier(kind: str, row: dict[str, Any], table: dict[str, Any]) -> Identifier:
    country = row.get("country", kind.partition("_")[0])
    words = [*row["words"]]
    for group in row["about"]:
        words += table["groups"][group]
    own = [form[1:] for form in row["forms"] if form.startswith("!")]
    named = [form for form in row["forms"] if not form.startswith("!")]
    adjectives = tuple(table["countries"].get(country, ()))
    known = tuple(dict.fromkeys(words))
    valid = check(row.get("check", ""))
    return Identifier(kind, country, valid, _joined(own), _joined(named), known, adjectives, row.get("optional", False))


@cache
def _table(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))


def rows(path: Path = TABLE) -> dict[str, dict[str, Any]]:
    """Return the kinds of a table as they are written there."""
    kinds: dict[str, dict[str, Any]] = _table(path)["kinds"]
    return kinds


@cache
def load(path: Path = TABLE) -> dict[str, Identifier]:
    """Return the identifiers of a table by kind."""
    return {kind: _identifier(kind, row, _table(path)) for kind, row in rows(path).items()}
