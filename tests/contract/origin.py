"""The origin, as a program of its own: the first line of a connection says what it is to do.

    origin.py LOG PORTS ADDRESS...

    who         answer with the address and port that were dialled, and `direct` or `passed`, and end. The stand-in for
                the proxy sets the hops that its packets may make: what it passes on has other ones than the rest
    echo        send everything back, until the client ends
    count       read until the client ends, then say how many bytes that were and their SHA-256
    send N      send N bytes of `pattern`, and end
    reset N     send N bytes, let them arrive, and reset
    last ID     say `bye`, end our half, then as `heard`
    heard ID    read until the client ends, and write to LOG how: eof or reset, after how many bytes

An address that ends in 4 greets before it hears anything (as SMTP does), then echoes.
"""

import contextlib
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator

GREETING = b"220 origin speaks first\r\n"
CHUNK = 1 << 16
#: tcp(7): keep the headers of the SYN.
TCP_SAVE_SYN, TCP_SAVED_SYN = 27, 28
#: The hops that packets of the stand-in may make (standin.py).
PASSED = 63


def pattern(count: int) -> Iterator[bytes]:
    """Bytes that show when a piece is missing, doubled or moved: no two blocks are alike."""
    for number in range(0, count, CHUNK):
        block = hashlib.sha256(number.to_bytes(8)).digest() * (CHUNK // 32)
        yield block[:min(CHUNK, count - number)]


def hops(peer: socket.socket) -> int:
    """Time to live (RFC 791) or hop limit (RFC 8200) of the SYN."""
    header = peer.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, 128)
    return header[8] if header[0] >> 4 == 4 else header[7]


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def first_line(peer: socket.socket) -> tuple[list[str], bytes]:
    data = b""
    while b"\n" not in data:
        more = peer.recv(CHUNK)
        if not more:
            return [], data
        data += more
    line, _, rest = data.partition(b"\n")
    return line.decode().split(), rest


def echo(peer: socket.socket, data: bytes) -> None:
    peer.sendall(data)
    while data := peer.recv(CHUNK):
        peer.sendall(data)


def count(peer: socket.socket, data: bytes) -> None:
    total, digest = len(data), hashlib.sha256(data)
    while data := peer.recv(CHUNK):
        total += len(data)
        digest.update(data)
    peer.sendall(f"{total} {digest.hexdigest()}\n".encode())


def send(peer: socket.socket, number: int) -> None:
    for block in pattern(number):
        peer.sendall(block)


def heard(peer: socket.socket, ident: str, data: bytes) -> None:
    total, end = len(data), "eof"
    try:
        while data := peer.recv(CHUNK):
            total += len(data)
    except ConnectionResetError:
        end = "reset"
    with os.fdopen(os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), "w") as log:
        log.write(json.dumps({"id": ident, "end": end, "bytes": total}) + "\n")


def serve(peer: socket.socket) -> None:
    with contextlib.suppress(OSError), peer:
        host, port = peer.getsockname()[:2]
        if host.endswith(("::4", ".4")):
            peer.sendall(GREETING)
            echo(peer, b"")
            return
        words, rest = first_line(peer)
        match words:
            case ["who"]:
                peer.sendall(f"{host} {port} {'passed' if hops(peer) == PASSED else 'direct'}\n".encode())
            case ["echo"]:
                echo(peer, rest)
            case ["count"]:
                count(peer, rest)
            case ["send", number]:
                send(peer, int(number))
            case ["reset", number]:
                send(peer, int(number))
                time.sleep(0.3)
                reset(peer)
            case ["last", ident]:
                peer.sendall(b"bye")
                peer.shutdown(socket.SHUT_WR)
                heard(peer, ident, rest)
            case ["heard", ident]:
                heard(peer, ident, rest)


def accept(listener: socket.socket) -> None:
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=serve, args=(peer,), daemon=True).start()


def silent(family: int, address: str) -> socket.socket:
    """Takes everything on UDP 443 and answers nothing; 8443 echoes."""
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((address, 443))
    return udp


def echo_udp(family: int, address: str) -> None:
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((address, 8443))
    while True:
        data, peer = udp.recvfrom(CHUNK)
        udp.sendto(data, peer)


def main(ports: list[int], addresses: list[str]) -> None:
    threading.stack_size(256 * 1024)
    kept = []
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for port in ports:
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
            listener.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)
            listener.bind((address, port))
            listener.listen(4096)
            threading.Thread(target=accept, args=(listener,), daemon=True).start()
        kept.append(silent(family, address))
        threading.Thread(target=echo_udp, args=(family, address), daemon=True).start()
    os.write(1, b"ready\n")
    threading.Event().wait()


if __name__ == "__main__":
    main([int(port) for port in sys.argv[2].split(",")], sys.argv[3:])
