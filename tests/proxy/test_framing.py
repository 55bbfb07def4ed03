"""One reading per request (RFC 9112): what could be read in two ways is refused, all else has one form."""

import json
import time

import pytest

from tests.proxy.conftest import read_answer, scanning
from tests.proxy.corpora import requests, table
from tests.proxy.origin import Origin


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with scanning(folder, origin) as started:
        yield started


@pytest.fixture
def own(folder):
    """An origin whose record has nothing of other tests, however late that comes."""
    with Origin(folder / "origin").serve() as served:
        yield served


@pytest.mark.parametrize(("status", "raw"), table(requests.REFUSED))
def test_refused(proxy, own, status, raw):
    """The answer is ours, nothing of the request leaves, and nothing after it is read."""
    with proxy.tls(own) as sock:
        sock.sendall(raw)
        answer = read_answer(sock)
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert json.loads(answer.body)["incident"]
        assert read_answer(sock).status == 0
    assert own.record == b""


@pytest.mark.parametrize("body", table(requests.BROKEN_BODIES))
def test_broken_body(proxy, own, body):
    """A request whose body is malformed is never complete at the own, and what follows it is not a request."""
    with proxy.tls(own) as sock:
        sock.sendall(requests.chunks(body))
        assert read_answer(sock).status in (400, 0)
        assert read_answer(sock).status == 0
    time.sleep(0.02)    # for what may be on its way
    assert b"smuggled" not in own.record
    assert not own.record.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(("raw", "seen"), table(requests.FORWARDED))
def test_forwarded(proxy, own, raw, seen):
    """In one form, whole; what follows is a request of its own."""
    with proxy.tls(own) as sock:
        sock.sendall(raw)
        answer = read_answer(sock)
    assert (answer.status, answer.body, answer.ended) == (200, b"ok", True)
    assert bytes(own.record) == seen


def test_head_in_small_letters(proxy, origin):
    """Some would send a body, some would not."""
    assert proxy.ask(origin, requests.head(requests.HOST, method="head"), "HEAD").status == 400
    assert origin.record == b""


def test_domain_fronting_has_a_name(proxy, origin):
    raw = requests.head("host: other.test")
    assert proxy.ask(origin, raw).status == 421
    assert proxy.events()[-1]["lockgate"]["reason"].startswith("Domain fronting: ")


def test_nothing_after_connection_close(proxy, origin):
    """A request sent ahead of an end that it was told of is not read."""
    with proxy.tls(origin) as sock:
        sock.sendall(requests.head(requests.HOST, "connection: Close") + requests.SMUGGLED)
        assert read_answer(sock).status == 200
        assert read_answer(sock).status == 0
    assert b"smuggled" not in origin.record


def test_requests_sent_ahead_stay_apart(proxy, origin):
    with proxy.tls(origin) as sock:
        sock.sendall(requests.CHUNKED + requests.LENGTH + requests.OK_HEAD)
        got = b""
        while got.count(b"ok") < 3:
            got += sock.recv(4096)
    assert bytes(origin.record) == requests.CHUNKED + requests.LENGTH + requests.OK_HEAD
