"""WebSocket by the letter (RFC 6455): what is no handshake opens nothing, and what is no frame ends both sides."""

import contextlib
import struct
import time

import pytest

from tests.proxy.conftest import read_answer, scanning
from tests.proxy.corpora import table
from tests.proxy.corpora import websocket as corpus


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with scanning(folder, origin) as started:
        yield started


@pytest.fixture
def server(origin):
    """Opens a WebSocket, answers with `origin.answer` and keeps what comes, and whether it ended."""
    def act(sock):
        with contextlib.suppress(OSError):
            sock.sendall(act.answer)
            while data := sock.recv(65536):
                act.got += data
        act.ended = True

    act.answer, act.got, act.ended = corpus.switch(), b"", False
    origin.paths["/ws"] = act
    return act


def drain(sock):
    """All that comes until the end."""
    got = b""
    with contextlib.suppress(OSError):
        while data := sock.recv(65536):
            got += data
    return got


def closing(data):
    """The code in a close frame, which must be all there is."""
    assert data[0] == 0x88
    masked, size = data[1] >> 7, data[1] & 0x7F
    mask, payload = (data[2:6], data[6:]) if masked else (bytes(4), data[2:])
    assert len(payload) == size
    return struct.unpack("!H", bytes(byte ^ mask[n] for n, byte in enumerate(payload[:2])))[0]


def opened(proxy, origin, more=b""):
    sock = proxy.tls(origin)
    sock.sendall(corpus.REQUEST + more + b"\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return sock


@pytest.mark.parametrize("answer", table(corpus.REFUSED))
def test_no_handshake(proxy, origin, server, answer):
    server.answer = answer
    with proxy.tls(origin) as sock:
        sock.sendall(corpus.REQUEST + b"sec-websocket-extensions: permessage-deflate\r\n\r\n")
        assert read_answer(sock).status == 502


def test_extension_that_nobody_asked_for(proxy, origin, server):
    server.answer = corpus.extension("permessage-deflate")
    with proxy.tls(origin) as sock:
        sock.sendall(corpus.REQUEST + b"\r\n")
        assert read_answer(sock).status == 502


@pytest.mark.parametrize(("offered", "seen"), [
    (b"permessage-deflate; client_max_window_bits", b"permessage-deflate; client_max_window_bits\r\n"),
    (b"x-webkit-deflate-frame, permessage-deflate", b"permessage-deflate\r\n"),
    (b"x-webkit-deflate-frame", None),
])
def test_only_what_can_be_read_is_offered(proxy, origin, server, offered, seen):
    with opened(proxy, origin, b"sec-websocket-extensions: " + offered + b"\r\n"):
        assert (b"sec-websocket-extensions" in origin.record) == (seen is not None)
        assert (seen or b"") in origin.record


@pytest.mark.parametrize(("frames", "code"), table(corpus.BAD_FRAMES))
def test_bad_frames(proxy, origin, server, frames, code):
    """The client is told, the origin gets a close frame and nothing of the message."""
    with opened(proxy, origin) as sock:
        sock.sendall(frames + corpus.frame(corpus.TEXT, b"after"))
        assert closing(drain(sock)) == code
    time.sleep(0.02)
    assert server.ended
    assert closing(server.got) in (code, corpus.PROTOCOL_ERROR)


@pytest.mark.parametrize("code", corpus.GOOD_CLOSES)
def test_good_closes(proxy, origin, server, code):
    with opened(proxy, origin) as sock:
        sock.sendall(corpus.close(code, b"bye"))
        assert closing(drain(sock)) == code
    time.sleep(0.02)
    assert closing(server.got) == code


@pytest.mark.parametrize("frames", [
    pytest.param(corpus.frame(corpus.TEXT, b"hello"), id="masked by the server"),
    pytest.param(corpus.frame(corpus.TEXT | 0x40, b"hello", masked=False), id="reserved bit"),
])
def test_bad_frames_of_the_origin(proxy, origin, server, frames):
    server.answer = corpus.switch() + frames
    with opened(proxy, origin) as sock:
        got = drain(sock)
    assert b"hello" not in got
    assert closing(got) == corpus.PROTOCOL_ERROR
