"""What is fetched, from whom and for how long; and that nobody is asked twice, or again who did not answer."""

import asyncio
import time

import pytest

from proxy import fetching
from proxy.evidence import Unusable
from proxy.fetching import Inquiries, Silent, Unanswered, fetch
from tests.proxy.responder import Responder, gives, raw, status

LIMIT = 1000
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def responder():
    with Responder().serve() as served:
        served.paths |= {
            "/": gives(b"hello"), "/chunked": raw(CHUNKED), "/close": raw(b"HTTP/1.0 200 OK\r\n\r\nhello"),
            "/interim": raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" + CHUNKED), "/echo": gives(lambda body: body),
            "/once": status(302, location="/"), "/twice": status(307, location=served.url("/once")),
            "/thrice": status(302, location="/twice"), "/loop": status(301, location="/loop"),
            "/tls": status(302, location="https://127.0.0.1/"), "/lost": status(302), "/busy": status(503),
            "/odd": status(302, location="http://[::1"), "/file": status(302, location="file:///etc/passwd"),
            "/exact": gives(bytes(LIMIT)), "/more": gives(bytes(LIMIT + 1)),
            "/huge": raw(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1 << 20), 100), "/garbage": raw(b"\x00\x01\x02\r\n\r\n"),
            "/cut": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"), "/nothing": raw(b""),
            "/heads": raw(b"HTTP/1.1 103 Early Hints\r\n\r\n", 1_000_000), "/head": raw(b"HTTP/1.1 200 " + bytes(1 << 20)),
            "/hang": served.hang, "/trickle": served.trickle}
        yield served


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(fetching, "FIRST_WORD", 0.3)
    monkeypatch.setattr(fetching, "FETCH_LIMIT", 0.5)


@pytest.mark.parametrize(("path", "expected"), [
    *((path, b"hello") for path in ("/", "/chunked", "/close", "/interim", "/once", "/twice")),
    ("/exact", bytes(LIMIT)),
])
def test_answers(responder, path, expected):
    assert asyncio.run(fetch(responder.url(path), LIMIT)) == expected


def test_a_body_goes_by_post(responder):
    assert asyncio.run(fetch(responder.url("/echo"), LIMIT, b"a question", "text/plain")) == b"a question"


def test_what_is_sent_says_nothing_of_who_asks(responder):
    seen = []
    responder.paths["/seen"] = lambda handler, body: (seen.append(dict(handler.headers)), gives(b"")(handler, body))
    asyncio.run(fetch(responder.url("/seen").replace("//", "//user:password@"), LIMIT))
    assert seen == [{"host": f"127.0.0.1:{responder.port}", "connection": "close", "user-agent": "lockgate"}]


@pytest.mark.parametrize(("path", "reason"), [
    *((path, "redirects without end") for path in ("/thrice", "/loop", "/lost")),
    *((path, "not an http:// address") for path in ("/tls", "/file")), ("/odd", "IPv6"),
    ("/busy", "503"), ("/missing", "404"), ("/more", "longer"), ("/huge", "longer"),
    *((path, ".") for path in ("/garbage", "/cut", "/nothing", "/head")),
])
def test_no_answers(responder, path, reason):
    with pytest.raises(Unanswered, match=reason) as caught:
        asyncio.run(fetch(responder.url(path), LIMIT))
    assert not isinstance(caught.value, Silent)


@pytest.mark.parametrize("path", ["/hang", "/trickle", "/heads"])
def test_nobody_is_waited_for_for_ever(responder, path):
    started = time.monotonic()
    with pytest.raises(Silent, match="too slow"):
        asyncio.run(fetch(responder.url(path), 1 << 20))
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(("url", "kind"), [
    ("http://127.0.0.1:1/", Silent), ("http:///", Unanswered),
    ("http://[::1/", Unanswered), ("http://127.0.0.1:99999/", Unanswered), ("http://127.0.0.1/\r\nx: y", Unanswered),
    ("ldap://127.0.0.1/", Unanswered), ("", Unanswered), ("http://" + "a" * 300, Unanswered),
])
def test_addresses_that_lead_nowhere(url, kind):
    with pytest.raises(kind):
        asyncio.run(fetch(url, LIMIT))


@pytest.mark.parametrize("path", ["/heads", "/crumbs"])
def test_no_answer_holds_up_the_event_loop(responder, path):
    responder.paths["/crumbs"] = raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200_000)

    async def run():
        task, longest = asyncio.create_task(fetch(responder.url(path), 1 << 20)), 0.0
        while not task.done():
            started = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - started)
        assert task.exception()
        return longest

    assert asyncio.run(run()) < 0.2, "some 5 ms, and a busy computer"


# -- inquiries

class Question:
    """Counts how often it is put."""

    def __init__(self, outcome: object = "answer", takes: float = 0.05) -> None:
        self.put, self._outcome, self._takes = 0, outcome, takes

    async def __call__(self) -> object:
        self.put += 1
        await asyncio.sleep(self._takes)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


async def put(inquiries, question, url="http://a.test/", key="a", patience=1.0):
    try:
        return await inquiries.ask(url, key, question, patience)
    except Unanswered as error:
        return str(error)


def test_who_asks_at_the_same_time_shares_an_answer():
    async def run():
        inquiries, question = Inquiries(), Question()
        assert await asyncio.gather(*(put(inquiries, question) for _ in range(50))) == ["answer"] * 50
        assert question.put == 1

    asyncio.run(run())


@pytest.mark.parametrize(("outcome", "same_place", "same_key"), [
    pytest.param(Silent("no word"), 0, 0, id="a silent place is not asked anything"),
    pytest.param(Unanswered("no"), 1, 0, id="no answer: other questions may have one"),
    pytest.param(Unusable("no"), 1, 0, id="an answer of no use: others may be"),
    pytest.param("answer", 1, 1, id="an answer is the asker's to keep"),
])
def test_who_is_asked_again(monkeypatch, outcome, same_place, same_key):
    async def run():
        inquiries, first, again, other, elsewhere = Inquiries(), Question(outcome), *(Question() for _ in range(3))
        await put(inquiries, first)
        await put(inquiries, again)
        await put(inquiries, other, key="b")
        await put(inquiries, elsewhere, "http://b.test/", "c")
        assert (again.put, other.put, elsewhere.put) == (same_key, same_place, 1)
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + fetching.REST)
        await put(inquiries, again)
        assert again.put == same_key + 1

    asyncio.run(run())


def test_an_answer_that_comes_late_ends_the_rest():
    async def run():
        inquiries, slow, other = Inquiries(), Question(takes=0.2), Question()
        assert "in time" in await put(inquiries, slow, patience=0.05)
        assert "in time" in await put(inquiries, other, key="b"), "nobody waits twice for a silent place"
        assert other.put == 0
        await asyncio.sleep(0.2)
        assert await put(inquiries, other, key="b") == "answer"
        assert slow.put == 1

    asyncio.run(run())


def test_an_asker_who_leaves_takes_nothing_from_the_others():
    async def run():
        inquiries, question = Inquiries(), Question()
        first = asyncio.create_task(put(inquiries, question))
        second = asyncio.create_task(put(inquiries, question))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await second == "answer"

    asyncio.run(run())


def test_few_at_a_time_and_few_failures_remembered(monkeypatch):
    monkeypatch.setattr(fetching, "MAX_FAILURES", 5)
    running, most = 0, 0

    async def question():
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0.001)
        running -= 1
        raise Unanswered("no")

    async def run():
        inquiries = Inquiries()
        await asyncio.gather(*(put(inquiries, question, f"http://{n}.test/", n) for n in range(100)))
        assert len(inquiries._failed) == 5

    asyncio.run(run())
    assert most == fetching.MAX_FETCHES
