"""What a refused client gets to read."""

import json
from urllib.parse import unquote

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


# -- answers fit for what asks

REASON = "ünfit */ --> <b> 100%"


def browser(destination, **fields):
    headers = {"sec-fetch-dest": destination, "accept": "*/*"} | {k.replace("_", "-"): v for k, v in fields.items()}
    return tutils.treq(headers=[(k.encode(), v.encode()) for k, v in headers.items()])


@pytest.mark.parametrize(("destination", "status", "placeholder", "kind"), [
    ("image", 403, 200, "image/gif"),
    ("script", 403, 200, "text/javascript"),
    ("worker", 403, 200, "text/javascript"),
    ("style", 403, 200, "text/css"),
    ("font", 403, 403, "font/woff2"),
    ("video", 403, 200, "video/mp4"),
    ("empty", 403, 403, "application/problem+json"),
    ("object", 403, 403, "application/problem+json"),
])
def test_parts_of_pages(destination, status, placeholder, kind):
    for manner, expected in (("page", status), ("placeholder", placeholder)):
        answer = refusal(browser(destination), 403, REASON, incident="ABC", manner=manner)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (expected, kind)
        assert answer.headers["x-lockgate-incident"] == "ABC"
        assert unquote(answer.headers["x-lockgate-reason"]) == REASON


def test_the_image_is_one():
    assert refusal(browser("image"), 403, "why", incident="A").content[:6] == b"GIF89a"
    assert len(refusal(browser("image"), 403, "why", incident="A").content) == 43


@pytest.mark.parametrize("destination", ["script", "style"])
def test_a_comment_does_not_end_early(destination):
    text = refusal(browser(destination), 403, REASON, incident="ABC").text.strip()
    assert text.startswith("/*")
    assert text.index("*/") == len(text) - 2


def test_a_frame_gets_a_page_or_nothing():
    asked = browser("iframe", accept="text/html,*/*;q=0.8")
    assert b"Blocked by policy" in refusal(asked, 403, REASON, incident="ABC").content.partition(b"</title>")[0]
    hidden = refusal(asked, 403, REASON, incident="ABC", manner="placeholder")
    assert (hidden.status_code, b"<b>" in hidden.content, b"<body" in hidden.content) == (200, False, False)


def test_a_person_is_always_told():
    answer = refusal(browser("document", accept="text/html"), 403, "why", incident="ABC", manner="placeholder")
    assert (answer.status_code, b"why" in answer.content) == (403, True)


def test_a_beacon_gets_nothing():
    answer = refusal(browser("empty", sec_fetch_mode="no-cors"), 403, "why", incident="A", manner="placeholder")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers


@pytest.mark.parametrize(("status", "code"), [(403, "7"), (502, "14"), (504, "14"), (407, "16"), (421, "2")])
@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc-web-text"])
def test_grpc(status, code, kind):
    asked = tutils.treq(headers=[(b"content-type", kind.encode())], http_version=b"HTTP/2.0")
    answer = refusal(asked, status, REASON, incident="ABC")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", kind)
    assert answer.headers["grpc-status"] == code
    assert answer.headers["grpc-message"] == "%C3%BCnfit */ --> <b> 100%25"


def test_scripts_of_another_site_may_read_why():
    answer = refusal(browser("empty", origin="https://a.example"), 403, "why", incident="ABC")
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "x-lockgate-reason" in answer.headers["access-control-expose-headers"]
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-origin" not in refusal(browser("empty"), 403, "why", incident="ABC").headers


def test_a_program_that_names_a_script_reads_why():
    asked = tutils.treq(path=b"/x.js", headers=[(b"accept", b"*/*")])
    assert refusal(asked, 403, "why", incident="A", manner="placeholder").headers["content-type"].endswith("json")


def test_a_reason_is_a_field_whatever_it_is():
    value = refusal(None, 403, "a\r\nset-cookie: x\0" + "x" * 10_000, incident="A").headers["x-lockgate-reason"]
    assert value.isprintable()
    assert len(value) < 600
