"""A response is whole, or seen to be cut, or a page of ours (RFC 9112, 8); and it answers one request only."""

import contextlib
import socket
import time

import pytest

from tests.proxy.conftest import read_answer, scanning
from tests.proxy.corpora import responses, table
from tests.proxy.corpora.requests import HOST, head
from tests.proxy.origin import OK


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with scanning(folder, origin) as started:
        yield started


class Tap:
    """A socket that remembers what was read."""

    def __init__(self, sock):
        self.sock, self.read = sock, b""

    def recv(self, size):
        data = self.sock.recv(size)
        self.read += data
        return data


def stay(sock):
    while sock.recv(65536):
        sock.sendall(OK)


def close(_):
    """The origin closes when this returns, and says so."""


def vanish(sock):
    """TCP ends, TLS does not: anyone on the way can do that (RFC 9112, 9.8)."""
    socket.socket.shutdown(sock, socket.SHUT_WR)


def reset(sock):
    time.sleep(0.02)    # else it may overtake what was sent
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    socket.socket.close(sock)


def ask(proxy, origin, raw, then, method="GET"):
    """Let the origin answer so; return the answer, and all that the client read until it has a second one."""
    def act(sock):
        with contextlib.suppress(OSError):
            sock.sendall(raw)
            then(sock)

    origin.paths["/odd"] = act
    with proxy.tls(origin) as sock:
        tap = Tap(sock)
        sock.sendall(head(HOST, target="/odd", method=method))
        answer = read_answer(tap, method)
        with contextlib.suppress(OSError):
            sock.sendall(head(HOST))
            second = read_answer(tap)
            assert (second.status, second.body) in ((200, b"ok"), (0, b""))
    assert b"poison" not in tap.read
    return answer


@pytest.mark.parametrize(("raw", "status", "body"), table(responses.WHOLE))
def test_whole(proxy, origin, raw, status, body):
    answer = ask(proxy, origin, raw, stay)
    assert (answer.status, answer.body, answer.ended) == (status, body, True)


@pytest.mark.parametrize("raw", table(responses.UNTIL_THE_END))
def test_until_the_end(proxy, origin, raw):
    """It has its end in its chunks, so that a cut can be told from it."""
    answer = ask(proxy, origin, raw, close)
    assert (answer.status, answer.body, answer.ended) == (200, b"hello", True)
    assert answer.headers["transfer-encoding"] == "chunked"
    for cut in (vanish, reset):
        answer = ask(proxy, origin, raw, cut)
        assert (answer.status, answer.ended) == (200, False)


@pytest.mark.parametrize("framing", ["content-length: 51", "transfer-encoding: chunked", "x: y"])
def test_head(proxy, origin, framing):
    """HEAD has no body, whatever is announced, and whatever comes."""
    answer = ask(proxy, origin, responses.fields(framing, body=responses.POISON), stay, "HEAD")
    assert (answer.status, answer.body, answer.ended) == (200, b"", True)


@pytest.mark.parametrize("raw", table(responses.REFUSED))
def test_refused(proxy, origin, raw):
    answer = ask(proxy, origin, raw, stay)
    assert (answer.status, answer.ended) == (502, True)
    assert b"hello" not in answer.body


@pytest.mark.parametrize("then", [close, vanish, reset])
@pytest.mark.parametrize("raw", table(responses.CUT))
def test_cut(proxy, origin, raw, then):
    """A cut does not look like the end; where nothing of the answer has left yet, the client is told."""
    answer = ask(proxy, origin, raw, then)
    assert (answer.status, answer.ended) in {(200, False), (502, True)}
    assert not (answer.ended and b"hello" in answer.body)
