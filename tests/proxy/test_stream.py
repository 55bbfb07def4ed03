"""Enforcement in the stream: what is refused gets an answer, and of a value at most its first characters have left."""

import gzip
import json
import time

import brotli
import h2.errors
import pytest
import zstandard

from tests.proxy.conftest import chunked, read_answer, running

KEY = b"AKIA" + b"4QXB7ZKLMRTW2NPD"
CARD = b"4111 1111 1111 1111"
TEXT = b"some words " * 900
ENCODERS = {"identity": bytes, "gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}
POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 2, hello: 3}}
filters:
  - {{id: no-secrets, use: secrets.Secrets}}
  - {{id: no-cards, use: cards.Cards}}
  - {{id: downloads, use: ./mine.py:Downloads}}
  - {{id: whole, use: ./mine.py:Whole, when: ~u /whole, buffer: 100000}}
"""
FILTERS = """
from lockgate import block

class Downloads:
    def responseheaders(self, flow):
        if flow.response.headers.get("x-evil"):
            return block("an evil header")

    def responsebody(self, flow):
        return lambda piece: block("malware") if b"EICAR" in piece else None

class Whole:
    def request(self, flow):
        if b"forbidden" in flow.request.content:
            return block("forbidden word")

    def response(self, flow):
        if b"forbidden" in flow.response.content:
            return block("forbidden answer")
"""


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", POLICY.format(roots=origin.roots), FILTERS) as started:
        yield started


def left(record, value):
    """How many characters of the value, from its beginning, are in the record."""
    return next((n for n in range(len(value), 0, -1) if value[:n] in record), 0)


def post(body, headers="", path="/"):
    return f"POST {path} HTTP/1.1\r\nhost: origin.test\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


# -- what leaves


def test_clean_passes(proxy, origin):
    body = TEXT * 20
    answer = proxy.upload(origin, body)
    assert (answer.status, answer.body) == (200, b"ok")
    assert origin.record.endswith(body)


@pytest.mark.parametrize("value", [KEY, CARD], ids=["secret", "card"])
@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize("way", ["length", "chunked", "h2", "h2 bytes"])
def test_upload(proxy, origin, h2_origin, value, coding, way):
    body = ENCODERS[coding](TEXT + b"[" + value + b"] " + TEXT)
    headers = f"content-encoding: {coding}\r\naccept: application/json\r\n"
    if way == "length":
        answer = proxy.upload(origin, body, headers=headers, size=1000)
    elif way == "chunked":
        head = f"POST / HTTP/1.1\r\nhost: origin.test\r\ntransfer-encoding: chunked\r\n{headers}\r\n".encode()
        answer = proxy.ask(origin, head + chunked(body, 700), "POST")
    else:
        client = proxy.h2(h2_origin)
        stream = client.request("/", "POST", end=False, headers=(
            ("content-encoding", coding), ("accept", "application/json")))
        client.send(stream, body, end=True, frame=1 if way == "h2 bytes" else 4000)
        answer = client.wait(stream)
        assert answer.reset in (None, h2.errors.ErrorCodes.NO_ERROR)
    assert answer.status == 403
    assert answer.ended
    assert json.loads(answer.body)["filter"] in ("no-secrets", "no-cards")
    assert left(origin.record + h2_origin.record, value) <= 4


@pytest.mark.parametrize("cut", range(0, len(KEY) + 2, 3))
@pytest.mark.parametrize("start", [0, 4080, 8192])
def test_cut(proxy, origin, start, cut):
    """However the writes fall on the value."""
    body = b"x" * start + b" " + KEY + b" " + b"y" * 6000
    raw, border = post(body), len(post(body)) - len(body) + start + 1 + cut
    with proxy.tls(origin) as sock:
        sock.sendall(raw[:border])
        time.sleep(0.005)
        sock.sendall(raw[border:])
        assert read_answer(sock).status == 403
    assert left(origin.record, KEY) <= 4


@pytest.mark.parametrize("request_", [
    pytest.param(b"GET /?key=" + KEY + b" HTTP/1.1\r\nhost: origin.test\r\n\r\n", id="URL"),
    pytest.param(b"GET / HTTP/1.1\r\nhost: origin.test\r\nx-key: " + KEY + b"\r\n\r\n", id="header"),
    pytest.param(post(b'{"a": {"b": ["' + KEY + b'"]}}', "content-type: application/json\r\n"), id="JSON"),
    pytest.param(post(b'--b\r\ncontent-disposition: form-data; name="f"; filename="f"\r\n\r\n' + KEY + b"\r\n--b--\r\n",
                      "content-type: multipart/form-data; boundary=b\r\n"), id="multipart"),
    pytest.param(post(b"k=" + KEY, "expect: 100-continue\r\n"), id="after 100-continue"),
    pytest.param(post(b"forbidden", path="/whole"), id="collected whole"),
    pytest.param(post(KEY, path="/whole"), id="secret in a collected body"),
])
def test_nothing_leaves(proxy, origin, request_):
    answer = proxy.ask(origin, request_)
    if answer.status == 100:
        raise AssertionError("an interim answer was taken for the final one")
    assert (answer.status, answer.ended) == (403, True)
    assert origin.record == b""


@pytest.mark.parametrize("trailers", [b"x-key: " + KEY + b"\r\n", b"a: b\r\n"])
def test_trailers_do_not_pass(proxy, origin, trailers):
    head = b"POST / HTTP/1.1\r\nhost: origin.test\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = proxy.ask(origin, head + b"3\r\nabc\r\n0\r\n" + trailers + b"\r\n", "POST")
    assert answer.status == 200
    assert origin.record.endswith(b"3\r\nabc\r\n0\r\n\r\n")


def test_larger_than_may_be_collected(proxy, origin):
    answer = proxy.upload(origin, b"z" * 300_000, path="/whole")
    assert answer.status == 403
    assert origin.record == b""


# -- what the client gets


def test_response_header(proxy, origin):
    origin.paths["/evil"] = b"HTTP/1.1 200 OK\r\nx-evil: 1\r\ncontent-length: 4\r\n\r\nbody"
    answer = proxy.ask(origin, b"GET /evil HTTP/1.1\r\nhost: origin.test\r\n\r\n")
    assert (answer.status, b"evil header" in answer.body) == (403, True)


def test_collected_response(proxy, origin):
    origin.paths["/whole"] = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nforbidden"
    answer = proxy.ask(origin, b"GET /whole HTTP/1.1\r\nhost: origin.test\r\n\r\n")
    assert (answer.status, b"forbidden answer" in answer.body) == (403, True)


@pytest.mark.parametrize("framing", ["content-length: 200005\r\n", "transfer-encoding: chunked\r\n", ""])
def test_response_cut_in_the_middle(proxy, origin, framing):
    """The head has left: the client must see that the body is not whole."""
    body = b"a" * 100_000 + b"EICAR" + b"b" * 100_000
    body = chunked(body, 5000) if "chunked" in framing else body
    origin.paths["/cut"] = f"HTTP/1.1 200 OK\r\n{framing}\r\n".encode() + body
    answer = proxy.ask(origin, b"GET /cut HTTP/1.1\r\nhost: origin.test\r\n\r\n")
    assert (answer.status, answer.ended) == (200, False)
    assert b"EICAR" not in answer.body


# -- one stream among others


def test_others_go_on(proxy, h2_origin):
    """A block in one stream while an upload and a download are under way in others of the connection."""
    h2_origin.h2_paths["/down"] = lambda server, stream: server.answer(stream, b"d" * 10_000, end=False)
    client = proxy.h2(h2_origin)
    up = client.request("/up", "POST", end=False)
    client.send(up, b"u" * 10_000)
    down = client.request("/down")
    while len(client.answers[down].body) < 5_000:
        assert client.pump(5)
    bad = client.request("/bad", "POST", end=False)
    client.send(bad, b"b" * 10_000 + b" " + KEY + b" " + b"b" * 5000)
    answer = client.wait(bad)
    assert (answer.status, answer.ended) == (403, True)
    client.send(up, b"v" * 10_000, end=True)
    assert client.wait(up).body == b"ok"
    assert (client.open, client.goaway) == (True, None)
    assert client.answers[down].reset is None
    again = client.request("/again")
    assert client.wait(again).body == b"ok"
    assert h2_origin.connections == 1


def test_response_cut_on_one_stream(proxy, h2_origin):
    body = b"a" * 10_000 + b"EICAR" + b"b" * 10_000
    h2_origin.h2_paths["/cut"] = lambda server, stream: server.answer(stream, body)
    client = proxy.h2(h2_origin)
    answer = client.wait(client.request("/cut"))
    assert (answer.status, answer.ended) == (200, False)
    assert answer.reset is not None
    assert b"EICAR" not in answer.body
    assert client.wait(client.request("/next")).body == b"ok"
