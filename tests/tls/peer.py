"""Where origins with bad manners live, and the vocabulary of manners: what to do in place of a message, how to edit one."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from certs.authority import Leaf
from tests.accepting import accepting
from tests.tls import wire
from tests.tls.end import Ended
from tests.tls.server import Act, Edit, Manner, Server


class Peer:
    """Listens on 127.0.0.1 and meets each connection with the manner that is set when it comes."""

    def __init__(self, leaf: Leaf, roots: Path) -> None:
        self.leaf, self.roots = leaf, roots
        self.manner = Manner()
        self.port = 0
        self.met: list[Server] = []

    @contextlib.contextmanager
    def serve(self) -> Iterator["Peer"]:
        with accepting(self._meet) as self.port:
            yield self

    def _meet(self, sock: socket.socket) -> Callable[[], None]:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = Server(sock, self.manner, self.leaf)
        self.met.append(server)
        return server.run

    def behave(self, manner: Manner) -> None:
        """From the next connection on; those before are forgotten."""
        self.manner = manner
        self.met = []

    def first(self, limit: float = 10) -> Server:
        """The first connection since `behave`, when it is over."""
        assert self.met[0].over.wait(limit), "the connection was left open"
        return self.met[0]


# -- what a `Stop` may do


def silence(server: Server) -> None:
    server.listen()


def close(server: Server) -> None:
    server.finish()
    server.listen()


def reset(server: Server) -> None:
    server.reset()


def drip(server: Server) -> None:
    """A byte now and then, of a record that never ends."""
    server.raw(b"\x16\3\3\x3f\xff")
    with contextlib.suppress(Ended):
        while True:
            server.raw(b"\0")
            time.sleep(0.05)


def flood(server: Server) -> None:
    """Without end, what means nothing in TLS 1.3 (RFC 8446, 5)."""
    with contextlib.suppress(Ended):
        while True:
            server.raw(wire.record(wire.CHANGE_CIPHER_SPEC, b"\1") * 100)


def words(data: bytes, then: Act = close) -> Act:
    """Say that as it is, outside of any record protection."""
    def act(server: Server) -> None:
        server.raw(data)
        then(server)
    return act


def alert(description: int, level: int = wire.FATAL) -> Act:
    return words(wire.record(wire.ALERT, bytes([level, description])))


# -- edits


def flip(body: bytes) -> bytes:
    """The last bit is another."""
    return body[:-1] + bytes([body[-1] ^ 1])


def omit(_: bytes) -> None:
    """The message is left out."""


def swap(old: bytes, new: bytes) -> Edit:
    def edit(body: bytes) -> bytes:
        assert old in body, (old, body)
        return body.replace(old, new, 1)
    return edit


def plus(more: bytes) -> Edit:
    return lambda body: body + more
