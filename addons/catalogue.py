"""Applications and their categories: the catalogue, ours and the user's, and what a request or connection is by it.

Theory of operation.  A catalogue is a YAML list of entries; see docs/built-in-filters.md for the fields.  An entry is
found by the longest suffix of the host, its paths by the longest prefix below that host; where no host is known, by the
client: its User-Agent, else the fingerprint of its ClientHello (JA4).  Catalogues are read in order; a later one's host
wins.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import publicsuffixlist
import yaml

from addons.names import parents

OWN: Final = Path(__file__).with_name("catalogue.yaml")
#: What is known of an application is more than what a client says of itself, or what its TLS library looks like.
AGENT_CONFIDENCE, CERTIFICATE_CONFIDENCE, JA4_CONFIDENCE = 0.7, 0.6, 0.5
#: Names of a certificate beyond which it is many owners', as those of content delivery networks are.
MOST_NAMES: Final = 20
#: Hosts whose entries are remembered: the working set of a busy computer.
_REMEMBERED: Final = 4096
#: Bytes of a file.  A user's list of 100 000 hosts has 3 MiB, and takes some seconds.
MAX_FILE: Final = 16 * 1024 * 1024

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
_JA4: Final = re.compile(r"[tqd][0-9s]{2}[di][0-9]{4}[0-9a-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}")
#: The vocabulary of our own categories; a user's catalogue may have others.
CATEGORIES: Final = (
    "advertising", "ai", "analytics", "business", "cdn", "chat", "cloud", "cloud-storage", "code", "crm", "crypto",
    "design", "dns", "education", "file-sharing", "finance", "forum", "games", "government", "health", "identity",
    "jobs", "mail", "maps", "marketing", "meetings", "monitoring", "music", "news", "packages", "paste", "payment",
    "productivity", "reference", "remote-access", "search", "security", "shopping", "social", "translation", "travel",
    "tunnel", "updates", "url-shortener", "video", "vpn", "webhook",
)  # fmt: skip
_FIELDS: Final = {"app", "categories", "hosts", "paths", "agents", "ja4"}


@dataclass(frozen=True, slots=True)
class Entry:
    """An application: its labels, and the paths below its hosts that it is confined to (none: all)."""

    labels: tuple[str, ...]
    paths: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Catalogue:
    """What is looked up: hosts exactly, agents by what they begin with, JA4 exactly."""

    hosts: dict[str, list[Entry]] = field(default_factory=dict)
    agents: dict[bytes, Entry] = field(default_factory=dict)
    ja4: dict[str, Entry] = field(default_factory=dict)
    _agent: re.Pattern[bytes] | None = None
    _find: Any = None

    def finish(self) -> "Catalogue":
        """Make it ready, after all files have been added."""
        for entries in self.hosts.values():
            entries.sort(key=lambda entry: -max(map(len, entry.paths), default=0))
        words = sorted(self.agents, key=len, reverse=True)
        self._agent = re.compile(rb"(?<![\w-])(?:%b)" % b"|".join(map(re.escape, words)), re.I) if words else None
        self._find = lru_cache(_REMEMBERED)(self._suffix)
        return self

    def _suffix(self, host: str) -> tuple[Entry, ...]:
        return next((tuple(self.hosts[name]) for name in parents(host) if name in self.hosts), ())

    def of(self, host: str, path: bytes = b"/") -> tuple[str, ...]:
        """Return the labels of a host, and of a path on it; empty where it is not known."""
        entries: tuple[Entry, ...] = self._find(host)
        if not entries:
            return ()
        for entry in entries:
            if not entry.paths or path.startswith(entry.paths):
                return entry.labels
        # No path fits: the host's parent may have an entry of its own.
        return self.of(host.partition(".")[2], path) if "." in host else ()

    def of_agent(self, agent: bytes) -> tuple[str, ...]:
        """Return the labels of a User-Agent."""
        found = self._agent.search(agent[:512]) if self._agent is not None else None
        return self.agents[found[0].lower()].labels if found else ()

    def of_names(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the labels of a certificate's names, if those that are known are all of one application."""
        found = {labels for name in names if (labels := self.of(name.removeprefix("*.").lower()))}
        return found.pop() if len(found) == 1 else ()

    def of_ja4(self, ja4: str | None) -> tuple[str, ...]:
        return self.ja4[ja4].labels if ja4 in self.ja4 else ()


def load(files: Iterable[Path] = (), own: bool = True) -> Catalogue:
    """Read catalogues, those that have changed; ValueError names every mistake with its file and line."""
    paths = ((OWN,) if own else ()) + tuple(files)
    return _load(tuple((path, _stamp(path)) for path in paths))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise ValueError(f"catalogue {path}: {error.strerror}") from None
    return found.st_mtime_ns, found.st_size


@lru_cache(4)
def _load(files: tuple[tuple[Path, tuple[int, int]], ...]) -> Catalogue:
    made, problems = Catalogue(), list[str]()
    for path, _ in files:
        try:
            entries = _parse(path)
        except (OSError, yaml.YAMLError, UnicodeError, ValueError) as error:
            raise ValueError(f"catalogue {path}: {getattr(error, 'strerror', '') or _flat(error)}") from None
        _add(made, path, entries, problems)
    if problems:
        raise ValueError("\n".join(problems))
    return made.finish()


def _flat(error: Exception) -> str:
    return " ".join(str(error).split())


def _parse(path: Path) -> list[tuple[int, Any]]:
    """Return the entries with the lines at which they begin."""
    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"larger than {MAX_FILE} bytes")
    with path.open(encoding="utf-8") as file:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(file)
        try:
            root = loader.get_single_node()
            if root is None or not isinstance(root, yaml.SequenceNode):
                raise ValueError("not a list of entries `- {app: ..., categories: [...], hosts: [...]}`")
            return [(node.start_mark.line + 1, loader.construct_document(node)) for node in root.value]
        finally:
            loader.dispose()


def _add(made: Catalogue, path: Path, entries: Iterable[tuple[int, Any]], problems: list[str]) -> None:
    here: dict[tuple[str, tuple[bytes, ...]], int] = {}
    for line, entry in entries:
        wrong = [] if path == OWN else list(mistakes(entry))     # a test holds ours
        problems += [f"{path}:{line}: {text}" for text in wrong]
        if wrong:
            continue
        labels = (f"app:{entry['app']}", *(f"category:{name}" for name in entry.get("categories", ())))
        known = Entry(labels, tuple(text.encode() for text in entry.get("paths", ())))
        for host in entry.get("hosts", ()):
            if (first := here.setdefault((host, known.paths), line)) != line:
                problems.append(f"{path}:{line}: {host} is in line {first} already")
            others = [each for each in made.hosts.get(host, ()) if each.paths != known.paths]
            made.hosts[host] = [*others, known]
        made.agents.update((text.lower().encode(), known) for text in entry.get("agents", ()))
        made.ja4.update((text, known) for text in entry.get("ja4", ()))


def mistakes(entry: Any) -> Iterator[str]:
    """Say what is wrong with an entry."""
    if not isinstance(entry, dict):
        yield "not an entry `{app: ..., categories: [...], hosts: [...]}`"
        return
    if unknown := sorted(map(str, set(entry) - _FIELDS)):
        yield f"no such field: {', '.join(unknown)}; there are {', '.join(sorted(_FIELDS))}"
    if not _NAME.fullmatch(str(entry.get("app", ""))):
        yield f"app: {entry.get('app')!r} is no name of lower-case letters, digits, dots and hyphens"
    for key in sorted(_FIELDS - {"app"}):
        value = entry.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            yield f"{key}: not a list of texts"
            return
    checks = (
        ("categories", _NAME.fullmatch, "no name of a category"),
        ("hosts", is_host, "no host name that one owner has, in lower case"),
        ("ja4", _JA4.fullmatch, "no JA4 fingerprint"),
        ("paths", lambda text: text.startswith("/"), "a path begins with /"),
    )
    for key, good, why in checks:
        yield from (f"{key}: {each!r}: {why}" for each in entry.get(key, []) if not good(each))
    if not any(entry.get(key) for key in ("hosts", "agents", "ja4")):
        yield "it is found by nothing: give hosts, agents or ja4"
    if entry.get("paths") and not entry.get("hosts"):
        yield "paths: they are paths below hosts, and there are none"


@cache
def _public() -> publicsuffixlist.PublicSuffixList:
    return publicsuffixlist.PublicSuffixList(only_icann=True)


def is_host(name: str) -> bool:
    """True if it is a host name, in ASCII and lower case, that is not a public suffix such as `co.uk`."""
    return bool(_HOST.fullmatch(name)) and _public().privatesuffix(name) is not None
