"""What /proc says of one process (proc(5)), and never of another that has its number by now.

What it shows is that process's choice: its name, its words, the control groups that its user may make; so all of it is
bytes until `clip` has made it text.
"""
import errno
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from typing import NamedTuple

from redirector import groups
from redirector.plan import NO_UID
from redirector.wire import (
    MAX_ANCESTRY,
    MAX_CGROUP,
    MAX_CMDLINE,
    MAX_EXE,
    MAX_NAME,
    MAX_PARENTS,
    MAX_USER,
    NAMESPACES,
    Parent,
    Process,
    clip,
)

#: Before the path of an executable that is another file, or none, where we look: in a container, or made to deceive.
ELSEWHERE = "elsewhere:"
#: A program that never had a path: memfd_create(2). Its name is its maker's choice, slashes included.
_MEMORY = "/memfd:"
#: Bytes read of /proc/PID/cgroup: a dozen hierarchies, and paths that users make may have 4 096 bytes each.
_MAX_GROUPS = 1 << 16
_TICKS = os.sysconf("SC_CLK_TCK")


class Stat(NamedTuple):
    """Of /proc/PID/stat: the name, the state (a letter), the parent, and the start in ticks since boot."""

    name: bytes
    state: str
    parent: int
    start: int

    @property
    def began(self) -> int:
        """In nanoseconds since boot, at most a tick too early."""
        return self.start * (1_000_000_000 // _TICKS)


def read(pid: int, uid: int, *, thread: int = 0, by: int | None = None) -> Process | None:
    """Process `pid`, owner of a socket of user `uid`; None if there is none.

    With `by`, nanoseconds since boot, only one that had begun by then: another may have the number since. Its program
    is looked up at `thread` where its first thread has ended. One that has exited and is not yet reaped has `ended`.
    """
    try:
        stat = _stat(pid)
        if by is not None and stat.began > by:
            return None
        found = _read(pid, uid, thread, stat)
        return found if _stat(pid).start == stat.start else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def _read(pid: int, uid: int, thread: int, stat: Stat) -> Process:
    """Raises FileNotFoundError or ProcessLookupError if it ends meanwhile."""
    exe, lines, ended = "", b"", False
    namespaces: tuple[str, ...] = ()
    with _unsaid():
        lines = _content(f"/proc/{pid}/cgroup", _MAX_GROUPS)
    group = groups.group(lines)
    try:
        with _unsaid():
            exe = _exe(pid)
            namespaces = _namespaces(pid)
    except FileNotFoundError:
        exe, ended = _of_thread(pid, thread)
    return Process(
        uid, user(uid), pid, clip(exe, MAX_EXE), _words(_content(f"/proc/{pid}/cmdline", 4 * MAX_CMDLINE)),
        tuple(_parents(stat)), started=_boot_time() + stat.start / _TICKS, cgroup=clip(group.path, MAX_CGROUP),
        ended=ended, name=clip(stat.name.decode(errors="replace"), MAX_NAME), service=clip(group.service, MAX_CGROUP),
        container=clip(group.container, MAX_CGROUP), namespaces=namespaces)


def _of_thread(pid: int, thread: int) -> tuple[str, bool]:
    """The program of a process whose first thread has ended, and whether all have."""
    with suppress(FileNotFoundError), _unsaid():
        if thread not in (0, pid) and f"\nTgid:\t{pid}\n".encode() in _content(f"/proc/{thread}/status", 4096):
            return _exe(thread), False
    return "", True


def _content(path: str, limit: int) -> bytes:
    """The first bytes of a file of /proc, which gives at most a page at once of some."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = data = os.read(descriptor, limit)
        while data and len(content) < limit and len(data) >= 4000:
            data = os.read(descriptor, limit - len(content))
            content += data
        return content
    finally:
        os.close(descriptor)


def _stat(pid: int) -> Stat:
    """Fields 2, 3, 4 and 22; the name is between parentheses, and may have such itself."""
    head, _, tail = _content(f"/proc/{pid}/stat", 4096).rpartition(b")")
    fields = tail.split()
    return Stat(head.partition(b"(")[2], fields[0].decode(), int(fields[1]), int(fields[19]))


def _exe(pid: int) -> str:
    """The executable's path as everybody sees it; any user can make a mount namespace in which `/usr/bin/backup` is
    theirs, and rules must not believe that."""
    link = f"/proc/{pid}/exe"
    path = os.readlink(link)  # noqa: PTH115  # bytes of any kind
    if path.startswith(_MEMORY):
        return ELSEWHERE + path
    if os.stat(f"/proc/{pid}/ns/mnt").st_ino in _common("mnt"):  # noqa: PTH116
        return path.removesuffix(" (deleted)")      # an upgrade did that
    with suppress(OSError):
        if os.path.samestat(os.stat(link), os.stat(path)):  # noqa: PTH116
            return path
    return ELSEWHERE + path


def _namespaces(pid: int) -> tuple[str, ...]:
    return tuple(name for name in NAMESPACES if os.stat(f"/proc/{pid}/ns/{name}").st_ino not in _common(name))  # noqa: PTH116


@cache
def _common(namespace: str) -> frozenset[int]:
    """Ours, and that of the whole computer: a service has a mount namespace of its own, which shows the same files."""
    found = set()
    for pid in ("self", "1"):
        with suppress(PermissionError):     # not root: the first will do
            found.add(os.stat(f"/proc/{pid}/ns/{namespace}").st_ino)  # noqa: PTH116
    return frozenset(found)


@contextmanager
def _unsaid() -> Iterator[None]:
    """Go on without what is not ours to see, or has a longer path than the kernel says: any user can make such."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG):
            raise


def _parents(child: Stat) -> Iterator[Parent]:
    """The ancestors. One that began after its child is none: it has the number of a parent that ended meanwhile."""
    left = MAX_ANCESTRY
    for _ in range(MAX_PARENTS):
        pid, exe = child.parent, ""
        if pid == 0:
            return
        try:
            stat = _stat(pid)
            if stat.start > child.start:
                return
            with _unsaid():
                exe = _exe(pid)
        except FileNotFoundError:
            if exe or not os.path.exists(f"/proc/{pid}"):  # noqa: PTH110
                return                          # it has ended; a kernel thread has no program and is there
        except ProcessLookupError:
            return
        exe = clip(exe, MAX_EXE)
        left -= len(exe.encode())
        yield Parent(pid, exe if left >= 0 else "")
        child = stat


def _words(cmdline: bytes) -> tuple[str, ...]:
    words: list[str] = []
    left = MAX_CMDLINE
    for word in cmdline.decode(errors="replace").removesuffix("\0").split("\0"):
        words.append(clip(word, left - 1))
        left -= len(words[-1].encode()) + 1
        if left <= 1:
            break
    return tuple(words)


@cache
def _boot_time() -> float:
    lines = _content("/proc/stat", 1 << 20).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(b"btime "))


@lru_cache(256)     # a user may own 65 536 more uids (subuid(5))
def user(uid: int) -> str:
    """The user's name, or the uid as text; empty where nobody knows whose it was."""
    if uid == NO_UID:
        return ""
    try:
        return clip(pwd.getpwuid(uid).pw_name, MAX_USER)
    except KeyError:
        return str(uid)


def is_redirector(pid: int) -> bool:
    """Is it one of ours?"""
    with suppress(OSError):
        return b"-m\0redirector\0" in _content(f"/proc/{pid}/cmdline", MAX_CMDLINE)
    return False


def program(pid: int, by: int | None = None) -> str:
    """The executable of a process, or in its absence (a kernel thread, or not ours to see) the name that it has.

    With `by`, nanoseconds since boot, empty for one that began later.
    """
    with suppress(OSError):
        if by is not None and _stat(pid).began > by:
            return ""
        return clip(_exe(pid), MAX_EXE)
    with suppress(OSError):
        return clip(_content(f"/proc/{pid}/comm", MAX_NAME).decode(errors="replace").strip(), MAX_EXE)
    return ""
