"""How the proxy loses root's rights and still reaches its code, also where that lies in a home that is closed to others.

In a mount namespace of the proxy's own, each closed folder on the way to something it needs is replaced by an empty
one that shows just that: the interpreter, the environment, the project, the policy, the state.  Nothing changes for
anyone else, and the proxy sees less of root's home than root would have to open for it otherwise.
"""

import ctypes
import os
import pwd
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# mount(2), <sys/mount.h>
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
# prctl(2), <linux/prctl.h>
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 1, 38, 4

#: Uids that belong to nobody, for a proxy started by root without an account of its own: systemd's range for
#: DynamicUser= (systemd.exec(5)).  Nothing is created; the uid lives as long as the process.
TRANSIENT_UIDS = range(61184, 65520)

#: The account that is used where it exists and no other is named.
ACCOUNT = "lockgate"


class ConfineError(Exception):
    """The rights cannot be given up; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the proxy runs as."""

    uid: int
    gid: int
    name: str


def identity(name: str | None) -> Identity:
    """The named account, else `lockgate` where it exists, else a transient uid.  Never root, never created silently."""
    if name:
        try:
            entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except KeyError:
            raise ConfineError(f"there is no user {name!r}; create it with: useradd --system {name}") from None
        if entry.pw_uid == 0:
            raise ConfineError("the proxy parses hostile input and must not run as root; name another user")
        return Identity(entry.pw_uid, entry.pw_gid, entry.pw_name)
    try:
        entry = pwd.getpwnam(ACCOUNT)
        return Identity(entry.pw_uid, entry.pw_gid, ACCOUNT)
    except KeyError:
        uid = _unused_uid()
        return Identity(uid, uid, f"transient user {uid}")


def _unused_uid() -> int:
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                taken.add(process.stat().st_uid)
            except OSError:
                continue
    for uid in TRANSIENT_UIDS:
        if uid not in taken:
            return uid
    raise ConfineError("no free uid for the proxy; name a user with --user")


def code_paths() -> list[Path]:
    """What this interpreter needs to run lockgate: itself, its environment, the project."""
    project = Path(__file__).resolve().parent.parent
    found = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), Path(sys.prefix).absolute(), project}
    found |= {Path(p).resolve() for p in sys.path if p and Path(p).exists()}
    return sorted(found)


def _closed(path: Path, uid: int, gid: int) -> Path | None:
    """The first folder on the way to `path` that this user cannot pass, or None."""
    for folder in reversed(path.parents):
        info = folder.stat()
        bit = stat.S_IXUSR if info.st_uid == uid else stat.S_IXGRP if info.st_gid == gid else stat.S_IXOTH
        if not info.st_mode & bit:
            return folder
    return None


class _Libc:
    """The calls that the os module lacks; every failure is an OSError."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def _check(self, result: int, what: str) -> None:
        if result != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"{what}: {os.strerror(error)}")

    def mount(self, source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
        encoded = [None if value is None else value.encode() for value in (source, target, kind)]
        self._check(self._libc.mount(*encoded, ctypes.c_ulong(flags), data.encode() if data else None),
                    f"mount on {target}")

    def prctl(self, option: int, value: int) -> None:
        self._check(self._libc.prctl(option, value, 0, 0, 0), "prctl")


def private_mounts() -> None:
    """Leave the machine's mount namespace.  Private first: with shared propagation everyone would see our mounts."""
    os.unshare(os.CLONE_NEWNS)
    _Libc().mount("none", "/", None, MS_REC | MS_PRIVATE)


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Show `source` at `target`, in this mount namespace."""
    libc = _Libc()
    libc.mount(source, target, None, MS_BIND | MS_REC)
    if read_only:
        libc.mount("none", target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def show(paths: Iterable[Path], writable: Sequence[Path], uid: int, gid: int) -> None:
    """Make each path reachable for the user: needs `private_mounts()` first."""
    wanted = [(path, path in writable) for path in (*paths, *writable) if path.exists()]
    while blocked := next((c for path, _ in wanted if (c := _closed(path, uid, gid))), None):
        inside = [(path, write) for path, write in wanted if blocked in path.parents]
        handles = [(os.open(path, os.O_PATH), path, write) for path, write in inside]
        _Libc().mount("tmpfs", str(blocked), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
        for handle, path, write in handles:
            if path.exists():       # within one that is shown already
                continue
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            bind(f"/proc/self/fd/{handle}", str(path), read_only=not write)
        for handle, *_ in handles:
            os.close(handle)


def drop(who: Identity, *, readable: Iterable[Path], writable: Sequence[Path]) -> Callable[[], None]:
    """Return what a forked child calls before exec to become that user, for good, and to end with its parent."""
    paths = [*code_paths(), *readable]

    def become() -> None:
        libc = _Libc()
        if any(_closed(p, who.uid, who.gid) for p in (*paths, *writable) if p.exists()):
            private_mounts()
            show(paths, writable, who.uid, who.gid)
        os.setgroups([])
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1)
        libc.prctl(PR_SET_PDEATHSIG, 9)

    return become


def give(folder: Path, who: Identity) -> None:
    """Hand the state folder and what is in it to the proxy's user; links are not followed."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, who.uid, who.gid, follow_symlinks=False)
