"""Redaction: what leaves is the body with its values masked, however it is cut; what cannot be masked is blocked."""

import asyncio
import base64
import gzip
import io
import json
import random
import time
import zipfile
from dataclasses import replace

import brotli
import pytest
import zstandard
from mitmproxy import http

from addons.cards import Cards
from addons.credentials import Secrets
from addons.verdict import Action
from proxy import redacting
from proxy.body import Body
from proxy.chain import Exchange, Rule
from tests.addons.conftest import SIZES, request
from tests.proxy.bodies import show

KEY = b"AKIA" + b"4QXB7ZKLMRTW2NPD"
STARS = b"*" * len(KEY)
CARD = b"4111111111111111"
WORDS = b"some words and more of them, " * 700
BUFFER = 1 << 20


def rules(action="redact"):
    filters = [Secrets(action=action), Cards(action=action)]
    return tuple(Rule(f"r{i}", each, None, False, Action.BLOCK, 5.0, BUFFER, hooks={
        name: getattr(each, name) for name in ("requestheaders", "requestviews")}) for i, each in enumerate(filters))


def fail(_):
    raise ZeroDivisionError


def passed(raw, size=1 << 20, declared="", coding="", whole=0, refuses=""):
    """Return what leaves of a body, the decision that stops it, and the exchange."""
    exchange = Exchange(request(), rules())
    body = Body([], coding, exchange.note, viewers=exchange.viewers("requestviews"), declared=declared,
                order=exchange.rules, whole=whole, refuses=lambda: refuses)
    out, stop = asyncio.run(show(body, raw, size))
    return out, stop, exchange, body


# -- as it streams


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("text", "expected", "declared"), [
    pytest.param(b"key " + KEY + b" end", b"key " + STARS + b" end", "text/plain", id="short"),
    pytest.param(WORDS + KEY + b" " + WORDS + CARD + b" end", WORDS + STARS + b" " + WORDS + b"*" * 16 + b" end", "",
                 id="long"),
    pytest.param(b'{"a": "' + KEY + b'", "b": ' + CARD + b', "c": "' + CARD + b'"}',
                 b'{"a": "' + STARS + b'", "b": 1000000000000000, "c": "' + b"*" * 16 + b'"}', "application/json",
                 id="JSON, in which a number stays one"),
    pytest.param(b'--b\r\ncontent-disposition: form-data; name="f"; filename="f"\r\n\r\n' + WORDS + KEY + b"\r\n--b--\r\n",
                 b'--b\r\ncontent-disposition: form-data; name="f"; filename="f"\r\n\r\n' + WORDS + STARS
                 + b"\r\n--b--\r\n", "multipart/form-data; boundary=b", id="multipart"),
    pytest.param(b"a=1&b=" + KEY + b"&c=%41+d", b"a=1&b=" + STARS + b"&c=%41+d", "application/x-www-form-urlencoded",
                 id="form"),
])
def test_masked_as_it_streams(text, expected, declared, size):
    out, stop, exchange, _ = passed(text, size, declared)
    assert stop is None
    assert out == expected
    assert {alert.action for alert in exchange.alerts} == {Action.REDACT}


def test_many_are_all_masked_and_told_in_one_event():
    out, _, exchange, _ = passed((KEY + b" ") * 3000)
    assert out == (STARS + b" ") * 3000
    assert len(exchange.alerts) == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("text", "expected"), [
    pytest.param(b'{"a": "\\u0041' + KEY[1:] + b'"}', b'{"a": "*****' + STARS + b'"}', id="escaped"),
    pytest.param(base64.b64encode(b"the key is " + KEY + b"."), base64.b64encode(b"the key is " + STARS + b"."),
                 id="base64"),
    pytest.param(KEY + b" " + b"\\u0041" + KEY[1:] + b" ", STARS + b" *****" + STARS + b" ", id="near the same as it is"),
    pytest.param(KEY + b" " + WORDS[:5000] + b" %41" + KEY[1:] + b" ", STARS + b" " + WORDS[:5000] + b" **" + STARS + b" ",
                 id="far from the same as it is"),
])
def test_written_otherwise_as_it_streams(text, expected, size):
    out, stop, _, _ = passed(text + b" " + WORDS[:9000], size, "text/plain")
    assert (out, stop) == (expected + b" " + WORDS[:9000], None)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("before", [b"", KEY + b" "], ids=["alone", "and as it is"])
def test_what_streams_and_cannot_be_masked_is_blocked(size, before):
    out, stop, _, _ = passed(before + zipped(("a.txt", WORDS[:2000] + KEY)) + b" " * 30000, size)
    assert stop is None or "cannot be redacted where it is: body > " in stop.reason
    assert stop is not None or before       # what begins with a text is no archive
    assert KEY not in out


# -- held as a whole


def zipped(*entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return out.getvalue()


CODERS = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}
WAYS = [
    pytest.param(b'{"a": "\\u0041' + KEY[1:] + b'", "n": [1]}', "application/json", json.loads,
                 {"a": "*" * (len(KEY) + 5), "n": [1]}, id="JSON"),
    pytest.param(b'{"a": "\\u00e9\\n' + KEY + b'\\n"}', "application/json", json.loads, None, id="JSON, between escapes"),
    pytest.param(b"k=" + b"".join(b"%%%02X" % c for c in KEY) + b"&x=1", "application/x-www-form-urlencoded", bytes,
                 b"k=" + STARS * 3 + b"&x=1", id="percent"),
    pytest.param(b'{"f": "' + base64.b64encode(b"the key: " + KEY) + b'"}', "application/json",
                 lambda out: base64.b64decode(json.loads(out)["f"]), b"the key: " + STARS, id="base64"),
    pytest.param(zipped(("a.txt", b"clean"), ("b/c.txt", b"key " + KEY)), "application/zip",
                 lambda out: zipfile.ZipFile(io.BytesIO(out)).read("b/c.txt"), b"key " + STARS, id="zip"),
    pytest.param(gzip.compress(zipped(("a.txt", b"key " + KEY))), "application/gzip",
                 lambda out: zipfile.ZipFile(io.BytesIO(gzip.decompress(out))).read("a.txt"), b"key " + STARS,
                 id="zip in gzip"),
    pytest.param(("\ufeffkey " + KEY.decode() + " end").encode("utf-16-le"), "text/html",
                 lambda out: out.decode("utf-16"), "key " + STARS.decode() + " end", id="UTF-16"),
]


@pytest.mark.parametrize("size", [7, 1 << 20])
@pytest.mark.parametrize(("raw", "declared", "read", "expected"), WAYS)
def test_held_as_a_whole(raw, declared, read, expected, size):
    out, stop, _, body = passed(raw, size, declared, whole=BUFFER)
    assert stop is None
    assert KEY not in out
    assert expected is None or read(out) == expected
    read(out)
    assert body.length in (None, len(out))


@pytest.mark.parametrize("coding", CODERS)
def test_content_encoding(coding):
    raw = CODERS[coding](WORDS + KEY + b" end")
    out, stop, _, body = passed(raw, 1000, "text/plain", coding, BUFFER)
    plain = {"gzip": gzip.decompress, "br": brotli.decompress,
             "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data)}[coding](out)
    assert (stop, plain, body.length) == (None, WORDS + STARS + b" end", len(out))


@pytest.mark.parametrize("size", [7, 1 << 20])
def test_clean_stays_as_it_is(size):
    raw = zipped(("a.txt", b"clean"))
    assert passed(raw, size, "application/zip", whole=BUFFER)[0] == raw


def test_larger_than_the_buffer_streams_then():
    out, stop, _, _ = passed(WORDS + KEY + b" " + WORDS, 1000, whole=4000)
    assert (out, stop) == (WORDS + STARS + b" " + WORDS, None)


def test_larger_than_the_buffer_and_not_in_the_body_itself():
    out, stop, _, _ = passed(zipped(("a.txt", KEY + b" " + WORDS), ("b.bin", random.Random(1).randbytes(20000))), 1000, whole=9000)
    assert (out, stop.action) == (b"", Action.BLOCK)


def test_what_is_not_known_how_to_change_is_blocked():
    pem = b"-----BEGIN RSA PRIVATE KEY-----\n" + b"MIIEowIBAAKCAQEAx3v9Qd8w" * 20 + b"\n-----END RSA PRIVATE KEY-----\n"
    out, stop, _, _ = passed(b"x " + pem + b"y", 1 << 20, "text/plain")
    assert (out, stop.action) == (b"", Action.BLOCK)
    out, stop, _, _ = passed(b"x " + pem + b"y", 1 << 20, "", whole=BUFFER)
    assert stop is None
    assert b"MIIE" not in out
    assert out.endswith(b"\ny")


@pytest.mark.parametrize(("spoil", "why"), [
    pytest.param({"addons.masking.meant": fail}, "ZeroDivisionError", id="it fails"),
    pytest.param({"proxy.redacting.MASKING": 0.0}, "takes too long to mask", id="it takes too long"),
])
@pytest.mark.parametrize("whole", [0, BUFFER])
def test_what_cannot_be_masked_in_good_time_is_blocked(monkeypatch, whole, spoil, why):
    escaped = b'{"a": "\\u0041' + KEY[1:] + b'"}'
    assert passed(escaped, 1000, "application/json", whole=whole)[1] is None
    for name, value in spoil.items():
        monkeypatch.setattr(name, value)
    out, stop, _, _ = passed(escaped, 1000, "application/json", whole=whole)
    assert (out, stop.action, why in stop.reason) == (b"", Action.BLOCK, True), stop.reason


@pytest.mark.parametrize(("spoil", "why"), [
    pytest.param(fail, "ZeroDivisionError", id="it fails"),
    pytest.param(lambda _: time.sleep(0.1) or sum(range(10**9)), "takes too long to mask", id="it does not end"),
])
def test_a_head_that_cannot_be_masked_in_good_time_is_blocked(monkeypatch, spoil, why):
    flow = request("/a?k=%41" + KEY[1:].decode())
    monkeypatch.setattr("addons.masking.meant", spoil)
    exchange = Exchange(flow, tuple(replace(rule, deadline=0.1) for rule in rules()))
    asyncio.run(exchange.ask("requestheaders"))
    assert (exchange.decision.action, why in exchange.decision.reason) == (Action.BLOCK, True), exchange.decision


def test_signed():
    out, stop, _, _ = passed(KEY, refuses="the body is signed (digest)")
    assert (out, stop.action) == (b"", Action.BLOCK)
    assert "it cannot be redacted: the body is signed (digest)" in stop.reason


@pytest.mark.parametrize(("name", "value", "is_signed"), [
    ("digest", "sha-256=abc", True), ("content-digest", "x", True), ("repr-digest", "x", True),
    ("content-md5", "x", True), ("x-amz-content-sha256", "e3b0", True),
    ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", True),
    ("x-amz-content-sha256", "UNSIGNED-PAYLOAD", False), ("x-amz-checksum-crc32", "x", True),
    ("signature-input", 'sig=("@method" "content-digest");created=1', True),
    ("signature-input", 'sig=("@method");created=1', False), ("content-type", "text/plain", False),
])  # fmt: skip
def test_what_is_signed(name, value, is_signed):
    assert bool(redacting.signed(http.Headers([(name.encode(), value.encode())]))) is is_signed


# -- heads


@pytest.mark.parametrize(("path", "headers", "expected", "header"), [
    pytest.param("/a?k=" + KEY.decode(), {}, "/a?k=" + STARS.decode(), None, id="query"),
    pytest.param("/a/" + KEY.decode() + "/b", {}, "/a/" + STARS.decode() + "/b", None, id="path"),
    pytest.param("/a?k=%41" + KEY[1:].decode(), {}, "/a?k=**" + STARS.decode(), None, id="percent"),
    pytest.param("/", {"x_key": "a " + KEY.decode()}, "/", "a " + STARS.decode(), id="header"),
])
def test_head(path, headers, expected, header):
    flow = request(path, **headers)
    exchange = Exchange(flow, rules())
    asyncio.run(exchange.ask("requestheaders"))
    assert exchange.decision is None
    assert [alert.action for alert in exchange.alerts] == [Action.REDACT]
    assert flow.request.path == expected
    assert flow.request.headers.get("x-key") == header


def test_a_host_is_not_changed_but_blocked():
    flow = request("/", host=KEY.decode() + ".example")
    exchange = Exchange(flow, rules())
    asyncio.run(exchange.ask("requestheaders"))
    assert exchange.decision is None or exchange.decision.action is Action.BLOCK
