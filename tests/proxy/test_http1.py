"""HTTP/1: what is malformed, endless, late or cut short gets a clear answer, and connections end where they should."""

import contextlib
import json
import socket
import threading
import time

import pytest

from tests.proxy.conftest import GET, MIB, chunked, read_answer, scanning
from tests.proxy.origin import close


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with scanning(folder, origin) as started:
        yield started


def head(*lines, target="/", method="GET"):
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


HOST, CHUNKED = "host: origin.test", "transfer-encoding: chunked"


@pytest.mark.parametrize(("raw", "status"), [
    pytest.param(head(), 400, id="no host"),
    pytest.param(head(HOST, HOST), 400, id="two hosts"),
    pytest.param(head("host: other.test"), 421, id="another host"),
    pytest.param(head("host: other.test", target="http://origin.test/"), 400, id="absolute form against Host"),
    pytest.param(head(HOST, target="http://other.test/"), 400, id="Host against absolute form"),
    pytest.param(head("host: user@origin.test"), 400, id="user information"),
    pytest.param(head("host : origin.test"), 400, id="space before the colon"),
    pytest.param(head(HOST, "x: a\0b"), 400, id="NUL"),
    pytest.param(head(HOST, "x: a\rb"), 400, id="bare CR"),
    pytest.param(head(HOST, "x: a", " folded"), 400, id="folded line"),
    pytest.param(head(HOST, "no colon"), 400, id="no colon"),
    pytest.param(head(HOST, ": no name"), 400, id="no name"),
    pytest.param(head(HOST, target="/a b"), 400, id="space in the target"),
    pytest.param(head(HOST, target=""), 400, id="no target"),
    pytest.param(b"GET /\r\n\r\n", 400, id="HTTP/0.9"),
    pytest.param(b"GET / HTTP/3.0\r\nhost: origin.test\r\n\r\n", 505, id="HTTP/3.0"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="HTTP/2 that was not negotiated"),
    pytest.param(b"\x16\x03\x01\x00\x05hello", 408, id="TLS within TLS"),
    pytest.param(b"\x00\x01garbage\r\n\r\n" * 3, 400, id="garbage"),
    pytest.param(head(HOST, method="CONNECT", target="origin.test:443"), 400, id="CONNECT in a tunnel"),
    pytest.param(head(HOST, "content-length: 1", "content-length: 2", method="POST") + b"aa", 400, id="two lengths"),
    pytest.param(head(HOST, "content-length: -1", method="POST"), 400, id="negative length"),
    pytest.param(head(HOST, "content-length: 1", CHUNKED, method="POST"), 400, id="length and chunks"),
    pytest.param(head(HOST, "transfer-encoding: gzip", method="POST"), 400, id="chunked is not last"),
    pytest.param(head(HOST, CHUNKED, method="POST") + b"nonsense\r\n", 400, id="no chunk"),
    pytest.param(head(HOST, CHUNKED, method="POST") + b"1\r\nab\r\n", 400, id="chunk without an end"),
    pytest.param(head(HOST, CHUNKED, method="POST") + b"1;" + b"x" * 200_000, 400, id="endless chunk head"),
    pytest.param(head(HOST, CHUNKED, method="POST") + b"0\r\n" + b"x: y\r\n" * 40_000, 400,
                 id="endless trailers"),
    pytest.param(head(HOST, "x: " + "y" * 100_000), 431, id="long header"),
    pytest.param(head(HOST, *["x: y"] * 20_000), 431, id="many headers"),
    pytest.param(b"GET /" + b"a" * 100_000, 431, id="long target"),
])
def test_malformed_request(proxy, origin, raw, status):
    """The answer is ours and the origin sees nothing of it."""
    answer = proxy.ask(origin, raw)
    assert answer.status == status
    if status:
        assert answer.headers["connection"] == "close"
        assert json.loads(answer.body)["incident"]
    assert b"HTTP/1.1" not in origin.record.replace(b"transfer-encoding: chunked", b"") or status == 400
    assert b"mitmproxy" not in answer.body


@pytest.mark.parametrize("raw", [
    pytest.param(b"\r\n\r\n" + GET, id="blank lines first"),
    pytest.param(head(HOST, target="https://origin.test/"), id="absolute form"),
    pytest.param(head(HOST, "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__", "connection: upgrade, http2-settings"),
                 id="an upgrade that is not taken"),
    pytest.param(b"GET / HTTP/1.0\r\nhost: origin.test\r\n\r\n", id="HTTP/1.0"),
])
def test_odd_but_good_request(proxy, origin, raw):
    answer = proxy.ask(origin, raw)
    assert (answer.status, answer.body) == (200, b"ok")
    assert origin.record.startswith(b"GET / HTTP/1.")
    assert b"h2c" not in origin.record


def test_hundred_megabytes_of_header(proxy, origin):
    before = proxy.memory()
    with proxy.tls(origin) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: origin.test\r\nx: ")
        with contextlib.suppress(OSError):
            for _ in range(100):
                sock.sendall(b"y" * MIB)
        read_answer(sock)
    assert proxy.memory() - before < 20 * MIB


def test_slow_head(proxy, origin):
    """A byte now and then does not buy time."""
    started = time.monotonic()
    with proxy.tls(origin) as sock:
        stop = threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                for byte in GET[:-1]:
                    sock.sendall(bytes([byte]))
                    if stop.wait(0.1):
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        answer = read_answer(sock)
        stop.set()
        thread.join()
    assert answer.status == 408
    assert time.monotonic() - started < 3


def test_unused_connection_is_closed_without_words(proxy, origin):
    with proxy.tls(origin) as sock:
        assert sock.recv(100) == b""


def test_keep_alive_and_requests_sent_ahead(proxy, origin):
    with proxy.tls(origin) as sock:
        sock.sendall(GET * 5)
        got = b""
        while got.count(b"ok") < 5:
            got += sock.recv(4096)
        time.sleep(0.1)
        sock.sendall(GET)
        assert read_answer(sock).status == 200
    assert origin.connections == 1


# -- the end of connections


def test_longer_than_its_length(proxy, origin):
    """What follows the body is the next request, and a bad one."""
    with proxy.tls(origin) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nhost: origin.test\r\ncontent-length: 3\r\n\r\nabcdef\r\n\r\n")
        assert read_answer(sock).status == 200
        assert read_answer(sock).status == 400
    assert b"def" not in origin.record


def test_origin_closes_an_idle_connection(proxy, origin):
    """Just as the next request comes: the client sees what it would see without us, and tries again."""
    def once(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        sock.recv(65536)

    origin.paths["/once"] = once
    with proxy.tls(origin) as sock:
        sock.sendall(GET.replace(b" / ", b" /once "))
        assert read_answer(sock).status == 200
        sock.sendall(GET)
        assert sock.recv(100) == b""


# -- origins


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    socket.socket.close(sock)


def send(data, then=close):
    def act(sock):
        with contextlib.suppress(OSError):
            sock.sendall(data)
        then(sock)
    return act


def endless(start, more):
    def act(sock):
        with contextlib.suppress(OSError):
            sock.sendall(start)
            for _ in range(200):
                sock.sendall(more * (MIB // len(more)))
    return act


def wait(seconds):
    return lambda _: time.sleep(seconds)


#: Seconds for an answer whose limit is one: the origins that send without an end keep both cores of a small machine busy
#: meanwhile, and other tests may as well.  Without the limit the status would be another, or the test's own end.
BUSY = 8
OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"content-length: 2\r\n\r\nhi"


@pytest.mark.parametrize(("act", "status"), [
    pytest.param(close, 502, id="closes"),
    pytest.param(reset, 502, id="resets"),
    pytest.param(wait(3), 504, id="says nothing"),
    pytest.param(send(b"HTTP/1.1 200", wait(3)), 504, id="half a status line"),
    pytest.param(send(b"nonsense\r\n\r\n"), 502, id="no HTTP"),
    pytest.param(send(b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n"), 502, id="HTTP/2.0"),
    pytest.param(send(OK + b"content-length: x\r\n\r\n"), 502, id="no length"),
    pytest.param(send(OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab"), 502, id="two lengths"),
    pytest.param(send(OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"), 502, id="length and chunks"),
    pytest.param(send(OK + b"bad name: 1\r\ncontent-length: 0\r\n\r\n"), 502, id="bad name"),
    pytest.param(send(OK + b"x: a\0b\r\ncontent-length: 0\r\n\r\n"), 502, id="NUL"),
    pytest.param(send(OK + b"x: a\rb\r\ncontent-length: 0\r\n\r\n"), 502, id="bare CR"),
    pytest.param(send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"), 502, id="101 unasked"),
    pytest.param(endless(OK, b"x: y\r\n"), 502, id="endless head"),
    pytest.param(endless(OK + b"x: ", b"yyyy"), 502, id="endless line"),
    pytest.param(endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), 504, id="endless interim answers"),
])
def test_bad_origin(proxy, origin, act, status):
    origin.paths["/bad"] = act
    started, before = time.monotonic(), proxy.memory()
    answer = proxy.ask(origin, GET.replace(b" / ", b" /bad "))
    assert (answer.status, answer.ended) == (status, True)
    assert time.monotonic() - started < BUSY
    assert proxy.memory() - before < 20 * MIB
    assert proxy.ask(origin, GET).status == 200


@pytest.mark.parametrize(("act", "status", "body"), [
    pytest.param(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + HI, 200, b"hi", id="103"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + HI, 200, b"hi", id="100"),
    pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", id="204"),
    pytest.param(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", 304, b"", id="304"),
    pytest.param(b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n", 304, b"", id="304 with chunks"),
    pytest.param(OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: y\r\n\r\n", 200, b"hi", id="trailers"),
    pytest.param(send(OK + b"\r\nhi"), 200, b"hi", id="until the end"),
    pytest.param(send(b"HTTP/1.0 200 OK\r\n\r\nhi"), 200, b"hi", id="HTTP/1.0, until the end"),
    pytest.param(send(OK + b"content-length: 2\r\n\r\nhi and more"), 200, b"hi", id="longer than its length"),
])
def test_good_answers(proxy, origin, act, status, body):
    origin.paths["/odd"] = act
    with proxy.tls(origin) as sock:
        sock.sendall(GET.replace(b" / ", b" /odd "))
        answer = read_answer(sock)
        assert (answer.status, answer.body, answer.ended) == (status, body, True)
        if b"close" not in answer.headers.get("connection", "").encode():
            sock.sendall(GET)
            assert read_answer(sock).status == 200


def test_head(proxy, origin):
    origin.paths["/head"] = send(OK + b"content-length: 1000\r\n\r\n", wait(0.3))
    answer = proxy.ask(origin, GET.replace(b"GET / ", b"HEAD /head "), "HEAD")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "1000", b"")


@pytest.mark.parametrize("framing", [b"content-length: 10000\r\n", b"transfer-encoding: chunked\r\n", b""])
@pytest.mark.parametrize("how", [close, reset])
def test_cut_response_is_seen(proxy, origin, framing, how):
    if not framing and how is close:
        pytest.skip("that is how such a body ends")
    data = chunked(b"z" * 9000, 900)[:-5] if b"chunked" in framing else b"z" * 9000
    origin.paths["/cut"] = send(OK + framing + b"\r\n" + data, lambda sock: (time.sleep(0.1), how(sock)))
    answer = proxy.ask(origin, GET.replace(b" / ", b" /cut "))
    assert (answer.status, answer.ended) == (200, False)


def test_answer_before_the_request_is_complete(proxy, origin):
    origin.paths["/early"] = send(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig", reset)
    answer = proxy.upload(origin, b"z" * 5_000_000, path="/early")
    assert answer.status in (413, 502)      # a reset may have taken it from us


def test_answer_before_the_request_is_complete_and_the_origin_reads_on(proxy, origin):
    def act(sock):
        sock.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig and more")
        with contextlib.suppress(OSError):
            while sock.recv(65536):
                """Polite."""

    origin.paths["/early"] = act
    answer = proxy.upload(origin, b"z" * 3_000_000, path="/early")
    assert (answer.status, answer.body) == (413, b"big")
