"""Lists of hosts in the formats that are published: hosts files, one name a line, rules, v2fly's domain lists."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from addons.filterlist import To, read, text_of
from addons.names import normal

#: Depth of `include:`; v2fly's own lists need three.
MAX_DEPTH: Final = 8
#: Files that one list may include.
MAX_FILES: Final = 500
#: Expressions of one list: each is tried for every host.
MAX_PATTERNS: Final = 1000

_V2FLY: Final = re.compile(r"(?:(domain|full|keyword|regexp|include):)?(\S+)((?:\s+[@&]\S+)*)\s*")
_TELLING: Final = re.compile(r"^(?:domain|full|keyword|regexp|include):", re.MULTILINE)
_RULE: Final = re.compile(r"\|\|([^/^*$]+)\^")
_NAME: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


@dataclass
class Hosts:
    """What a list holds: names with all below them, names alone, expressions; and the files that it was read from."""

    names: set[str] = field(default_factory=set)
    exact: set[str] = field(default_factory=set)
    patterns: list[re.Pattern[str]] = field(default_factory=list)
    files: tuple[Path, ...] = ()
    ignored: int = 0
    example: str = ""


def read_hosts(file: Path, form: str = "auto") -> Hosts:
    """Read a list.  Raises OSError where a file cannot be read, ValueError where it is no list."""
    found = Hosts()
    text = text_of(file)
    if form == "v2fly" or (form == "auto" and _TELLING.search(text)):
        _v2fly(found, file, text, frozenset(), 0)
    else:
        found.files = (file,)
        for line in text.splitlines():
            _line(found, line, "domains" if form == "domains" else "auto")
    if not (found.names or found.exact or found.patterns):
        raise ValueError("no host in it")
    return found


def _line(found: Hosts, line: str, form: str) -> None:
    for each in read(line, form):
        if each.to in (To.COMMENT, To.COSMETIC):
            continue
        rule = _RULE.fullmatch(each.text.partition("$")[0])
        name = rule[1] if rule else each.text
        if each.to is not To.ENGINE or not _add(found.names, name):
            _ignore(found, line)


def _add(table: set[str], name: str) -> bool:
    try:
        name = normal(name)
    except ValueError:
        return False
    if not _NAME.fullmatch(name):
        return False
    table.add(name)
    return True


def _ignore(found: Hosts, line: str) -> None:
    found.ignored += 1
    found.example = found.example or line


def _v2fly(found: Hosts, file: Path, text: str, wanted: frozenset[str], depth: int) -> None:
    """Add a list of v2fly's; with `wanted`, only entries that have all of these attributes (`@ads`), none of `-ads`."""
    found.files += (file,)
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        parts = _V2FLY.fullmatch(line)
        if not parts:
            _ignore(found, raw)
            continue
        kind, value, attributes = parts[1] or "domain", parts[2], frozenset(parts[3].replace("@", "").split())
        if kind == "include":
            _include(found, file, value, wanted | attributes, depth)
        elif _has(attributes, wanted) and not _entry(found, kind, value):
            _ignore(found, raw)


def _has(attributes: frozenset[str], wanted: frozenset[str]) -> bool:
    return all((name[1:] not in attributes) if name.startswith("-") else (name in attributes) for name in wanted)


def _entry(found: Hosts, kind: str, value: str) -> bool:
    if kind in ("domain", "full"):
        return _add(found.names if kind == "domain" else found.exact, value)
    if len(found.patterns) >= MAX_PATTERNS:
        return False
    try:
        found.patterns.append(re.compile(value if kind == "regexp" else re.escape(value.lower())))
    except re.error:
        return False
    return True


def _include(found: Hosts, file: Path, name: str, wanted: frozenset[str], depth: int) -> None:
    """Lists are beside one another, and their names are no paths."""
    if not re.fullmatch(r"[\w!.-]+", name) or depth >= MAX_DEPTH or len(found.files) >= MAX_FILES:
        raise ValueError(f"include:{name[:80]}: not a name of a list, or included too deep")
    other = next((each for each in (file.with_name(name), file.with_name(f"{name}.txt")) if each.exists()), None)
    if other is None:
        raise ValueError(f"include:{name}: there is no such file beside {file.name}")
    _v2fly(found, other, text_of(other), wanted, depth + 1)
