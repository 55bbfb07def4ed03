"""HTTP read by looking on at two streams of plaintext, however they are cut."""

import h2.config
import h2.connection
import h2.settings
import pytest
from mitmproxy import http

from proxy.plaintext import MAX_FRAME, MAX_HEAD, PREFACE, Data, End, Head, Plaintext, Unreadable

SIZES = [1, 2, 7, 64, 1 << 20]
POST = (b"POST /a?b HTTP/1.1\r\nHost: Origin.test\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
CHUNKED = (b"PUT /c HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
           b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
GET = b"GET / HTTP/1.1\r\nHost: o\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"


def read(turns, size):
    """What is read of turns (from the client?, bytes), each cut into pieces of that size; by exchange and direction."""
    plaintext, told = Plaintext(), {}
    for from_client, data in turns:
        for at in range(0, len(data), size):
            for event in plaintext.feed(data[at:at + size], from_client=from_client):
                take(told, event)
    return told


def take(told, event):
    match event:
        case Head(key, http.Request() as request):
            told[key] = [request.method, request.pretty_host, request.path, request.http_version, b"", None, b"", ""]
        case Head(key, http.Response() as response):
            told[key][5] = response.status_code
        case Data(key, from_client, data):
            told[key][4 if from_client else 6] += data
        case End(key, from_client, error):
            told[key][7] += error or (">" if from_client else "<")


@pytest.mark.parametrize("size", SIZES)
def test_http1(size):
    turns = [(way, part) for pair in (POST, CHUNKED, GET) for way, part in zip((True, False), pair, strict=True)]
    assert list(read(turns, size).values()) == [
        ["POST", "Origin.test", "/a?b", "HTTP/1.1", b"hello", 200, b"ok", "><"],
        ["PUT", "o", "/c", "HTTP/1.1", b"abcde", 201, b"x", "><"],
        ["GET", "o", "/", "HTTP/1.1", b"", 204, b"", "><"]]


@pytest.mark.parametrize("size", SIZES)
def test_http1_in_other_orders(size):
    """Requests that do not wait, and a server that answers before it has all."""
    assert len(read([(True, POST[0] + GET[0]), (False, POST[1] + GET[1])], size)) == 2
    early = [(True, POST[0][:-3]), (False, POST[1]), (True, POST[0][-3:])]
    assert read(early, size)[1][4:] == [b"hello", 200, b"ok", "<>"]


def ends():
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    client.initiate_connection()
    server.initiate_connection()
    return client, server


def head(method=b"POST", **more):
    return [(b":method", method), (b":authority", b"origin.test"), (b":scheme", b"https"), (b":path", b"/x"),
            *((name.encode(), value) for name, value in more.items())]


@pytest.mark.parametrize("size", SIZES)
def test_http2(size):
    """Streams among each other, a body in pieces, a head in several frames, trailers, a reset."""
    client, server = ends()
    turns = [(True, client.data_to_send()), (False, server.data_to_send())]
    server.receive_data(turns[0][1])
    client.send_headers(1, head(long=b"v" * 40_000))
    client.send_headers(3, head(b"GET"), end_stream=True)
    client.send_data(1, b"one")
    client.send_headers(5, head())
    client.send_data(1, b"two", end_stream=True)
    client.reset_stream(5)
    turns.append((True, client.data_to_send()))
    server.receive_data(turns[-1][1])
    server.send_headers(3, [(b":status", b"103")])
    server.send_headers(3, [(b":status", b"200")])
    server.send_data(3, b"three", end_stream=False)
    server.send_headers(3, [(b"grpc-status", b"0")], end_stream=True)
    server.send_headers(1, [(b":status", b"404")], end_stream=True)
    turns.append((False, server.data_to_send()))
    told = read(turns, size)
    assert told == {1: ["POST", "origin.test", "/x", "HTTP/2.0", b"onetwo", 404, b"", "><"],
                    3: ["GET", "origin.test", "/x", "HTTP/2.0", b"", 200, b"three", "><"],
                    5: ["POST", "origin.test", "/x", "HTTP/2.0", b"", None, b"", "reset with code 0"]}


def test_http2_heads_are_compressed_with_what_came_before():
    client, _ = ends()
    for stream in (1, 3, 5):
        client.send_headers(stream, head(cookie=b"a" * 200), end_stream=True)
    assert [each[0] for each in read([(True, client.data_to_send())], 100).values()] == ["POST"] * 3


@pytest.mark.parametrize(("turns", "said"), [
    pytest.param([(False, b"220 mail.test ESMTP\r\n")], "the server speaks first", id="a banner"),
    pytest.param([(True, b"\x00\x01\x02 garbage\r\n\r\n")], "not HTTP/1.1", id="no HTTP"),
    pytest.param([(True, b"GET / HTTP/1.1\r\nx: " + b"a" * MAX_HEAD)], "not HTTP/1.1", id="an endless head"),
    pytest.param([(True, GET[0]), (False, b"nonsense\r\n\r\n")], "not HTTP/1.1", id="no answer"),
    pytest.param([(True, b"GET /w HTTP/1.1\r\nHost: o\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
                  (False, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")],
                 "another protocol", id="WebSocket"),
    pytest.param([(True, PREFACE + (MAX_FRAME + 1).to_bytes(3) + b"\0\0\0\0\0\x01")], "a frame of", id="a large frame"),
    pytest.param([(True, PREFACE + b"\x00\x00\x01\x01\x04\x00\x00\x00\x01\xff")], "not HTTP/2", id="a broken head"),
    pytest.param([(True, PREFACE + b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82"
                  + (b"\x00\x40\x00\x09\x00\x00\x00\x00\x01" + b"\x82" * 0x4000) * 5)], "without an end",
                 id="endless continuation"),
])
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_cannot_be_read(turns, said, size):
    with pytest.raises(Unreadable, match=said):
        read(turns, size)
