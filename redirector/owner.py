"""Which process owns a TCP connection: the socket's inode from the kernel, the process from /proc (proc(5)).

It needs no rights for processes of one's own user, and root for all. As the processes that opened the last connections
are asked first, most look-ups take well under a millisecond. What /proc shows of a process is that process's choice:
its name, its words, the control groups that its user may make; so all of it is bytes until `clip` has made it text.
"""
import errno
import os
import pwd
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path

from redirector import sockets
from redirector.plan import Endpoint
from redirector.wire import MAX_CGROUP, MAX_CMDLINE, MAX_EXE, MAX_PARENTS, MAX_USER, Process, clip

#: Seconds for one search, as the client waits meanwhile; 10 000 open files are read in about 20 ms.
SEARCH_LIMIT = 0.05
#: Processes asked before all others: on a desktop a few programs open most connections.
MAX_RECENT = 16

#: Before the path of an executable that is another file, or none, where we look: in a container, or made to deceive.
ELSEWHERE = "elsewhere:"

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
    for pid in _candidates(uid, deadline):
        if _holds(pid, link, deadline):
            if pid not in _recent:
                _recent.appendleft(pid)
            return pid
        if time.monotonic() > deadline:
            break
    return None


def _candidates(uid: int, deadline: float) -> Iterator[int]:
    """The recent ones, then the user's processes and the others, the newest of each first."""
    yield from tuple(_recent)
    found = []
    with os.scandir(_PROC) as folders:
        for folder in folders:
            if time.monotonic() > deadline:     # any user can have thousands of processes
                return
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
    exe, cgroup = "", b""
    with _unsaid():
        exe = _exe(pid)
    with _unsaid():
        cgroup = (folder / "cgroup").read_bytes()
    return Process(
        uid, _user(uid), pid, clip(exe, MAX_EXE), _words((folder / "cmdline").read_bytes()), tuple(_parents(parent)),
        started=_boot_time() + ticks / _TICKS,
        cgroup=clip(_cgroup(cgroup), MAX_CGROUP))


def _exe(pid: int) -> str:
    """The executable's path as everybody sees it; any user can make a mount namespace in which `/usr/bin/backup` is
    theirs, and rules must not believe that."""
    link = f"/proc/{pid}/exe"
    path = os.readlink(link)  # noqa: PTH115  # bytes of any kind
    if os.stat(f"/proc/{pid}/ns/mnt").st_ino == _own_mounts():  # noqa: PTH116
        return path.removesuffix(" (deleted)")      # an upgrade did that
    with suppress(OSError):
        if os.path.samestat(os.stat(link), os.stat(path)):  # noqa: PTH116
            return path
    return ELSEWHERE + path


@cache
def _own_mounts() -> int:
    return os.stat("/proc/self/ns/mnt").st_ino  # noqa: PTH116


@contextmanager
def _unsaid() -> Iterator[None]:
    """Go on without what is not ours to see, or has a longer path than the kernel says: any user can make such."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG):
            raise


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
        words.append(clip(word, left - 1))
        left -= len(words[-1].encode()) + 1
        if left <= 1:
            break
    return tuple(words)


def _cgroup(lines: bytes) -> str:
    """That of version 2. A name cannot hold a line feed, but all else that splitlines() would take for a line's end."""
    return next((line[3:] for line in lines.split(b"\n") if line.startswith(b"0::")), b"").decode(errors="replace")


@cache
def _boot_time() -> float:
    lines = (_PROC / "stat").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("btime "))


@lru_cache(256)     # a user may own 65 536 more uids (subuid(5))
def _user(uid: int) -> str:
    try:
        return clip(pwd.getpwuid(uid).pw_name, MAX_USER)
    except KeyError:
        return str(uid)


def program(pid: int) -> str:
    """The executable of a process, or in its absence (a kernel thread, or not ours to see) the name that it has."""
    with suppress(OSError):
        return clip(_exe(pid), MAX_EXE)
    with suppress(OSError):
        return clip((_PROC / str(pid) / "comm").read_bytes().decode(errors="replace").strip(), MAX_EXE)
    return ""
