"""Our own ends of the connections that we made ourselves: by them a monitor tells ours from the applications'."""

import socket
import time
from collections import deque

type Address = tuple[str, int]

#: As many as a proxy has connections at once.
MAX_DIALLED = 10_000


class Dialled:
    """The newest of them, counted."""

    def __init__(self) -> None:
        self.count = 0
        self._ends: deque[tuple[Address, Address, float]] = deque(maxlen=MAX_DIALLED)

    def note(self, sock: socket.socket, peer: Address | None = None) -> None:
        """Remember both ends of a socket, and when; `peer` is where it was to go, if it is not connected."""
        self._ends.append((sock.getsockname()[:2], peer or sock.getpeername()[:2], time.time()))
        self.count += 1

    def since(self, seen: int) -> list[tuple[Address, Address, float]]:
        """Own end, peer, and seconds since the epoch of those after the first `seen`, as far as they are remembered."""
        new = self.count - seen
        return list(self._ends)[-new:] if new > 0 else []


dialled = Dialled()
