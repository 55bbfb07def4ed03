"""Many connections, much data, and connections that go on while something happens to the capture."""

import errno
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter
from typing import Any

from connection import CHUNK, LIMIT, connect, exactly, rest, say
from single import who


def upload(address: str, port: int, count: int, size: int = CHUNK) -> dict[str, Any]:
    """Send `count` bytes, `size` at a time, and compare what the origin says of them."""
    digest = hashlib.sha256()
    with connect(address, port) as sock:
        sock.sendall(b"count\n")
        block = os.urandom(size)
        for start in range(0, count, size):
            piece = block[:min(size, count - start)]
            digest.update(piece)
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        return {"intact": rest(sock).decode() == f"{count} {digest.hexdigest()}\n"}


def download(address: str, port: int, count: int) -> dict[str, Any]:
    """Read `count` bytes of the origin's pattern (origin.py)."""
    got, digest = 0, hashlib.sha256()
    with connect(address, port) as sock:
        sock.sendall(f"send {count}\n".encode())
        while data := sock.recv(CHUNK):
            got += len(data)
            digest.update(data)
    return {"bytes": got, "sha256": digest.hexdigest()}


def many(targets: list[tuple[str, int]], count: int, threads: int, limit: float = LIMIT) -> dict[str, Any]:
    """Short connections to all of them in turn: how each came out; `wrong` is an answer from somebody else."""
    outcomes: Counter[str] = Counter()
    turns = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            address, port = targets[turn % len(targets)]
            try:
                said = who(address, port, limit)
                outcome = said.get("error") or ("right" if said["answer"] == f"{address} {port}" else "wrong")
            except OSError as error:
                outcome = "timeout" if isinstance(error, TimeoutError) else errno.errorcode.get(error.errno, str(error))
            with lock:
                outcomes[outcome] += 1

    _together(work, threads)
    return dict(outcomes)


def at_once(address: str, port: int, count: int) -> dict[str, Any]:
    """All open at the same time; each gets its own words back."""
    socks = []
    try:
        for number in range(count):
            socks.append(connect(address, port))
            socks[-1].sendall(f"echo\n{number};".encode())
        right = 0
        for number, sock in reversed(list(enumerate(socks))):
            wanted = f"{number};".encode()
            right += exactly(sock, len(wanted)) == wanted
    finally:
        for sock in socks:
            sock.close()
    return {"right": right}


def same_numbers(targets: list[tuple[str, int]], local_port: int, count: int) -> dict[str, Any]:
    """One local port again and again: each connection is reset, so that its four numbers are free at once."""
    outcomes: Counter[str] = Counter()
    for turn in range(count):
        address, port = targets[turn % len(targets)]
        with connect(address, port, local_port=local_port) as sock:
            sock.sendall(b"echo\nhello")
            outcomes["right" if exactly(sock, 5) == b"hello" else "wrong"] += 1
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return dict(outcomes)


def _together(work: Any, threads: int) -> None:
    running = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()


def hold(address: str, port: int) -> dict[str, Any]:
    """A connection that stays: it is used once for each line of input, and at their end."""
    with connect(address, port) as sock:
        sock.sendall(b"echo\n")
        while True:
            sock.sendall(b"ping")
            answer = exactly(sock, 4).decode()
            say(answer=answer)
            if not sys.stdin.readline():
                return {"answer": answer}


def load(targets: list[tuple[str, int]], threads: int) -> None:
    """Short connections without rest, each a line: [began, seconds, outcome]; outcome: direct, captured, an error.

    It ends with its input; `hangs` is one that got neither answer nor error within LIMIT seconds.
    """
    lock = threading.Lock()

    def client(number: int) -> None:
        turn = number
        while True:
            address, port = targets[(turn := turn + 1) % len(targets)]
            began = time.monotonic()
            try:
                said = who(address, port)
                right = said["answer"] == f"{address} {port}"
                outcome = said.get("error") or ("wrong" if not right else "direct" if said["direct"] else "captured")
            except OSError as error:
                outcome = "hangs" if isinstance(error, TimeoutError) else errno.errorcode.get(error.errno, str(error))
            with lock:
                print(json.dumps([began, time.monotonic() - began, outcome]), flush=True)
            time.sleep(0.01)        # refusals come at once, and would be all that the computer does

    for number in range(threads):
        threading.Thread(target=client, args=(number,), daemon=True).start()
    sys.stdin.read()
    os._exit(0)
