"""Two network namespaces with a cable between them, a stand-in for the proxy, a launcher, and fixtures of these."""
import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redirector import release
from redirector.cgroups import mount
from redirector.plan import Plan
from redirector.wire import HEARTBEAT_INTERVAL, Decoder, Heartbeat, Message, Start, encode
from tests.waiting import wait_for

#: Documentation prefixes (RFC 5737, RFC 3849) stand for the internet, 10.77.0.0/24 for a LAN.
CLIENT4, ORIGIN4, ORIGIN6, ORIGIN_LAN = "198.51.100.1", "198.51.100.2", "2001:db8::2", "10.77.0.2"
PROXY_PORT = 8080
#: Nobody's uids: the proxy's, and an application's.
PROXY_UID, APP_UID = 61184, 61185
EVERYTHING = Plan(ports=(80, 443), listen_port=PROXY_PORT, exempt_uid=PROXY_UID, fail="open")
CLOSED = replace(EVERYTHING, fail="closed")
#: What a diverted client hears, see Network.ask.
DIVERTED = f"proxy for {ORIGIN4} 443"
SO_ORIGINAL_DST = 80
WAIT = 2.0


def sh(command: str) -> str:
    return subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True).stdout


def within(path: Path, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a function in the network namespace at this path, in a thread of its own, as setns(2) is per thread."""
    result: list[Any] = []

    def inside() -> None:
        with path.open() as namespace:
            os.setns(namespace.fileno(), os.CLONE_NEWNET)
        try:
            result.append((function(*args, **kwargs), None))
        except Exception as error:
            result.append((None, error))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    value, error = result[0]
    if error:
        raise error
    return value


class Namespace:
    """`call` runs a function inside."""

    def __init__(self, name: str) -> None:
        self.path = Path("/var/run/netns", name)
        sh(f"ip netns add {name} && ip -n {name} link set lo up")
        self.name = name

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return within(self.path, function, *args, **kwargs)

    def sh(self, command: str) -> str:
        return str(self.call(sh, command))

    def tables(self) -> list[str]:
        return [line.split()[-1] for line in self.sh("nft list tables").splitlines()]


class Network:
    """A client and an origin. The origin answers `origin`; the client's proxy says which address was meant."""

    def __init__(self) -> None:
        name = f"lgt{os.getpid()}"
        self._open: list[socket.socket] = []
        self.client, self.origin = Namespace(f"{name}c"), Namespace(f"{name}o")
        sh(f"ip link add e0 netns {self.client.name} type veth peer name e0 netns {self.origin.name}")
        for here, host in ((self.client, 1), (self.origin, 2)):
            for address in (f"198.51.100.{host}/24", f"10.77.0.{host}/24", f"2001:db8::{host}/64 nodad"):
                sh(f"ip -n {here.name} address add {address} dev e0")
            sh(f"ip -n {here.name} link set e0 up")
        for port in (80, 443, 8443):
            self._serve(self.origin, "::", port, lambda _: "origin")
        self._open.append(self.origin.call(silent_udp, 443))
        self._serve(self.client, "::", 443, lambda _: "local")
        for loopback in ("127.0.0.1", "::1"):
            self._serve(self.client, loopback, PROXY_PORT, original_destination)

    def _serve(self, where: Namespace, address: str, port: int, answer: Callable[[socket.socket], str]) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = where.call(socket.create_server, (address, port), family=family, dualstack_ipv6=address == "::")
        self._open.append(listener)
        threading.Thread(target=self._accept, args=(listener, answer), daemon=True).start()

    def _accept(self, listener: socket.socket, answer: Callable[[socket.socket], str]) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                self._open.append(peer)
                threading.Thread(target=self._talk, args=(peer, answer(peer)), daemon=True).start()

    def _talk(self, peer: socket.socket, answer: str) -> None:
        """The answer, then an echo until the other side ends."""
        with contextlib.suppress(OSError), peer:
            peer.sendall(f"{answer}\n".encode())
            while data := peer.recv(1000):
                peer.sendall(data)

    def connect(self, address: str = ORIGIN4, port: int = 443) -> socket.socket:
        """A connection from the client that stays open; its greeting has been read."""
        connection: socket.socket = self.client.call(socket.create_connection, (address, port), timeout=WAIT)
        connection.settimeout(WAIT)
        self._open.append(connection)
        connection.recv(100)
        return connection

    def ask(self, address: str = ORIGIN4, port: int = 443, uid: int = 0, cgroup: Path | None = None) -> str:
        """Who answers a process of that user and control group: the greeting, or `refused`, or `silence`."""
        enter = f"echo $$ > {cgroup}/cgroup.procs; " if cgroup else ""
        script = f"{enter}exec 3<>/dev/tcp/{address}/{port} && read -r -t {WAIT} -u 3 line && echo $line"
        done = self.client.call(subprocess.run, ["bash", "-c", script], capture_output=True, text=True, user=uid,
                                group=uid, extra_groups=[], timeout=3 * WAIT)
        return done.stdout.strip() or ("refused" if "refused" in done.stderr else "silence")

    def heard(self) -> int:
        """How many TCP segments have come to the origin."""
        return int(self.origin.sh("awk '$1 == \"Tcp:\" {heard = $11} END {print heard}' /proc/net/snmp"))

    def close(self) -> None:
        for endpoint in self._open:
            with contextlib.suppress(OSError):
                endpoint.shutdown(socket.SHUT_RDWR)     # wakes the thread that waits in it
            endpoint.close()
        for namespace in (self.client, self.origin):
            sh(f"ip netns delete {namespace.name}")


def echo(connection: socket.socket) -> bytes:
    connection.sendall(b"ping")
    return connection.recv(100)


def silent_udp(port: int) -> socket.socket:
    """Takes everything and answers nothing."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", port))
    return udp


def original_destination(peer: socket.socket) -> str:
    if peer.family == socket.AF_INET:
        port, packed = struct.unpack("!2xH4s8x", peer.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16))
        return f"proxy for {socket.inet_ntop(socket.AF_INET, packed)} {port}"
    port, packed = struct.unpack("!2xH4x16s4x", peer.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28))
    return f"proxy for {socket.inet_ntop(socket.AF_INET6, packed)} {port}"


class Launcher:
    """A redirector in a namespace, and the far end of its control channel with a beating heart."""

    def __init__(self, namespace: Namespace, run_dir: Path, cwd: Path | None = None) -> None:
        self.namespace, self.run_dir = namespace, run_dir
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process: subprocess.Popen[bytes] = namespace.call(
                subprocess.Popen, [sys.executable, "-I", "-m", "redirector"], stdin=theirs, stdout=theirs,
                stderr=subprocess.DEVNULL, cwd=cwd)
        self.socket.settimeout(WAIT * 3)
        self._decoder, self._inbox = Decoder(), list[Message]()
        self.beating = True

    def start(self, plan: Plan, instance: str = "t") -> Message:
        self.send(Start(instance, str(self.run_dir), plan))
        answer = self.receive()
        threading.Thread(target=self._beat, daemon=True).start()
        return answer

    def _beat(self) -> None:
        with contextlib.suppress(OSError):
            while self.beating:
                self.send(Heartbeat())
                time.sleep(HEARTBEAT_INTERVAL)

    def send(self, message: Message) -> None:
        self.socket.sendall(encode(message))

    def receive(self) -> Message:
        """The next message that is no heartbeat."""
        while True:
            while self._inbox:
                message = self._inbox.pop(0)
                if message != Heartbeat():
                    return message
            data = self.socket.recv(4096)
            assert data, "the redirector closed the channel"
            self._inbox += self._decoder.feed(data)

    def kill(self) -> None:
        """As an accident would: nothing is tidied up."""
        self.process.kill()
        assert wait_for(lambda: "lockgate_t" not in self.namespace.tables())

    def close(self) -> None:
        """In order where it can: what it diverted is reset, else it would be there as an older connection next time."""
        self.beating = False
        self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(WAIT)
        self.process.kill()
        self.process.wait()


needs_root = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and nftables need root"),
    pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed: apt install nftables"),
]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture
def launch(network: Network, tmp_path: Path) -> Iterator[Callable[..., Launcher]]:
    """Makes launchers; in the end nothing of them may be left in the kernel."""
    made: list[Launcher] = []

    def make(cwd: Path | None = None) -> Launcher:
        made.append(Launcher(network.client, tmp_path, cwd))
        return made[-1]

    yield make
    for launcher in made:
        launcher.close()
    release.release(str(tmp_path))
    assert network.client.tables() == []


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """An empty control group."""
    folder = Path(mount(), f"lockgate-test-{os.getpid()}")
    folder.mkdir()
    yield folder
    wait_for(lambda: not (folder / "cgroup.procs").read_text())
    folder.rmdir()
