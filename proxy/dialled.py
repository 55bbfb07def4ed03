"""Our own connections: what may come round to us (`loops.py`), and what a monitor tells from the applications' own."""

import socket
import struct
import time
from collections import deque
from weakref import ref

from redirector import sockets
from redirector.plan import Endpoint

#: Destinations without an open connection that may be kept before they are cleared away.
MAX_EMPTY = 1024
#: Ends that are remembered: as many as a proxy has connections at once.
MAX_ENDS = 10_000
#: Bytes of struct tcp_info (linux/tcp.h) up to tcpi_bytes_received, and with it.
_RECEIVED, _TCP_INFO = 128, 136


class Dialled:
    """Our own sockets by where they were dialled to, as long as they are open, the oldest first."""

    def __init__(self) -> None:
        self._sockets: dict[Endpoint, dict[ref[socket.socket], float]] = {}

    def add(self, sock: socket.socket, address: Endpoint) -> None:
        """To be called before it is connected: what comes round may be here before we hear that it is."""
        if len(self._sockets) > MAX_EMPTY:
            self._sockets = {key: there for key, there in self._sockets.items() if there}
        there = self._sockets.setdefault(address, {})
        there[ref(sock, lambda gone: there.pop(gone, None) and None)] = time.monotonic()

    def to(self, address: Endpoint, limit: int = sockets.MAX_ENDS) -> list[tuple[socket.socket, float]]:
        """Of the newest, those that are open, each with the time that it was dialled."""
        newest = list(self._sockets.get(address, {}).items())[-limit:]
        return [(sock, at) for known, at in newest if (sock := known()) is not None and sock.fileno() >= 0]

    def any(self, address: Endpoint) -> bool:
        return bool(self._sockets.get(address))


class Ends:
    """Both ends of the newest of them, also of those that are over, counted."""

    def __init__(self) -> None:
        self.count = 0
        self._ends: deque[tuple[Endpoint, Endpoint, float]] = deque(maxlen=MAX_ENDS)

    def note(self, sock: socket.socket, peer: Endpoint) -> None:
        """Remember both ends of a socket, and when; `peer` is where it was to go."""
        self._ends.append((sock.getsockname()[:2], peer, time.time()))
        self.count += 1

    def since(self, seen: int) -> list[tuple[Endpoint, Endpoint, float]]:
        """Own end, peer, and seconds since the epoch of those after the first `seen`, as far as they are remembered."""
        new = self.count - seen
        return list(self._ends)[-new:] if new > 0 else []


#: Those of this process.
ours, ends = Dialled(), Ends()


def received(sock: socket.socket) -> int:
    """Bytes that its peer has sent so far (tcp(7), TCP_INFO); 0 for a closed one."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO)
    except OSError:
        return 0
    return int(struct.unpack_from("=Q", info, _RECEIVED)[0])
