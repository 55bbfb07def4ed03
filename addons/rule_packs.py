"""Rule packs in gitleaks' TOML format (github.com/gitleaks/gitleaks, README, Configuration), made into rules.

A pack is written for files of a repository.  Here there are messages: what depends on a path, a commit or a rule
beside it is left out, and the notes say so.  A rule must be translatable whole, or its error names file and rule.
"""

import re
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from addons.allowances import Allowance, Filter, filter_of
from addons.regexforms import Forms, forms
from addons.scan import CARRY, LOOK, REACH, Pattern, group
from addons.secret_checks import in_base64
from addons.secret_rules import Rule, entropy, is_placeholder

#: The most that a match may have, and how far behind its start a literal may be: see `Pattern`.
_LONGEST: Final = REACH - LOOK
_BEFORE: Final = CARRY - REACH - LOOK
#: A keyword that is not within the expression must stand this many bytes before a match, or LOOK behind it.
_NEAR: Final = 512
#: Files that extend each other.
_CHAIN: Final = 5
#: Bytes of a pack.  Those of the largest collections known have half a million.
_LARGEST: Final = 8 * 1024 * 1024

#: What a rule may have; other keys are noted, since a later format may have meant them to narrow the rule.
_KEYS: Final = {"id", "description", "regex", "secretGroup", "entropy", "keywords", "tags", "allowlist", "allowlists",
                "filter", "skipReport", "home", "weak", "placeholders"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pack:
    """What one file gives: rules, ids of rules that it disables, what it asks for that is not done, files it read."""

    rules: tuple[Rule, ...]
    disabled: frozenset[str]
    notes: tuple[str, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Accept:
    """gitleaks' judgement of a match."""

    entropy: float
    digit: bool
    near: re.Pattern[bytes] | None
    filter: Filter
    allowed: tuple[Allowance, ...]
    placeholders: bool

    def __call__(self, match: re.Match[bytes]) -> bool:
        value = match[group(match)]
        return (
            (not self.entropy or entropy(value) > self.entropy)
            and not (self.digit and not re.search(rb"\d", value))
            and not (self.placeholders and is_placeholder(value))
            and not self.filter(value)
            and self._is_near(match)
            and not in_base64(match.string, match.start(group(match)), value)
            and not any(each.covers(match, value) for each in self.allowed)
        )

    def _is_near(self, match: re.Match[bytes]) -> bool:
        if not self.near:
            return True
        return bool(self.near.search(match.string, max(0, match.start() - _NEAR), match.end() + LOOK))


def read(path: Path) -> Pack:
    """Read a pack and those that it extends.

    Raises ValueError, naming file and rule, for what cannot be read or translated; one error for all rules.
    """
    stamps, pack = _packs.get(path, ({}, None))
    if pack is None or stamps != {file: _stamp(file) for file in pack.files}:
        began, pack = time.time_ns(), _read(path)
        stamps = {file: _stamp(file) for file in pack.files}
        if all(changed < began for changed, _ in stamps.values()):      # else who knows what was read
            _packs[path] = stamps, pack
    return pack


#: What has been translated, for all instances, until one of its files changes: 400 rules take a quarter of a second.
_packs: Final[dict[Path, tuple[dict[Path, tuple[int, int]], Pack]]] = {}


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    return found.st_mtime_ns, found.st_size


def _read(path: Path) -> Pack:
    loaded = _load(path, _CHAIN)
    notes = list(loaded.notes)
    common = [Allowance.of(table, path, note=notes.append) for table in loaded.allowlists]
    problems: list[str] = []
    rules: list[Rule] = []
    for table in loaded.rules.values():
        try:
            rules += _rule(table, [each for each in common if each.meant_for(table["id"])], path, notes.append)
        except (ValueError, re.error) as error:
            problems.append(f"{path}: rule {table['id']!r}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return Pack(tuple(rules), loaded.disabled, tuple(notes), loaded.files)


@dataclass(frozen=True, slots=True)
class _Loaded:
    rules: dict[str, dict[str, Any]]
    allowlists: list[dict[str, Any]]
    disabled: frozenset[str]
    notes: tuple[str, ...]
    files: tuple[Path, ...]


def _load(path: Path, chain: int) -> _Loaded:
    """Read the tables of a file, those that it extends below its own."""
    tables = _tables(path)
    extend = tables.get("extend", {})
    disabled = frozenset(_texts(extend, "disabledRules", path))
    allowlists = _allowlists(tables)
    rules: dict[str, dict[str, Any]] = {}
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = (path,)
    if below := extend.get("path"):
        if chain == 1:
            raise ValueError(f"{path}: more than {_CHAIN} files extend each other")
        base = _load((path.parent / below).absolute(), chain - 1)
        rules, allowlists, notes = dict(base.rules), [*base.allowlists, *allowlists], base.notes
        disabled, files = disabled | base.disabled, (*base.files, path)
    for number, table in enumerate(tables.get("rules", ()), 1):
        if not isinstance(table, dict) or not isinstance(table.get("id"), str) or not table["id"]:
            raise ValueError(f"{path}: rule {number} has no id")
        rules[table["id"]] = _merged(rules.get(table["id"], {}), table)
    if unknown := sorted(set(tables) & {"prefilter", "filter"}):
        notes += (f"{path}: the {' and '.join(unknown)} of the whole file not evaluated",)
    kept = {name: table for name, table in rules.items() if name not in disabled}
    return _Loaded(kept, allowlists, disabled, notes, files)


def _tables(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST >> 20} MiB")
        tables = tomllib.loads(data.decode())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # TOML, UTF-8
        raise ValueError(f"{path}: {error}") from None
    for key, kind in (("rules", list), ("extend", dict), ("allowlist", dict), ("allowlists", list)):
        if not isinstance(tables.get(key, kind()), kind):
            raise ValueError(f"{path}: {key} is not of gitleaks' form")
    return tables


def _merged(below: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """gitleaks' way: what the upper one says holds; its keywords and allow lists are added."""
    merged = {**below, **table}
    if isinstance(added := table.get("keywords"), list):
        merged["keywords"] = [*below.get("keywords", ()), *added]
    if allowlists := [*_allowlists(below), *_allowlists(table)]:
        merged["allowlists"] = allowlists
        merged.pop("allowlist", None)
    return merged


def _allowlists(table: dict[str, Any]) -> list[dict[str, Any]]:
    single = table.get("allowlist")
    return [*([single] if single else []), *table.get("allowlists", ())]


def _texts(table: dict[str, Any], key: str, path: Path) -> list[str]:
    texts = table.get(key, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path}: {key} is not a list of texts")
    return texts


def _rule(table: dict[str, Any], common: list[Allowance], path: Path, note: Callable[[str], None]) -> Iterator[Rule]:
    name, where = table["id"], f"{path}: rule {table['id']!r}"
    if "regex" not in table or table.get("skipReport"):
        note(f"{where} is left out: {'it only serves other rules' if 'regex' in table else 'it is about paths only'}")
        return
    if unknown := sorted(set(table) - _KEYS):
        note(f"{where}: {', '.join(unknown)} not evaluated")
    made = forms(_text(table, "regex"), _LONGEST, _BEFORE, _number(table, "secretGroup", int))
    own = [Allowance.of(each, path, note=note) for each in _allowlists(table)]
    judged = filter_of(_text(table, "filter"))
    if judged.rest:
        note(f"{where}: not evaluated in its filter: {judged.rest[:80]}")
    accept = _Accept(
        entropy=_number(table, "entropy", (int, float)),
        digit=name.startswith("generic"),
        near=_near(_texts(table, "keywords", path), made),
        filter=judged,
        allowed=(*own, *common),
        placeholders=bool(table.get("placeholders")),
    )
    pattern = Pattern(name, made.regex, made.keywords, made.before, made.longest, accept, made.trigger)
    yield Rule(name, pattern, tuple(_texts(table, "home", path)), bool(table.get("weak")))


def _text(table: dict[str, Any], key: str) -> str:
    if not isinstance(text := table.get(key, ""), str):
        raise ValueError(f"{key} is not a text")
    return text


def _number(table: dict[str, Any], key: str, kind: Any) -> Any:
    number = table.get(key, 0)
    if not isinstance(number, kind) or isinstance(number, bool) or number < 0:
        raise ValueError(f"{key} is not a number")
    return number


def _near(keywords: list[str], made: Forms) -> re.Pattern[bytes] | None:
    """What must stand near a match, unless each match has it anyway."""
    words = [word.lower().encode() for word in keywords]
    if not words or (made.keywords and all(any(word in each for word in words) for each in made.keywords)):
        return None
    return re.compile(rb"(?i)" + rb"|".join(map(re.escape, words)))
