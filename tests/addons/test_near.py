"""Numbers near words: what is asked in expressions, and what is remembered, changes no answer."""

import random
import re

import pytest

from addons.near import BEGINS, LOOK, NOT_WITHIN, Named, Naming, begins
from addons.scan import PatternSet
from tests.addons.conftest import SIZES, cut

SIGNS = [b"a", b"Z", b"n", b"4", b"_", b".", b"-", b"/", b":", b"\\", b"%", b"+", b"$", b"@", b"^", b")", b" ", b'"', b"\xe9"]


def test_an_expression_says_where_a_value_may_begin() -> None:
    """Of all that may stand before it."""
    whole, part = re.compile(BEGINS + b"1"), re.compile(NOT_WITHIN + b"1")
    for one in [b"", *SIGNS]:
        for two in [b"", *SIGNS]:
            for three in SIGNS:
                text = one + two + three + b"1"
                assert bool(whole.match(text, len(text) - 1)) is begins(text, len(text) - 1), text
                assert part.match(text, len(text) - 1) or not begins(text, len(text) - 1), text


def _even(value: bytes) -> bool:
    return int(value) % 2 == 0


NAMING = Naming([
    Named("short", ("ssn", "tax id"), (), re.compile(rb"\d{4}(?!\d)"), _even),
    Named("other", ("vat", "tax id"), ("polish",), re.compile(rb"\d{4}(?!\d)"), _even),
    Named("long", ("vat",), (), re.compile(rb"[A-Z]{2}\d{6}(?!\d)"), bool),
])  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("text", "found"), [
    pytest.param(b"ssn 1234", ["short 1234"], id="a word before"),
    pytest.param(b"1234 is my ssn.", ["short 1234"], id="a word behind"),
    pytest.param(b"1234 is my ssn", ["short 1234"], id="a word behind, and nothing more"),
    pytest.param(b"tax_id=1234", ["other 1234", "short 1234"], id="one word, two kinds"),
    pytest.param(b"ssn 1235", [], id="fails its check"),
    pytest.param(b"Polish tax 1234", ["other 1234"], id="an adjective"),
    pytest.param(b"vat PL123456", ["long PL123456"], id="letters first"),
    pytest.param(b"vat 123", [], id="another shape"),
    pytest.param(b"session 1234 lessn", [], id="within a word"),
    pytest.param(b"ssn" + b" " * LOOK + b"1234", [], id="too far"),
    pytest.param(b"ssn 1234 " * 3, ["short 1234"] * 3, id="again and again"),
    pytest.param(b"ssn " * 900 + b"1234", ["short 1234"], id="behind a flood"),
    pytest.param(b"1234 " + b"." * LOOK * 2 + b" ssn 1234", ["short 1234"], id="the same number elsewhere"),
])  # fmt: skip
def test_found(text: bytes, found: list[str], size: int) -> None:
    stream = PatternSet([NAMING.pattern()]).stream()
    hits = [hit for chunk in cut(text, size) for hit in stream.feed(chunk)]
    assert [f"{hit.name} {text[hit.start : hit.end].decode()}" for hit in hits] == found


def test_what_is_remembered_changes_nothing() -> None:
    """A naming that has judged much says the same as a fresh one."""
    dice, used = random.Random(3), PatternSet([NAMING.pattern()])
    words = [b"ssn", b"vat", b"tax id", b"1234", b"1235", b"PL123456", b"12", b"polish", b"id", b"-", b"x"]
    for _ in range(40):
        text = b" ".join(dice.choices(words, k=60))
        fresh = PatternSet([Naming(NAMING._kinds).pattern()])
        streams = [patterns.stream() for patterns in (used, fresh)]
        one, other = ([*stream.feed(text), *stream.feed(b"")] for stream in streams)
        assert one == other
