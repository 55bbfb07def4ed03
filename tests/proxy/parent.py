"""An upstream proxy of the tests: HTTP and SOCKS 5, with a name and a password if told, and a record of all it hears.

It knows names that this computer does not, so that a connection that gets through shows who has looked them up.
"""

import base64
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from proxy import socks
from tests.accepting import accepting

#: What this proxy knows and nobody else.
NAMES = ("origin.test", "other.test", "192.0.2.7")


@dataclass
class Parent:
    """`login`: who may use it; `answer`: said in place of everything else; `asked`: targets, as they were written."""

    login: tuple[str, str] | None = None
    answer: bytes | Callable[[socket.socket], None] | None = None
    port: int = 0
    asked: list[str] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    refused: int = 0

    @contextlib.contextmanager
    def serve(self) -> Iterator["Parent"]:
        with accepting(lambda client: partial(self._attend, client)) as self.port:
            yield self

    def forget(self) -> None:
        self.answer, self.login, self.refused = None, None, 0
        self.asked.clear()
        self.heard.clear()

    def _attend(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(20)
            first = client.recv(1, socket.MSG_PEEK)
            if self.answer is not None:
                self.heard += client.recv(4096)
                if callable(self.answer):
                    self.answer(client)
                else:
                    client.sendall(self.answer)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(4096):
                        """What it had begun to send."""
            elif first == b"\x05":
                self._socks(client)
            elif first:
                self._http(client)

    def _socks(self, client: socket.socket) -> None:
        offered = self._read(client, socks.greeting)
        wanted = socks.NO_AUTHENTICATION if self.login is None else socks.PASSWORD
        if wanted not in offered.methods:
            self.refused += 1
            client.sendall(socks.method(socks.NONE_ACCEPTABLE))
            return
        client.sendall(socks.method(wanted))
        if self.login is not None:
            login = self._read(client, socks.login)
            good = (login.user.decode(), login.password.decode()) == self.login
            client.sendall(socks.logged_in(welcome=good))
            if not good:
                self.refused += 1
                return
        wish = self._read(client, socks.request)
        self.asked.append(f"{wish.host}:{wish.port}")
        with self._origin(wish.host, wish.port) as origin:
            client.sendall(socks.answer(socks.Reply.DONE))
            _join(client, origin)

    def _read(self, client: socket.socket, parse: Callable[[bytes], object]) -> object:
        data = b""
        while (message := parse(data)) is None:
            data += client.recv(1)
        self.heard += data
        return message

    def _http(self, client: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1) or b"\r\n\r\n"
        self.heard += head
        method, target, _ = head.split(b" ", 2)
        if self.login is not None and base64.b64encode(":".join(self.login).encode()) not in head:
            self.refused += 1
            client.sendall(b"HTTP/1.1 407 Who?\r\nproxy-authenticate: Basic realm=\"p\"\r\ncontent-length: 0\r\n\r\n")
            return
        self.asked.append(target.decode())
        place = target if method == b"CONNECT" else target.split(b"/")[2]
        host, _, port = place.decode().rpartition(":")
        with self._origin(host, int(port)) as origin:
            if method == b"CONNECT":
                client.sendall(b"HTTP/1.1 200 Go on\r\nx-filler: " + b"y" * 3000 + b"\r\n\r\n")
            else:
                path = b"/" + target.split(b"/", 3)[3]
                lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"proxy-")]
                origin.sendall(b"\r\n".join(lines).replace(target, path, 1))
            _join(client, origin)

    @staticmethod
    def _origin(host: str, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1" if host in NAMES else host.strip("[]"), port), timeout=20)


def _join(one: socket.socket, other: socket.socket) -> None:
    def move(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=move, args=(other, one), daemon=True)
    back.start()
    move(one, other)
    back.join(20)
