"""An application that knows nothing of any proxy, as a program of its own: does one thing, says what it saw as JSON.

Any Python from 3.9 on runs it.

    application.py ACTION ARGUMENTS(JSON)

Each public function below is an action. What fails is said as `{"error": NAME OF THE ERRNO}`, `{"error": "timeout"}`
after LIMIT seconds. Where the environment has ALL_PROXY=socks5h://HOST:PORT it is an application that obeys that, and
NO_PROXY (a list of addresses): what an explicit proxy is for. Standard library only, and without site: it starts fast.
"""

import errno
import json
import os
import socket
import struct
import sys
import time
from typing import Any

LIMIT = 10.0
CHUNK = 1 << 16
PROXY = os.environ.get("ALL_PROXY", "").removeprefix("socks5h://")
DIRECT = os.environ.get("NO_PROXY", "").split(",")
#: What the answers of a SOCKS5 proxy mean to an application (RFC 1928, 6).
REPLIES = {3: errno.ENETUNREACH, 4: errno.EHOSTUNREACH, 5: errno.ECONNREFUSED, 6: errno.ETIMEDOUT}


def say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def connect(address: str, port: int, *, local_port: int = 0, limit: float = LIMIT) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(limit)
    try:
        if local_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", local_port))
        if PROXY and address not in DIRECT:
            host, _, proxy_port = PROXY.rpartition(":")
            sock = sock if ":" not in address else _other_family(sock, limit)
            sock.connect((host, int(proxy_port)))
            _socks(sock, address, port)
        else:
            sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _other_family(sock: socket.socket, limit: float) -> socket.socket:
    """The proxy is on IPv4, wherever we go by it."""
    sock.close()
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(limit)
    return sock


def _socks(sock: socket.socket, address: str, port: int) -> None:
    """CONNECT by SOCKS5 (RFC 1928), without authentication."""
    sock.sendall(b"\x05\x01\x00")
    assert _exactly(sock, 2) == b"\x05\x00"
    kind, family = (b"\x04", socket.AF_INET6) if ":" in address else (b"\x01", socket.AF_INET)
    sock.sendall(b"\x05\x01\x00" + kind + socket.inet_pton(family, address) + struct.pack("!H", port))
    _, reply, _, bound = _exactly(sock, 4)
    if reply:
        raise OSError(REPLIES.get(reply, errno.ECONNABORTED), f"SOCKS5 reply {reply}")
    _exactly(sock, {1: 4, 4: 16}[bound] + 2)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "the proxy hung up")
        data += more
    return data


def rest(sock: socket.socket) -> bytes:
    """All until the other side ends."""
    data = b""
    while more := sock.recv(CHUNK):
        data += more
    return data


# -- one connection

def who(address: str, port: int, local_port: int = 0, mark: int = 0) -> dict[str, Any]:
    """Which origin answers?"""
    with connect(address, port, local_port=local_port) as sock:
        sock.sendall(b"who\n")
        return {"answer": rest(sock).decode().strip(), "local_port": sock.getsockname()[1]}


def talk(address: str, port: int, pieces: list[str], pause: float = 0.0, end: bool = True) -> dict[str, Any]:
    """Send these pieces, half-close if `end`, and read until the other side ends."""
    with connect(address, port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece.encode("latin-1"))
            time.sleep(pause)
        if end:
            sock.shutdown(socket.SHUT_WR)
        return {"answer": rest(sock).decode("latin-1")}


def listen_first(address: str, port: int) -> dict[str, Any]:
    """Say nothing until the other side has."""
    with connect(address, port) as sock:
        greeting = sock.recv(100)
        sock.sendall(b"ehlo\n")
        return {"greeting": greeting.decode(), "answer": sock.recv(100).decode()}


def main() -> None:
    action, arguments = globals()[sys.argv[1]], json.loads(sys.argv[2])
    try:
        result = action(**arguments)
    except TimeoutError:
        result = {"error": "timeout"}
    except OSError as error:
        result = {"error": errno.errorcode.get(error.errno or 0, str(error))}
    if result is not None:
        say(**result)


main()
