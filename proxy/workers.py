"""What the workers say of their connections, asked as root or as their user, and believed no more than it must be.

A worker reads what strangers send. So its answer is bounded in size and time, every field is checked, texts lose what
a terminal would obey, and who answers must be the user that has the state folder. What is said decides nothing but
what is shown. The other side is `sessions.py`.
"""

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redirector.plan import Endpoint, is_int, require
from redirector.sockets import plain
from redirector.wire import MAX_EXE, MAX_USER, clip

#: As `sessions.py` has them; that one brings the whole engine.
SOCKETS, MAX_LINE, MAX_HOST, MAX_LABELS = "connections-*.sock", 4096, 255, 8
#: Lines of one answer: all that a worker may have open, remembers, and has dialled.
MAX_LINES = 40_000
#: Workers asked with one state folder, and seconds for all to answer.
MAX_WORKERS, ANSWER_LIMIT = 16, 5.0
#: Both ends of a connection.
Ends = tuple[Endpoint, Endpoint]
#: One that the proxy made itself, and when.
Dialled = tuple[Ends, float]
VERDICTS = frozenset(("", "inspect", "bypass", "alert", "block", "kill"))
#: Seconds since the epoch until the year 5138: nothing else is a time.
_LATEST = 1e11


@dataclass(slots=True, eq=False)
class Known:
    """A captured connection as a worker tells it; `server` has an empty address where each request names its own."""

    id: int
    client: Endpoint
    server: Endpoint
    local: Endpoint
    host: str
    tls: bool
    verdict: str
    labels: tuple[str, ...]
    started: float
    ended: float | None
    pid: int | None = None
    exe: str = ""
    user: str = ""
    taken: bool = field(default=False, repr=False)      # a socket that has ended is joined with it


@dataclass(slots=True)
class Worker:
    """One that answers: its process, where it listens, and how much of its lists has been seen."""

    pid: int
    listen: set[Endpoint] = field(default_factory=set)
    ended: int = 0
    dialled: int = 0


class Workers:
    """The workers of a state folder. `complaints` says which of them did not answer as they should."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._known: dict[str, Worker] = {}
        self.complaints: list[str] = []

    @property
    def running(self) -> list[Worker]:
        return list(self._known.values())

    def ask(self) -> tuple[list[Known], list[Dialled]]:
        """What is open or has ended since the last time, and the proxy's own connections; nothing where nobody runs."""
        self.complaints = []
        found: list[Known] = []
        own: list[Dialled] = []
        try:
            names = sorted(path.name for path in self._state.glob(SOCKETS))[:MAX_WORKERS]
        except OSError:
            names = []
        self._known = {name: worker for name, worker in self._known.items() if name in names}
        until = time.monotonic() + ANSWER_LIMIT
        for name in names:
            try:
                self._ask(name, until, found, own)
            except (FileNotFoundError, ConnectionRefusedError):
                self._known.pop(name, None)             # it has ended
            except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
                self.complaints.append(f"a proxy does not say what it has: {clip(str(error), 200)}")
        return found, own

    def _ask(self, name: str, until: float, found: list[Known], own: list[Dialled]) -> None:
        with _reached(self._state) as (folder, owner), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(max(0.01, until - time.monotonic()))
            sock.connect(f"{folder}/{name}")
            pid, uid, _ = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            require(uid == owner, f"{name} is not of the user who has the folder")
            before = self._known.get(name, Worker(0))
            worker = self._known[name] = before if before.pid == pid else Worker(pid)   # also if it says no more
            sock.sendall(json.dumps({"ended": worker.ended, "dialled": worker.dialled}).encode() + b"\n")
            head, *rest = map(_object, _lines(sock, until))
            worker.listen = {_endpoint(each) for each in head["listen"][:MAX_WORKERS]}
            worker.ended, worker.dialled = (_number(head[name]) for name in ("ended", "dialled"))
            for row in rest:
                if "dialled" in row:
                    here, there, at = row["dialled"]
                    own.append(((_endpoint(here), _endpoint(there)), _time(at)))
                else:
                    found.append(known(row))


@contextlib.contextmanager
def _reached(folder: Path) -> Iterator[tuple[str, int]]:
    """A short name for the folder, as a Unix socket's path may have 107 bytes only (unix(7)), and its owner."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}", os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)


def _lines(sock: socket.socket, until: float) -> Iterator[bytes]:
    """The lines of an answer, without the last, which says that it is whole."""
    rest, count = b"", 0
    while True:
        sock.settimeout(max(0.01, until - time.monotonic()))
        if not (data := sock.recv(1 << 18)):
            raise ValueError("its answer is not whole")
        *lines, rest = (rest + data).split(b"\n")
        count += len(lines)
        require(count <= MAX_LINES and len(rest) <= MAX_LINE, "its answer is too long")
        for line in lines:
            require(len(line) <= MAX_LINE, "its answer has too long a line")
            if line == b'{"end":true}':
                return
            yield line
        require(time.monotonic() < until, "its answer comes too slowly")


def _object(line: bytes) -> dict[str, Any]:
    found = json.loads(line)
    require(isinstance(found, dict), "its answer is not one")
    return found  # type: ignore[no-any-return]


def known(row: dict[str, Any]) -> Known:
    """One line of a worker's, checked. Raises ValueError, TypeError."""
    process = row.get("process") or {}
    require(isinstance(process, dict), "its answer has a strange process")
    labels: Any = row.get("labels")
    require(isinstance(labels, list) and isinstance(row.get("tls"), bool), "its answer has strange fields")
    require(row.get("verdict") in VERDICTS, "its answer has a strange verdict")
    pid = process.get("pid")
    return Known(
        _number(row.get("id")), _endpoint(row.get("client")), _endpoint(row.get("server"), named=True),
        _endpoint(row.get("local")), _text(row.get("host"), MAX_HOST), row["tls"], row["verdict"],
        tuple(_text(label, MAX_USER) for label in labels[:MAX_LABELS]), _time(row.get("started")),
        None if row.get("ended") is None else _time(row["ended"]),
        pid if is_int(pid, 1, 2**31) else None, _text(process.get("exe", ""), MAX_EXE),
        _text(process.get("user", ""), MAX_USER))


def _number(value: object) -> int:
    require(is_int(value, 0, 2**53), "its answer has a strange number")
    return value  # type: ignore[return-value]


def _time(value: object) -> float:
    require(isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LATEST,
            "its answer has a strange time")
    return float(value)  # type: ignore[arg-type]


def _text(value: object, limit: int) -> str:
    require(isinstance(value, str) and len(value) <= limit, "its answer has a strange text")
    return clip(value, limit)  # type: ignore[arg-type]


def _endpoint(value: object, *, named: bool = False) -> Endpoint:
    """An address and a port; with `named`, a name or nothing may stand for the address, and nothing is made of it."""
    match value:
        case [str(host), int(port)] if is_int(port, 0, 65535):
            try:
                return str(plain(host)), port
            except ValueError:
                require(named and len(host) <= MAX_HOST, "its answer has a strange address")
                return "", port
    raise ValueError("its answer has a strange address")
