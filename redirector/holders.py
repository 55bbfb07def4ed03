"""Which processes hold which sockets: one pass over /proc for all that is asked, not one for each socket (proc(5))."""
import os
import time
from collections.abc import Collection, Iterator
from contextlib import suppress

#: Seconds for one pass: 10 000 open files are read in less than 0.1 s, but any user can have a million.
PASS_LIMIT = 1.0
_PREFIX = "socket:["


def holders(inodes: Collection[int], uids: Collection[int]) -> dict[int, int]:
    """The process of each socket, by inode, as far as the time suffices; `uids` are the sockets' owners.

    Of several processes that hold one it is the first that is met. Those of others are seen with root's rights only.
    """
    wanted, found, deadline = set(inodes), dict[int, int](), time.monotonic() + PASS_LIMIT
    for pid in _candidates(set(uids)) if wanted else ():
        with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as files:     # it ended, or is not ours to see
            for file in files:
                link = os.readlink(file)  # noqa: PTH115  # Path objects would double the time
                if link.startswith(_PREFIX) and (inode := int(link[len(_PREFIX):-1])) in wanted:
                    found.setdefault(inode, pid)
        if len(found) == len(wanted) or time.monotonic() > deadline:
            break
    return found


def _candidates(uids: set[int]) -> Iterator[int]:
    """Those in this network namespace first, of them those of the sockets' owners, of them those with few open files
    (the size of the folder, since Linux 6.2): so the most processes are asked in the time that there is."""
    here, order = os.stat("/proc/self/ns/net").st_ino, []  # noqa: PTH116
    with os.scandir("/proc") as folders:
        for folder in folders:
            if folder.name.isdecimal():
                with suppress(OSError):
                    other = True
                    with suppress(PermissionError):
                        other = os.stat(f"{folder.path}/ns/net").st_ino != here  # noqa: PTH116
                    files = os.stat(f"{folder.path}/fd").st_size  # noqa: PTH116
                    order.append((other, folder.stat().st_uid not in uids, files, int(folder.name)))
    return (pid for *_, pid in sorted(order))
