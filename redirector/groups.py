"""What the path of a control group says of the processes in it: their systemd unit, and their container.

A name counts for what it says only where the kernel lets nobody but the system make it. Users and services may make
groups below those that they were given, with any name; so the unit is the first on the way from the root, and what
comes below one has its name before it: `user@1000.service/backup.service` is a user's own, not the system's backup.
Sources: cgroups(7), systemd.unit(5), systemd.special(7); the runtimes' own documents for the names of their groups.
"""
import re
from functools import lru_cache
from typing import NamedTuple

#: How runtimes begin the name of a container's group, and what they are called.
_RUNTIMES = {"docker": "docker", "libpod": "podman", "cri-containerd": "containerd", "crio": "crio",
             "containerd": "containerd", "nerdctl": "containerd"}
_NAMED = re.compile(rf"(?:.*:)?(?P<by>{'|'.join(_RUNTIMES)})[-:](?P<id>[0-9a-f]{{64}})(?:\.scope)?", re.ASCII)
_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LXC = re.compile(r"lxc\.payload\.(?P<id>.+)")
_MACHINE = re.compile(r"machine-(?P<id>.+)\.scope")
_MANAGER = re.compile(r"user@\d+\.service", re.ASCII)


class Group(NamedTuple):
    """`path` is that of version 2; `service` the systemd unit; `container` as in `docker:3f4e...`; empty: none."""

    path: str
    service: str
    container: str


@lru_cache(64)       # at 64 KiB each
def group(lines: bytes) -> Group:
    """What /proc/PID/cgroup says. Of version 1 systemd's own hierarchy counts before the others."""
    paths: dict[str, str] = {}
    # A name cannot hold a line feed, but all else that splitlines() would take for a line's end.
    for line in lines.split(b"\n"):
        number, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        if path.startswith(b"/"):
            name = "" if number == b"0" else controllers.decode(errors="replace")
            paths.setdefault(name, path.decode(errors="replace"))
    ordered = sorted(paths.items(), key=lambda item: (item[0] != "", item[0] != "name=systemd"))
    units = (unit(path) for name, path in ordered if name in ("", "name=systemd"))
    containers = (container(path) for _, path in ordered)
    return Group(paths.get("", ""), next(filter(None, units), ""), next(filter(None, containers), ""))


def unit(path: str) -> str:
    """`nginx.service`; `user@1000.service/firefox.service` for one that a user's own systemd runs; empty: none."""
    found = ""
    for name in path.split("/")[1:]:
        if name.endswith(".slice"):
            continue
        if not name.endswith((".service", ".scope")):
            return found
        found = f"{found}/{name}" if found else name
        if not _MANAGER.fullmatch(found):
            return found
    return found


def container(path: str) -> str:
    """`docker:ID`, `podman:ID`, `lxc:NAME` ..., the outermost; below a unit that may name what it likes, that first."""
    names = path.split("/")[1:]
    for place, name in enumerate(names):
        if said := _said(name, names[place - 1] if place else "", path):
            within = unit("/".join(["", *names[:place]]))
            return f"{within}/{said}" if within else said
    return ""


def _said(name: str, above: str, path: str) -> str:
    if match := _NAMED.fullmatch(name):
        return f"{_RUNTIMES[match['by']]}:{match['id']}"
    if _ID.fullmatch(name):
        if above == "docker":
            return f"docker:{name}"
        return f"kubernetes:{name}" if "/kubepods" in path else ""
    if above in ("lxc", "lxc.payload"):
        return f"lxc:{name}"
    if match := _LXC.fullmatch(name):
        return f"lxc:{match['id']}"
    if above == "machine.slice" and (match := _MACHINE.fullmatch(name)):
        return f"machine:{match['id']}"
    return ""
