"""Which process owns a TCP connection: the socket's inode from the kernel, the process from /proc (proc(5)).

It needs no rights for processes of one's own user, and root for all. As the processes that opened the last connections
are asked first, most look-ups take well under a millisecond.
"""
import os
import pwd
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from redirector import sockets
from redirector.plan import Endpoint
from redirector.wire import MAX_CGROUP, MAX_CMDLINE, MAX_EXE, MAX_PARENTS, MAX_USER, Process

#: Seconds for one search, as the client waits meanwhile; 10 000 open files are read in about 20 ms.
SEARCH_LIMIT = 0.05
#: Processes asked before all others: on a desktop a few programs open most connections.
MAX_RECENT = 16

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_recent: deque[int] = deque(maxlen=MAX_RECENT)


def find(client: Endpoint, server: Endpoint) -> Process | None:
    """The process whose connection runs from `client`, an address of its own, to `server`.

    None when there is no such connection. When only its user is known, `ended` says whether the process has gone, or is
    not ours to see.
    """
    connection = sockets.find(client, server)
    if connection is None:
        return None
    pid = _holder(connection.inode, connection.uid) if connection.inode else None
    if pid is not None:
        with suppress(FileNotFoundError, ProcessLookupError):
            return _read(pid, connection.uid)
    after = sockets.find(client, server) if connection.inode else None
    return Process(connection.uid, _user(connection.uid), ended=after is None or not after.inode)


def _holder(inode: int, uid: int) -> int | None:
    link, deadline = f"socket:[{inode}]", time.monotonic() + SEARCH_LIMIT
    for pid in _candidates(uid):
        if _holds(pid, link, deadline):
            if pid not in _recent:
                _recent.appendleft(pid)
            return pid
        if time.monotonic() > deadline:
            break
    return None


def _candidates(uid: int) -> Iterator[int]:
    """The recent ones, then the user's processes and the others, the newest of each first."""
    yield from tuple(_recent)
    found = []
    for folder in os.scandir(_PROC):
        if folder.name.isdecimal():
            with suppress(OSError):
                found.append((folder.stat().st_uid != uid, -int(folder.name)))
    yield from (-pid for _, pid in sorted(found))


def _holds(pid: int, link: str, deadline: float) -> bool:
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as files:
        for file in files:
            if os.readlink(file) == link:  # noqa: PTH115  # Path objects would double the time
                return True
            if time.monotonic() > deadline:
                break
    return False


def _read(pid: int, uid: int) -> Process:
    """Raises FileNotFoundError or ProcessLookupError if the process ends meanwhile."""
    folder = _PROC / str(pid)
    parent, ticks = _stat(pid)
    exe = ""
    with suppress(PermissionError):
        exe = str((folder / "exe").readlink()).removesuffix(" (deleted)")   # an upgrade did that
    return Process(
        uid, _user(uid), pid, _clip(exe, MAX_EXE), _words((folder / "cmdline").read_bytes()), tuple(_parents(parent)),
        started=_boot_time() + ticks / _TICKS,
        cgroup=_clip(_cgroup((folder / "cgroup").read_text()), MAX_CGROUP))


def _stat(pid: int) -> tuple[int, int]:
    """The parent, and the start in ticks since boot: fields 4 and 22, counted behind the name (it can be anything)."""
    fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return int(fields[1]), int(fields[19])


def _parents(pid: int) -> Iterator[int]:
    for _ in range(MAX_PARENTS):
        if pid == 0:
            return
        yield pid
        try:
            pid, _ = _stat(pid)
        except OSError:
            return


def _words(cmdline: bytes) -> tuple[str, ...]:
    words: list[str] = []
    left = MAX_CMDLINE
    for word in cmdline.decode(errors="replace").removesuffix("\0").split("\0"):
        words.append(_clip(word, left - 1))
        left -= len(words[-1].encode()) + 1
        if left <= 1:
            break
    return tuple(words)


def _clip(text: str, limit: int) -> str:
    """At most `limit` bytes, and nothing that a terminal or a JSON line would take for more than text."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown.encode(errors="replace")[:limit].decode(errors="ignore")


def _cgroup(text: str) -> str:
    return next((line[3:] for line in text.splitlines() if line.startswith("0::")), "")


@cache
def _boot_time() -> float:
    lines = (_PROC / "stat").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("btime "))


@cache
def _user(uid: int) -> str:
    try:
        return _clip(pwd.getpwuid(uid).pw_name, MAX_USER)
    except KeyError:
        return str(uid)
