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
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy import confine
from proxy.config import Config
from proxy.pair import TICK, Pair
from proxy.secretfile import read_secrets
from redirector import release, wire
from redirector.plan import Plan, require

if TYPE_CHECKING:
    from redirector.keeper import Keeper

#: Seconds for the worker to say that it listens: mitmproxy's imports take one or two on a slow machine.
LISTEN_LIMIT = 30.0
#: Seconds for the redirector to install its rules.
READY_LIMIT = 15.0
#: Restarts within RESTART_WINDOW seconds.  A pair that dies more often is not going to live, so it is tried again only
#: every PAUSE seconds; giving up would leave a computer that fails closed without anybody who tries.
MAX_RESTARTS, RESTART_WINDOW, PAUSE = 20, 60.0, 5.0
#: Characters of a note for the worker: with escapes still one write to its pipe (PIPE_BUF, pipe(7)).
MAX_NOTE = 600
#: Bytes of the root certificate, far more than ours has.
MAX_ROOT = 1 << 16

#: Variables that the worker must not inherit: keys of every session would be written where SSLKEYLOGFILE says, and the
#: others change what it trusts or runs.
SCRUBBED = ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY",
            "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@dataclass(slots=True)
class Launch:
    """What to start.  `plan` is made once the worker's port is known; None means the explicit door.

    `readable` are the files that the policy names: the worker, another user, must see them.  `redirector` is the socket
    of one that somebody else starts for each connection to it, with a Start of his own (`serving.py`).  `asks`: the
    worker asks the redirector where connections were going; `ports` are local ports for its own connections, where the
    capture knows it by these; `keeper`: that of the command, for a plan with the backend `hook`.
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
    redirector: Path | None = None
    asks: bool = False
    ports: tuple[int, int] | None = None
    keeper: "Keeper | None" = None
    anyone: bool = False            # see Config
    secrets: Sequence[tuple[Path, bool]] = ()       # files, and whether nobody else may read them


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
        apart = self.launch.redirector
        ours, theirs = socket.socketpair() if apart is None else (socket.socket(), socket.socket(socket.AF_UNIX))
        with ours, theirs:
            pair = self.pair = Pair(self._start_worker(theirs))
            try:
                pair.listening = pair.wait_for("listening", LISTEN_LIMIT)
                plan = self.launch.plan and self.launch.plan(pair.listening["listen"][0][1], self.exempt_uid)
                if plan is not None and sys.platform == "win32":       # elsewhere the owner of each connection is asked
                    plan = replace(plan, exempt_pid=pair.worker.pid)
                start = wire.Start(self.launch.instance, self.launch.run_dir, plan)
                if apart is None:
                    pair.redirector = self.start_redirector(ours, start, self.launch.keeper)
                else:
                    theirs.settimeout(READY_LIMIT)
                    theirs.connect(os.fspath(apart))
                    pair.channel = theirs.dup()
                theirs.close()
                assert pair.worker.stdin is not None
                pair.worker.stdin.write(b"go\n")       # now somebody answers
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
                        launch.listen, channel.fileno(), strict=self.root, asks=launch.asks, ports=launch.ports,
                        anyone=launch.anyone, secrets=read_secrets(launch.secrets))
        environment = {key: value for key, value in os.environ.items() if key not in SCRUBBED}
        environment["LOCKGATE_LOG"] = launch.log_level
        confined, errors = None, 2
        if self.who is not None:
            readable = [*([launch.policy] if launch.policy else []), *launch.readable]
            confined = confine.drop(self.who, readable=readable, writable=[launch.state])
            environment |= {"HOME": str(launch.state), "USER": self.who.name}
            errors = confine.write_only(errors)
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-O", "-W", "ignore", "-m", "proxy.worker"], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=launch.state, pass_fds=[channel.fileno()],
                preexec_fn=confined, start_new_session=True)
        finally:
            if errors != 2:
                os.close(errors)
        assert process.stdin is not None
        process.stdin.write(config.encode())
        process.stdin.flush()
        return process

    @staticmethod
    def start_redirector(channel: socket.socket, start: wire.Start,
                         keeper: "Keeper | None" = None) -> subprocess.Popen[bytes]:
        """Start is its argument: the worker holds the channel's other end, and could be first to say what it likes."""
        end = channel.fileno()
        command: list[str | bytes] = [sys.executable, "-I", "-m", "redirector", wire.encode(start).rstrip()]
        with contextlib.ExitStack() as given:
            more = [given.enter_context(keeper.attach()).fileno()] if keeper else []
            return subprocess.Popen([*command, *map(str, more)], stdin=end, stdout=end, cwd="/", pass_fds=more,
                                    start_new_session=True)

    def children(self) -> set[int]:
        """The processes that are ours to wait for."""
        pair = (self.pair.worker, self.pair.redirector) if self.pair is not None else ()
        return {process.pid for process in pair if process is not None}

    def root_certificate(self) -> bytes:
        """The root, as PEM.  The worker says where it lies, so no file is read that is not the worker's own.

        Raises OSError; ValueError for a file that is somebody else's, or not a plain one.
        """
        assert self.pair is not None
        path = self.pair.ready["ca"]
        owner = os.geteuid() if self.who is None else self.who.uid
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            info = os.fstat(file.fileno())
            require(stat.S_ISREG(info.st_mode) and info.st_uid == owner, f"{path}: not a file of the proxy's own")
            return file.read(MAX_ROOT)

    def note(self, what: str, detail: str) -> None:
        """Have the worker record an event of our own life."""
        if self.pair is not None and (pipe := self.pair.worker.stdin) is not None:
            with contextlib.suppress(OSError, ValueError):      # it is being replaced
                pipe.write(json.dumps({"note": what, "detail": detail[:MAX_NOTE]}).encode() + b"\n")
                pipe.flush()

    def reload(self) -> None:
        """Have the worker read its policy again."""
        if self.pair is not None:
            self.pair.worker.send_signal(signal.SIGHUP)

    def stop(self, *, release_guard: bool = True) -> None:
        if self.pair is not None:
            self.pair.stop()
        if release_guard and self.root and self.launch.plan is not None:       # a worker that hung could not say Stop
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
