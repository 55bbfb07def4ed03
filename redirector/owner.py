"""Which process owns a TCP connection.

The kernel says which socket it is (`sockets`) and who called connect() for it (`connects`); /proc says the rest
(`processes`). So the process that is named is the one that connected, as long as it lives: not a child that inherited
the socket, and not one that it was sent to. If it has gone, or nothing was noted, the holder is searched by the
socket's inode: the newest process that has it open, the user's own before others, and those alone where somebody else
is known to have connected: a user must not look like another by sending that one a socket. A search needs no rights for
processes of one's own user, and root for all; as the processes found last are asked first, most searches are short.
"""
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from redirector import cgroups, groups, processes, sockets
from redirector.connects import Connects
from redirector.plan import NO_UID, BackendError, Connection, Endpoint
from redirector.wire import MAX_CGROUP, MAX_NAME, Process, clip

#: Seconds for one search, as the client waits meanwhile; 10 000 open files are read in about 20 ms.
SEARCH_LIMIT = 0.05
#: Processes asked before all others: on a desktop a few programs open most connections.
MAX_RECENT = 16

_recent: deque[int] = deque(maxlen=MAX_RECENT)
_connects: Connects | None = None


@contextmanager
def watching() -> Iterator[str]:
    """Have the kernel note who connects, while this lasts; yields why it does not, or an empty text."""
    global _connects        # one kernel, one redirector
    try:
        connects = Connects()
    except (OSError, BackendError, ValueError) as error:
        yield str(error)
        return
    with connects:
        _connects = connects
        try:
            yield ""
        finally:
            _connects = None


def find(client: Endpoint, server: Endpoint) -> Process | None:
    """The process whose connection runs from `client`, an address of its own, to `server`.

    None when there is no such connection. When its process is not known, `ended` says whether it has gone, or is not
    ours to see.
    """
    connection = sockets.find(client, server)
    if connection is None:
        return None
    process = _caller(connection)
    if process is not None and not process.ended:
        return process
    if process := _holder(connection, strangers=process is None) or process:
        return process
    after = sockets.find(client, server) if connection.inode else None
    return _unseen(connection, ended=after is None or not after.inode)


def _caller(connection: Connection) -> Process | None:
    """Who called connect(), with no more than its number and name if it has gone; None if that was not noted."""
    caller = _connects.caller(sockets.cookie(connection)) if _connects is not None else None
    if caller is None:
        return None
    if connection.uid == NO_UID:
        connection = replace(connection, uid=caller.uid, cgroup=caller.cgroup)
    found = processes.read(caller.pid, connection.uid, thread=caller.thread, by=caller.at)
    return found or _unseen(connection, ended=True, pid=caller.pid,
                            name=clip(caller.name.decode(errors="replace"), MAX_NAME))


def _unseen(connection: Connection, **known: Any) -> Process:
    """What is known without the process: the kernel says user and control group of the socket itself."""
    path = cgroups.path(connection.cgroup) if connection.cgroup else ""
    return Process(
        connection.uid, processes.user(connection.uid), cgroup=clip(path, MAX_CGROUP),
        service=clip(groups.unit(path), MAX_CGROUP), container=clip(groups.container(path), MAX_CGROUP), **known)


def _holder(connection: Connection, strangers: bool) -> Process | None:
    """A process that has the socket open; with `strangers` also one of another user than the socket's."""
    now, deadline = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.monotonic() + SEARCH_LIMIT
    link = f"socket:[{connection.inode}]"
    for pid in _candidates(connection.uid, deadline) if connection.inode else ():
        if (strangers or _user(pid) == connection.uid) and _holds(pid, link, deadline):
            if pid not in _recent:
                _recent.appendleft(pid)
            return processes.read(pid, connection.uid, by=now)
        if time.monotonic() > deadline:
            break
    return None


def _user(pid: int) -> int | None:
    with suppress(OSError):
        return os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116
    return None


def _candidates(uid: int, deadline: float) -> Iterator[int]:
    """The recent ones, then the user's processes and the others, the newest of each first."""
    yield from tuple(_recent)
    found = []
    with os.scandir("/proc") as folders:
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
