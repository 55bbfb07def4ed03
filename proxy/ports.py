"""The local ports of the proxy's own connections, where it is by them that the capture knows whose they are (`divert`).

The launcher picks a range that the system gives nobody by itself, the worker binds each socket that it dials with to
the next port of it. A port is free for another destination at once, and for the same one when the kernel says that its
TIME_WAIT is over (60 s on Linux): ports are used in turn, so each rests for as long as the range allows.
"""

import asyncio
import errno
import os
import random
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from proxy import dialled

if TYPE_CHECKING:
    from proxy.launcher import Launch

type Range = tuple[int, int]

#: Ports in a range; each second as many as these by 60 connections to one destination can begin, for ever.
SIZE, LEAST = 4096, 512
#: The lowest port that may be bound without a right.
LOWEST = 1024
#: What Windows gives by itself begins above this range (netsh int ipv4 show dynamicport tcp).
WINDOWS = (45056, 49151)
#: Ports tried at once, and seconds until others are when all of these rest.
TRIES, PAUSE = 64, 0.2
_BUSY = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
_SYSCTL = Path("/proc/sys/net/ipv4")


def pick(sysctl: Path = _SYSCTL) -> Range:
    """First and last of a range that no program is given a port of unasked. Raises ValueError where there is none.

    One that the administrator has reserved comes first (ip_local_reserved_ports, ip-sysctl in the kernel's
    documentation), then what is above the range of ephemeral ports, or below it.
    """
    if sys.platform == "win32":
        return WINDOWS
    low, high = map(int, (sysctl / "ip_local_port_range").read_text().split())
    reserved = _ranges((sysctl / "ip_local_reserved_ports").read_text())
    for first, last in (*reserved, (high + 1, 65535), (LOWEST, low - 1)):
        if last - first + 1 >= LEAST and first >= LOWEST:
            return max(first, last - SIZE + 1), last
    raise ValueError(f"ephemeral ports are {low} to {high}, which leaves none for the proxy alone: "
                     "sysctl net.ipv4.ip_local_reserved_ports=61440-65535")


def _ranges(text: str) -> list[Range]:
    pairs = [part.partition("-") for part in text.strip().split(",") if part]
    return [(int(first), int(last or first)) for first, _, last in pairs]


def reflect(launch: "Launch", listen: tuple[str, int] | None = None) -> None:
    """Have the worker of a launch serve connections whose packets are turned round: they come from their servers'
    addresses, so it listens on every address, for both families. Raises ValueError as `pick` does."""
    launch.ports, launch.asks = pick(), True
    launch.listen = [("::" if socket.has_dualstack_ipv6() else "0.0.0.0", listen[1] if listen else 0)]  # noqa: S104


class Ports:
    """A range in use, by one event loop."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._size = first, last - first + 1
        self._next = random.randrange(self._size)  # noqa: S311  # those of a proxy that just died rest

    def bind(self, sock: socket.socket) -> None:
        """To the next port. Raises OSError; EADDRINUSE where somebody has it."""
        self._next = (self._next + 1) % self._size
        if os.name == "posix":      # others of ours may have it, to other destinations; on Windows it would be theft
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", self._first + self._next))

    async def connect(self, family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
        """A connection from one of the ports; waits while all of them rest. Raises OSError."""
        while True:
            for _ in range(min(TRIES, self._size)):
                sock = socket.socket(family, socket.SOCK_STREAM)
                try:
                    self.bind(sock)
                    return await connected(sock, address)
                except OSError as error:
                    sock.close()
                    if error.errno not in _BUSY:
                        raise
            await asyncio.sleep(PAUSE)


async def connected(sock: socket.socket, address: tuple[str, int]) -> socket.socket:
    """The same socket, connected; closed if that fails. Raises OSError."""
    try:
        sock.setblocking(False)
        dialled.ours.add(sock, address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        finally:
            dialled.ends.note(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


_ports: Ports | None = None


def use(wanted: Range | None) -> None:
    """From now on this process dials from these ports; None: from any."""
    global _ports
    _ports = Ports(*wanted) if wanted else None


def in_use() -> Ports | None:
    return _ports
