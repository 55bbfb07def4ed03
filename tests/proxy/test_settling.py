"""Scanners that take their time: their stream waits, nothing else does, and no more is read than may be kept."""

import base64
import io
import os
import random
import socket
import time
import zipfile

import pytest

from tests.proxy.conftest import GET, MIB, read_answer, running

POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 5, hello: 5}}
filters:
  - {{id: late, use: ./mine.py:Late, when: ~u /late, deadline: 3000}}
  - {{id: never, use: ./mine.py:Never, when: ~u /never, deadline: 300}}
  - {{id: views, use: ./mine.py:Views, when: ~u /views, deadline: 3000}}
  - {{id: no-secrets, use: secrets.Secrets, with: {{responses: true}}}}
"""
FILTERS = """
import asyncio
from lockgate import block

async def look(data):
    await asyncio.sleep(0.4)
    return block("seen") if b"bad" in data else None

class Late:
    def requestbody(self, flow): return look
    def responsebody(self, flow): return look

class Never:
    def requestbody(self, flow): return lambda data: asyncio.Event().wait()

class Views:
    def requestviews(self, flow): return self
    def opened(self, view): return look
"""
KEY = b"AKIA" + b"4QXB7ZKLMRTW2NPD"


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", POLICY.format(roots=origin.roots), FILTERS) as started:
        yield started


@pytest.mark.parametrize(("path", "body", "status"), [
    ("/late", b"good", 200), ("/late", b"bad", 403), ("/views", b"good", 200), ("/views", b"bad", 403),
    ("/never", b"x", 403),
])
def test_an_answer_that_is_awaited(proxy, origin, path, body, status):
    assert proxy.upload(origin, body, path=path).status == status
    assert (b"\r\n\r\n" + body in origin.record) is (status == 200)


def test_a_response_that_is_awaited(proxy, origin):
    origin.paths["/late"] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad"
    answer = proxy.ask(origin, b"GET /late HTTP/1.1\r\nhost: origin.test\r\n\r\n")
    del origin.paths["/late"]
    assert (answer.status, b"seen" in answer.body) == (403, True)       # nothing of it had left


def test_other_streams_do_not_wait(proxy, h2_origin):
    client = proxy.h2(h2_origin)
    stream = client.request("/late", "POST", end=False)
    began = time.monotonic()
    client.send(stream, b"good", end=True)
    assert client.wait(client.request("/")).body == b"ok"
    assert time.monotonic() - began < 0.4
    assert client.wait(stream).body == b"ok"
    assert time.monotonic() - began > 0.4


def test_no_more_is_read_than_may_be_kept(proxy, origin):
    before = proxy.memory()
    with proxy.tls(origin) as sock:
        sock.sendall(b"POST /late HTTP/1.1\r\nhost: origin.test\r\ncontent-length: 500000000\r\n\r\n")
        sock.settimeout(0.3)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 100 * MIB:
                sent += sock.send(b"z" * 65536)
    assert sent < 20 * MIB
    assert proxy.memory() - before < 20 * MIB


def test_a_client_that_leaves_meanwhile(proxy, origin):
    sock = proxy.tls(origin)
    sock.sendall(b"POST /late HTTP/1.1\r\nhost: origin.test\r\ncontent-length: 10\r\n\r\nabc")
    time.sleep(0.1)
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()
    time.sleep(0.5)
    assert proxy.ask(origin, GET).status == 200


def archive(texts):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for number, text in enumerate(texts):
            made.writestr(f"{number}.txt", text)
    return file.getvalue()


def test_what_is_slow_to_read_holds_nobody_up(proxy, origin):
    """An upload of an archive that grows: the others have their turn all the while."""
    body = archive([b"".join(random.Random(7).choices([b"a b ", b"%41", b"\\u0041", b"Zm9v"], k=10_000))] * 400)
    longest, asked = 0.0, 0
    with proxy.tls(origin) as up, proxy.tls(origin) as sock:
        up.sendall(b"POST / HTTP/1.1\r\nhost: origin.test\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        up.setblocking(False)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            began = time.monotonic()
            sock.sendall(GET)
            assert read_answer(sock).body == b"ok"
            longest, asked = max(longest, time.monotonic() - began), asked + 1
    assert asked > 5
    assert longest < 0.5


@pytest.mark.parametrize("body", [
    pytest.param(b"x" * 100_000 + base64.b64encode(b"this is " + KEY + b" the key of it") + b" " * 9000, id="base64"),
    pytest.param(archive([b"nothing", b"." * 9000 + b" " + KEY + b" " + b"." * 9000]), id="archive"),
])
@pytest.mark.parametrize("side", ["upload", "download"])
def test_what_is_inside_is_found(proxy, origin, body, side):
    if side == "upload":
        assert proxy.upload(origin, body).status == 403
        return
    origin.paths["/inside"] = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    answer = proxy.ask(origin, b"GET /inside HTTP/1.1\r\nhost: origin.test\r\n\r\n")
    assert (answer.status, answer.ended) in ((403, True), (200, False))
    findings = [f for event in proxy.events() for f in event["lockgate"].get("findings", ())]
    assert findings[-1]["where"].startswith("body > ")


def test_a_large_upload_in_little_memory(proxy, origin):
    """With FULL=1 in the environment, 8 GiB of it."""
    size = 8192 if os.environ.get("FULL") else 256
    words = [bytes(random.choices(b"abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(1000)]
    text = b" ".join(random.choices(words, k=MIB // 7)).ljust(MIB)
    taken = 0

    def take(sock):
        nonlocal taken
        while data := sock.recv(MIB):
            taken += len(data)
            tail[:] = (tail + data)[-100:]

    tail = bytearray()
    origin.paths["/large"] = take
    assert proxy.upload(origin, text).status == 200
    before = most = proxy.memory()
    with proxy.tls(origin) as sock:
        sock.sendall(b"POST /large HTTP/1.1\r\nhost: origin.test\r\ncontent-length: %d\r\n\r\n" % (size * MIB))
        for number in range(size):
            sock.sendall(text if number < size - 1 else text[:-21] + b" " + KEY)
            most = max(most, proxy.memory()) if number % 16 == 0 else most
        assert read_answer(sock).status == 403
    assert most - before < 32 * MIB
    assert (size - 1) * MIB < taken < size * MIB
    assert KEY[:5] not in tail
