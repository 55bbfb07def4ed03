"""Control groups, version 2: where they are mounted, and their ids (cgroups(7); mountinfo in proc(5))."""
import ctypes
import os
import struct
from contextlib import suppress
from pathlib import Path

from redirector.plan import BackendError

#: struct file_handle for open_by_handle_at(2): its size, its type (FILEID_KERNFS, linux/exportfs.h), and the id.
_HANDLE, _FILEID_KERNFS = struct.Struct("=IiQ"), 0xFE
_libc = ctypes.CDLL(None, use_errno=True)


def mount(mountinfo: str | None = None) -> str:
    """The folder that cgroup v2 is mounted on: on a hybrid system not /sys/fs/cgroup itself. Raises BackendError."""
    # a user's mounts, by FUSE, have any name
    text = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()) if mountinfo is None else mountinfo
    for line in text.splitlines():
        fields, _, filesystem = line.partition(" - ")
        if filesystem.startswith("cgroup2 "):
            return fields.split()[4]
    raise BackendError("cgroup v2 is not mounted here: mount it (mount -t cgroup2 none /sys/fs/cgroup), "
                       "or enter the namespace by nsenter --net, as ip netns exec hides it")


def ids(cgroup: str) -> frozenset[int]:
    """The ids of a control group and of all below it: the inode numbers of their folders. Raises BackendError."""
    folder = mount() + cgroup
    found = set()
    for path, _, _ in os.walk(folder):
        with suppress(FileNotFoundError):       # gone by now: users make and remove groups below their own
            found.add(os.stat(path).st_ino)  # noqa: PTH116
    if not found:
        raise BackendError(f"no control group {cgroup} ({folder}): make it before the start")
    return frozenset(found)


def path(number: int) -> str:
    """The path, from the mount, of the group with this id; empty where it has gone or we may not ask (needs root)."""
    with suppress(OSError, BackendError):
        folder = mount()
        base = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            handle = ctypes.create_string_buffer(_HANDLE.pack(8, _FILEID_KERNFS, number), _HANDLE.size)
            found = _libc.open_by_handle_at(base, handle, os.O_PATH | os.O_CLOEXEC)
        finally:
            os.close(base)
        if found >= 0:
            try:
                whole = os.readlink(f"/proc/self/fd/{found}")  # noqa: PTH115  # bytes of any kind
            finally:
                os.close(found)
            return whole.removeprefix(folder.rstrip("/")) or "/"
    return ""
