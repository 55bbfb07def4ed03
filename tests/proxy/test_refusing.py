"""Refusals: the answer fits the client, and the client gets to read it."""

import contextlib

import pytest

from tests.proxy.conftest import running

KEY = b"AKIA" + b"4QXB7ZKLMRTW2NPD"
POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 2, hello: 3}}
filters:
  - {{id: no-ads, use: blocklist.Hosts, with: {{hosts: [other.test]}}}}
  - {{id: no-secrets, use: secrets.Secrets}}
  - {{id: killer, use: ./mine.py:Killer}}
  - {{id: hidden, use: urls.Rules, answer: placeholder, with: {{rules: ["||origin.test^*/ad/"]}}}}
  - {{id: cutting, use: urls.Rules, answer: reset, with: {{rules: ["||origin.test^*/reset/"]}}}}
  - {{id: whole, use: ./mine.py:Whole, answer: reset}}
"""
FILTERS = """
from lockgate import block, kill

class Killer:
    def requestheaders(self, flow):
        if flow.request.path == "/kill":
            return kill("no words")

class Whole:
    def request(self, flow):
        if flow.request.path == "/whole":
            return block("with the whole request in hand")
"""


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", POLICY.format(roots=origin.roots), FILTERS) as started:
        yield started


@pytest.mark.parametrize(("accept", "kind"), [
    ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
    ("application/json", "application/problem+json"),
    ("*/*", "application/problem+json"),
])
def test_page(proxy, origin, accept, kind):
    raw = f"GET / HTTP/1.1\r\nhost: other.test\r\naccept: {accept}\r\n\r\n".encode()
    answer = proxy.ask(origin, raw, host="other.test")
    assert (answer.status, answer.headers["content-type"]) == (403, kind)
    event = proxy.events()[-1]["lockgate"]
    assert event["filter"] == "no-ads"
    assert event["incident"].encode() in answer.body
    assert b"no-ads" in answer.body
    assert origin.connections == 0



@pytest.mark.parametrize("size", [3_000_000, 8_000_000])
def test_client_that_sends_on_reads_the_page(proxy, origin, size):
    """A synchronous client sends all of its body before it reads."""
    answer = proxy.upload(origin, KEY + b" " + b"z" * size)
    assert (answer.status, answer.ended) == (403, True)



def test_client_that_never_stops_is_cut(proxy, origin):
    head, sent = b"POST / HTTP/1.1\r\nhost: origin.test\r\ntransfer-encoding: chunked\r\n\r\n", 0
    with proxy.tls(origin) as sock, contextlib.suppress(OSError):
        sock.sendall(head + b"15\r\n" + KEY + b" \r\n")
        while sent < 64 * 2**20:
            sock.sendall(b"10000\r\n" + b"z" * 65536 + b"\r\n")
            sent += 65536
    assert sent < 40 * 2**20



def test_kill(proxy, origin):
    answer = proxy.ask(origin, b"GET /kill HTTP/1.1\r\nhost: origin.test\r\n\r\n")
    assert answer.status == 0
    assert origin.record == b""
    assert proxy.events()[-1]["lockgate"]["verdict"] == "kill"



def test_kill_ends_the_connection(proxy, h2_origin):
    client = proxy.h2(h2_origin)
    client.wait(client.request("/kill"))
    assert not client.open



def test_head_is_refused_without_a_body(proxy, origin):
    answer = proxy.ask(origin, b"HEAD / HTTP/1.1\r\nhost: other.test\r\n\r\n", "HEAD", "other.test")
    assert (answer.status, answer.body, answer.ended) == (403, b"", True)


def test_expectant_client_is_not_asked_for_its_body(proxy, origin):
    raw = b"POST / HTTP/1.1\r\nhost: other.test\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n"
    with proxy.tls(origin, "other.test") as sock:
        sock.sendall(raw)
        assert sock.recv(100).startswith(b"HTTP/1.1 403")


# -- answers fit for the client


def test_a_placeholder(proxy, origin):
    head = "GET /ad/x.png HTTP/1.1\r\nhost: origin.test\r\nsec-fetch-dest: image\r\n\r\n"
    answer = proxy.ask(origin, head.encode())
    assert (answer.status, answer.headers["content-type"], answer.body[:6]) == (200, "image/gif", b"GIF89a")
    assert answer.headers["x-lockgate-incident"] == proxy.events()[-1]["lockgate"]["incident"]
    assert origin.record == b""


@pytest.mark.parametrize("path", ["/reset/x", "/whole"])
def test_a_reset(proxy, origin, path):
    answer = proxy.ask(origin, f"GET {path} HTTP/1.1\r\nhost: origin.test\r\n\r\n".encode())
    assert answer.status == 0
    assert proxy.events()[-1]["lockgate"]["verdict"] == "block"


@pytest.mark.parametrize("path", ["/reset/x", "/whole"])
def test_a_reset_is_of_one_stream(proxy, h2_origin, path):
    client = proxy.h2(h2_origin)
    answer = client.wait(client.request(path))
    assert (answer.status, answer.reset is not None) == (0, True)
    assert client.wait(client.request("/")).body == b"ok"


def test_grpc_has_its_status_in_trailers_only(proxy, h2_origin):
    client = proxy.h2(h2_origin)
    call = (("content-type", "application/grpc"), ("te", "trailers"))
    stream = client.request("/ad/Service/Method", "POST", headers=call, end=False)
    client.send(stream, b"\0\0\0\0\5hello", end=True)
    answer = client.wait(stream)
    assert (answer.status, answer.headers["grpc-status"], answer.body) == (200, "7", b"")
    assert "||origin.test^*/ad/" in answer.headers["grpc-message"]
    assert answer.ended


def test_a_refused_websocket(proxy, origin):
    raw = (b"GET /ad/socket HTTP/1.1\r\nhost: origin.test\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
           b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\norigin: https://a.test\r\n\r\n")
    answer = proxy.ask(origin, raw)
    assert (answer.status, answer.headers["content-type"]) == (403, "application/problem+json")
    assert answer.headers["access-control-allow-origin"] == "https://a.test"
