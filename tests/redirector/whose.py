"""Whose socket is it?  A server, processes that connect to it, and the question, in both ways of knowing the answer."""
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redirector import cgroups, owner
from redirector.wire import Process

NOBODY = 65534
CONNECT = """import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(flush=True)
input()"""


@pytest.fixture(params=["noted", "searched"], autouse=True)
def source(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every answer is the same whether the kernel noted who connected, or /proc is searched."""
    if request.param == "searched":
        yield request.param
        return
    with owner.watching() as hindrance:
        if hindrance:
            pytest.skip(hindrance)
        yield request.param


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def child(server: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """A process with one connection to the server, and awkward arguments."""
    command = [sys.executable, "-c", CONNECT, str(server.getsockname()[1]), "a b", "\x1b[2J\n", "ü" * 1000]
    with started(command) as process:
        yield process
        process.kill()


def started(command: list[Any], **more: Any) -> subprocess.Popen[bytes]:
    """A process that runs the program, and not a copy of us any more; it has said a line, and waits for its input to end."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
    assert process.stdout
    assert process.stdout.readline()
    return process


def shell(server: socket.socket, then: str = "echo; read") -> str:
    """What bash is told, to connect."""
    return f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}; {then}"


def ask(server: socket.socket) -> Process | None:
    """Who has made the next connection, while it is open."""
    accepted, client = server.accept()
    with accepted:
        return owner.find(client, server.getsockname())


@contextlib.contextmanager
def own_group(name: bytes, above: str = "lockgate-test-%d") -> Iterator[Callable[[], Any] | None]:
    """What a child calls to enter a control group of this name; nothing for who may make none."""
    if os.geteuid() != 0:
        yield None
        return
    outer = Path(cgroups.mount(), above % os.getpid())
    inner = outer / os.fsdecode(name)
    inner.mkdir(parents=True)
    try:
        yield lambda: (inner / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        inner.rmdir()
        outer.rmdir()
