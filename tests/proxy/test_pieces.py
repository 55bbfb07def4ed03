"""A piece of an upload is not blocked for what is missing of it; anything else still is."""

import gzip
import time

import pytest
from mitmproxy import http

from addons.cards import Cards
from addons.pieces import is_piece
from tests.addons.views.test_zips import flag, local, packed

pytest_plugins = ["proxy.fixtures"]
ZIP = packed({"a.txt": bytes(range(256)) * 2})
RANGE = {"content-range": "bytes 0-99/2000"}


@pytest.mark.parametrize(("path", "headers", "piece"), [
    ("/", {}, False),
    ("/", {"content-range": "bytes 0-99/2000"}, True),
    ("/", {"content-range": "bytes 100-199/*"}, True),
    ("/", {"content-range": "bytes 0-1999/2000"}, False),
    ("/", {"content-range": "lines 1-2/3"}, False),
    ("/", {"upload-offset": "0"}, True),
    ("/", {"upload-complete": "?0"}, True),
    ("/", {"upload-complete": "?1"}, False),
    ("/", {"x-goog-upload-command": "upload, finalize"}, True),
    ("/bucket/key?partNumber=1&uploadId=abc", {}, True),
    ("/bucket/key?uploadId=abc&partNumber=1", {}, True),
    ("/bucket/key?partNumber=1", {}, False),
    ("/box/blob?comp=block&blockid=MQ", {}, True),
    ("/bucket/key?x=1&partNumber=1&y=2&uploadId=", {}, True),
    ("/box/blob?comp=blocklist", {}, False),
    ("/2/files/upload_session/append_v2", {}, True),
    ("/upload", {}, False),
])
def test_is_piece(path, headers, piece):
    request = http.Request.make("PUT", "https://x.example" + path, b"", headers)
    assert is_piece(request, request.path) is piece


def test_a_long_query_takes_no_time():
    request, start = http.Request.make("PUT", "https://x.example/"), time.thread_time()
    assert not is_piece(request, "/?" + "&partNumber=1" * 20_000)
    assert time.thread_time() - start < 0.2


@pytest.mark.parametrize(("body", "headers", "verdict", "alerts"), [
    pytest.param(ZIP[:200], {}, "block", 0, id="a cut archive"),
    pytest.param(ZIP[:200], RANGE, "pass", 1, id="the first piece of an archive"),
    pytest.param(ZIP[90:200], RANGE, "pass", 0, id="out of the middle"),
    pytest.param(gzip.compress(b"words " * 999)[:30], RANGE, "pass", 1, id="the first of gzip"),
    pytest.param(local(ZIP, "a.txt", flag(1)), RANGE, "block", 0, id="encrypted"),
    pytest.param(gzip.compress(b"card 4111 1111 1111 1111, " * 99)[:-9], RANGE, "block", 1, id="with something in it"),
    pytest.param(gzip.compress(b"words")[:10] + b"\xee" * 40, RANGE, "block", 0, id="damaged"),
])
def test_pieces(judged, body, headers, verdict, alerts):
    said = judged(Cards(), body=body, headers=headers, chunks=(1 << 16,))
    assert said.verdict == verdict
    assert len(said.alerts) == alerts
