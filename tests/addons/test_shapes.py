"""A shape matches wherever one of its expressions does."""

import random
import re
from re import _constants as of  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

import pytest

from addons import identifiers
from addons.phones import named
from addons.shapes import kinds_of, shape


@pytest.mark.parametrize(("expressions", "fits", "unfit"), [
    pytest.param([rb"\d\d-\d"], [b"12-3", b"99/9"], [b"1234", b"12-x"], id="digits and signs"),
    pytest.param([rb"[A-Z]\d"], [b"A1"], [b"a1", b"1A"], id="capitals"),
    pytest.param([rb"(?i:[A-Z]\d)"], [b"A1", b"a1"], [b"11"], id="letters"),
    pytest.param([rb"(?i:(?-i:[A-Z])x)"], [b"Ax", b"AX"], [b"ax"], id="capitals within letters"),
    pytest.param([rb"\d{3}", rb"x\d"], [b"123", b"x1"], [b"12x", b"xx"], id="one of two"),
    pytest.param([rb"\d[ -]?\d"], [b"12", b"1-2"], [b"1--2", b"1"], id="what may be missing"),
    pytest.param([rb"(?:ab|\d){2,3}\."], [b"1ab.", b"abab1."], [b"1.", b"ab1ab1."], id="repeats"),
    pytest.param([rb"\d*+[^0-9]"], [b"12x", b"."], [b"12"], id="none of these"),
    pytest.param([rb"(?<!x)\d(?!\d)"], [b"1", b"12"], [b"x"], id="what stands around is not looked at"),
    pytest.param([rb"\d{40}"], [b"1" * 12 + b"x"], [b"1" * 11 + b"x"], id="only so deep"),
    pytest.param([rb"\w\s.\W\D\S"], [b"a b.cd", b"1\n\n---"], [b"a b.1d"], id="categories"),
])  # fmt: skip
def test_shape(expressions: list[bytes], fits: list[bytes], unfit: list[bytes]) -> None:
    made = re.compile(shape(tuple(expressions)))
    assert [bool(made.match(text)) for text in fits + unfit] == [True] * len(fits) + [False] * len(unfit)


def test_a_text_stands_for_all_of_its_shape() -> None:
    made = re.compile(shape((rb"[A-C]{2}[a-z]-\d{3}",)))
    for text in (b"ABx-123", b"XYZ/999", b"Abx-123", b"AB1-123"):
        assert bool(made.match(kinds_of(text))) is bool(made.match(text))


KINDS = [each for known in identifiers.load().values() for each in (*known.near(bool), *known.alone(bool))]


@pytest.mark.parametrize("each", [*KINDS, named(("US", "DE"))], ids=lambda each: each.kind)
def test_every_value_has_the_shape_of_its_kind(each) -> None:
    """Whatever an expression of the table matches, made at random."""
    dice, made = random.Random(each.kind), re.compile(shape((each.expression.pattern,)))
    values = [_value(parser.parse(each.expression.pattern), dice) for _ in range(200)]
    matched = [value for value in values if each.expression.match(value)]
    assert len(matched) > 20
    assert all(made.match(value) and made.match(kinds_of(value)) for value in matched)


def _value(items, dice: random.Random, folded: bool = False) -> bytes:
    return b"".join(_item(operator, argument, dice, folded) for operator, argument in items)


def _item(operator, argument, dice: random.Random, folded: bool) -> bytes:
    """Return what one part of an expression matches."""
    if operator is of.SUBPATTERN:
        return _value(argument[3], dice, bool(argument[1] & re.IGNORECASE) or (folded and not argument[2]))
    if operator is of.BRANCH:
        return _value(dice.choice(argument[1]), dice, folded)
    if operator in (of.MAX_REPEAT, of.MIN_REPEAT):
        least, most, inner = argument
        return b"".join(_value(inner, dice, folded) for _ in range(dice.randint(least, min(most, least + 9))))
    if operator in (of.AT, of.ASSERT, of.ASSERT_NOT):
        return b""
    members = [argument] if operator is of.LITERAL else [c for part in argument for c in _members(*part)]
    made = bytes([dice.choice(members)])
    return made.swapcase() if folded and dice.random() < 0.5 else made


def _members(operator, argument) -> range | list[int] | bytes:
    if operator is of.RANGE:
        return range(argument[0], argument[1] + 1)
    return [argument] if operator is of.LITERAL else b"0123456789" if argument is of.CATEGORY_DIGIT else b" "
