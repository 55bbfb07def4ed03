"""How an application connects, and reads; by a proxy, where its environment says so."""

import errno
import json
import os
import socket
import struct
from typing import Any

LIMIT = 10.0
CHUNK = 1 << 16
PROXY = os.environ.get("ALL_PROXY", "").removeprefix("socks5h://")
DIRECT = os.environ.get("NO_PROXY", "").split(",")
#: What the answers of a SOCKS5 proxy mean to an application (RFC 1928, 6).
REPLIES = {3: errno.ENETUNREACH, 4: errno.EHOSTUNREACH, 5: errno.ECONNREFUSED, 6: errno.ETIMEDOUT}


def say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def connect(address: str, port: int, *, local_port: int = 0, mark: int = 0, limit: float = LIMIT) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(limit)
    try:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("I", mark))
        if local_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", local_port))
        if by_proxy(address):
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


def by_proxy(address: str) -> bool:
    """Does the environment say so?"""
    return bool(PROXY) and address not in DIRECT


def _other_family(sock: socket.socket, limit: float) -> socket.socket:
    """The proxy is on IPv4, wherever we go by it."""
    sock.close()
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(limit)
    return sock


def _socks(sock: socket.socket, address: str, port: int) -> None:
    """CONNECT by SOCKS5 (RFC 1928), without authentication."""
    sock.sendall(b"\x05\x01\x00")
    assert exactly(sock, 2) == b"\x05\x00"
    kind, family = (b"\x04", socket.AF_INET6) if ":" in address else (b"\x01", socket.AF_INET)
    sock.sendall(b"\x05\x01\x00" + kind + socket.inet_pton(family, address) + struct.pack("!H", port))
    _, reply, _, bound = exactly(sock, 4)
    if reply:
        raise OSError(REPLIES.get(reply, errno.ECONNABORTED), f"SOCKS5 reply {reply}")
    exactly(sock, {1: 4, 4: 16}[bound] + 2)


def exactly(sock: socket.socket, count: int) -> bytes:
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
