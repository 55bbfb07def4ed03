"""What is held back while packed data comes in blocks, and no longer than that."""

import bz2
import random

import pytest
import zstandard

from addons.views import Tree
from tests.addons.views.collect import Collect, read
from tests.addons.views.test_zips import packed

LUCK = random.Random(7)
WORDS = b" ".join(bytes(LUCK.choices(b"abcdefgh", k=LUCK.randint(3, 12))) for _ in range(200_000))


@pytest.mark.parametrize("data", [
    pytest.param(bz2.compress(WORDS), id="bzip2"), pytest.param(zstandard.compress(WORDS), id="zstd"),
    pytest.param(packed({"a": WORDS}, 12), id="bzip2 in zip"), pytest.param(packed({"a": WORDS}), id="deflate in zip"),
])
def test_long_waits_are_pinned(data):
    """A tree says when it holds back more than a stream needs, and at the end holds nothing."""
    tree = Tree(Collect())
    for at in range(0, len(data), 4096):
        tree.feed(data[at : at + 4096])
        held = tree.root.offset - tree.clear
        assert held < 64 * 1024 or tree.pinned
        assert held < 1 << 20
    tree.end()
    assert not tree.views
    assert not read(data, 4096).refused


@pytest.mark.parametrize("data", [
    pytest.param(LUCK.randbytes(1 << 20), id="random"),
    pytest.param(b"--XX\r\nA: b\r\n\r\n" + LUCK.randbytes(1 << 20) + b"\r\n--XX--", id="random in multipart"),
    pytest.param(packed({"a": LUCK.randbytes(1 << 20)}, 0), id="random in zip"),
])
def test_data_that_is_none_of_all_this_streams(data):
    """Little pieces of what might be text, found far from each other, hold nothing up."""
    tree, clear = Tree(Collect()), 0
    for at in range(0, len(data), 4096):
        tree.feed(data[at : at + 4096])
        clear = max(clear, tree.clear)
        assert tree.root.offset - clear < 48 * 1024
    tree.end()


@pytest.mark.parametrize("size", [100, 1000, 5000])
@pytest.mark.parametrize("pack", [
    pytest.param(lambda text: packed({"a": text, "b": text}, 0), id="stored in zip"),
    pytest.param(lambda text: packed({"a": text}, 0, stream=True), id="stored in zip, streamed"),
    pytest.param(lambda text: b"--XX\r\nContent-Type: text/plain\r\n\r\n" + text + b"\r\n--XX--", id="multipart"),
])
def test_a_value_is_heard_before_it_has_left(pack, size):
    """Where a value stands in the body as it is, at most its first characters leave before it is heard whole."""
    value = b"ghp_aB3dE5gH7jK9mN1pQ3sT5vX7zA9cD1fG3iJ5"
    data = pack(WORDS[:20_000] + value + WORDS[:20_000])
    hear = Collect()
    tree, left = Tree(hear, declared="multipart/mixed; boundary=XX" if data.startswith(b"--") else ""), 0
    for at in range(0, len(data), size):
        tree.feed(data[at : at + size])
        if any(value in text for path, text in hear.views if path != "body"):
            break
        left = max(left, tree.clear)
    assert left <= data.index(value) + 4
