"""What a worker knows of its connections, for `lockgate connections`: asked over a Unix socket in the state folder.

The client sends one line, how much of each list it has seen; the worker answers with JSON lines, each at most MAX_LINE
bytes: a head, the connections that are open or have ended since, its own ends of those that it dialled, and `end`.
Nothing can be changed by asking, and nothing is done until somebody does, but to keep what has ended for a while.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from addons.verdict import Action
from proxy import dialled
from proxy.destination import Address, plain
from proxy.session import Session
from redirector.wire import MAX_EXE, MAX_USER, clip

log = logging.getLogger(__name__)

#: Bytes in a line: an executable's path, a host, labels, their JSON quotes.
MAX_LINE = 4096
#: Connections that have ended and are remembered: several seconds of a very busy computer, some 10 MB.
MAX_ENDED = 10_000
#: Characters of a host (RFC 1035, 2.3.4), and labels shown of a connection.
MAX_HOST, MAX_LABELS = 255, 8
#: Lines written before others get their turn, clients at a time, and seconds for one.
PIECE, MAX_CLIENTS, ANSWER_LIMIT = 200, 4, 5.0
#: The socket of each worker, with its pid: proxies with one state folder are one user.
NAME = "connections-{}.sock"
#: Of several verdicts on one connection, the one that says most.
RANK = ("", "inspect", "bypass", "alert", "block", "kill")


@dataclass(slots=True, eq=False)
class Entry:
    """One connection of a client's. `local` is the proxy's address that it came to; times are seconds of the epoch."""

    session: Session
    local: Address
    started: float
    ended: float | None = None
    verdict: str = ""
    host: str = ""
    labels: set[str] = field(default_factory=set)

    def note(self, verdict: str, host: str = "", labels: Iterable[str] = ()) -> None:
        """Something was decided on it; a verdict that says less than an earlier one does not count."""
        verdict = verdict if verdict in RANK else "alert" if verdict == "redact" else "inspect"
        self.verdict = max(self.verdict, verdict, key=RANK.index)
        self.host = host or self.host
        for label in labels:
            if len(self.labels) < MAX_LABELS:
                self.labels.add(label)

    def row(self) -> dict[str, Any]:
        connection, session = self.session.connection, self.session
        live = next((each.host for each in reversed(session.transfers.values()) if each.host), "")
        row: dict[str, Any] = {
            "id": session.flow_id, "client": connection.client, "server": connection.address, "local": self.local,
            "host": clip(connection.host or live or self.host, MAX_HOST), "tls": connection.tls,
            "verdict": self._verdict(), "started": self.started, "ended": self.ended,
            "labels": [clip(label, MAX_USER) for label in sorted(self.labels | connection.labels)[:MAX_LABELS]],
        }
        if (process := connection.process) is not None:
            exe, user = clip(process.exe, MAX_EXE), clip(process.user, MAX_USER)
            row["process"] = {"pid": process.pid, "exe": exe, "user": user}
        return row

    def _verdict(self) -> str:
        session = self.session
        if session.refused is not None and RANK.index(self.verdict) < RANK.index("block"):
            return "kill" if session.refused.action is Action.KILL else "block"
        return self.verdict or ("inspect" if session.settled or session.transfers else "")


class Sessions:
    """The connections that are open, and those that ended lately. For the event loop alone."""

    def __init__(self) -> None:
        self._open: dict[int, Entry] = {}
        self._ended: deque[bytes] = deque(maxlen=MAX_ENDED)
        self._count = 0

    def begin(self, session: Session, client: socket.socket) -> None:
        """A client's connection has come."""
        host, port = client.getsockname()[:2]
        self._open[session.flow_id] = Entry(session, (plain(host), port), time.time())

    def of(self, session_id: int) -> Entry | None:
        return self._open.get(session_id)

    def end(self, session: Session) -> None:
        if (entry := self._open.pop(session.flow_id, None)) is not None:
            entry.ended = time.time()
            self._ended.append(_line(entry.row()))
            self._count += 1

    def lines(self, seen: dict[str, int], listen: list[Address]) -> Iterator[bytes]:
        """The answer to who has seen so many that `ended`, and so many that were `dialled`."""
        yield _line({"listen": listen, "ended": self._count, "dialled": dialled.ends.count})
        yield from list(self._ended)[-max(0, self._count - seen["ended"]):] if self._count > seen["ended"] else ()
        for entry in list(self._open.values()):
            yield _line(entry.row())
        for pair in dialled.ends.since(seen["dialled"]):
            yield _line({"dialled": pair})
        yield _line({"end": True})


def _line(row: dict[str, Any]) -> bytes:
    line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
    return line if len(line) <= MAX_LINE else b""       # one that would not be read is not sent


#: From 3.13 on, asyncio would remove the socket itself, by a path that has long been closed.
_KEEP: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


class Desk:
    """Answers those who ask; only the proxy's user and root get at the socket, as the folder is closed to others."""

    def __init__(self, sessions: Sessions, state: Path, listen: Callable[[], list[Address]]) -> None:
        self._sessions, self._listen, self._state = sessions, listen, state
        self._name, self._clients = NAME.format(os.getpid()), 0
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Raises OSError."""
        with reached(self._state) as folder:
            self._sweep()
            (self._state / self._name).unlink(missing_ok=True)
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.bind(f"{folder}/{self._name}")
                os.chmod(f"{folder}/{self._name}", 0o600)  # noqa: PTH101  # the path leads through a descriptor
                self._server = await asyncio.start_unix_server(self._attend, sock=sock, **_KEEP)
            except OSError:
                sock.close()
                raise

    def _sweep(self) -> None:
        """Sockets of workers that were killed."""
        for path in self._state.glob(NAME.format("*")):
            pid = path.stem.rpartition("-")[2]
            if not pid.isdecimal() or not Path("/proc", pid).exists():
                path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            (self._state / self._name).unlink(missing_ok=True)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= MAX_CLIENTS:
                async with asyncio.timeout(ANSWER_LIMIT):
                    await self._answer(reader, writer)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.info("who asked for the connections did not get them all: %s", error)
        finally:
            self._clients -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        seen = {name: int(asked[name]) for name in ("ended", "dialled")}
        for number, line in enumerate(self._sessions.lines(seen, self._listen())):
            writer.write(line)
            if number % PIECE == PIECE - 1:
                await writer.drain()
                await asyncio.sleep(0)
        await writer.drain()


@contextlib.contextmanager
def reached(folder: Path) -> Iterator[str]:
    """A short name for a folder: a Unix socket's path may have 107 bytes only (unix(7))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
