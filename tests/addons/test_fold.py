"""Words are the same however they are written, and wherever the stream is cut."""

# ruff: noqa: RUF001  # letters of other scripts are what it is about

import random
import unicodedata

import pytest

from addons.fold import GAP, LONGEST, Words, fold, shingles
from tests.addons.conftest import SIZES, cut


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("STRASSE", "straße", id="case folding"),
        pytest.param("Crème Brûlée", "creme brulee", id="accents"),
        pytest.param(unicodedata.normalize("NFD", "Žluťoučký"), "žluťoučký", id="composed or not"),
        pytest.param("ＡＢＣ１２３", "abc123", id="wide letters"),
        pytest.param("٣٤", "34", id="digits of another script"),
        pytest.param("ﬁle", "file", id="ligature"),
        pytest.param("pass\u00adword zero\u200bwidth", "password zerowidth", id="invisible characters"),
        pytest.param("a_b-c\u00a0d\u2013e", "a b c d e", id="all that separates"),
        pytest.param("ΣΊΣΥΦΟΣ", "σίσυφος", id="final sigma"),
        pytest.param("漢字かな", "漢 字 か な", id="no spaces between words"),
    ],
)
def test_folded(one: str, other: str) -> None:
    assert fold(one.encode()) == fold(other.encode())


def test_letters_differ() -> None:
    assert len({tuple(fold(c.encode())) for c in "aбβא漢字한ß"}) == 8


def test_bytes_that_are_no_text_separate() -> None:
    assert fold(b"a\xffb\xc3 c\xe2\x82d") == [b"a", b"b", b"c", b"d"]


def sequences(data: bytes, size: int, overlap: int) -> list[tuple[list[bytes], tuple[int, int]]]:
    words, found = Words(overlap), []
    for chunk in cut(data, size):
        for block in words.feed(chunk):
            for first in range(block.due):
                last = min(first + overlap, len(block.words) - 1)
                found.append((block.words[first : last + 1], block.span(first, last)))
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(12))
def test_the_same_at_every_chunk_size(seed: int, size: int) -> None:
    dice = random.Random(seed)
    pieces = ["a", "B", " ", "é", "漢", "ß", "\u0301", "-", "\n", "\u200b", "x" * 30, " " * 40, "Ж", "ﬁ", "½"]
    weights = [5, 3, dice.choice([0, 0.1, 4]), *[1] * 7, dice.choice([0, 3]), dice.choice([0, 3]), 1, 1, 1]
    data = bytearray("".join(dice.choices(pieces, weights, k=3000)).encode())
    for _ in range(len(data) // 10 * (seed % 2)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    assert sequences(bytes(data), size, seed % 4) == sequences(bytes(data), 1 << 20, seed % 4)


@pytest.mark.parametrize("size", SIZES)
def test_spans_lead_back_to_the_bytes(size: int) -> None:
    data = ("Größe – 漢字, Crème\u0301 x. " * 300).encode()
    found = sequences(data, size, 2)
    assert len(found) == 5 * 300
    assert all(fold(data[start:end]) == words for words, (start, end) in found)


@pytest.mark.parametrize(
    ("data", "together"),
    [
        pytest.param(b"a" + b" " * (GAP - 1) + b"b", True, id="near"),
        pytest.param(b"a" + b" " * GAP + b"b", False, id="too far apart"),
        pytest.param(b"a" + b"\xff" * GAP + b"b", False, id="no text between"),
    ],
)
@pytest.mark.parametrize("size", SIZES)
def test_gap(data: bytes, together: bool, size: int) -> None:
    assert ([b"a", b"b"] in [words for words, _ in sequences(data, size, 1)]) is together


def test_a_run_without_end_is_cut() -> None:
    words = Words(3)
    for _ in range(1000):
        for block in words.feed(b"x" * 700):
            assert max(map(len, block.words)) <= LONGEST
    assert len(words._pending) + len(words._carry) < 8 * LONGEST


def test_shingles() -> None:
    assert shingles([b"a", b"bc", b"d"], 2) == [b"abc", b"bcd"]
    assert shingles([b"a"], 2) == []
