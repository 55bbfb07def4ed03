"""Put hosts into categories by lists that the user names, and block some of them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from mitmproxy import http

from addons.connection import Connection
from addons.hostlist import read_hosts
from addons.names import host_of, parents
from addons.verdict import Verdict, block, label

#: Begins the labels; rules say `~label category:gambling`.
LABEL: Final = "category:"


@dataclass(frozen=True)
class CategoryList:
    """A list of hosts of one category: `file` is read, `url` is where `lockgate lists update` gets it from."""

    category: str
    file: Path
    url: str = ""
    format: Literal["auto", "adblock", "hosts", "domains", "v2fly"] = "auto"
    sha256: str = ""

    def __post_init__(self) -> None:
        if not self.category or any(not (c.isalnum() or c in "-_.") for c in self.category):
            raise ValueError(f"{self.category!r} is no name of a category: letters, digits, - _ .")


@dataclass
class Categories:
    """Categories of hosts.

    `lists` say which file has the hosts of which category, in the hosts format, one name a line, as rules
    (`||name.example^`) or in v2fly's domain-list format (`domain:`, `full:`, `keyword:`, `regexp:`, `include:` of a
    file beside it).  A host gets the label `category:NAME` for each; those of `block` are blocked, before they are
    dialled if that is possible.  `lockgate lists update` keeps lists with a `url` up to date.
    """

    lists: tuple[CategoryList, ...] = ()
    block: tuple[str, ...] = ()
    _names: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = {each.category for each in self.lists}
        problems = [f"block: no list has the category {name!r}" for name in self.block if name not in known]
        found: dict[str, list[str]] = {}
        exact: dict[str, list[str]] = {}
        self._patterns = []
        self.files: tuple[Path, ...] = ()
        self.notes: list[str] = []
        for each in self.lists:
            try:
                read = read_hosts(each.file, each.format)
            except (OSError, ValueError) as error:
                hint = "; `lockgate lists update` gets it" if each.url else ""
                problems.append(f"{each.file}: {getattr(error, 'strerror', None) or error}{hint}")
                continue
            self.files += read.files
            for table, names in ((found, read.names), (exact, read.exact)):
                for name in names:
                    if each.category not in table.setdefault(name, []):
                        table[name].append(each.category)
            self._patterns += [(pattern, each.category) for pattern in read.patterns]
            count = len(read.names) + len(read.exact) + len(read.patterns)
            self.notes.append(f"{each.category}: {count} hosts of {each.file.name}")
            if read.ignored:
                self.notes.append(f"{each.file.name}: {read.ignored} lines not understood, as {read.example[:100]}")
        if problems:
            raise ValueError("\n".join(problems))
        shared: dict[tuple[str, ...], tuple[str, ...]] = {}     # a million names have a handful of sets
        self._names = {name: shared.setdefault(t := tuple(c), t) for name, c in found.items()}
        self._exact = {name: shared.setdefault(t := tuple(c), t) for name, c in exact.items()}

    def of(self, host: str) -> tuple[str, ...]:
        """Return the categories of a host: its own and those of the names above it."""
        found = dict.fromkeys(self._exact.get(host, ()))
        for name in parents(host):
            found.update(dict.fromkeys(self._names.get(name, ())))
        found.update((category, None) for pattern, category in self._patterns if pattern.search(host))
        return tuple(found)

    def connection(self, conn: Connection) -> Verdict | None:
        return self._judge(conn, conn.host) if conn.host else None

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        try:
            return self._judge(flow, host_of(flow.request))
        except ValueError as error:
            return block(f"{error}; a name that cannot be compared is not let through") if self.block else None

    def _judge(self, subject: http.HTTPFlow | Connection, host: str) -> Verdict | None:
        found = self.of(host)
        for name in found:
            label(subject, LABEL + name)
        blocked = [name for name in found if name in self.block]
        return block(f"{host} is of the category {blocked[0]}") if blocked else None
