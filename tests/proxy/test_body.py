"""Bodies: what leaves is the body as it came, never past a decision, and never more than the first of a value."""

import asyncio
import gzip
import zlib

import brotli
import pytest
import zstandard

from addons.cards import Cards
from addons.credentials import Secrets
from addons.verdict import DONE, Action, allow, block
from proxy.body import HOLD, Body
from proxy.boundaries import message_boundary
from tests.proxy.bodies import rule, run

KEY = b"AKIA" + b"4QXB7ZKLMRTW2NPD"
CARD = b"4111 1111 1111 1111"
ENCODERS = {
    "": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
}


def flow():
    from mitmproxy.test import tflow

    return tflow.tflow()


SCANNERS = {"secret": (Secrets, KEY), "card": (Cards, CARD)}


@pytest.mark.parametrize("size", [1, 7, 1000, 70_000])
@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize("kind", SCANNERS)
def test_value_never_leaves(kind, coding, size):
    filter_class, value = SCANNERS[kind]
    text = b"some words " * 900 + b"[" + value + b"] " + b"more words " * 900
    left, stop = run(ENCODERS[coding](text), size, [], coding, viewers=[(rule(), filter_class().requestviews(flow()))])
    assert stop is not None
    assert stop.action is Action.BLOCK
    if not coding:
        position = text.index(value)
        assert len(left) <= position + 4


@pytest.mark.parametrize("cut", range(1, len(KEY)))
def test_cut_at_every_byte(cut):
    text = b"x" * 6000 + b" " + KEY + b" " + b"y" * 6000
    viewers = [(rule(), Secrets().requestviews(flow()))]
    body = Body([], "", lambda d: d.action is not Action.ALERT, viewers=viewers)
    border = text.index(KEY) + cut
    first, stop = asyncio.run(body.show(text[:border]))
    assert stop is None
    second, stop = asyncio.run(body.show(text[border:]))
    assert stop is not None
    assert len(b"".join(first + second)) <= text.index(KEY) + 4


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("coding", ENCODERS)
def test_clean_body_is_untouched(coding, size):
    raw = ENCODERS[coding](b"nothing to see here, move along. " * 700)
    assert run(raw, size, [], coding, viewers=[(rule(), Secrets().requestviews(flow()))]) == (raw, None)


@pytest.mark.parametrize(("raw", "coding"), [
    pytest.param(b"not gzip at all", "gzip", id="not what it says"),
    pytest.param(gzip.compress(b"x" * 9000)[:-9], "gzip", id="truncated"),
    pytest.param(gzip.compress(b"x") + b"trailing", "gzip", id="trailing bytes"),
    pytest.param(brotli.compress(bytes(256 * 2**20)), "br", id="bomb"),
])
@pytest.mark.parametrize(("on_error", "expected"), [(Action.BLOCK, Action.BLOCK), (Action.ALLOW, None)])
def test_unscannable(raw, coding, on_error, expected):
    notes = []
    left, stop = run(raw, 4096, [(rule(on_error=on_error), lambda _: None)], coding, notes)
    assert (stop.action if stop else None) == expected
    assert "unscannable" in notes[0].reason
    if expected is None:
        assert left == raw


def once(verdict):
    """A scanner that says something on its first piece."""
    said = []

    def scan(piece):
        if said:
            return None
        said.append(piece)
        return verdict

    return scan


@pytest.mark.parametrize(("verdicts", "expected"), [
    pytest.param([None, block("b")], ("second", Action.BLOCK), id="no opinion, then block"),
    pytest.param([allow("a"), block("b")], None, id="an allow ends the chain"),
    pytest.param([block("b"), allow("a")], ("first", Action.BLOCK), id="the first decides"),
    pytest.param([DONE, DONE], None, id="all done: streams untouched"),
    pytest.param(["nonsense", None], ("first", Action.BLOCK), id="not a verdict: on_error"),
])
def test_order(verdicts, expected):
    scanners = [(rule(name), once(verdict)) for name, verdict in zip(["first", "second"], verdicts)]
    left, stop = run(b"body", 4, scanners)
    assert ((stop.rule, stop.action) if stop else None) == expected
    assert left == (b"" if expected else b"body")


@pytest.mark.parametrize("failing", [
    pytest.param(lambda _: 1 / 0, id="raises"),
    pytest.param(lambda _: [0 for _ in iter(int, 1)], id="never ends"),
    pytest.param(lambda _: (_ for _ in ()).throw(SystemExit), id="exits"),
])
def test_failing_scanner_blocks(failing):
    slow = rule()
    slow.deadline = 0.05
    left, stop = run(b"body", 4, [(slow, failing)])
    assert left == b""
    assert stop.failed
    assert stop.action is Action.BLOCK


def test_memory_is_bounded():
    body = Body([(rule(), lambda _: None)], "", lambda _: True)
    for _ in range(100):
        asyncio.run(body.show(b"z" * 65536))
        assert body.held == HOLD


@pytest.mark.parametrize(("kind", "pieces", "boundaries"), [
    pytest.param("text/event-stream", [b"data: a\n", b"\n", b"data: b"], [False, True, False], id="cut between"),
    pytest.param("text/event-stream", [b"a\r\n", b"\r", b"\n", b"b\n"], [False, False, True, False], id="with CR LF"),
    pytest.param("application/x-ndjson", [b'{"a":1}\n', b'{"b"', b":1}\n"], [True, False, True], id="lines"),
    pytest.param("application/vnd.amazon.eventstream", [b"\0\0\0\x10" + b"x" * 12, b"\0\0", b"\0\x11" + b"x" * 13 + b"\0\0"],
                 [True, False, False], id="frames"),
    pytest.param("text/event-stream; charset=utf-8", [b"data: a\n\n", b"data: b\n\n"], [True, True], id="events"),
    pytest.param("application/grpc", [b"\0\0\0\0\3abc", b"\0\0\0\0\4ab", b"cd"], [True, False, True], id="gRPC"),
    pytest.param("application/grpc+proto", [b"\0\0\0", b"\0\1", b"a\0\0\0\0\0"], [False, False, True], id="prefix cut"),
])
def test_message_boundary(kind, pieces, boundaries):
    boundary = message_boundary(kind)
    assert [boundary(piece) for piece in pieces] == boundaries


def test_other_types_have_no_boundaries():
    assert message_boundary("application/json") is None


def test_everything_is_released_at_a_boundary():
    body = Body([(rule(), lambda _: None)], "", lambda _: True, message_boundary("text/event-stream"))
    assert body.feed(b"data: hello\n\n") == ([b"data: hello\n\n"], None)




@pytest.mark.parametrize("kind", SCANNERS)
def test_short_message_is_judged_before_it_is_released(kind):
    """The end of a message is the end of a text; the next one has scanners of its own."""
    filter_class, value = SCANNERS[kind]
    viewers = [(rule(), filter_class().requestviews(flow()))]
    body = Body([], "", lambda d: d.action is not Action.ALERT, message_boundary("text/event-stream"), viewers=viewers)
    assert body.feed(b"data: one\n\n") == ([b"data: one\n\n"], None)
    chunks, stop = body.feed(b"data: [" + value + b"] \n\n")
    assert chunks == []
    assert stop is not None
