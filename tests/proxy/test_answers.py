"""What a refused client gets to read."""

import json

import pytest
from mitmproxy.test import tutils

from proxy.answers import refusal


def ask(accept, version=b"HTTP/1.1"):
    return tutils.treq(headers=[(b"accept", accept.encode())] if accept else [], http_version=version)


@pytest.mark.parametrize(("accept", "page"), [
    ("text/html", True),
    ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
    ("application/xhtml+xml, text/html;q=0.5", True),
    ("application/json", False),
    ("application/json, text/html", False),
    ("application/vnd.api+json, text/html", False),
    ("*/*", False),
    ("text/htmlx", False),
    ("", False),
])
def test_kind(accept, page):
    answer = refusal(ask(accept), 403, "why", incident="ABC")
    assert answer.headers["content-type"].startswith("text/html" if page else "application/problem+json")
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_problem():
    answer = refusal(None, 403, "why", incident="ABC", rule="r", host="h.test")
    assert json.loads(answer.content) == {
        "type": "about:blank", "title": "Blocked by policy", "status": 403, "detail": "why", "incident": "ABC",
        "filter": "r", "host": "h.test"}
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["connection"] == "close"


def test_nothing_in_a_page_is_markup():
    evil = "<script>x</script>\"'"
    answer = refusal(ask("text/html"), 403, evil, incident="ABC", rule=evil, host=evil)
    assert b"<script" not in answer.content
    assert b"default-src 'none'" in answer.headers["content-security-policy"].encode()


def test_http2_has_no_connection_header():
    assert "connection" not in refusal(ask("", b"HTTP/2.0"), 403, "why", incident="ABC").headers
