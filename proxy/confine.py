"""How the proxy loses root's rights and still reaches its code, also where that lies in a home closed to others.

In a mount namespace of the proxy's own, each closed folder on the way to something it needs is replaced by an empty
one that shows just that: the interpreter, the environment, the project, the policy, the state.  Nothing changes for
anyone else, and the proxy sees less of root's home than root would have to open for it otherwise.
"""

import contextlib
import ctypes
import fcntl
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
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38

#: Uids that belong to nobody, for a proxy started by root without an account of its own: systemd's range for
#: DynamicUser= (systemd.exec(5)).  Nothing is created; the uid lives as long as the process.
TRANSIENT_UIDS = range(61184, 65520)

#: The account that is used where it exists and no other is named.
ACCOUNT = "lockgate"


#: What the worker imports of ours.
PACKAGES = ("addons", "certs", "proxy", "redirector")
#: What a state folder has in it, if anything.  A folder without is someone else's, and not to be given away.
OURS = {"ca", "events.db", "pins", "filter-state"}


class ConfineError(ValueError):
    """The rights cannot be given up; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the proxy runs as."""

    uid: int
    gid: int
    name: str


def identity(name: str | None, owner: int = 0) -> Identity:
    """The named account, else `lockgate` where it exists, else a transient uid.  Never root, never created silently.

    `owner` is the uid that has the state folder: a transient one is kept, so that proxies with one state are one user.
    """
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
        uid = owner if owner in TRANSIENT_UIDS else _unused_uid()
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
    """What this interpreter needs to run lockgate: itself, its environment, and of the project our packages."""
    project = Path(__file__).resolve().parent.parent
    found = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), Path(sys.prefix).absolute()}
    found |= {Path(p).resolve() for p in sys.path if p and Path(p).exists()} - {project}
    return sorted(found | {project / name for name in PACKAGES})


def _allows(path: Path, who: Identity, right: int) -> bool:
    """Has this user the right, S_IROTH or S_IXOTH, on the path itself?"""
    info = path.stat()
    shift = 6 if info.st_uid == who.uid else 3 if info.st_gid == who.gid else 0
    return bool(info.st_mode & right << shift)


def _closed(path: Path, who: Identity) -> Path | None:
    """The first folder on the way to `path` that this user cannot pass, or None."""
    return next((folder for folder in reversed(path.parents) if not _allows(folder, who, stat.S_IXOTH)), None)


def _view(file: Path, who: Identity) -> Path:
    """What is shown for a file to be seen: its folder, where another may take its place; if that is closed, itself."""
    return file.parent if _allows(file.parent, who, stat.S_IXOTH) else file


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


def show(paths: Iterable[Path], writable: Sequence[Path], who: Identity) -> None:
    """Make each path reachable for the user: needs `private_mounts()` first."""
    wanted = [(path, path in writable) for path in (*paths, *writable) if path.exists()]
    while blocked := next((c for path, _ in wanted if (c := _closed(path, who))), None):
        inside = [(path, write) for path, write in wanted if blocked in path.parents]
        handles = [(os.open(path, os.O_PATH), path, write) for path, write in inside]
        _Libc().mount("tmpfs", str(blocked), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
        for handle, path, write in handles:
            if path.exists() and not write:     # within one that is shown already, which may be for reading alone
                continue
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            bind(f"/proc/self/fd/{handle}", str(path), read_only=not write)
        for handle, *_ in handles:
            os.close(handle)


def drop(who: Identity, *, readable: Iterable[Path], writable: Sequence[Path]) -> Callable[[], None]:
    """Return what a forked child calls before exec to become that user, for good, and to end with its parent.

    Raises ConfineError for a file, `readable` or of our code, that this user may not read.
    """
    files = [path for path in (*readable, Path(__file__)) if path.exists()]
    for path in files:
        if not _allows(path, who, stat.S_IROTH):
            raise ConfineError(f"the proxy runs as {who.name}, who may not read {path}: chmod o+r"
                               + (f", and so for all of {path.parents[1]}" if path == Path(__file__) else ""))
    paths = [*code_paths(), *(_view(path, who) for path in files)]
    apart = any(_closed(path, who) for path in (*paths, *writable) if path.exists())

    def become() -> None:
        if apart:
            private_mounts()
            show(paths, writable, who)
        os.setgroups([])
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
        libc = _Libc()
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1)
        libc.prctl(PR_SET_PDEATHSIG, 9)

    return become


def write_only(descriptor: int) -> int:
    """The same file, for writing alone: a terminal as one inherits it can be read too, and so what root types there.

    A socket, the journal's, cannot be opened again and comes back as it is.
    """
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return descriptor


def claim(state: Path, name: str | None) -> tuple[Identity, int]:
    """Make the state folder that of the proxy's user; returns the user, and a descriptor to keep while the proxy runs.

    It holds a shared lock, by which others see that the folder is in use.  Raises ConfineError if another user has it.
    """
    folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    owner = os.fstat(folder).st_uid
    there = {path.name for path in state.iterdir()}
    if there and not there & OURS:
        raise ConfineError(f"{state} has files of others in it; --state names a folder for lockgate alone")
    who = identity(name, owner)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _give(folder, who)
    except BlockingIOError:
        if owner != who.uid:
            os.close(folder)
            raise ConfineError(f"{state} is in use by a proxy that runs as uid {owner}: stop it, or give this one a "
                               "--state of its own") from None
    fcntl.flock(folder, fcntl.LOCK_SH)
    return who, folder


def _give(folder: int, who: Identity) -> None:
    """Hand over what is in the folder, by descriptors: who had it before may have laid links to lead root astray, and
    a process of theirs may lay more meanwhile."""
    for _, folders, files, inside in os.fwalk(".", dir_fd=folder, follow_symlinks=False):
        os.fchown(inside, who.uid, who.gid)
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                _give_one(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside), who)


def take_back(state: Path) -> None:
    """Make a state folder root's: its user goes, and the next to get that uid must not find keys."""
    folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _give(folder, Identity(0, 0, "root"))
    finally:
        os.close(folder)


def _give_one(entry: int, who: Identity) -> None:
    """Closes the descriptor."""
    info = os.fstat(entry)
    try:
        if stat.S_ISDIR(info.st_mode) or (stat.S_ISREG(info.st_mode) and info.st_nlink == 1):
            os.chown(f"/proc/self/fd/{entry}", who.uid, who.gid)
    finally:
        os.close(entry)
