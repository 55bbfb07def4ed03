"""What an application does with one connection."""

import errno
import os
import select
import socket
import struct
import time
from typing import Any

from connection import CHUNK, LIMIT, by_proxy, connect, rest


def who(address: str, port: int, limit: float = LIMIT, **socket_options: int) -> dict[str, Any]:
    """Which origin answers, and did it come there without a proxy?"""
    with connect(address, port, limit=limit, **socket_options) as sock:
        sock.sendall(b"who\n")
        answer = rest(sock).decode().split()
    if len(answer) != 3:
        return {"answer": "", "error": "ended without an answer"}
    return {"answer": f"{answer[0].removeprefix('::ffff:')} {answer[1]}", "direct": answer[2] == "direct" and not by_proxy(address)}


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
        return {"greeting": greeting.decode().strip(), "answer": sock.recv(100).decode()}


def go_on_after_the_end(address: str, port: int, ident: str, count: int) -> dict[str, Any]:
    """The origin ends first; what we send after that must still arrive."""
    with connect(address, port) as sock:
        sock.sendall(f"last {ident}\n".encode())
        said = rest(sock)
        sock.sendall(b"x" * count)
    return {"said": said.decode()}


def hang_up(address: str, port: int, ident: str, how: str) -> dict[str, Any]:
    """Say something to `heard`, then end it: by `reset`, `close`, or after `unread` data."""
    with connect(address, port) as sock:
        sock.sendall(f"heard {ident}\n12345".encode())
        time.sleep(0.3)         # so that the five are there before the reset
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return {}


def never_used(address: str, port: int, seconds: float) -> dict[str, Any]:
    """Only connect."""
    with connect(address, port):
        time.sleep(seconds)
    return {}


def cut_off(address: str, port: int, count: int) -> dict[str, Any]:
    """The origin resets after `count` bytes: how many came, and how it ended."""
    with connect(address, port) as sock:
        sock.sendall(f"reset {count}\n".encode())
        got = 0
        try:
            while data := sock.recv(CHUNK):
                got += len(data)
        except ConnectionResetError:
            return {"got": got, "end": "reset"}
        return {"got": got, "end": "eof"}


def urgent(address: str, port: int) -> dict[str, Any]:
    """`c` is urgent (tcp(7))."""
    with connect(address, port) as sock:
        sock.sendall(b"echo\nab")
        sock.send(b"c", socket.MSG_OOB)
        sock.sendall(b"de")
        sock.shutdown(socket.SHUT_WR)
        return {"answer": rest(sock).decode()}


def fast_open(address: str, port: int) -> dict[str, Any]:
    """The first words in the SYN (RFC 7413), twice: the second time there is a cookie."""
    answers = []
    for _ in range(2):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as sock:
            try:
                sock.sendto(b"who\n", socket.MSG_FASTOPEN, (address, port))
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                sock.connect((address, port))           # as programs do where it is not to be had
                sock.sendall(b"who\n")
            sock.settimeout(LIMIT)
            answers.append(rest(sock).decode().split()[:2])
    return {"answers": [" ".join(answer) for answer in answers]}


def non_blocking(address: str, port: int) -> dict[str, Any]:
    """connect(2) with O_NONBLOCK, then poll, then SO_ERROR: what most programs do."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        first = sock.connect_ex((address, port))
        if first not in (0, errno.EINPROGRESS):
            return {"error": errno.errorcode[first]}
        if not select.select([], [sock], [], LIMIT)[1]:
            return {"error": "timeout"}
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return {"error": errno.errorcode[code]}
        sock.setblocking(True)
        sock.settimeout(LIMIT)
        sock.sendall(b"who\n")
        return {"answer": " ".join(rest(sock).decode().split()[:2])}


def bound(address: str, port: int, source: str = "", device: str = "", limit: float = LIMIT) -> dict[str, Any]:
    """As `curl --interface`: from an address, or by a network device."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(limit)
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        sock.bind((source, 0))
        sock.connect((address, port))
        sock.sendall(b"who\n")
        return {"answer": " ".join(rest(sock).decode().split()[:2])}


def names(address: str, port: int) -> dict[str, Any]:
    """What the socket says of its two ends."""
    with connect(address, port) as sock:
        sock.sendall(b"echo\n")
        return {"peer": sock.getpeername()[:2], "here": sock.getsockname()[0]}


def flash(address: str, port: int) -> None:
    """Connect, speak, and be gone."""
    sock = connect(address, port)
    sock.sendall(b"who\n")
    os._exit(0)


def inherited(address: str, port: int) -> dict[str, Any]:
    """Connect, fork, end the parent's copy: the child goes on."""
    sock = connect(address, port)
    read, write = os.pipe()
    if os.fork():
        sock.close()
        os.close(write)
        with os.fdopen(read) as answer:
            return {"answer": answer.read()}
    sock.sendall(b"who\n")
    os.write(write, " ".join(rest(sock).decode().split()[:2]).encode())
    os._exit(0)
