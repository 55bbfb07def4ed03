"""What a rule pack allows: the allow lists of gitleaks, and the part of betterleaks' filters that is as plain."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from addons.regexforms import forms
from addons.scan import LOOK, REACH
from addons.secret_rules import entropy

#: How much of the line before a match is looked at where an allow list is about lines.
_LINE: Final = 512
_TARGETS: Final = ("secret", "match", "line")

_CALL: Final = re.compile(
    r"""\s*(?:filter\.)?(?P<negative>!\s*(?:filter\.)?)?(?:
        entropy\(finding\["secret"\]\)\s*(?P<sign><=?)\s*(?P<bits>[\d.]+)
      | (?P<kind>matchesAny|containsAny)\(finding\["secret"\],\s*\[(?P<list>(?:[^\]`"]|`[^`]*`|"(?:[^"\\]|\\.)*")*)\]\)
    )\s*(?P<or>\|\||\Z)""",
    re.VERBOSE,
)
_QUOTED: Final = re.compile(r'`([^`]*)`|"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Allowance:
    """One allow list."""

    regexes: tuple[re.Pattern[bytes], ...]
    stopwords: tuple[bytes, ...]
    target: str
    every: bool
    rules: frozenset[str]

    @classmethod
    def of(cls, table: Any, path: Path, note: Callable[[str], None]) -> "Allowance":
        """Return the allow list of a table; ValueError if it is not of gitleaks' form."""
        if not isinstance(table, dict):
            raise ValueError(f"{path}: an allow list is not a table")
        target, condition = table.get("regexTarget", "secret") or "secret", str(table.get("condition", "OR")).upper()
        if target not in _TARGETS:
            raise ValueError(f"{path}: regexTarget {target!r} is none of {', '.join(_TARGETS)}")
        if condition not in ("AND", "OR", "&&", "||"):
            raise ValueError(f"{path}: condition {condition!r} is neither AND nor OR")
        every = condition in ("AND", "&&")
        regexes = _texts(table, "regexes", path)
        stopwords = _texts(table, "stopwords", path)
        if left := [key for key in ("paths", "commits") if table.get(key)]:
            note(f"{path}: {' and '.join(left)} of an allow list are not evaluated")
            if every:       # a condition that is never met
                regexes, stopwords = [], []
        return cls(tuple(_allowing(each, path) for each in regexes), tuple(word.lower().encode() for word in stopwords),
                   target, every, frozenset(_texts(table, "targetRules", path)))  # fmt: skip

    def meant_for(self, rule: str) -> bool:
        return not self.rules or rule in self.rules

    def covers(self, match: re.Match[bytes], value: bytes) -> bool:
        checks = []
        if self.regexes:
            text = value if self.target == "secret" else match[0] if self.target == "match" else _line(match)
            checks.append(any(each.search(text) for each in self.regexes))
        if self.stopwords:
            lower = value.lower()
            checks.append(any(word in lower for word in self.stopwords))
        return (all if self.every else any)(checks) if checks else False


def _texts(table: dict[str, Any], key: str, path: Path) -> list[str]:
    texts = table.get(key, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path}: {key} of an allow list is not a list of texts")
    return texts


def _allowing(text: str, path: Path) -> re.Pattern[bytes]:
    try:
        # Not bounded by what a match may have: it is tried on short texts only.
        return re.compile(forms(text, 1 << 30, 0, empty=True).regex)
    except (ValueError, re.error) as error:
        raise ValueError(f"{path}: allow list {text[:60]!r}: {error}") from None


def _line(match: re.Match[bytes]) -> bytes:
    """The line of a match, as far as it is near."""
    text, start, end = match.string, match.start(), match.end()
    begin = max(0, start - _LINE, text.rfind(b"\n", max(0, start - _LINE), start) + 1)
    stop = text.find(b"\n", end, end + LOOK)
    return text[begin : stop if stop >= 0 else min(end + LOOK, start + REACH)]


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions of which one is enough to discard a value; `rest` is what was not understood, and is not evaluated."""

    conditions: tuple[Callable[[bytes], bool], ...] = ()
    rest: str = ""

    def __call__(self, value: bytes) -> bool:
        return any(condition(value) for condition in self.conditions)


def filter_of(text: str) -> Filter:
    """Read what betterleaks' filters mostly are: `entropy(...) <= N || matchesAny(...)`.

    A condition discards values, so leaving one out can only find more.
    """
    conditions: list[Callable[[bytes], bool]] = []
    rest = ""
    if re.match(r"\s*let\s", text):
        return Filter((), text.strip())
    for part in re.split(r"(?m)^\s*\|\||\|\|(?=\s*(?:!?\s*(?:filter\.)?(?:entropy|matchesAny|containsAny)\())", text):
        if not part.strip():
            continue
        if not (match := _CALL.fullmatch(part)):
            rest = rest or part.strip()
            continue
        conditions.append(_condition(match))
    return Filter(tuple(conditions), rest)


def _condition(match: re.Match[str]) -> Callable[[bytes], bool]:
    wanted = not match["negative"]
    if match["sign"]:
        bits, equal = float(match["bits"]), match["sign"] == "<="
        return lambda value: ((found := entropy(value)) < bits or (equal and found == bits)) is wanted
    texts = [raw or re.sub(r"\\(.)", r"\1", quoted) for raw, quoted in _QUOTED.findall(match["list"])]
    if match["kind"] == "containsAny":
        words = [text.encode() for text in texts]
        return lambda value: any(word in value for word in words) is wanted
    regexes = [re.compile(forms(text, 1 << 30, 0, empty=True).regex) for text in texts]
    return lambda value: any(regex.search(value) for regex in regexes) is wanted
