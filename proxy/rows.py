"""One connection as it is shown, chosen, sorted and given to programs."""

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from proxy.workers import Known
from redirector.plan import Endpoint

#: How a host name is known: the connection's own ClientHello or request, or another's to the same address.
OWN, SEEN = "connection", "address"
#: The role of what belongs to lockgate itself.
PROXY = "proxy"


@dataclass(slots=True, eq=False)
class Row:
    """One connection. Times are seconds of the epoch; `sent` and `received` are the local end's, None where unknown.

    `first` is when it began, or where `began` is False, when it was first seen. `role` is PROXY for the proxy's own.
    """

    protocol: str
    local: Endpoint
    remote: Endpoint
    state: str
    cookie: int
    first: float
    began: bool = False
    ended: float | None = None
    sent: int | None = None
    received: int | None = None
    pid: int | None = None
    exe: str = ""
    user: str = ""
    host: str = ""
    host_from: str = ""
    verdict: str = ""
    labels: tuple[str, ...] = ()
    role: str = ""
    known: Known | None = None
    recorded: bool = False      # in the history, as captured
    searches: int = 0           # for the process that holds it

    @property
    def captured(self) -> bool:
        return self.recorded or (self.known is not None and self.role != PROXY)

    @property
    def app(self) -> str:
        """The file name of the executable."""
        return self.exe.rpartition("/")[2]

    @property
    def listening(self) -> bool:
        """Has it no peer, so that it waits for any?"""
        return self.state in ("LISTEN", "UNCONNECTED")

    def age(self, now: float) -> float:
        return max(0.0, (self.ended or now) - self.first)


#: What rows are sorted by; what is unknown comes last.
KEYS: dict[str, Callable[[Row], Any]] = {
    "app": lambda row: row.app.lower() or None,
    "pid": lambda row: row.pid,
    "user": lambda row: row.user or None,
    "proto": lambda row: row.protocol,
    "local": lambda row: _place(row.local),
    "remote": lambda row: _place(row.remote),
    "host": lambda row: row.host or None,
    "state": lambda row: row.state,
    "sent": lambda row: None if row.sent is None else -row.sent,
    "received": lambda row: None if row.received is None else -row.received,
    "verdict": lambda row: row.verdict or None,
    "age": lambda row: -row.first,
}


def _place(end: Endpoint) -> tuple[int, int, int]:
    address = ip_address(end[0].partition("%")[0])
    return address.version, int(address), end[1]


def ordered(rows: Iterable[Row], column: str) -> list[Row]:
    """Sorted by a column: names and addresses upwards, most bytes and youngest first."""
    def key(row: Row) -> tuple[Any, ...]:
        value = KEYS[column](row)
        return (True,) if value is None else (False, value), not row.app, row.app.lower(), row.first, row.cookie
    return sorted(rows, key=key)


def chosen(*, every: bool = False, listening: bool = False, app: str | None = None, host: str | None = None,
           port: int | None = None, state: str | None = None, verdict: str | None = None,
           user: str | None = None) -> Callable[[Row], bool]:
    """What a row must meet, all of it: `app` is part of a path, `host` a name or one above it or an address, `state`
    how one begins, `verdict` "none" that there is none. `every` adds what is the proxy's own, closing or listening."""
    tests: list[Callable[[Row], bool]] = []
    if not every:
        tests.append(lambda row: row.role != PROXY and row.listening == listening and row.state != "TIME_WAIT")
    elif listening:
        tests.append(lambda row: row.listening)
    if app:
        part = app.lower()
        tests.append(lambda row: part in row.exe.lower())
    if host:
        name = host.lower().rstrip(".")
        tests.append(lambda row: row.host == name or row.host.endswith(f".{name}") or row.remote[0] == name)
    if port:
        tests.append(lambda row: port in (row.local[1], row.remote[1]))
    if state:
        begin = state.upper().replace("-", "_")
        tests.append(lambda row: row.state.startswith(begin))
    if verdict:
        tests.append(lambda row: row.verdict == ("" if verdict == "none" else verdict))
    if user:
        tests.append(lambda row: row.user == user)
    return lambda row: all(test(row) for test in tests)


def described(row: Row, now: float) -> dict[str, Any]:
    """For programs: bytes, and seconds; what is unknown is null."""
    return {
        "proto": row.protocol.upper(), "state": row.state,
        "local_ip": row.local[0], "local_port": row.local[1], "remote_ip": row.remote[0], "remote_port": row.remote[1],
        "host": row.host or None, "host_from": row.host_from or None,
        "pid": row.pid, "exe": row.exe or None, "user": row.user or None,
        "sent": row.sent, "received": row.received, "captured": row.captured, "verdict": row.verdict or None,
        "labels": list(row.labels), "role": row.role or None,
        "started": _iso(row.first) if row.began else None, "first_seen": _iso(row.first),
        "ended": row.ended and _iso(row.ended), "age": round(row.age(now), 3),
    }


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="milliseconds")
