"""A redirector with `hook`, programs under its filter, and listeners of ours that stand for origin and proxy.

All on loopback, which the plan captures here: it needs no rights.
"""
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redirector import trial
from redirector.keeper import Keeper
from redirector.plan import Plan
from redirector.wire import HEARTBEAT_INTERVAL, Decoder, Heartbeat, Lookup, Message, Owner, Start, encode

WAIT = 5.0
PROJECT = Path(__file__).parents[2]
#: Puts the filter on itself, and becomes the program.
ENTRANCE = """import os, socket, sys
from redirector import keeper
keeper.join(socket.socket(fileno=int(sys.argv[1])))
os.execvp(sys.argv[2], sys.argv[2:])"""
#: Before each program: what it prints is read as JSON; `tried` is None or the name of an error.
PRELUDE = """import ctypes, errno, json, os, signal, socket, struct, sys, threading, time
origin, untouched, proxy = map(int, sys.argv[1:4])
say = lambda *what: print(json.dumps(what[0] if len(what) == 1 else what), flush=True)
def tried(act, *words):
    try: act(*words)
    except OSError as error: return errno.errorcode[error.errno]
libc = ctypes.CDLL(None, use_errno=True)
def syscall(number, *words):
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(w) if isinstance(w, int) else w for w in words))
    return errno.errorcode[ctypes.get_errno()] if result == -1 else None
"""


def usable() -> None:
    if why := trial.obstacle():
        pytest.skip(why)


class Hooked:
    """`origin` is on a captured port, `untouched` on another; `proxy` is there by IPv4 and IPv6."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self.keeper = self._open.enter_context(Keeper())
        self.origin, self.untouched, self.proxy = (self._listen("127.0.0.1") for _ in range(3))
        self.proxy6 = self._listen("::1", self.proxy.getsockname()[1])
        self.ports = [each.getsockname()[1] for each in (self.origin, self.untouched, self.proxy)]
        self.redirector: subprocess.Popen[bytes] | None = None
        self.channel: socket.socket | None = None

    def _listen(self, host: str, port: int = 0) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = self._open.enter_context(socket.create_server((host, port), family=family, backlog=512))
        listener.settimeout(WAIT)
        return listener

    def start(self, **changes: Any) -> Message:
        """A new redirector; what it says first."""
        plan = Plan(**{"ports": (self.ports[0],), "listen_port": self.ports[2], "loopback": True, "backend": "hook"} | changes)
        ours, theirs = socket.socketpair()
        self.channel, self._decoder, self._inbox = self._open.enter_context(ours), Decoder(), list[Message]()
        with theirs, self.keeper.attach() as end:
            number = end.fileno()
            self.redirector = subprocess.Popen(
                [sys.executable, "-I", "-m", "redirector", encode(Start("t", "/nowhere", plan)).rstrip(), str(number)],
                stdin=theirs, stdout=theirs, pass_fds=[number], cwd="/")
        self._open.callback(self.redirector.wait)
        self._open.callback(self.redirector.kill)
        ours.settimeout(WAIT)
        threading.Thread(target=self._beat, args=(ours,), daemon=True).start()
        return self.receive()

    @staticmethod
    def _beat(channel: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                channel.sendall(encode(Heartbeat()))
                time.sleep(HEARTBEAT_INTERVAL)

    def receive(self) -> Message:
        """The next message that is no heartbeat."""
        assert self.channel is not None
        while not (found := [each for each in self._inbox if each != Heartbeat()]):
            self._inbox = self._decoder.feed(self.channel.recv(4096))
        self._inbox.remove(found[0])
        return found[0]

    def popen(self, *command: object, **more: Any) -> subprocess.Popen[str]:
        """A program under the filter."""
        number = self.keeper.inside.fileno()
        process = self._open.enter_context(subprocess.Popen(
            [sys.executable, "-c", ENTRANCE, str(number), *map(str, command)], pass_fds=[number], cwd=PROJECT,
            stdout=subprocess.PIPE, text=True, **more))
        self._open.callback(process.kill)
        self.keeper.serve()
        return process

    def python(self, code: str, **more: Any) -> subprocess.Popen[str]:
        return self.popen(sys.executable, "-c", PRELUDE + code, *self.ports, **more)

    def run(self, code: str, **more: Any) -> Any:
        """What the program said last."""
        output, _ = self.python(code, **more).communicate(timeout=3 * WAIT)
        return json.loads(output.splitlines()[-1])

    def told(self, listener: socket.socket | None = None) -> Owner:
        """What the proxy hears of the next connection that comes to it."""
        peer, _ = (listener or self.proxy).accept()
        with peer:
            return self.ask(peer.getpeername()[:2], peer.getsockname()[:2])

    def ask(self, client: tuple[str, int], server: tuple[str, int]) -> Owner:
        assert self.channel is not None
        self.channel.sendall(encode(Lookup(7, client, server)))
        answer = self.receive()
        assert isinstance(answer, Owner)
        return answer

    def came(self, listener: socket.socket) -> int:
        """How many connections wait there; they are taken."""
        listener.setblocking(False)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                listener.accept()[0].close()
                count += 1
        listener.settimeout(WAIT)
        return count

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def hooked() -> Iterator[Hooked]:
    usable()
    hooked = Hooked()
    yield hooked
    hooked.close()
