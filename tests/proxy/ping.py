"""A client that asks again and again over one connection, as a program of its own: how long does it wait?

python -m tests.proxy.ping PROXY_PORT ORIGIN_PORT CA.pem
"""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ASK = b"GET / HTTP/1.1\r\nhost: origin.test\r\n\r\n"
#: Seconds between an answer and the next request.
REST = 0.005


def main() -> None:
    raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.sendall(f"CONNECT 127.0.0.1:{sys.argv[2]} HTTP/1.1\r\nhost: 127.0.0.1:{sys.argv[2]}\r\n\r\n".encode())
    assert b" 200 " in raw.recv(4096)
    sock = ssl.create_default_context(cafile=sys.argv[3]).wrap_socket(raw, server_hostname="origin.test")
    print("ready", flush=True)
    while True:
        began = time.perf_counter()
        sock.sendall(ASK)
        answer = b""
        while not answer.rpartition(b"\n")[2]:
            data = sock.recv(4096)
            assert data, answer
            answer += data
        print(time.perf_counter() - began, flush=True)
        time.sleep(REST)


class Pings:
    """Those of one run."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def quantile(self, share: float) -> float:
        """Seconds within which this share of the answers came."""
        return sorted(self.waits)[min(len(self.waits) - 1, int(len(self.waits) * share))]

    def __str__(self) -> str:
        return json.dumps({f"{share:.0%}": round(self.quantile(share) * 1000, 2) for share in (0.5, 0.9, 0.99, 1.0)})


@contextlib.contextmanager
def pinging(port: int, origin: int, ca: Path) -> Iterator[Pings]:
    """While the block runs, another client asks; what it saw is there when the block has ended."""
    command = [sys.executable, "-m", "tests.proxy.ping", str(port), str(origin), str(ca)]
    pings = Pings()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield pings
            assert process.poll() is None
        finally:
            process.kill()
        pings.waits = [float(line) for line in process.stdout if line.endswith("\n")]


if __name__ == "__main__":
    main()
