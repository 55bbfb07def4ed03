"""Tells the service manager what the process is at: sd_notify(3), a datagram on the socket that it named.

Without one nothing is sent.  What cannot be sent is lost: serving goes on.
"""

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

#: Bytes of one datagram; the manager takes no more (`NOTIFY_BUFFER_MAX` of systemd).
MAX_MESSAGE = 4096


class Notify:
    """One manager's socket.  `watchdog`: seconds between two signs of life, half of its patience; 0: no such wish."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = watchdog
        self._alive = 0.0

    @classmethod
    def take(cls, environment: MutableMapping[str, str] = os.environ) -> "Notify":
        """What the environment says; taken out of it, as children must not speak for us."""
        address, usec, pid = (environment.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        if address[:1] not in ("/", "@"):       # `vsock:` is for virtual machines
            return cls()
        ours = usec.isdigit() and pid in ("", str(os.getpid()))
        return cls(address, int(usec) / 2e6 if ours else 0.0)

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """`ready` is to follow.  The time is for `Type=notify-reload`, the words for all others."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}",
                   "STATUS=reading the policy")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=stopping")

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """To be called often; sends no more than is asked for."""
        if self.watchdog and time.monotonic() - self._alive >= self.watchdog:
            self._alive = time.monotonic()
            self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        """Each on a line; a line end within one would begin another."""
        if not self._address:
            return
        lines = (line.replace("\n", " ").replace("\r", " ") for line in assignments)
        message = "\n".join(lines).encode(errors="replace")[:MAX_MESSAGE]
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)     # a manager that does not read must not hold us up
            sock.sendto(message, self._address)
