"""DNS over HTTPS through a worker: refused, or answered without what hides a name."""

import gzip

import pytest

from tests.proxy.conftest import running
from tests.proxy.test_dnsmessage import ECH, alpn, answer, service

POLICY = """\
version: 1
capture: {{encrypted_dns: {dns}, quic: {quic}}}
tls: {{ech: {ech}, upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 2, hello: 2}}
filters:
  - {{id: whole, use: ./mine.py:Whole, buffer: {buffer}}}
"""
FILTERS = """
class Whole:
    def response(self, flow): pass
"""
FULL = answer(service(alpn(b"h2", b"h3"), ECH))
ASK = b"POST /dns HTTP/1.1\r\nhost: origin.test\r\ncontent-type: application/dns-message\r\naccept-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc"


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", policy(origin), FILTERS) as started:
        yield started


def policy(origin, dns="allow", quic="reject", ech="strip", buffer=1024):
    return POLICY.format(roots=origin.roots, dns=dns, quic=quic, ech=ech, buffer=buffer)


def answers(origin, body, *headers):
    lines = ["HTTP/1.1 200 OK", "content-type: application/dns-message", f"content-length: {len(body)}", *headers]
    origin.paths["/dns"] = "\r\n".join([*lines, "", ""]).encode() + body


def ask(proxy, origin, **rules):
    proxy.reload(policy(origin, **rules))
    proxy.said("reloaded")
    return proxy.ask(origin, ASK, "POST")


@pytest.mark.parametrize(("rules", "left"), [
    pytest.param({}, answer(service(alpn(b"h2")), flags=0x8180), id="both"),
    pytest.param({"quic": "allow"}, answer(service(alpn(b"h2", b"h3")), flags=0x8180), id="QUIC is allowed"),
    pytest.param({"ech": "inspect"}, answer(service(alpn(b"h2"), ECH), flags=0x8180), id="ECH may be offered"),
    pytest.param({"ech": "block"}, answer(service(alpn(b"h2")), flags=0x8180), id="ECH is blocked"),
    pytest.param({"ech": "inspect", "quic": "allow"}, FULL, id="neither"),
])
def test_answers_keep_what_the_policy_lets_them(proxy, origin, rules, left):
    answers(origin, FULL)
    got = ask(proxy, origin, **rules)
    assert (got.status, got.body, got.headers["content-length"]) == (200, left, str(len(left)))


@pytest.mark.parametrize(("body", "headers", "why"), [
    pytest.param(FULL[:-3], (), b"cannot be read", id="cut"),
    pytest.param(gzip.compress(FULL), ("content-encoding: gzip",), b"content coding", id="compressed unasked"),
    pytest.param(FULL + bytes(70_000), (), b"too long", id="longer than DNS is"),
])
def test_what_cannot_be_read_is_not_handed_on(proxy, origin, body, headers, why):
    answers(origin, body, *headers)
    got = ask(proxy, origin, buffer=2**20)
    assert (got.status, why in got.body, ECH[1] in got.body) == (502, True, False)


def test_a_filter_that_buffers_less_does_not_let_keys_through(proxy, origin):
    answers(origin, FULL)
    assert ECH[1] not in ask(proxy, origin, buffer=16).body


def test_the_answer_is_asked_for_in_plain(proxy, origin):
    answers(origin, FULL)
    ask(proxy, origin)
    assert b"accept-encoding" not in origin.record.lower()


def test_questions_are_refused_by_an_error_and_go_nowhere(proxy, origin):
    answers(origin, FULL)
    got = ask(proxy, origin, dns="refuse")
    assert (got.status, b"system's resolver" in got.body, b"POST" in origin.record) == (403, True, False)
    event = proxy.events()[-1]
    assert (event["lockgate"]["verdict"], event["lockgate"]["filter"]) == ("block", "capture.encrypted_dns")


def test_other_requests_pass_meanwhile(proxy, origin):
    ask(proxy, origin, dns="refuse")
    assert proxy.ask(origin, b"GET / HTTP/1.1\r\nhost: origin.test\r\n\r\n").body == b"ok"
