"""HTTP/2: streams do not harm one another, memory stays bounded, and connections end gracefully."""

import contextlib
import time

import h2.settings
import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, GoAwayFrame, HeadersFrame, PingFrame

from tests.proxy.conftest import MIB, read_answer, scanning


@pytest.fixture(scope="module")
def proxy(folder, h2_origin):
    with scanning(folder, h2_origin) as started:
        yield started


@pytest.mark.parametrize(("headers", "authority", "status"), [
    pytest.param((), None, 200, id="as it should be"),
    pytest.param((("host", "origin.test"),), None, 200, id="host as well"),
    pytest.param((("host", "other.test"),), None, 0, id="host against :authority"),
    pytest.param((), "other.test", 421, id="another host"),
    pytest.param((), "user@origin.test", 0, id="user information"),
    pytest.param((), "", 0, id="an empty host"),
    pytest.param((("x", "a\0b"),), None, 0, id="NUL"),
    pytest.param((("Upper", "case"),), None, 0, id="upper case"),
    pytest.param((("connection", "close"),), None, 0, id="a connection header"),
    pytest.param((("content-length", "7"),), None, 0, id="a length that is a lie"),
])
def test_request_heads(proxy, h2_origin, headers, authority, status):
    """Where HTTP/2 itself calls it malformed the connection, or stream, ends; else the answer is ours."""
    client = proxy.h2(h2_origin)
    answer = client.wait(client.request("/", headers=headers, authority=authority))
    assert answer.status == status or (status == 0 and answer.status == 400)
    assert (h2_origin.record != b"") == (status == 200)


def test_answers(proxy, h2_origin):
    h2_origin.h2_paths["/204"] = lambda server, stream: server.h2.send_headers(stream, [(":status", "204")], True)
    h2_origin.h2_paths["/early"] = lambda server, stream: (
        server.h2.send_headers(stream, [(":status", "103"), ("link", "x")]), server.answer(stream, b"hi"))
    h2_origin.h2_paths["/trailers"] = lambda server, stream: (
        server.answer(stream, b"hi", end=False), server.h2.send_headers(stream, [("grpc-status", "0")], True))
    h2_origin.h2_paths["/head"] = lambda server, stream: server.h2.send_headers(
        stream, [(":status", "200"), ("content-length", "9")], True)
    client = proxy.h2(h2_origin)
    assert client.wait(client.request("/204")).status == 204
    assert client.wait(client.request("/early")).body == b"hi"
    assert client.wait(client.request("/trailers")).headers["grpc-status"] == "0"
    assert client.wait(client.request("/head", "HEAD")).status == 200


def test_silent_stream(proxy, h2_origin):
    h2_origin.h2_paths["/silent"] = lambda *_: None
    client = proxy.h2(h2_origin)
    silent, other = client.request("/silent"), client.request("/")
    assert client.wait(other).body == b"ok"
    assert client.wait(silent).status == 504
    assert client.wait(client.request("/")).body == b"ok"


@pytest.mark.parametrize(("code", "status"), [(ErrorCodes.REFUSED_STREAM, 502), (ErrorCodes.CANCEL, 0)])
def test_origin_resets_a_stream(proxy, h2_origin, code, status):
    h2_origin.h2_paths["/reset"] = lambda server, stream: server.h2.reset_stream(stream, code)
    client = proxy.h2(h2_origin)
    assert client.wait(client.request("/reset")).status == status
    assert client.wait(client.request("/")).body == b"ok"


def test_early_answer_ends_the_upload(proxy, h2_origin):
    h2_origin.h2_paths["/early"] = lambda server, stream: (
        server.answer(stream, b"big", status="413"),
        server.flush(), server.h2.reset_stream(stream, ErrorCodes.NO_ERROR))
    client = proxy.h2(h2_origin)
    stream = client.request("/early", "POST", end=False)
    client.send(stream, b"z" * 100_000)
    answer = client.wait(stream)
    while answer.reset is None:
        assert client.pump(2)
    assert (answer.status, answer.body, answer.reset) == (413, b"big", ErrorCodes.NO_ERROR)
    assert client.wait(client.request("/")).body == b"ok"


def test_client_cancels(proxy, h2_origin):
    resets = []
    h2_origin.h2_paths["/silent"] = lambda server, _: resets.append(server.reset)
    client = proxy.h2(h2_origin)
    stream = client.request("/silent")
    time.sleep(0.1)
    client.h2.reset_stream(stream, ErrorCodes.CANCEL)
    client.flush()
    assert client.wait(client.request("/")).body == b"ok"
    assert list(resets[0].values()) == [ErrorCodes.CANCEL]


# -- windows and memory


def test_window_shrinks_below_zero(proxy, h2_origin):
    """The origin takes back what has been used already; later it opens again."""
    def act(server, stream):
        server.flush()
        time.sleep(0.1)
        server.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
        server.flush()
        time.sleep(0.2)
        server.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
        server.special.discard(stream)

    h2_origin.h2_paths["/shrink"] = act
    client = proxy.h2(h2_origin)
    stream = client.request("/shrink", "POST", end=False)
    client.send(stream, b"z" * 50_000)
    time.sleep(0.2)
    client.send(stream, b"y" * 50_000, end=True)
    assert client.wait(stream).body == b"ok"
    assert h2_origin.record.endswith(b"z" * 50_000 + b"y" * 50_000)


def test_window_opens_again(proxy, h2_origin):
    body = b"z" * (5 * MIB)
    client = proxy.h2(h2_origin)
    stream = client.request("/", "POST", end=False)
    client.send(stream, body, end=True)
    assert client.wait(stream).body == b"ok"
    assert h2_origin.record.endswith(body)


def test_large_download(proxy, h2_origin):
    def act(server, stream):
        server.h2.send_headers(stream, [(":status", "200")])
        left = 8 * MIB
        while left:
            window = min(left, server.h2.local_flow_control_window(stream), server.h2.max_outbound_frame_size)
            if not window:
                server.flush()
                server.h2.receive_data(server.sock.recv(65536))
                continue
            left -= window
            server.h2.send_data(stream, b"z" * window, end_stream=not left)

    h2_origin.h2_paths["/download"] = act
    client = proxy.h2(h2_origin)
    assert len(client.wait(client.request("/download")).body) == 8 * MIB


def test_continuation_flood(proxy, h2_origin):
    """100 MB of header in CONTINUATION frames."""
    before = proxy.memory()
    client = proxy.h2(h2_origin)
    block = Encoder().encode([(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "origin.test")])
    first = HeadersFrame(1, block)
    with contextlib.suppress(OSError):
        client.sock.sendall(first.serialize())
        more = ContinuationFrame(1, Encoder().encode([("x", "y" * 10_000)])).serialize()
        for _ in range(10_000):
            client.sock.sendall(more)
    assert proxy.memory() - before < 20 * MIB


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_large_header(proxy, h2_origin, size):
    client = proxy.h2(h2_origin)
    with contextlib.suppress(Exception):
        client.wait(client.request("/", headers=tuple((f"x{n}", "y" * 8000) for n in range(size // 8000))), 2)
    assert h2_origin.record == b""


def test_rapid_reset(proxy, h2_origin):
    client = proxy.h2(h2_origin)
    for _ in range(150):
        stream = client.request("/")
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
    client.flush()
    while client.open:
        client.pump(3)
    assert client.goaway == ErrorCodes.ENHANCE_YOUR_CALM


def test_ping_flood_without_reading(proxy, h2_origin):
    before = proxy.memory()
    client = proxy.h2(h2_origin)
    client.sock.settimeout(0.5)
    ping = PingFrame(0, b"12345678").serialize() * 10_000
    with contextlib.suppress(OSError):
        for _ in range(100):
            client.sock.sendall(ping)
    assert proxy.memory() - before < 20 * MIB


# -- the end of connections


def test_graceful_goaway(proxy, h2_origin):
    """What is under way is finished; what comes later gets a connection of its own."""
    def act(server, stream):
        server.flush()
        server.sock.sendall(GoAwayFrame(0, last_stream_id=stream, error_code=0).serialize())
        time.sleep(0.2)
        server.answer(stream, b"last")
    h2_origin.h2_paths["/last"] = act
    client = proxy.h2(h2_origin)
    last = client.request("/last")
    assert client.wait(last).body == b"last"
    assert client.wait(client.request("/")).body == b"ok"
    assert client.wait(client.request("/last")).body == b"last"
    assert h2_origin.connections >= 2


def test_origin_drops_the_connection(proxy, h2_origin):
    h2_origin.h2_paths["/drop"] = lambda server, _: server.sock.close()
    client = proxy.h2(h2_origin)
    assert client.wait(client.request("/drop")).status == 502
    assert client.wait(client.request("/")).body == b"ok"


def test_unused_connection_is_closed(proxy, h2_origin):
    client = proxy.h2(h2_origin)
    while client.pump(3):
        """Settings, and the end."""
    assert not client.open


def test_origin_without_http2(proxy, origin):
    """The client gets what the origin speaks."""
    with proxy.tls(origin, alpn=("h2", "http/1.1")) as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
        sock.sendall(b"GET / HTTP/1.1\r\nhost: origin.test\r\n\r\n")
        assert read_answer(sock).status == 200


def test_origin_down(proxy, h2_origin):
    """Refused in HTTP/2 as in HTTP/1, and again when asked again."""
    h2_origin_port = h2_origin.port
    try:
        h2_origin.port = 9      # discard: nobody listens
        client = proxy.h2(h2_origin)
    finally:
        h2_origin.port = h2_origin_port
    assert client.wait(client.request("/")).status == 502
    assert client.wait(client.request("/")).status == 502
