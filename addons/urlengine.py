"""Filter lists made into what judges by them: the `adblock` engine, a set of names, and our matcher for what it lacks.

Theory of operation.  Compiling 150 000 rules takes half a second with the interpreter held, so what comes out is kept
in a file named by a hash of all that went in, and loading that takes a tenth.  In a thread, as on a reload, compiling
is done by a process of its own: connections go on meanwhile.  Rules that name a host and nothing else, as all those of
hosts files, are in the set: the engine would take eight times the memory, and the time to load it.
"""

import bisect
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import adblock

from addons import keeping
from addons.filterlist import To, read
from addons.urlindex import Matcher
from addons.urlmatch import Rule

#: Part of the key of what is kept: another number where the form of rules or of the file changes.
VERSION: Final = 3
#: Compiled sets that are kept; the oldest go first.  A policy has one, and its predecessor may be in use.
_KEPT: Final = 4
#: Rules for our own matcher that one set may have: they are compared in Python.
MAX_OURS: Final = 20_000
#: A rule that names a host and nothing else.
_HOST: Final = re.compile(r"\|\|((?:[a-z0-9_-]+\.)*[a-z0-9_-]+)\^")
#: Lines by which a list without a format is told to be a list of names.
_SAMPLE: Final = 200
#: Seconds that the process which compiles may take; a million rules take ten.
_PATIENCE: Final = 120


@dataclass
class Stats:
    """What became of the lines: numbers, and one example of each thing that is not supported."""

    engine: int = 0
    ours: int = 0
    cosmetic: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """Return what an operator should know of the lists, a line each."""
        lines = [f"{self.engine + self.ours} URL rules, {self.ours} of them beyond the engine"]
        if self.cosmetic:
            lines.append(f"{self.cosmetic} rules about the look of pages have no effect")
        most = sorted(self.ignored.items(), key=lambda item: -item[1])
        lines += [f"{count} lines not supported: {why}, as {self.examples[why][:100]}" for why, count in most]
        return lines


class Places:
    """Where each rule stands, as list and line number, in 16 bytes a rule."""

    def __init__(self, keys: array[int], values: array[int], names: list[str]) -> None:
        self._keys, self._values, self.names = keys, values, names

    @classmethod
    def of(cls, found: Iterable[tuple[str, int, int]], names: list[str]) -> "Places":
        """Make it from (rule, number of the list, number of the line)."""
        pairs = sorted((_key(rule), which << 32 | line) for rule, which, line in found)
        return cls(array("Q", (key for key, _ in pairs)), array("Q", (value for _, value in pairs)), names)

    def find(self, rule: str) -> str:
        key = _key(rule)
        at = bisect.bisect_left(self._keys, key)
        if at == len(self._keys) or self._keys[at] != key:
            return "the lists"
        return f"{self.names[self._values[at] >> 32]}:{self._values[at] & 0xFFFFFFFF}"

    def dump(self) -> bytes:
        return self._keys.tobytes() + self._values.tobytes()

    @classmethod
    def load(cls, data: bytes, names: list[str]) -> "Places":
        keys, values, half = array("Q"), array("Q"), len(data) // 2
        keys.frombytes(data[:half])
        values.frombytes(data[half:])
        return cls(keys, values, names)


@dataclass
class Compiled:
    """What a filter judges by."""

    engine: adblock.Engine
    hosts: frozenset[str]
    matcher: Matcher | None
    places: Places
    stats: Stats


@dataclass(frozen=True)
class Source:
    """One list: its name in reasons, its format (see `filterlist.read`), its text."""

    name: str
    form: str
    text: str


def compiled(sources: list[Source]) -> Compiled:
    """Return the sources compiled, from what is kept if that is there."""
    name = _name(sources)
    if (made := _living.get(name)) is None:
        made = _living[name] = _fetch(sources, keeping.folder("urls"), name)
    return made


def _fetch(sources: list[Source], folder: Path | None, name: str) -> Compiled:
    if folder is None:
        return _finish(_compile(sources))
    file = folder / f"{name}.rules"
    if not file.exists():
        if threading.current_thread() is threading.main_thread():
            _store(file, _compile(sources))
        else:
            _elsewhere(sources, file)
    try:
        return _load(file)
    except (OSError, ValueError, KeyError, adblock.AdblockException):    # damaged: what is kept is a convenience
        file.unlink(missing_ok=True)
        return _finish(_compile(sources))


#: What filters in use are judging by: a reload that leaves the lists as they are need not load them again.
_living: WeakValueDictionary[str, Compiled] = WeakValueDictionary()

@dataclass
class Parts:
    """The same, as it is kept."""

    engine: bytes
    hosts: str              # names, a line each
    ours: list[str]
    places: Places
    stats: Stats


def _compile(sources: list[Source]) -> Parts:
    """Return what is made of all lines."""
    rules: list[str] = []
    hosts: dict[str, None] = {}
    ours: list[str] = []
    places: list[tuple[str, int, int]] = []
    stats, ignored = Stats(), Counter[str]()
    for which, source in enumerate(sources):
        form = _form(source)
        for number, line in enumerate(source.text.splitlines(), 1):
            for each in read(line, form):
                if each.to is To.ENGINE and (found := _HOST.fullmatch(each.text)):
                    hosts[found[1]] = None
                elif each.to is To.ENGINE:
                    rules.append(each.text)
                elif each.to is To.OURS and len(ours) < MAX_OURS and _sound(each.text):
                    ours.append(each.text)
                elif each.to is To.COSMETIC:
                    stats.cosmetic += 1
                    continue
                elif each.to is To.COMMENT:
                    continue
                else:
                    why = each.why or "an expression that is none, or one rule too many"
                    ignored[why] += 1
                    stats.examples.setdefault(why, f"{source.name}:{number}: {line[:100]}")
                    continue
                places.append((each.text, which, number))
    for rule in rules:
        if rule.endswith("^$badfilter"):
            hosts.pop(rule[2 : -len("^$badfilter")], None)
    stats.engine, stats.ours, stats.ignored = len(rules) + len(hosts), len(ours), dict(ignored)
    filters = adblock.FilterSet(debug=True)
    filters.add_filters(rules, "standard")
    where = Places.of(places, [source.name for source in sources])
    return Parts(adblock.Engine(filters).serialize(), "\n".join(hosts), ours, where, stats)


def _form(source: Source) -> str:
    return source.form if source.form != "auto" else _told(source.text)


def _told(text: str) -> str:
    """`domains` if the list begins with nothing but names, as no list of rules does; else `auto`."""
    lines = list(islice((line for line in text.splitlines() if line.strip() and line[0] not in "!#["), _SAMPLE))
    names = sum("." in line and line.replace(".", "").replace("-", "").isalnum() for line in lines)
    return "domains" if len(lines) > 10 and names > 0.95 * len(lines) else "auto"


def _sound(rule: str) -> bool:
    try:
        Rule(rule)
    except ValueError:
        return False
    return True


def _finish(parts: Parts) -> Compiled:
    engine = adblock.Engine(adblock.FilterSet())
    engine.deserialize(parts.engine)
    matcher = Matcher(map(Rule, parts.ours)) if parts.ours else None
    return Compiled(engine, frozenset(parts.hosts.split()), matcher, parts.places, parts.stats)


# -- what is kept


def _name(sources: list[Source]) -> str:
    digest = hashlib.sha256(f"{VERSION} {version('adblock')} {sys.byteorder}".encode())
    for source in sources:
        digest.update(json.dumps([source.name, source.form, len(source.text)]).encode())
        digest.update(source.text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _store(file: Path, made: Parts) -> None:
    """Write it whole or not at all; a folder that is full or read-only costs time at the next start, no more."""
    parts = (bytes(made.engine), made.places.dump(), made.hosts.encode())
    sizes = list(map(len, parts))
    head: dict[str, Any] = {"ours": made.ours, "names": made.places.names, "stats": asdict(made.stats),
                            "parts": sizes, "digest": _digest(sizes, parts)}  # fmt: skip
    new = None
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".", delete=False) as new:
            new.write(json.dumps(head).encode() + b"\n")
            for part in parts:
                new.write(part)
        Path(new.name).replace(file)
        for old in sorted(file.parent.glob("*.rules"), key=lambda each: -each.stat().st_mtime)[_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError:
        if new is not None:
            Path(new.name).unlink(missing_ok=True)


def _digest(sizes: list[int], parts: Iterable[bytes]) -> int:
    """Return a check against damage; the folder is ours alone."""
    digest = zlib.crc32(str(sizes).encode())
    for part in parts:
        digest = zlib.crc32(part, digest)
    return digest


def _load(file: Path) -> Compiled:
    with file.open("rb") as data:
        head = json.loads(data.readline())
        parts = [data.read(size) for size in head["parts"]]
    if _digest(head["parts"], parts) != head["digest"]:
        raise ValueError("damaged")
    os.utime(file)
    places, hosts = Places.load(parts[1], head["names"]), parts[2].decode()
    return _finish(Parts(parts[0], hosts, head["ours"], places, Stats(**head["stats"])))


def _elsewhere(sources: list[Source], file: Path) -> None:
    """Compile in another process, which leaves the file; where it fails, ours will do it."""
    root = str(Path(__file__).resolve().parent.parent)
    program = f"import sys; sys.path.insert(0, {root!r}); from addons.urlengine import main; main()"
    request = json.dumps({"file": str(file), "sources": [asdict(source) for source in sources]})
    try:
        subprocess.run([sys.executable, "-I", "-c", program], input=request.encode(), timeout=_PATIENCE,
                       stdout=subprocess.DEVNULL, check=False)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return


def main() -> None:
    """Compile what standard input says."""
    os.nice(5)
    request = json.load(sys.stdin)
    _store(Path(request["file"]), _compile([Source(**each) for each in request["sources"]]))


def _key(rule: str) -> int:
    return int.from_bytes(hashlib.blake2b(rule.encode("utf-8", "surrogatepass"), digest_size=8).digest())


