"""Starts the processes, keeps them running, and stops them in the reverse order.

    launcher (this; root for host-wide capture)
      |-- worker        unprivileged: TLS, HTTP, keys, policy, filters, events
      `-- redirector    root: rules in the kernel; holds them only while the worker's heartbeats come.
                        Without a plan it installs nothing, and only says whose connections they are

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
from collections.abc import Callable, Iterator, Sequence
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
#: Restarts within RESTART_WINDOW seconds.  A pair that dies more often is not going to live, so it is tried again only
#: every PAUSE seconds; giving up would leave a computer that fails closed without anybody who tries.
MAX_RESTARTS, RESTART_WINDOW, PAUSE = 20, 60.0, 5.0
#: Seconds between two looks at the pair; its death, and any signal, is seen at once.
TICK = 1.0

#: Variables that the worker must not inherit: keys of every session would be written where SSLKEYLOGFILE says, and the
#: others change what it trusts or runs.
SCRUBBED = ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY",
            "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class LaunchError(ValueError):
    """It could not be started; `errors` has a line for each reason."""

    def __init__(self, *errors: str) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


@dataclass(slots=True)
class Launch:
    """What to start.  `plan` is made once the worker's port is known; None means the explicit door.

    `readable` are the files that the policy names: the worker, another user, must see them.
    """

    state: Path
    policy: Path | None
    listen: list[tuple[str, int]]
    plan: Callable[[int, int | None], Plan] | None = None
    user: str | None = None
    instance: str = "main"
    run_dir: str = release.RUN_DIR
    log_level: str = "WARNING"
    readable: Sequence[Path] = ()


@dataclass(slots=True)
class Pair:
    """A running worker and, for host-wide capture, its redirector."""

    worker: subprocess.Popen[bytes]
    redirector: subprocess.Popen[bytes] | None = None
    listening: dict[str, Any] = field(default_factory=dict)
    ready: dict[str, Any] = field(default_factory=dict)
    _unread: bytes = b""

    def messages(self, limit: float, wake: int | None = None) -> Iterator[dict[str, Any]]:
        """What the worker says, for at most `limit` seconds; ends early with the worker, or when `wake` is readable."""
        assert self.worker.stdout is not None
        if self.worker.stdout.closed:
            return
        until = time.monotonic() + limit
        while (left := until - time.monotonic()) > 0:
            output = self.worker.stdout.fileno()
            ready = select.select([output] if wake is None else [output, wake], [], [], left)[0]
            if wake is not None and wake in ready:
                os.read(wake, 4096)
                return
            if ready:
                data = os.read(output, 65536)
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

    def kill(self) -> None:
        """For a pair that is broken: one that is stopped does not hear a polite word."""
        for process in (self.worker, self.redirector):
            if process is not None:
                process.kill()
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
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


class Launcher:
    """Runs one proxy until it is told to stop.  Raises ConfineError or OSError where its state folder cannot be had."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.root = os.geteuid() == 0
        launch.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.who: confine.Identity | None = None
        self._claim: int | None = None
        if self.root:
            self.who, self._claim = confine.claim(launch.state, launch.user)
            Path(launch.run_dir).mkdir(mode=0o755, parents=True, exist_ok=True)
        self.pair: Pair | None = None
        self._restarts: list[float] = []

    @property
    def exempt_uid(self) -> int | None:
        return self.who.uid if self.who is not None else None

    def start(self) -> Pair:
        """Start the worker and the redirector; return when both are ready.  Raises LaunchError."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            pair = self.pair = Pair(self._start_worker(theirs))
            try:
                pair.listening = pair.wait_for("listening", LISTEN_LIMIT)
                pair.redirector = self._start_redirector(ours)
                plan = self.launch.plan and self.launch.plan(pair.listening["listen"][0][1], self.exempt_uid)
                theirs.sendall(wire.encode(wire.Start(self.launch.instance, self.launch.run_dir, plan)))
                theirs.close()
                assert pair.worker.stdin is not None
                pair.worker.stdin.write(b"go\n")       # nothing may come before Start
                pair.worker.stdin.flush()
                pair.ready = pair.wait_for("ready", READY_LIMIT)
            except BaseException:
                pair.stop()
                raise
        if plan is None:    # clients have been told this port
            self.launch.listen = [(host, port) for host, port, *_ in pair.ready["listen"]]
        return pair

    def _start_worker(self, channel: socket.socket) -> subprocess.Popen[bytes]:
        launch = self.launch
        config = Config(str(launch.state), str(launch.policy) if launch.policy else None, launch.plan is None,
                        launch.listen, channel.fileno(), strict=self.root)
        environment = {key: value for key, value in os.environ.items() if key not in SCRUBBED}
        environment["LOCKGATE_LOG"] = launch.log_level
        confined = None
        if self.who is not None:
            readable = [*([launch.policy] if launch.policy else []), *launch.readable]
            confined = confine.drop(self.who, readable=readable, writable=[launch.state])
            environment |= {"HOME": str(launch.state), "USER": self.who.name}
        process = subprocess.Popen(
            [sys.executable, "-I", "-O", "-W", "ignore", "-m", "proxy.worker"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=environment, cwd=launch.state, pass_fds=[channel.fileno()],
            preexec_fn=confined, start_new_session=True)
        assert process.stdin is not None
        process.stdin.write(config.encode())
        process.stdin.flush()
        return process

    @staticmethod
    def _start_redirector(channel: socket.socket) -> subprocess.Popen[bytes]:
        end = channel.fileno()
        return subprocess.Popen([sys.executable, "-I", "-m", "redirector"], stdin=end, stdout=end, cwd="/",
                                start_new_session=True)

    def reload(self) -> None:
        """Have the worker read its policy again."""
        if self.pair is not None:
            self.pair.worker.send_signal(signal.SIGHUP)

    def stop(self, *, release_guard: bool = True) -> None:
        if self.pair is not None:
            self.pair.stop()
        if release_guard and self.launch.plan is not None:     # a worker that hung could not say Stop
            with contextlib.suppress(ValueError, OSError):
                release.release(self.launch.run_dir, self.launch.instance)
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def supervise(self, tell: Callable[[dict[str, Any]], None], stopped: Callable[[], bool]) -> None:
        """Stay until `stopped`; a pair one of which dies is replaced.  Meanwhile the chosen fail mode holds."""
        with _signals() as wake:
            while not stopped():
                assert self.pair is not None
                for message in self.pair.messages(TICK, wake):
                    tell(message)
                if (why := self.pair.ended()) is not None and not stopped():
                    self._replace(why, tell)

    def _replace(self, why: str, tell: Callable[[dict[str, Any]], None]) -> None:
        tell({"type": "restarting", "reason": why})
        self._restarts = [t for t in self._restarts if time.monotonic() - t < RESTART_WINDOW]
        self._restarts.append(time.monotonic())
        if len(self._restarts) > MAX_RESTARTS:
            time.sleep(PAUSE)
        assert self.pair is not None
        self.pair.kill()
        try:
            tell(self.start().ready | {"type": "restarted"})
        except (OSError, ValueError) as error:
            tell({"type": "restart-failed", "reason": str(error)})
            time.sleep(PAUSE)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that can be read when a signal came; a child's end is one."""
    wake, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        yield wake
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGCHLD, handler)
        os.close(wake)
        os.close(write)
