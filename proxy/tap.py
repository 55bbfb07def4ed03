"""`lockgate tap`: looks on at what a program gives its TLS library, where the program cannot be intercepted.

    tap (this; with the right to trace)      frida puts tap.js into the program and its children
      `-- observer   unprivileged: HTTP, the policy's filters, events

Nothing is changed and nothing can be stopped; what filters would have blocked is an alert.
"""

import argparse
import contextlib
import json
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from certs.user import User, invoking
from proxy import confine
from proxy.channel import described
from proxy.commands import named_files, policy_of
from proxy.launcher import SCRUBBED
from proxy.options import UsageError, refused, state, tell
from proxy.runner import account
from redirector import processes

#: Seconds for the observer to load the policy and its filters.
READY_LIMIT = 30.0
#: Seconds for the observer to take in what is still on its way when the program has ended.
DRAIN_LIMIT = 10.0
#: Seconds between two looks whether the program lives.
TICK = 0.1
#: Waits until we look on, and becomes the command, as its user: Python ignores SIGPIPE, which others do not expect.
GATE = """
import os, pwd, signal, sys
gate, uid, gid = map(int, sys.argv[1:4])
os.read(gate, 1)
os.close(gate)
if uid != os.geteuid():
    os.initgroups(pwd.getpwuid(uid).pw_name, gid)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.execvp(sys.argv[4], sys.argv[4:])
"""
NO_FRIDA = "lockgate tap needs frida, which is not installed: pip install 'lockgate[tap]'"


def tap(arguments: argparse.Namespace) -> int:
    """Look on at what a program that cannot be intercepted sends and receives over TLS; its exit code is ours.

    For programs that pin their certificate.  It sees what OpenSSL, BoringSSL, LibreSSL and GnuTLS are given, reads
    HTTP/1.1 and HTTP/2 in it, and gives that to the policy's filters.  Nothing is stopped: findings are alerts.
    Programs that bring a TLS library of their own without names (static Go, Rust) cannot be looked at.

    example:
      lockgate tap --policy policy.yaml -- curl --pinnedpubkey sha256//... https://example.org/
      sudo lockgate tap --pid 4711
    """
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if bool(command) == bool(arguments.pid):
        raise UsageError("what shall be looked at? lockgate tap -- CMD ..., or lockgate tap --pid PID")
    if command and shutil.which(command[0]) is None:
        raise UsageError(f"{command[0]}: no such program")
    try:
        import frida
    except ImportError:
        raise UsageError(NO_FRIDA) from None
    with refused(), _observer(arguments) as observer:
        try:
            looker = Tap(frida, observer)
            return looker.process(arguments.pid) if arguments.pid else looker.command(command, invoking())
        except (frida.ProcessNotFoundError, frida.PermissionDeniedError, frida.ExecutableNotFoundError,
                frida.NotSupportedError, frida.TransportError) as error:
            raise UsageError(_advice(str(error), arguments.pid)) from None


def _advice(error: str, pid: int | None) -> str:
    allowed = Path("/proc/sys/kernel/yama/ptrace_scope")
    if pid and os.geteuid() != 0 and allowed.is_file() and allowed.read_text().strip() != "0":
        return f"{error}: programs that run already may only be looked at by root here (kernel.yama.ptrace_scope)"
    return error


@contextlib.contextmanager
def _observer(arguments: argparse.Namespace) -> Iterator[subprocess.Popen[bytes]]:
    """The process that reads what strangers sent, ready; it has ended in order afterwards."""
    path, folder = arguments.policy and arguments.policy.absolute(), state(arguments)
    readable = [*([path] if path else []), *named_files(policy_of(path), path)]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if key not in SCRUBBED}
    claim, confined = None, None
    if os.geteuid() == 0:
        who, claim = confine.claim(folder, arguments.user)
        confined = confine.drop(who, readable=readable, writable=[folder])
        environment |= {"HOME": str(folder), "USER": who.name}
    observer = subprocess.Popen([sys.executable, "-I", "-O", "-W", "ignore", "-m", "proxy.observer"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=folder,
                                preexec_fn=confined, start_new_session=True)
    assert observer.stdin is not None
    assert observer.stdout is not None
    try:
        config = {"state": str(folder), "policy": str(path) if path else None, "strict": os.geteuid() == 0}
        observer.stdin.write(json.dumps(config).encode() + b"\n")
        observer.stdin.flush()
        _wait_until_ready(observer)
        said = threading.Thread(target=_pass_on, args=(observer,), daemon=True)
        said.start()
        yield observer
        with contextlib.suppress(BrokenPipeError):
            observer.stdin.close()
        said.join(DRAIN_LIMIT)
    finally:
        observer.kill()
        observer.wait()
        observer.stdout.close()
        if claim is not None:
            os.close(claim)


def _wait_until_ready(observer: subprocess.Popen[bytes]) -> None:
    assert observer.stdout is not None
    timer = threading.Timer(READY_LIMIT, observer.kill)
    timer.start()
    line = observer.stdout.readline()
    timer.cancel()
    message = json.loads(line) if line else {"errors": ["the observer ended before it was ready"]}
    if message.get("type") != "ready":
        raise UsageError("\n".join(message["errors"]))


def _pass_on(observer: subprocess.Popen[bytes]) -> None:
    """Show what the observer says: it has read hostile input, so nothing but plain text gets to the terminal."""
    assert observer.stdout is not None
    for line in observer.stdout:
        with contextlib.suppress(ValueError):
            message = {name: str(value) for name, value in json.loads(line).items()}
            text = ": ".join(message[name] for name in ("host", "rule", "reason") if message.get(name))
            tell("".join(char if char.isprintable() else "?" for char in text))


class Tap:
    """frida's side: its calls are made by one thread; what comes from its own threads waits in a queue."""

    def __init__(self, frida: Any, observer: subprocess.Popen[bytes]) -> None:
        self._frida, self._device = frida, frida.get_local_device()
        self._observer = observer
        self._script = files("proxy").joinpath("tap.js").read_text()
        self._queue: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._sessions: dict[int, Any] = {}
        self._hooked: set[int] = set()
        self._dropped = 0
        self._device.on("child-added", lambda child: self._queue.put(("child", child.pid)))

    def command(self, words: list[str], user: User) -> int:
        """Run a command, looked at from its first instruction; returns its exit code."""
        waits, go = os.pipe()
        numbers = [str(number) for number in (waits, user.uid, user.gid)]
        process = subprocess.Popen([sys.executable, "-I", "-S", "-c", GATE, *numbers, *words], pass_fds=[waits],
                                   env=os.environ | account(user))
        os.close(waits)
        for number in (signal.SIGINT, signal.SIGQUIT):      # the terminal sends them to the command as well
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: process.send_signal(number))
        with process:
            try:
                self._attach(process.pid)
            except Exception:
                process.kill()
                raise
            os.write(go, b"\n")
            os.close(go)
            ended = os.pidfd_open(process.pid)      # waitpid(2) would take the stops that frida waits for
            while not select.select([ended], [], [], 0)[0]:
                self._work(TICK)
            os.close(ended)
        self._finish(process.pid, dead=True)
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    def process(self, pid: int) -> int:
        """Look at a process that runs until it ends, or we are told to; it goes on."""
        ended = False

        def stop(*_: object) -> None:
            nonlocal ended
            ended = True

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, stop)
        self._attach(pid)
        tell(f"looking on at process {pid}; Ctrl-C ends that, not the process")
        while pid in self._sessions and not ended:
            self._work(TICK)
        self._finish(pid, dead=False)
        return 0

    def _finish(self, pid: int, *, dead: bool) -> None:
        """Take what is on its way: what a process said last comes before the word that it has gone."""
        until = time.monotonic() + DRAIN_LIMIT
        while ((dead and pid in self._sessions) or not self._queue.empty()) and time.monotonic() < until:
            self._work(TICK)
        for session in self._sessions.values():
            with contextlib.suppress(self._frida.InvalidOperationError):
                session.detach()
        if not self._hooked:
            tell("no TLS library that can be looked at was found in it: nothing was seen")
        if self._dropped:
            tell(f"{self._dropped} bytes were not looked at, as the program was faster than its filters")

    def _attach(self, pid: int) -> None:
        session = self._device.attach(pid)
        session.enable_child_gating()
        session.on("detached", lambda *_: self._queue.put(("gone", pid)))
        script = session.create_script(self._script)
        script.on("message", lambda message, data: self._queue.put(("message", pid, script, message, data)))
        script.load()
        self._sessions[pid] = session

    def _work(self, limit: float) -> None:
        """Do what waits, for as long as something does; without anything, wait."""
        with contextlib.suppress(queue.Empty):
            item = self._queue.get(timeout=limit) if limit else self._queue.get_nowait()
            while True:
                self._take(*item)
                item = self._queue.get_nowait()

    def _take(self, kind: str, pid: int, *rest: Any) -> None:
        match kind, rest:
            case "child", ():       # also a process that has become another program
                with contextlib.suppress(self._frida.ProcessNotFoundError, self._frida.TransportError,
                                         self._frida.InvalidOperationError):
                    self._attach(pid)
                    self._device.resume(pid)
            case "gone", ():
                self._sessions.pop(pid, None)
            case "message", (script, {"type": "send", "payload": payload}, data):
                self._heard(pid, script, payload, data or b"")
            case "message", (_, {"type": "error", "description": description}, _):
                tell(f"looking on failed in process {pid}: {description}")

    def _heard(self, pid: int, script: Any, payload: dict[str, Any], data: bytes) -> None:
        if payload["kind"] == "hooked":
            self._hooked.add(pid)
            return
        if payload["kind"] == "dropped":
            self._dropped += payload["size"]
        about = {**payload, "pid": pid, "size": len(data), "process": _process(pid),
                 **{name: _endpoint(payload.get(name)) for name in ("local", "peer")}}
        assert self._observer.stdin is not None
        try:
            self._observer.stdin.write(json.dumps(about).encode() + b"\n" + data)
            self._observer.stdin.flush()
        except BrokenPipeError:
            raise UsageError("the observer has ended: nothing more is looked at") from None
        if data:
            with contextlib.suppress(self._frida.InvalidOperationError):     # it has ended meanwhile
                script.post({"type": "acknowledged", "size": len(data)})


def _endpoint(address: dict[str, Any] | None) -> tuple[str, int] | None:
    """frida's `Socket.peerAddress`, of a TCP socket."""
    return (address["ip"].removeprefix("::ffff:"), address["port"]) if address and "ip" in address else None


_known: dict[int, dict[str, Any]] = {}


def _process(pid: int) -> dict[str, Any]:
    """What the filters are told of the program; asked while it lives."""
    if pid not in _known:
        with contextlib.suppress(OSError):
            found = described(processes.read(pid, os.stat(f"/proc/{pid}").st_uid))  # noqa: PTH116
            if found is not None:
                _known[pid] = asdict(found)
    return _known.get(pid, {"pid": pid, "ended": True})
