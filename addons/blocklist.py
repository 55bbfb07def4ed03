"""Block hosts by name, suffix, address and network, from the policy and from list files."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mitmproxy import http

from addons.connection import Connection
from addons.names import host_of, normal
from addons.verdict import Verdict, block

#: Names that every hosts file has for the machine itself; they are no block entries.
_LOCAL: Final = frozenset({"localhost", "localhost.localdomain", "local", "broadcasthost", "0.0.0.0"})  # noqa: S104
_ADDRESS: Final = re.compile(r"[\d.]+|[0-9a-f:]*:[0-9a-f:.]*(?:%\w+)?", re.IGNORECASE)
_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*{_LABEL}")
#: Bad lines of one file that are reported; a file in a wrong format has a million of them.
_REPORTED: Final = 10

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class HostSet:
    """Entries and where each came from; a look-up walks up the parents of a name.

    An entry covers its name and all names under it; `=name` covers the name alone, `*.name` or `.name` only those
    under it.
    """

    def __init__(self) -> None:
        self._whole: dict[str, str] = {}
        self._exact: dict[str, str] = {}
        self._under: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        self._networks: dict[tuple[int, int], dict[int, tuple[Network, str]]] = {}

    def add(self, entry: str, source: str) -> None:
        """Add one entry; ValueError if it is none."""
        entry = entry.strip()
        if network := _network(entry):
            by_prefix = self._networks.setdefault((network.version, network.prefixlen), {})
            by_prefix.setdefault(int(network.network_address), (network, source))
            return
        table, name = self._whole, entry
        if entry.startswith("="):
            table, name = self._exact, entry[1:]
        elif entry.startswith(("*.", ".")):
            table, name = self._under, entry.lstrip("*").lstrip(".")
        name = normal(name)
        if not _NAME.fullmatch(name):
            raise ValueError(f"{entry[:80]!r} is neither a host name nor an address nor a network")
        table.setdefault(name, source)

    def find(self, host: str) -> tuple[str, str] | None:
        """Return the entry that covers a normalised name or an address, and its source."""
        if source := self._exact.get(host):
            return f"={host}", source
        if self._networks and (found := self._find_address(host)):
            return found
        name, under = host, False
        while name:
            if source := self._whole.get(name):
                return name, source
            if under and (source := self._under.get(name)):
                return f"*.{name}", source
            name, under = name.partition(".")[2], True
        return None

    def _find_address(self, host: str) -> tuple[str, str] | None:
        if not (host[-1:].isdigit() or ":" in host):
            return None
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        bits = address.max_prefixlen
        for (version, prefix), networks in self._networks.items():
            if version == address.version and (found := networks.get(int(address) >> bits - prefix << bits - prefix)):
                return str(found[0]), found[1]
        return None


def _network(entry: str) -> Network | None:
    """Return the entry as a network, a single address being one; ValueError if host bits are set."""
    digits = entry.strip("[]")
    if not (digits[-1:].isdigit() or ":" in digits):
        return None
    try:
        return ipaddress.ip_network(digits, strict=True)
    except ValueError:
        if "/" in entry:
            raise ValueError(f"{entry!r} is not a network; write it as 192.0.2.0/24") from None
        return None


def entries(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield line number and entry of a list in hosts format (`0.0.0.0 name ...`) or with one entry a line."""
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words or words[0].startswith("!"):
            continue
        if len(words) > 1 and _ADDRESS.fullmatch(words[0]):
            yield from ((number, word) for word in words[1:] if not _is_local(word))
        elif len(words) > 1:
            yield number, line.strip()
        elif not _is_local(words[0]):
            yield number, words[0]


def _is_local(word: str) -> bool:
    return word in _LOCAL or word.startswith("ip6-")


@dataclass
class Hosts:
    """Blocked hosts.

    Entries of `hosts` and `files`: `name.example` covers the name and its sub-domains, `=name.example` the name alone,
    `*.name.example` or `.name.example` its sub-domains alone; `192.0.2.7`, `2001:db8::/32` addresses and networks.
    Files are in hosts format (`0.0.0.0 name`) or have one entry a line; `#` and `!` begin comments.  A running proxy
    reads them again when they have changed.  A connection is judged by the name that it asks for and by its address,
    before it is dialled, and a request by its host.
    """

    hosts: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    _set: HostSet = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._set = HostSet()
        problems: list[str] = []
        for index, entry in enumerate(self.hosts):
            try:
                self._set.add(entry, "hosts")
            except ValueError as error:
                problems.append(f"hosts[{index}]: {error}")
        for path in self.files:
            problems += self._read(Path(path))
        if problems:
            raise ValueError("\n".join(problems))

    def _read(self, path: Path) -> list[str]:
        problems: list[str] = []
        source = path.name
        try:
            with path.open(encoding="utf-8-sig") as lines:
                for number, entry in entries(lines):
                    try:
                        self._set.add(entry, source)
                    except ValueError as error:
                        problems.append(f"{path}:{number}: {error}")
                        if len(problems) == _REPORTED:
                            return [*problems, f"{path}: more such lines are not listed"]
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
        except UnicodeDecodeError:
            problems.append(f"{path}: not a text file in UTF-8")
        return problems

    def connection(self, conn: Connection) -> Verdict | None:
        return (self._judge(conn.host) if conn.host else None) or self._judge(conn.address[0])

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        try:
            return self._judge(host_of(flow.request))
        except ValueError as error:
            return block(f"{error}; a name that cannot be compared is not let through")

    def _judge(self, host: str) -> Verdict | None:
        found = self._set.find(host)
        return block(f"host is blocked: {found[0]} in {found[1]}") if found else None
