"""A worker and its redirector as the launcher sees them: what the one says, whether both live, and their end.

The worker reads what strangers send, so it is believed no more than it must be: its lines are bounded and checked, and
one that talks nonsense is as good as dead.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from redirector.plan import is_int, require
from redirector.wire import Ready

#: Seconds for each process to end when asked to; then it is killed.
STOP_LIMIT = 5.0
#: Seconds between two looks at the pair; its death, and any signal, is seen at once.
TICK = 1.0
#: Bytes in a line of the worker's.  The longest has the errors of a policy, and that is a thousand of them.
MAX_LINE = 1 << 18


class LaunchError(ValueError):
    """It could not be started; `errors` has a line for each reason."""

    def __init__(self, *errors: str) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


@dataclass(slots=True)
class Pair:
    """A running worker and, for host-wide capture, its redirector."""

    worker: subprocess.Popen[bytes]
    redirector: subprocess.Popen[bytes] | None = None
    listening: dict[str, Any] = field(default_factory=dict)
    ready: dict[str, Any] = field(default_factory=dict)
    #: Why the worker counts as dead though its process may live.
    fault: str | None = None
    #: The worker's end of the channel to a redirector that is not our child, to see that one's end; never read.
    channel: socket.socket | None = None
    _unread: bytes = b""

    def messages(self, limit: float, wake: int | None = None) -> Iterator[dict[str, Any]]:
        """What the worker says, for at most `limit` seconds; ends early with the worker, or when `wake` is readable."""
        assert self.worker.stdout is not None
        until = time.monotonic() + limit
        while self.fault is None and not self.worker.stdout.closed and (left := until - time.monotonic()) > 0:
            output = self.worker.stdout.fileno()
            ready = select.select([output] if wake is None else [output, wake], [], [], left)[0]
            if wake is not None and wake in ready:
                os.read(wake, 4096)
                return
            if ready:
                yield from self._heard(os.read(output, 65536))

    def _heard(self, data: bytes) -> Iterator[dict[str, Any]]:
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):    # files are closed before a process has ended
                self.worker.wait(TICK)
            self.fault = "the proxy closed its output"
        *lines, self._unread = (self._unread + data).split(b"\n")
        try:
            for line in (*lines, self._unread):
                require(len(line) <= MAX_LINE, f"a line of more than {MAX_LINE} bytes")
            yield from map(_message, lines)
        except (ValueError, TypeError, RecursionError) as error:
            self.fault = f"the proxy talks nonsense: {error}"

    def wait_for(self, kind: str, limit: float) -> dict[str, Any]:
        for message in self.messages(limit):
            if message["type"] == kind:
                return message
            if message["type"] == "failed":
                raise LaunchError(*message["errors"])
        if self.worker.poll() is not None:
            raise LaunchError(f"the proxy ended with {_status(self.worker.returncode)} before it was {kind}")
        if self.fault is not None:
            raise LaunchError(self.fault)
        raise LaunchError(f"the proxy was not {kind} within {limit:.0f} s")

    def ended(self) -> str | None:
        """Which process has ended, or None."""
        if self.worker.poll() is not None:
            return f"the proxy ended ({_status(self.worker.returncode)})"
        if self.fault is not None:
            return self.fault
        if self.redirector is not None and self.redirector.poll() is not None:
            return f"the redirector ended ({_status(self.redirector.returncode)})"
        return "the redirector ended" if self.channel is not None and _hung_up(self.channel) else None

    def stop(self) -> None:
        """The worker first: it tells the redirector to remove its rules and the guard."""
        for process in (self.worker, self.redirector):
            if process is not None:
                _end(process)
        self._leave()

    def kill(self) -> None:
        """For a pair that is broken: one that is stopped does not hear a polite word."""
        for process in (self.worker, self.redirector):
            if process is not None:
                process.kill()
                _end(process)
        self._leave()

    def _leave(self) -> None:
        if self.channel is not None:
            self.channel.close()


def _message(line: bytes) -> dict[str, Any]:
    """One line of the worker's, with nothing in it but what we and our callers expect.

    Raises ValueError, TypeError, RecursionError.
    """
    message: dict[str, Any] = json.loads(line)
    match message:
        case {"type": "listening", "listen": [_, *_] as places, "ca": str(), **rest}:
            require(all(map(_is_place, places)) and not rest, "not where it listens")
        case {"type": "ready", "listen": [_, *_] as places, "ca": str(), **rest}:
            require(all(map(_is_place, places)), "not where it listens")
            Ready(**rest)
        case {"type": "failed" | "reload-failed", "errors": [*errors], **rest}:
            require(all(isinstance(error, str) for error in errors) and not rest, "not a list of texts")
        case {"type": "reloaded", **rest} if not rest:
            pass
        case _:
            raise ValueError(f"not a message: {line[:100]!r}")
    return message


def _hung_up(channel: socket.socket) -> bool:
    if channel.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(channel, select.POLLRDHUP)
    return bool(poll.poll(0))


def _is_place(place: object) -> bool:
    match place:
        case [str(), port]:
            return is_int(port, 1, 65535)
    return False


def _status(code: int) -> str:
    if code >= 0:
        return f"status {code}"
    names = {each.value: each.name for each in signal.Signals}      # real-time signals have none
    return f"signal {names.get(-code, -code)}"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
