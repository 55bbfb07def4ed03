"""The same text gives the same hits, whatever the engine and however the text is cut."""

import random
import re
import time
from collections.abc import Callable

import pytest

from addons.scan import LOOK, REACH, Engine, Hit, Pattern, PatternSet, shortest
from tests.addons.conftest import SIZES, cut

TOKEN = Pattern("token", rb"(?<![a-z0-9])tok_[a-z0-9]{8,20}(?![a-z0-9])", (b"tok_",), longest=24)
NAMED = Pattern("named", rb"(?i:secret)[ \w]{0,9}[=:] ?([a-z0-9]{6,40})(?![a-z0-9])", (b"secret",), longest=80)
MIDDLE = Pattern("middle", rb"(?<!\d)\d{3,5}:AA[a-z]{4}(?![a-z])", (b":aa",), before=5, longest=12)
LONG = Pattern("long", rb"<<[a-z\n]{1,1500}>>", (b"<<",), longest=1504)
SIGNED = Pattern("signed", rb"(?<![a-z])[a-z]{0,9}#\d{8}(?!\d)", (b"#",), before=9, longest=18, sign=rb"#", lead=9)
ALONE = Pattern("alone", rb"yes[^a-z][\s]?", (b"yes",), longest=5)
PATTERNS = (TOKEN, NAMED, MIDDLE, LONG, SIGNED, ALONE)


def hits(patterns: PatternSet, data: bytes, size: int) -> list[Hit]:
    stream = patterns.stream()
    return [hit for chunk in cut(data, size) for hit in stream.feed(chunk)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(b"tok_abcdefgh", ["tok_abcdefgh"], id="whole text"),
        pytest.param(b"x tok_abcdefgh1 tok_abcdefgh2", ["tok_abcdefgh1", "tok_abcdefgh2"], id="two"),
        pytest.param(b"xtok_abcdefgh", [], id="boundary before"),
        pytest.param(b"tok_" + b"a" * 21, [], id="boundary behind"),
        pytest.param(b"-" * 5000 + b"tok_abcdefgh" + b"-" * 5000, ["tok_abcdefgh"], id="far inside"),
        pytest.param(b"SECRET key = abc123", ["abc123"], id="value of a name"),
        pytest.param(b"SECRET: tok_abcdefgh", ["tok_abcdefgh"], id="a name whose value is none, and a token"),
        pytest.param(b"12345:AAabcd 123456:AAabcd", ["12345:AAabcd"], id="keyword in the middle"),
        pytest.param(b"<<" + b"a" * 1500 + b">>", ["<<" + "a" * 1500 + ">>"], id="longest"),
        pytest.param(b"<<" + b"a" * 1501 + b">>", [], id="longer than longest"),
        pytest.param(b"abc#12345678 #23456789 #3", ["abc#12345678", "#23456789"], id="by its sign"),
        pytest.param(b"abc #12 " * 300 + b"d#12345678", ["d#12345678"], id="behind a flood of signs"),
        pytest.param(b"yes  yesterday yes", ["yes  ", "yes"], id="no letter behind it, at the end too"),
    ],
)
def test_hits(engine: Callable[..., Engine], text: bytes, found: list[str], size: int) -> None:
    got = hits(PatternSet(PATTERNS, engine), text, size)
    assert [text[hit.start : hit.end].decode() for hit in got] == found
    assert all(hit.head == text[hit.start : min(hit.end, hit.start + 8)] for hit in got)


def test_random_texts(engine: Callable[..., Engine]) -> None:
    """Pieces of matches in random order: every engine and every cut agree with `re` on the whole text."""
    dice, patterns = random.Random(7), PatternSet(PATTERNS, engine)
    pieces = [b"tok_", b"abcdefgh", b"secret", b" = ", b": ", b"123", b":AA", b"abcd", b"<<", b">>", b" ", b"-" * 900, b"#", b"12345678"]
    for _ in range(4):
        text = b"".join(dice.choices(pieces, k=300))
        expected = sorted(
            (match.start(match.re.groups and 1), index, match.end(match.re.groups and 1))
            for index, pattern in enumerate(PATTERNS)
            for at in range(len(text))
            if (match := re.compile(pattern.regex).match(text, at))
        )
        for size in (3, 100, 5000, len(text)):
            assert [(h.start, h.pattern, h.end) for h in hits(patterns, text, size)] == expected


def test_a_hit_is_reported_before_its_first_byte_may_leave(engine: Callable[..., Engine]) -> None:
    """The chain holds back 4096 bytes; the end of the text is not needed."""
    stream = PatternSet(PATTERNS, engine).stream()
    assert not stream.feed(b"tok_abcdefgh ")
    assert stream.feed(b"-" * (REACH + LOOK))


def test_a_used_scanner_forgets(engine: Callable[..., Engine]) -> None:
    patterns = PatternSet(PATTERNS, engine)
    assert not hits(patterns, b"tok_abcd", 99)
    assert not hits(patterns, b"efgh", 99)
    one, other = patterns.stream(), patterns.stream()
    assert not one.feed(b"tok_abcd") + other.feed(b"efgh") + other.feed(b"")
    assert not one.feed(b"efg")
    assert len(one.feed(b"h") + one.feed(b"")) == 1


def test_after_its_end_a_stream_says_nothing(engine: Callable[..., Engine]) -> None:
    stream = PatternSet(PATTERNS, engine).stream()
    assert [stream.feed(b""), stream.feed(b"tok_abcdefgh"), stream.feed(b"")] == [[], [], []]


def test_accept_has_the_last_word(engine: Callable[..., Engine]) -> None:
    pattern = Pattern("even", rb"n=(\d{1,9})(?!\d)", (b"n=",), longest=11, accept=lambda m: int(m[1]) % 2 == 0)
    text = b"n=1 n=2 n=3 n=44"
    assert [text[h.start : h.end] for h in hits(PatternSet([pattern], engine), text, 3)] == [b"2", b"44"]


def test_a_pattern_must_fit_into_what_is_held_back() -> None:
    with pytest.raises(ValueError, match="shorter than"):
        Pattern("p", rb"x{1,5000}", longest=5000)


@pytest.mark.parametrize(
    ("regex", "short"),
    [
        (rb"a[b]{3,9}(?![b])", rb"a[b]{3}"),
        (rb"(?:a|b{2,5})(?!\w|\.\d)", rb"(?:a|b{2})"),
        (rb"a={0,2}", rb"a={0,2}"),
        (rb"a{3}", rb"a{3}"),
    ],
)
def test_shortest(regex: bytes, short: bytes) -> None:
    assert shortest(regex) == short


def test_a_flood_costs_linear_time(engine: Callable[..., Engine]) -> None:
    patterns = PatternSet(PATTERNS, engine)
    times = []
    for size in (50_000, 200_000):
        start = time.perf_counter()
        hits(patterns, b"secret " * (size // 7), 65536)
        times.append(time.perf_counter() - start)
    assert times[1] < 20 * times[0] + 0.1
