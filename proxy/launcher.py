"""Starts the processes, keeps them running, and stops them in the reverse order.

    launcher (this; root for host-wide capture)
      |-- worker        unprivileged: TLS, HTTP, keys, policy, filters, events
      `-- redirector    root: rules in the kernel; holds them only while the worker's heartbeats come

The two talk over a socket pair that the launcher makes and gives away.  Its own ends are closed, so that the death of
either is seen by the other, and of the launcher by both.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy import confine
from proxy.config import Config
from redirector import release, wire
from redirector.plan import Plan

#: Seconds for the worker to say that it listens: mitmproxy's imports take one or two on a slow machine.
LISTEN_LIMIT = 30.0
#: Seconds for the redirector to install its rules.
READY_LIMIT = 15.0
#: Seconds for each process to end when asked to; then it is killed.
STOP_LIMIT = 5.0
#: Restarts within RESTART_WINDOW seconds; a pair that dies more often is not going to live.
MAX_RESTARTS, RESTART_WINDOW = 20, 60.0

#: Variables that the worker must not inherit: keys of every session would be written where SSLKEYLOGFILE says, and the
#: others change what it trusts or runs.
SCRUBBED = ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY",
            "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class LaunchError(Exception):
    """It could not be started; `errors` has a line for each reason."""

    def __init__(self, *errors: str) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


@dataclass(slots=True)
class Launch:
    """What to start.  `plan` is made once the worker's port is known; None means the explicit door."""

    state: Path
    policy: Path | None
    listen: list[tuple[str, int]]
    plan: Callable[[int, int | None], Plan] | None = None
    user: str | None = None
    instance: str = "main"
    run_dir: str = release.RUN_DIR
    log_level: str = "WARNING"


@dataclass(slots=True)
class Pair:
    """A running worker and, for host-wide capture, its redirector."""

    worker: subprocess.Popen[bytes]
    redirector: subprocess.Popen[bytes] | None = None
    listening: dict[str, Any] = field(default_factory=dict)
    ready: dict[str, Any] = field(default_factory=dict)
    _unread: bytes = b""

    def messages(self, limit: float) -> Iterator[dict[str, Any]]:
        """What the worker says, for at most `limit` seconds; ends early when the worker does."""
        assert self.worker.stdout is not None
        until = time.monotonic() + limit
        while (left := until - time.monotonic()) > 0:
            if select.select([self.worker.stdout], [], [], left)[0]:
                data = os.read(self.worker.stdout.fileno(), 65536)
                if not data:
                    return
                *lines, self._unread = (self._unread + data).split(b"\n")
                yield from map(json.loads, lines)

    def wait_for(self, kind: str, limit: float) -> dict[str, Any]:
        for message in self.messages(limit):
            if message["type"] == kind:
                return message
            if message["type"] == "failed":
                raise LaunchError(*message["errors"])
        if self.worker.poll() is not None:
            raise LaunchError(f"the proxy ended with status {self.worker.returncode} before it was {kind}")
        raise LaunchError(f"the proxy was not {kind} within {limit:.0f} s")

    def ended(self) -> str | None:
        """Which process has ended, or None."""
        if self.worker.poll() is not None:
            return f"the proxy ended ({_status(self.worker.returncode)})"
        if self.redirector is not None and self.redirector.poll() is not None:
            return f"the redirector ended ({_status(self.redirector.returncode)})"
        return None

    def stop(self) -> None:
        """The worker first: it tells the redirector to remove its rules and the guard."""
        for process in (self.worker, self.redirector):
            if process is not None:
                _end(process)


def _status(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Launcher:
    """Runs one proxy until it is told to stop."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.root = hasattr(os, "geteuid") and os.geteuid() == 0
        launch.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.who = confine.identity(launch.user) if self.root else None
        if self.who is not None:
            confine.give(launch.state, self.who)
        if launch.plan is not None:
            Path(launch.run_dir).mkdir(mode=0o755, parents=True, exist_ok=True)
        self.pair: Pair | None = None

    @property
    def exempt_uid(self) -> int | None:
        return self.who.uid if self.who is not None else None

    def start(self) -> Pair:
        """Start the worker and, where there is a plan, the redirector; return when both are ready."""
        ours, theirs = socket.socketpair() if self.launch.plan else (None, None)
        try:
            pair = self.pair = Pair(self._start_worker(theirs))
            try:
                pair.listening = pair.wait_for("listening", LISTEN_LIMIT)
                if self.launch.plan is not None:
                    assert ours is not None
                    assert theirs is not None
                    pair.redirector = self._start_redirector(ours)
                    plan = self.launch.plan(pair.listening["listen"][0][1], self.exempt_uid)
                    theirs.sendall(wire.encode(wire.Start(self.launch.instance, self.launch.run_dir, plan)))
                    theirs.close()
                    assert pair.worker.stdin is not None
                    pair.worker.stdin.write(b"go\n")       # nothing may come before Start
                    pair.worker.stdin.flush()
                pair.ready = pair.wait_for("ready", READY_LIMIT)
            except BaseException:
                pair.stop()
                raise
            return pair
        finally:
            for end in (ours, theirs):
                if end is not None:
                    end.close()

    def _start_worker(self, channel: socket.socket | None) -> subprocess.Popen[bytes]:
        launch = self.launch
        config = Config(str(launch.state), str(launch.policy) if launch.policy else None, launch.plan is None,
                        launch.listen, channel.fileno() if channel else None, strict=self.root)
        environment = {key: value for key, value in os.environ.items() if key not in SCRUBBED}
        environment["LOCKGATE_LOG"] = launch.log_level
        confined = None
        if self.who is not None:
            readable = [launch.policy.parent] if launch.policy else []
            confined = confine.drop(self.who, readable=readable, writable=[launch.state])
            environment |= {"HOME": str(launch.state), "USER": self.who.name}
        process = subprocess.Popen(
            [sys.executable, "-I", "-O", "-m", "proxy.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=environment, cwd=launch.state, pass_fds=[channel.fileno()] if channel else [],
            preexec_fn=confined, start_new_session=True)
        assert process.stdin is not None
        process.stdin.write(config.encode())
        process.stdin.flush()
        return process

    @staticmethod
    def _start_redirector(channel: socket.socket) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-I", "-m", "redirector"], stdin=channel, stdout=channel, cwd="/",
                                start_new_session=True)

    def stop(self, *, release_guard: bool = True) -> None:
        if self.pair is not None:
            self.pair.stop()
        if release_guard and self.launch.plan is not None:     # a worker that hung could not say Stop
            with contextlib.suppress(ValueError, OSError):
                release.release(self.launch.run_dir, self.launch.instance)

    def supervise(self, tell: Callable[[dict[str, Any]], None], stopped: Callable[[], bool]) -> None:
        """Stay until `stopped`; a pair one of which dies is replaced.  Meanwhile the chosen fail mode holds."""
        restarts: list[float] = []
        while not stopped():
            assert self.pair is not None
            for message in self.pair.messages(0.2):
                tell(message)
            if (why := self.pair.ended()) is None:
                continue
            if stopped():
                return
            restarts = [t for t in restarts if time.monotonic() - t < RESTART_WINDOW]
            if len(restarts) >= MAX_RESTARTS:
                raise LaunchError(f"{why}, for the {MAX_RESTARTS}th time within {RESTART_WINDOW:.0f} s: giving up")
            restarts.append(time.monotonic())
            tell({"type": "restarting", "reason": why})
            self._kill_rest()
            self.start()
            tell(self.pair.ready | {"type": "restarted"})

    def _kill_rest(self) -> None:
        """The other process of a broken pair; a stopped one does not hear a polite word."""
        assert self.pair is not None
        for process in (self.pair.worker, self.pair.redirector):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
