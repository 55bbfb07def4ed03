"""A name server for the lab's computer, whose HTTPS records say what the test wants clients to believe."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.redirector.namespaces import within

A, AAAA, HTTPS = 1, 28, 65
NXDOMAIN = 3


def ech_config(public_name: str) -> bytes:
    """An ECHConfigList that nobody has the key of (RFC 9849, 4): DHKEM(X25519), HKDF-SHA256, AES-128-GCM."""
    key = X25519PrivateKey.generate().public_key().public_bytes_raw()
    suites = struct.pack("!HHH", 4, 1, 1)
    contents = struct.pack("!BHH", 7, 0x20, len(key)) + key + suites + b"\0"
    contents += bytes([len(public_name)]) + public_name.encode() + b"\0\0"
    config = struct.pack("!HH", 0xFE0D, len(contents)) + contents
    return struct.pack("!H", len(config)) + config


def https_record(*alpn: str, ech: bytes = b"") -> bytes:
    """The data of an HTTPS record for the name itself (RFC 9460, 2.2)."""
    names = b"".join(bytes([len(name)]) + name.encode() for name in alpn)
    params = struct.pack("!HH", 1, len(names)) + names if alpn else b""
    return b"\0\1\0" + params + (struct.pack("!HH", 5, len(ech)) + ech if ech else b"")


class Names:
    """Answers for `zone`: name -> (address, data of its HTTPS record or none); all else does not exist."""

    def __init__(self, zone: dict[str, tuple[str, bytes]]) -> None:
        self.zone = zone
        self.asked: list[tuple[str, int]] = []

    def answer(self, question: bytes) -> bytes:
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode().lower())
            at += 1 + length
        name, (kind, _) = ".".join(labels), struct.unpack_from("!HH", question, at + 1)
        self.asked.append((name, kind))
        address, record = self.zone.get(name, ("", b""))
        data = {A: IPv4Address(address).packed, HTTPS: record}.get(kind, b"") if address else b""
        record = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data if data else b""
        flags = 0x8180 | (0 if address else NXDOMAIN)
        return question[:2] + struct.pack("!5H", flags, 1, bool(data), 0, 0) + question[12 : at + 5] + record

    @contextlib.contextmanager
    def serve(self, namespace: str) -> Iterator[None]:
        """On UDP port 53 of 127.0.0.1 there."""
        sock: socket.socket = within(Path("/run/netns", namespace), socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        ended = threading.Event()
        with sock:
            sock.bind(("127.0.0.1", 53))
            sock.settimeout(0.1)
            thread = threading.Thread(target=self._serve, args=(sock, ended))
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()

    def _serve(self, sock: socket.socket, ended: threading.Event) -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError, ConnectionError):
                question, client = sock.recvfrom(4096)
                sock.sendto(self.answer(question), client)
