"""Streams that never end, and what a connection is taken for by its first bytes."""

import struct
import time

import h2.settings
import pytest

from proxy.layers import looks_like_http
from tests.proxy.conftest import running

MIB = 2**20
KEY = b"AKIA" + b"4QXB7ZKLMRTW2NPD"
POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 1, hello: 1}}
filters:
  - {{id: no-secrets, use: secrets.Secrets}}
  - {{id: downloads, use: ./mine.py:Downloads}}
"""
FILTERS = """
class Downloads:
    def responsebody(self, flow): return lambda piece: None
"""
GRPC = (("content-type", "application/grpc"), ("te", "trailers"))


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", POLICY.format(roots=origin.roots), FILTERS) as started:
        yield started


@pytest.mark.parametrize(("data", "expected"), [
    (b"GET / HTTP/1.1\r\n", True),
    (b"GET ", True),
    (b"\r\nPOST /", True),
    (b"PROPFIND / HTTP/1.1\r\n", True),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", True),
    (b"X" * 9000, True),
    (b"PROPFIND /", None),
    (b"GE", None),
    (b"", None),
    (b"patch /x HTTP/1.1\r\n", True),
    (b"Get / HTTP/1.1\r\n", True),
    (b"patch /x", None),
    (b"get /x\r\n", False),
    (b"helo example.test\r\n", False),
    (b"-- / HTTP/1.1\r\n", False),
    (b"EHLO example.test\r\n", False),
    (b"SSH-2.0-x\r\n", False),
    (b"\0\1\2", False),
    (b"hello", None),
    (b"{", False),
])
def test_looks_like_http(data, expected):
    assert looks_like_http(data) is expected


def message(body):
    return b"\0" + struct.pack(">I", len(body)) + body


def echo(server, stream):
    """Answer every message when it has come, not before, not later."""
    server.h2.send_headers(stream, [(":status", "200"), *GRPC[:1]])
    receive, got = server._on, bytearray()

    def on(event):
        before = len(server.origin.record)
        receive(event)
        if getattr(event, "stream_id", None) == stream:
            got.extend(server.origin.record[before:])
            while len(got) >= 5 and len(got) >= 5 + (size := struct.unpack(">I", got[1:5])[0]):
                server.h2.send_data(stream, bytes(got[: 5 + size]))
                del got[: 5 + size]
            if stream in server.ended:
                server.h2.send_headers(stream, [("grpc-status", "0")], True)

    server._on = on


def test_grpc_never_stalls(proxy, h2_origin):
    """Each message is answered before the next is sent, however small; the trailers come through."""
    h2_origin.h2_paths["/echo"] = echo
    client = proxy.h2(h2_origin)
    stream = client.request("/echo", "POST", end=False, headers=GRPC)
    while not client.answers[stream].status:
        assert client.pump(2)       # the answer begins before the request has
    got = b""
    for size in (0, 1, 100, 5000, 70_000, 3):
        client.send(stream, message(b"m" * size))
        got += message(b"m" * size)
        while client.answers[stream].body != got:
            assert client.pump(2)
    client.send(stream, b"", end=True)
    assert client.wait(stream).headers["grpc-status"] == "0"


def test_secret_in_a_later_message(proxy, h2_origin):
    h2_origin.h2_paths["/echo"] = echo
    client = proxy.h2(h2_origin)
    stream = client.request("/echo", "POST", end=False, headers=GRPC)
    client.send(stream, message(b"hello"))
    while not client.answers[stream].body:
        assert client.pump(2)
    client.send(stream, message(KEY + b" "))
    answer = client.wait(stream)
    assert answer.reset is not None     # the head of the answer had left
    assert KEY[:5] not in h2_origin.record


def test_events_never_stall(proxy, origin):
    def act(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        for number in range(5):
            sock.sendall(b"data: %d\n\n" % number)
            sock.recv(1)        # the next one only when this one has been seen

    origin.paths["/events"] = act
    origin.recv = lambda sock: sock.recv(65536)
    with proxy.tls(origin) as sock:
        sock.settimeout(2)
        sock.sendall(b"POST /events HTTP/1.1\r\nhost: origin.test\r\ntransfer-encoding: chunked\r\n"
                     b"content-type: text/event-stream\r\n\r\n")
        got = b""
        for number in range(5):
            while b"data: %d\n\n" % number not in got:
                got += sock.recv(4096)
            sock.sendall(b"2\r\n\n\n\r\n")


def test_slow_stream_goes_on(proxy, origin):
    """Longer than any answer may take to begin."""
    def act(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(4):
            time.sleep(0.5)
            sock.sendall(b"1\r\nx\r\n")
        sock.sendall(b"0\r\n\r\n")

    origin.paths["/slow"] = act
    answer = proxy.ask(origin, b"GET /slow HTTP/1.1\r\nhost: origin.test\r\n\r\n")
    assert (answer.body, answer.ended) == (b"xxxx", True)


def stuck_origin(origin):
    """Its windows stay closed on /stuck."""
    def act(server, _stream):
        server.acknowledge = False
    origin.h2_paths["/stuck"] = act



def test_closed_window_at_the_origin(proxy, h2_origin):
    """An upload that does not get on is held back at the client, and others go on."""
    stuck_origin(h2_origin)
    h2_origin.h2_settings = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10_000}
    before = proxy.memory()
    client = proxy.h2(h2_origin)
    stream = client.request("/stuck", "POST", end=False)
    sent = 0
    while (size := min(16384, client.h2.local_flow_control_window(stream))) or client.pump(0.3):
        if size:
            client.h2.send_data(stream, b"z" * size)
            client.flush()
            sent += size
    h2_origin.h2_settings = {}
    assert sent < 6 * MIB
    assert proxy.memory() - before < 20 * MIB
    assert client.wait(client.request("/")).body == b"ok"



def test_closed_window_at_the_client(proxy, h2_origin):
    """A download that nobody takes is held back at the origin, and others go on."""
    gone = []

    def act(server, stream):
        server.h2.send_headers(stream, [(":status", "200")])
        server.flush()
        left = 100 * MIB
        while left > 0:
            window = min(server.h2.local_flow_control_window(stream), server.h2.max_outbound_frame_size)
            if window == 0:
                server.sock.settimeout(0.5)
                try:
                    server.h2.receive_data(server.sock.recv(65536))
                except OSError:
                    break
                continue
            server.h2.send_data(stream, b"z" * window)
            server.flush()
            left -= window
        server.sock.settimeout(None)
        gone.append(100 * MIB - left)

    h2_origin.h2_paths["/big"] = act
    before = proxy.memory()
    client = proxy.h2(h2_origin)
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    client.flush()
    while not client.pump(1):
        """Until the settings are known."""
    stream = client.request("/big")
    time.sleep(1)
    assert proxy.memory() - before < 20 * MIB
    del client, stream
    time.sleep(0.3)
    assert gone[0] < 10 * MIB
