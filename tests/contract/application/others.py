"""Being somebody else's child, and what is not TCP."""

import errno
import json
import os
import socket
import struct
import subprocess
import time
from typing import Any

from connection import LIMIT
from single import who


def child(depth: int, address: str, port: int, detach: bool = False) -> dict[str, Any]:
    """`who` by a descendant, `depth` generations below us; `detach`: those in between have ended, it is a daemon."""
    ourselves = os.getpid()
    read, write = os.pipe()
    for _ in range(depth):
        if os.fork():
            if os.getpid() == ourselves:
                os.close(write)
                with os.fdopen(read) as answer:
                    return dict(json.load(answer))
            if not detach:
                os.wait()
            os._exit(0)
    if detach:
        os.setsid()
        time.sleep(0.1)
    os.write(write, json.dumps({**who(address, port), "pid": os.getpid()}).encode())
    os._exit(0)


def by_shell(command: list[str]) -> dict[str, Any]:
    """Another program, started by a shell."""
    done = subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", *command], capture_output=True, text=True, timeout=LIMIT)
    return {"output": done.stdout.strip(), "code": done.returncode}



def udp(address: str, port: int, limit: float = 1.0) -> dict[str, Any]:
    """A datagram that is answered, refused (and how soon), or not answered."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(limit)
        began = time.monotonic()
        try:
            sock.connect((address, port))
            sock.send(b"hello")
            said = {"answer": sock.recv(100).decode()}
        except TimeoutError:
            said = {"error": "timeout"}
        except OSError as error:
            said = {"error": errno.errorcode[error.errno]}
        return {**said, "seconds": time.monotonic() - began}


def ping(address: str) -> dict[str, Any]:
    """One echo by ICMP (RFC 792); needs root."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(LIMIT)
        body = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xffff, 1)
        total = sum(struct.unpack("!4H", body))
        checksum = ~((total & 0xffff) + (total >> 16)) & 0xffff
        sock.sendto(body[:2] + struct.pack("!H", checksum) + body[4:], (address, 0))
        while True:
            data, (sender, _) = sock.recvfrom(100)
            if sender == address and data[20] == 0:
                return {"answer": "pong"}
