"""Each event is a view, and leaves when it is whole."""

import pytest

from addons.views import Tree
from tests.addons.conftest import SIZES
from tests.addons.views.collect import Collect, read

SSE = "text/event-stream; charset=utf-8"
LONG = b"x" * 5000


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("body", "events"), [
    (b"data: one\n\ndata: two\n\n", [b"one", b"two"]),
    (b"data: one\r\ndata: two\r\n\r\n\r\n\r\ndata:three\r\n\r\n", [b"one\ntwo", b"three"]),
    (b"data: one\rdata: two\r\rdata: three\r\r", [b"one\ntwo", b"three"]),
    (b"event: delta\nid: 7\ndata: {\"a\": 1}\n\n", [b'event: delta\nid: 7\n{"a": 1}']),
    (b": comment\n\ndata\n\n", [b": comment", b""]),
    (b"\xef\xbb\xbfdata: one\n\n", [b"one"]),
    (b"data: " + LONG + b"\ndata: " + LONG + b"\n\n", [LONG + b"\n" + LONG]),
    (b"data: not ended", [b"not ended"]),
])
def test_events(body, events, size):
    heard = read(body, size, SSE)
    assert not heard.refused
    paths = [path for path, _ in heard.views if path.count(">") == 1]
    texts = [bytes(text) for path, text in heard.views if path.count(">") == 1]
    assert texts == [event for event in events if event]
    assert len(paths) == len(texts)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("body", [b"PK\3\4" + bytes(200), b"<html>\n", b"data: a\n\n\0\0\n", b"y" * 100 + b": z\n"])
def test_what_is_no_event_stream(body, size):
    assert [why for _, why in read(body, size, SSE).refused if "is none" in why]


def test_an_event_leaves_when_it_is_whole():
    tree = Tree(Collect(), declared=SSE)
    for _ in range(3):
        tree.feed(b"data: token\n\n")
        assert tree.clear == tree.root.offset
    tree.feed(b"data: a\n\ndata: half")
    assert tree.clear == tree.root.offset - len(b"data: half")


def test_a_stream_may_last():
    heard = read(b"data: x\n\n" * 30_000, 1 << 16, SSE)
    assert not heard.refused
    assert len(heard.views) == 30_000
