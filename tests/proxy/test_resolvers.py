"""Known resolvers, and questions to any resolver."""

import base64

import pytest
from mitmproxy.test import tutils

from proxy.resolvers import is_answer, is_query, known

QUESTION = b"\0\0\1\0\0\1\0\0\0\0\0\0\7example\3org\0\0\x41\0\1"
ENCODED = base64.urlsafe_b64encode(QUESTION).decode().rstrip("=")


@pytest.mark.parametrize(("host", "address", "found"), [
    ("dns.google", "192.0.2.1", "dns.google"), ("mozilla.cloudflare-dns.com", "192.0.2.1", "mozilla.cloudflare-dns.com"),
    ("abc123.dns.nextdns.io", "192.0.2.1", "abc123.dns.nextdns.io"), ("", "1.1.1.1", "1.1.1.1"), ("", "::ffff:8.8.8.8", "8.8.8.8"),
    ("", "2620:fe::fe", "2620:fe::fe"), ("9.9.9.9", "192.0.2.1", "9.9.9.9"),
    ("www.google.com", "8.8.8.8", None), ("notdns.google.test", "192.0.2.1", None), ("", "192.0.2.1", None), ("", "no address", None),
])
def test_known_resolvers(host, address, found):
    assert known(host, (address, 443)) == found


def test_an_address_without_a_name_is_one_of_https_only():
    assert known("", ("1.1.1.1", 80)) is None


@pytest.mark.parametrize(("path", "headers", "asks"), [
    pytest.param("/any", {"content-type": "application/dns-message"}, True, id="POST"),
    pytest.param("/any", {"content-type": "Application/DNS-Message; x=y"}, True, id="POST, spelt otherwise"),
    pytest.param("/any", {"accept": "text/html, application/dns-message"}, True, id="accepts an answer"),
    pytest.param("/proxy", {"content-type": "application/oblivious-dns-message"}, True, id="oblivious"),
    pytest.param("/resolve?name=a.example", {"accept": "application/dns-json"}, True, id="JSON"),
    pytest.param(f"/odd?x=1&dns={ENCODED}", {}, True, id="GET without a word of it"),
    pytest.param(f"/odd?dns={ENCODED.replace('A', '%41', 1)}", {}, True, id="GET, escaped"),
    pytest.param("/dns-query", {}, False, id="a page at the usual path"),
    pytest.param("/search?dns=what+is+dns+please", {}, False, id="a search for it"),
    pytest.param("/search?dns=short", {}, False, id="a short one"),
    pytest.param("/", {"accept": "*/*"}, False, id="everything is accepted"),
])
def test_queries(path, headers, asks):
    request = tutils.treq(path=path.encode())
    request.headers.clear()
    request.headers.update(headers)
    assert is_query(request) is asks


@pytest.mark.parametrize(("kind", "answers"), [
    ("application/dns-message", True), ("application/dns-message; charset=x", True), ("application/dns-json", False), ("text/html", False)])
def test_answers(kind, answers):
    response = tutils.tresp()
    response.headers["content-type"] = kind
    assert is_answer(response) is answers
