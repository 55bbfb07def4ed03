"""The tree: bounds, failures, names, and what of the body may leave."""

import asyncio
import base64
import gzip

import pytest

from addons.decode import Unscannable
from addons.views import budget
from addons.views.tree import HOLD, Tree, View
from tests.addons.views import Heard, found_views
from tests.addons.views.encoders import TEXTS

SECRET = b"ghp_aB3dE5gH7jK9mN1pQ3sT5vX7zA9cD1fG3iJ5"
FILLER = [b"plain words and more of it " * 2000, b'{"a":"b\\n%41","c":1},' * 2000,
          b'"%s",' % base64.b64encode(b"ordinary text that is long enough") * 1000]


class Watch:
    """A listener as slow as one may be: it needs HOLD - 4 bytes from the start of a value, or the end."""

    def __init__(self):
        self.found = False

    def opened(self, view):
        text = bytearray()

        def listen(data):
            text.extend(data)
            at = text.find(SECRET)
            self.found |= at >= 0 and (not data or len(text) >= at + HOLD - 4)

        return listen

    def unscannable(self, view, reason): ...


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("size", [100, 4096, 65536])
def test_a_value_in_any_view_is_found_before_more_than_its_first_characters_left(name, size):
    if name.startswith("utf-"):
        pytest.skip("a whole text, and not one in another")
    written = TEXTS[name][0](SECRET)
    for before in FILLER:
        data, watch = before + b" " + written + b" " + FILLER[0], Watch()
        tree, left = Tree(watch), 0
        for at in range(0, len(data), size):
            tree.feed(data[at : at + size])
            if watch.found:
                break
            left = max(left, tree.clear)
        assert watch.found
        assert left <= len(before) + 1 + len(written) - len(SECRET) + 4     # some encoders write a frame first


@pytest.mark.parametrize("data", [b"word " * 100_000, b'{"a": "b\\n"}' + b"word " * 100_000,
                                  base64.b64encode(b"some text that is read") + b" word" * 100_000])
def test_what_is_held_back_does_not_grow(data):
    tree, most = Tree(Heard()), 0
    for at in range(0, len(data), 1000):
        tree.feed(data[at : at + 1000])
        most = max(most, at + 1000 - tree.clear)
    assert most < 32 * 1024


def test_the_body_is_heard_to_its_last_byte_when_the_budget_is_spent(monkeypatch):
    monkeypatch.setattr(budget, "FREE", 1000)
    monkeypatch.setattr(budget, "FACTOR", 0)
    here = Heard()
    tree = Tree(here)
    data = b"\\u0041" * 5000 + base64.b64encode(b"some text " * 5000)
    for at in range(0, len(data), 512):
        tree.feed(data[at : at + 512])
    tree.end()
    assert here.texts[0] == ("body", data)
    assert here.reasons
    assert len(here.reasons) == len(set(here.reasons)), "each view and reason is told once"
    assert not tree.views


class Fails:
    """A reader that opens a view and then gives up."""

    def __init__(self, view: View, error: Exception):
        self.inner, self.error = view.inside("part"), error

    def feed(self, data):
        self.inner.feed(data[:3])
        raise self.error

    def end(self): ...


@pytest.mark.parametrize(("error", "reason"), [(Unscannable("it is broken"), "it is broken"),
                                               (KeyError("x"), "its reader failed (KeyError)")])
def test_a_reader_that_fails_is_dropped_with_its_views_and_no_other(monkeypatch, error, reason):
    fails = []

    def choose(tree, view, head):
        return ([fails.append(Fails(view, error)) or fails[0]] if view.depth == 0 else []), True

    monkeypatch.setattr(Tree, "choose", choose)
    here = Heard()
    tree = Tree(here)
    tree.feed(b"x" * 600)
    assert fails[0].inner.ended
    assert tree.views == {tree.root}
    tree.feed(b"y" * 600)
    tree.end()
    assert here.reasons == [("body", reason)]
    assert dict(here.texts) == {"body": b"x" * 600 + b"y" * 600, "body > part": b"xxx"}


def test_what_waits_keeps_the_view_pinned():
    async def read():
        return b"text of the document"

    async def run():
        here = Heard()
        tree = Tree(here)
        tree.feed(b"word " * 2000)
        part = tree.root.inside("document")
        part.feed(b"y" * 10_000)
        part.end()

        def then(text):
            view = part.inside("text")
            view.feed(text)
            view.end()

        tree.later(part, read(), then)
        tree.feed(b"word " * 4000)
        assert tree.waiting
        assert tree.clear == 0
        await tree.settle()
        assert not tree.waiting
        assert tree.clear == 30_000 - HOLD
        assert ("body > document > text", b"text of the document") in here.texts

    asyncio.run(run())


def test_nesting_ends_with_a_reason():
    data = b"some text that is read " * 3
    for _ in range(9):
        data = base64.b64encode(data)
    here = Heard()
    tree = Tree(here)
    tree.feed(data)
    tree.end()
    assert [reason for _, reason in here.reasons] == ["it is wrapped more than 5 times"]


@pytest.mark.parametrize(("times", "reasons"), [(1, []), (3, ["a few bytes of it hold more than 4 MiB"])])
def test_a_few_bytes_do_not_hold_everybody_up(times, reasons):
    """What is packed once may be large; what is packed thrice becomes it all at once."""
    data = bytes(8 << 20)
    for _ in range(times):
        data = gzip.compress(data)
    here = Heard()
    tree = Tree(here)
    for at in range(0, len(data), 512):
        tree.feed(data[at : at + 512])
    tree.end()
    assert [reason for _, reason in here.reasons] == reasons


@pytest.mark.parametrize(("step", "shown"), [("zip:a.docx", "zip:a.docx"), ("a > b", "a \u203a b"), ("a\nb\0", "a\ufffdb\ufffd"),
                                             ("x " * 45, "x " * 39 + "x…"),
                                             ("zip:ghp_aB3dE5fG7hJ9kL1mN2pQ4rS6.txt", "zip:ghp_….txt"),
                                             ("zip:4111 1111 1111 1111.txt", "zip:4111….txt")])
def test_names_from_outside_cannot_forge_a_path(step, shown):
    assert budget.printable(step) == shown


def test_ordinary_text_opens_no_view():
    assert found_views(b"plain words, and nothing else: 12.5 % & more; a + b = c\n" * 500)[1:] == []
