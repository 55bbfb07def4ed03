"""A real worker, the explicit door on loopback, and what tests ask of it."""

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import pytest

with warnings.catch_warnings(action="ignore"):      # pyparsing's, about mitmproxy's use of it
    import mitmproxy.master  # noqa: F401

from certs.authority import Authority
from proxy import deadline, sinks
from proxy.config import Config
from tests.proxy.origin import Answer, H2Client, Origin

GET = b"GET / HTTP/1.1\r\nhost: origin.test\r\n\r\n"
MIB = 2**20
#: Every body goes through a scanner that finds nothing, and nobody is waited for longer than a second.
SCANNING = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 1, hello: 1}}
filters:
  - {{id: bodies, use: ./mine.py:Bodies}}
"""
SCANNER = """
class Bodies:
    def requestbody(self, flow): return lambda piece: None
    def responsebody(self, flow): return lambda piece: None
"""


@dataclass
class Proxy:
    """A running worker: `python -m proxy.worker`, configured as the launcher does it."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int
    ca: Path

    @property
    def policy(self) -> Path:
        return self.folder / "policy.yaml"

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def said(self, kind: str, limit: float = 10) -> dict[str, Any]:
        """The next message of that type."""
        assert self.process.stdout is not None
        until = time.monotonic() + limit
        while select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))[0]:
            line = self.process.stdout.readline()
            assert line, self.stderr
            message = json.loads(line)
            if message["type"] == kind:
                return message
            assert message["type"] != "failed", message
        raise AssertionError(f"no {kind!r} within {limit} s")

    def reload(self, policy: str) -> None:
        assert self.process.stdout is not None
        while select.select([self.process.stdout], [], [], 0)[0]:      # the watch may have been as quick as the signal
            self.process.stdout.readline()
        new = self.policy.with_suffix(".new")
        new.write_text(policy)
        new.replace(self.policy)
        self.process.send_signal(signal.SIGHUP)

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def events(self) -> list[dict[str, Any]]:
        time.sleep(0.4)     # the writer works in batches
        return [event for event in sinks.read(self.folder / "state") if event.get("event_type") != "lockgate"]

    # -- clients

    def plain(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def tunnel(self, origin: Origin | int, host: str = "127.0.0.1") -> socket.socket:
        port = origin if isinstance(origin, int) else origin.port
        sock = self.plain()
        sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
        answer = sock.recv(4096)
        assert b" 200 " in answer, answer
        return sock

    def tls(self, origin: Origin | int, host: str = "origin.test",
            alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.set_alpn_protocols(list(alpn))
        return context.wrap_socket(self.tunnel(origin), server_hostname=host, suppress_ragged_eofs=False)

    def h2(self, origin: Origin, host: str = "origin.test") -> H2Client:
        sock = self.tls(origin, host, ("h2", "http/1.1"))
        assert sock.selected_alpn_protocol() == "h2"
        return H2Client(sock, host)

    def ask(self, origin: Origin, raw: bytes, method: str = "GET", host: str = "origin.test") -> Answer:
        """Send bytes over TLS and read one response."""
        with self.tls(origin, host) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(raw)
            return read_answer(sock, method)

    def upload(self, origin: Origin, body: bytes, *, headers: str = "", size: int = 65536, path: str = "/") -> Answer:
        """POST with a content-length, in writes of that size; read the response."""
        head = f"POST {path} HTTP/1.1\r\nhost: origin.test\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode()
        with self.tls(origin) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(head)
                for start in range(0, len(body), size):
                    sock.sendall(body[start : start + size])
            return read_answer(sock, "POST")


def read_answer(sock: socket.socket, method: str = "GET") -> Answer:
    """Read one response with h11; `ended` says that it was complete."""
    parser, answer = h11.Connection(h11.CLIENT), Answer()
    parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    while True:
        try:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(sock.recv(65536))
                continue
        except (OSError, h11.RemoteProtocolError):
            return answer
        match event:
            case h11.Response():
                answer.status = event.status_code
                answer.headers = {k.decode(): v.decode() for k, v in event.headers}
            case h11.Data():
                answer.body += bytes(event.data)
            case h11.EndOfMessage():
                answer.ended = True
                return answer
            case h11.ConnectionClosed():
                return answer


def chunked(body: bytes, size: int) -> bytes:
    """The chunked transfer coding of a body."""
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


@contextlib.contextmanager
def running(folder: Path, policy: str, filters: str = "") -> Iterator[Proxy]:
    """Start a worker with a policy and a file of filters beside it; at the end it must not have stumbled."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.yaml").write_text(policy)
    (folder / "mine.py").write_text(filters)
    config = Config(str(folder / "state"), str(folder / "policy.yaml"), True, [("127.0.0.1", 0)])
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-I", "-m", "proxy.worker"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=stderr, env=environment, bufsize=0)
        assert process.stdin is not None
        process.stdin.write(config.encode())
        process.stdin.flush()
        proxy = Proxy(folder, process, 0, Path())
        try:
            ready = proxy.said("ready", 30)
            proxy.port, proxy.ca = ready["listen"][0][1], Path(ready["ca"])
            yield proxy
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait(10)
            for pipe in (process.stdin, process.stdout):
                pipe.close()
        assert "Traceback" not in proxy.stderr, proxy.stderr
        assert "failed" not in proxy.stderr, proxy.stderr


def scanning(folder: Path, origin: Origin) -> contextlib.AbstractContextManager[Proxy]:
    """Start a worker that looks into all bodies and is impatient."""
    return running(folder / "worker", SCANNING.format(roots=origin.roots), SCANNER)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture(autouse=True, scope="session")
def _deadlines() -> Iterator[None]:
    deadline.prepare()
    yield
    deadline.rest()     # a tick after the end would kill the interpreter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxy")


@pytest.fixture(scope="module")
def origin(folder: Path) -> Iterator[Origin]:
    with Origin(folder / "origin").serve() as served:
        yield served


@pytest.fixture(scope="module")
def h2_origin(folder: Path) -> Iterator[Origin]:
    with Origin(folder / "origin", alpn=("h2", "http/1.1")).serve() as served:
        yield served


@pytest.fixture(autouse=True)
def _forget(request: pytest.FixtureRequest) -> None:
    """Each test finds the origins' records empty."""
    for name in ("origin", "h2_origin"):
        if name in request.fixturenames:
            served = request.getfixturevalue(name)
            served.record.clear()
            served.connections = 0
