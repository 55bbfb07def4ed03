"""The server that `lockgate redirect` leads to: found by where it listens, and left alone with its children.

It may run as anybody, its user's other programs with it, so a uid would say too much.  It gets a control group of its
own *below the one it is in*: limits and managers of that one go on to hold, children are born into it, and the kernel
matches it in the rules.  The exact undo needs no record: what is in the group goes back to its parent, and the group
away.  `sweep` does that for a redirector that was killed.  Sockets that the server has made before, and not yet
connected, belong to the old group.
"""
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from redirector import cgroups, release, sockets
from redirector.plan import BackendError, Endpoint, Plan

#: Looks at the processes: one that is being moved may have just had a child.
ROUNDS = 5
#: Seconds for processes to leave a group, and between two tries.
EMPTY_LIMIT, RETRY = 1.0, 0.02
#: They hold sockets for services that are yet to start, and everything is their child.
MANAGERS = frozenset(("systemd", "init", "launchd", "xinetd"))


class Exemption:
    """The groups of one server's processes; `paths` are theirs, as `/proc/PID/cgroup` names them."""

    def __init__(self, plan: Plan, instance: str) -> None:
        self._server, self._name = (plan.listen_host, plan.listen_port), release.exempt_group(instance)
        self._mount = ""
        self.paths: list[str] = []

    def __enter__(self) -> "Exemption":
        return self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()

    def enter(self) -> "Exemption":
        """Move the server's processes.  Raises BackendError, with all back where it was."""
        self._mount = cgroups.mount()
        try:
            found = holders(self._server)
            for _ in range(ROUNDS):
                if not self._move(family(found)):
                    break
        except OSError as error:
            self.leave()
            raise BackendError(f"the server at {shown(self._server)} cannot be set apart: {error}") from error
        if not self.paths:
            raise BackendError(f"no process listens at {shown(self._server)}: start the server first")
        return self

    def _move(self, found: list[int]) -> bool:
        moved = False
        for pid in found:
            with suppress(FileNotFoundError, ProcessLookupError):       # it has ended
                path = _group(pid)
                there = path.rpartition("/")[2] == self._name       # or by one that was killed
                path = path if there else f"{path.rstrip('/')}/{self._name}"
                folder = Path(self._mount + path)
                folder.mkdir(exist_ok=True)
                if path not in self.paths:
                    self.paths.append(path)
                if there:
                    continue
                (folder / "cgroup.procs").write_text(str(pid))
                moved = True
        return moved

    def leave(self) -> None:
        """All go back.  May be called twice."""
        for path in self.paths:
            _dissolve(Path(self._mount + path))
        self.paths.clear()


def sweep(instance: str) -> list[str]:
    """Undo what a redirector of this instance that was killed has left; returns the groups.  Raises BackendError."""
    found = _groups(instance)
    for path in found:
        _dissolve(Path(path))
    return found


def members(instance: str) -> list[int]:
    """The processes that are set apart.  Raises BackendError."""
    return [int(pid) for path in _groups(instance) for pid in Path(path, "cgroup.procs").read_text().split()]


def _groups(instance: str) -> list[str]:
    name = release.exempt_group(instance)
    return [path for path, _, _ in os.walk(cgroups.mount()) if path.rpartition("/")[2] == name]


def _dissolve(folder: Path) -> None:
    until = time.monotonic() + EMPTY_LIMIT
    while folder.exists() and time.monotonic() < until:
        with suppress(OSError):         # gone meanwhile, or not yet empty
            for pid in (folder / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    (folder.parent / "cgroup.procs").write_text(pid)
            folder.rmdir()
            return
        time.sleep(RETRY)
    if folder.exists():
        print(f"redirector: {folder} is left: somebody uses it", file=sys.stderr)


def listening(server: Endpoint) -> dict[int, str]:
    """The sockets that take what is sent to this address of ours, by inode: their own addresses.

    An empty host stands for loopback of both families.  Raises OSError.
    """
    wanted = {str(sockets.plain(server[0]))} if server[0] else {"127.0.0.1", "::1"}
    found = {each.inode: each.client[0] for each in sockets.listeners(server[1])}
    return {inode: host for inode, host in found.items()
            if host in wanted or host == "::" or (host == "0.0.0.0" and any(":" not in each for each in wanted))}  # noqa: S104


def holders(server: Endpoint) -> list[int]:
    """For each of those sockets a process that holds it, or such a one's oldest forebear; no service manager.

    The newest are asked first, those of the socket's user before: on a busy computer there are 100 000 open files.
    """
    found = []
    uids = {each.inode: each.uid for each in sockets.listeners(server[1])}
    for inode in listening(server):
        link = f"socket:[{inode}]"
        pid = next((pid for pid in _candidates(uids.get(inode, 0)) if _serves(pid, link)), 0)
        while pid and _serves(parent := _stat(pid)[1], link):
            pid = parent
        if pid:
            found.append(pid)
    return found


def family(found: list[int]) -> list[int]:
    """These processes and all that descend from them, but for ourselves."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal():
            with suppress(OSError):
                children.setdefault(_stat(int(name))[1], []).append(int(name))
    found = list(found)
    for pid in found:       # it grows
        found += [child for child in children.get(pid, ()) if child not in found and child != os.getpid()]
    return found


def _candidates(uid: int) -> Iterator[int]:
    found = []
    with os.scandir("/proc") as folders:
        for folder in folders:
            if folder.name.isdecimal():
                with suppress(OSError):
                    found.append((folder.stat().st_uid != uid, -int(folder.name)))
    return (-pid for _, pid in sorted(found))


def _serves(pid: int, link: str) -> bool:
    with suppress(OSError):
        return pid != 1 and _holds(pid, link) and _stat(pid)[0] not in MANAGERS
    return False


def _stat(pid: int) -> tuple[str, int]:
    """Name and parent: the name is in parentheses, and can be anything (proc(5))."""
    before, _, after = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
    return before.partition("(")[2], int(after.split()[1])


def _holds(pid: int, link: str) -> bool:
    with os.scandir(f"/proc/{pid}/fd") as files:
        for file in files:
            with suppress(OSError):
                if os.readlink(file) == link:  # noqa: PTH115
                    return True
    return False


def _group(pid: int) -> str:
    """Its control group of version 2."""
    for line in Path(f"/proc/{pid}/cgroup").read_text(errors="replace").split("\n"):
        if line.startswith("0::"):
            return line[3:]
    raise BackendError("cgroup v2 is not mounted here: mount it (mount -t cgroup2 none /sys/fs/cgroup)")


def shown(server: Endpoint) -> str:
    """For people."""
    host = server[0] or "loopback"
    return f"[{host}]:{server[1]}" if ":" in host else f"{host}:{server[1]}"
