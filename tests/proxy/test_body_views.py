"""Bodies and their views: who hears them, and what is held back."""

import asyncio
import base64
import gzip
import random

import brotli
import pytest
import zstandard

from addons.verdict import DONE, Action, alert, allow, block
from proxy import body as body_module
from proxy.body import MAX_HELD, Body
from tests.addons.conftest import SIZES
from tests.proxy.bodies import Upper, Viewer, hear, reader, rule

__all__ = ["reader"]


@pytest.mark.parametrize("size", SIZES)
def test_all_views_are_heard(size):
    viewer = Viewer()
    text = b"upper:" + b"abc " * 3000
    assert hear(text, viewer, size=size) == (text, None)
    assert viewer.heard == {"body": text + b".", "body > upper": text.upper() + b"."}


@pytest.mark.parametrize("size", SIZES)
def test_a_value_of_a_view_never_leaves(size):
    """The view scanner needs 2 KiB more to know, as that of patterns does."""
    text = b"upper:" + b"." * 6000 + b"secret" + b"," * 8000
    viewer = Viewer({b"SECRET" + b"," * 40: block("no")}, wants=lambda view: view.path.endswith("upper"))
    left, stop = hear(text, viewer, size=size)
    assert stop == ("r", Action.BLOCK)
    assert len(left) <= text.index(b"secret") + 4


@pytest.mark.parametrize("size", [64, 1000, 1 << 20])
def test_a_value_that_is_written_long_never_leaves(size):
    """Two thousand characters more are twelve thousand bytes of the body."""
    text = b"".join(b"\\u%04x" % c for c in b"." * 3000 + b"SECRET" + b"," * 4000)
    viewer = Viewer({b"SECRET" + b"," * 2000: block("no")}, wants=lambda view: view.path.endswith("unescaped"))
    left, stop = hear(text, viewer, size=size)
    assert stop == ("r", Action.BLOCK)
    assert len(left) <= 3000 * 6 + 4


@pytest.mark.parametrize("text", [
    pytest.param(b"upper:" + b"z" * 30_000, id="with a view"),
    pytest.param(random.Random(1).randbytes(30_000), id="binary"),
    pytest.param(b"%41 \\u0041 " * 3000, id="escapes"),
    pytest.param(base64.b64encode(base64.b64encode(b"some words " * 1500)), id="base64"),
])
def test_clean_views_let_the_body_stream(text):
    """What is held back stays small, and far from its bound."""
    body = Body([], "", lambda _: True, viewers=[(rule(), Viewer())])
    for _ in range(30):
        assert asyncio.run(body.show(text))[1] is None
        assert body.held < MAX_HELD / 2


@pytest.mark.parametrize(("viewers", "said"), [
    pytest.param([{b"B": block("x")}, {b"b": block("y")}], "first", id="both would: the view of the first is heard later"),
    pytest.param([{b"zz": block("x")}, {b"b": block("y")}], "second", id="the second"),
    pytest.param([{b"b": allow("x")}, {b"B": block("y")}], None, id="an allow silences those behind"),
    pytest.param([{b"b": alert("x")}, {b"B": block("y")}], "second", id="an alert does not"),
    pytest.param([{b"b": DONE}, {b"B": block("y")}], "second", id="nor does one that is done"),
    pytest.param([{b"b": "nonsense"}, {}], "first", id="not a verdict"),
])
def test_order(viewers, said):
    pairs = [(rule(name), Viewer(answers)) for name, answers in zip(("first", "second"), viewers)]
    if said == "first" and b"B" in viewers[0]:
        said = "second"     # it hears the body before what is inside it
    assert hear(b"upper:abc", *pairs)[1] == (said and (said, Action.BLOCK))


def test_an_allow_silences_scanners_behind_it():
    first, second = rule("first"), rule("second")
    scanners = [(second, lambda data: None if data else block("too late"))]
    assert hear(b"abc" * 400, (first, Viewer({b"a": allow("x")})), scanners=scanners, order=(first, second))[1] is None


@pytest.mark.parametrize(("raw", "reason"), [
    pytest.param(b"upper:abc!", "an exclamation mark", id="a reader says so"),
    pytest.param(b"upper:abc#", "its reader failed (ZeroDivisionError)", id="a reader fails"),
    pytest.param(b"upper:abc~", "it takes more time to read", id="a reader that does not come back"),
    pytest.param(b"upper:^" + b"abc" * 90_000, "would have to be held back", id="what pins too much"),
])
@pytest.mark.parametrize("answer", [block("no"), None])
def test_unscannable(raw, reason, answer, monkeypatch):
    monkeypatch.setattr(body_module, "READING", 0.05)
    monkeypatch.setattr(body_module, "MAX_PINNED", 64 * 1024)
    told = []
    viewer = Viewer(unscannable=lambda view, why: told.append((view.path, why)) or answer)
    left, stop = hear(raw, viewer, size=30_000)
    assert told[0][0] == "body"
    assert reason in told[0][1]
    if answer:
        assert (left, stop) == (b"", ("r", Action.BLOCK))
    else:
        assert (left, stop) == (raw, None)
        assert viewer.heard["body"] == raw + b".", "the body as it is is heard to its end"


@pytest.mark.parametrize(("on_error", "stop"), [(Action.BLOCK, ("r", Action.BLOCK)), (Action.ALLOW, None)])
def test_unscannable_without_an_opinion(on_error, stop):
    notes = []
    assert hear(b"upper:!", (rule(on_error=on_error), Viewer()), notes=notes)[1] == stop
    assert notes[0].reason.startswith("unscannable body: an exclamation mark")


@pytest.mark.parametrize("answer", [block("no"), None])
def test_what_takes_too_long_in_all(answer, monkeypatch):
    """Each piece is quick enough; there are too many of them for what came."""
    monkeypatch.setattr(body_module, "FREE", 0.05)
    viewer, told = Viewer(unscannable=lambda view, why: told.append(why) or answer), []
    raw = b"upper:" + b"abc" * 100_000
    monkeypatch.setattr(Upper, "feed", lambda self, data: sum(range(100 * len(data))))
    left, stop = hear(raw, viewer)
    assert told == ["it takes too long to read what is inside"]
    assert (left, stop) == ((b"", ("r", Action.BLOCK)) if answer else (raw, None))
    assert answer or viewer.heard["body"] == raw + b"."


def test_what_is_put_off_is_heard_before_anything_leaves():
    viewer = Viewer({b"later": block("there it is")})
    assert hear(b"upper:?", viewer) == (b"", ("r", Action.BLOCK))


@pytest.mark.parametrize("coding", ["zstd", "gzip", "br"])
def test_nothing_leaves_that_a_decoder_keeps(coding):
    """It may take in the whole value before it gives out a byte; what it took must not leave meanwhile."""
    text = b"[4111 1111] " + b"x" * 3000
    raw = {"zstd": zstandard.compress, "gzip": gzip.compress, "br": brotli.compress}[coding](text)
    body = Body([], coding, lambda _: True, viewers=[(rule(), Viewer())])
    for at in range(len(raw)):
        assert asyncio.run(body.show(raw[at : at + 1])) == ([], None)
    assert b"".join(asyncio.run(body.show(None))[0]) == raw


def test_what_was_read_is_judged_where_the_rest_cannot_be():
    """The filter lets pass what cannot be read, not what it has found before."""
    raw = gzip.compress(b"upper:secret")[:-4]
    viewer = Viewer({b"SECRET": block("found")}, unscannable=lambda view, reason: None)
    with_views = Body([], "gzip", lambda _: True, viewers=[(rule(), viewer)])
    assert asyncio.run(with_views.show(raw)) == ([], None)
    chunks, stop = asyncio.run(with_views.show(None))
    assert (chunks, stop.reason) == ([], "found")
