"""pydivert's programs on the interfaces of this network namespace: TC filters of Linux (rtnetlink(7), tc-bpf(8)).

They stay when their process is killed, and do nothing then but let pass. Whoever lives detaches them through pydivert;
this is for what nobody was left to detach, and needs the standard library only (release.py).
"""
from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# linux/rtnetlink.h, linux/netlink.h, linux/pkt_sched.h
_DELETE, _LIST, _ERROR, _DONE, _REQUEST, _ACK, _DUMP = 45, 46, 2, 3, 1, 4, 0x300
#: TC_H_CLSACT with TC_H_MIN_INGRESS and TC_H_MIN_EGRESS.
_PARENTS = 0xFFFFFFF2, 0xFFFFFFF3
_KIND, _OPTIONS, _BPF_NAME = 1, 2, 7
_HEADER, _FILTER = struct.Struct("=IHHII"), struct.Struct("=BxxxiIII")
#: What pydivert calls them, and the preference that it gives a handle: this, less its priority.
_NAME, _PREFERENCE = b"tc_divert_", 30001
#: What our processes are started as, and the priorities of their handles (divert.py); by turns the one above, when one
#: handle takes over from another: pydivert would take the second's programs for the first's.
MODULE = "redirector.diverter"
PRIORITIES = {"divert": 1200, "guard": 1100}
ANSWER_LIMIT = 1.0


@dataclass(frozen=True)
class Program:
    """A filter of one of our processes; `ident` is how the kernel knows it."""

    role: str
    interface: str
    ident: tuple[int, int, int, int]    # interface, handle, parent, preference and protocol

    def __str__(self) -> str:
        return f"{self.role} on {self.interface}"


def attached() -> Iterator[Program]:
    """All that have the priorities of ours. Raises OSError."""
    roles = {_PREFERENCE - priority - turn: role for role, priority in PRIORITIES.items() for turn in (0, 1)}
    for index, name in socket.if_nameindex():
        for parent in _PARENTS:
            for body in _ask(_LIST, _DUMP, index, 0, parent, 0):
                _, found, handle, within, info = _FILTER.unpack_from(body)
                attributes = _attributes(body[_FILTER.size:])
                options = _attributes(attributes.get(_OPTIONS, b""))
                if (handle and attributes.get(_KIND) == b"bpf\0" and options.get(_BPF_NAME, b"").startswith(_NAME)
                        and info >> 16 in roles):
                    yield Program(roles[info >> 16], name, (found, handle, within, info))


def abandoned() -> list[Program]:
    """Those of roles that no process here has any more. Raises OSError."""
    found = list(attached())
    return [each for each in found if each.role not in living()] if found else []


def detach() -> list[Program]:
    """Remove the abandoned ones; returns them. Raises OSError."""
    gone = abandoned()
    for program in gone:
        with contextlib.suppress(FileNotFoundError):
            list(_ask(_DELETE, _ACK, *program.ident))
    return gone


def living() -> set[str]:
    """The roles that other processes have in this network namespace."""
    here, roles = os.stat("/proc/thread-self/ns/net").st_ino, set()  # noqa: PTH116
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            role = words[words.index(MODULE) + 1]
            if int(folder.name) != os.getpid() and os.stat(folder / "ns/net").st_ino == here:  # noqa: PTH116
                roles.add(role)
    return roles


def running(role: str, instance: str) -> list[tuple[int, bool]]:
    """The processes of this role and instance in this network namespace, and whether a redirector still keeps each."""
    here, found = os.stat("/proc/thread-self/ns/net").st_ino, []  # noqa: PTH116
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if (words[words.index(MODULE) + 1:][:2] == [role, instance]
                    and os.stat(folder / "ns/net").st_ino == here):  # noqa: PTH116
                parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                kept = b"redirector" in Path("/proc", parent, "cmdline").read_bytes().split(b"\0")
                found.append((int(folder.name), kept))
    return found


def _ask(kind: int, flags: int, index: int, handle: int, parent: int, info: int) -> Iterator[bytes]:
    body = _FILTER.pack(0, index, handle, parent, info)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(ANSWER_LIMIT)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 1, 0) + body)
        while True:
            data = netlink.recv(1 << 16)
            while data:
                length, kind, *_ = _HEADER.unpack_from(data)
                message, data = data[_HEADER.size:length], data[(length + 3) & ~3:]
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", message)[0]
                    if code and code not in (errno.EINVAL, errno.EOPNOTSUPP):      # no such qdisc here: no filters
                        raise OSError(code, os.strerror(code))
                    return
                yield message


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[max(4, (length + 3) & ~3):]
    return found
