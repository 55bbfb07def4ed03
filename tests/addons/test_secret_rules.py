"""The rules file keeps the promises that the scan engine builds on."""

import re
import time

import pytest

from addons.scan import Hyperscan, Keywords, PatternSet, Perscan
from addons.secret_rules import Rule, begins_word, entropy, is_jwt, is_varied, load

RULES = load()


def test_ids_are_unique_and_weak_rules_come_last() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert [rule.weak for rule in RULES] == sorted(rule.weak for rule in RULES)


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.id) for rule in RULES])
def test_rule(rule: Rule) -> None:
    """No match is longer than declared, keywords are lower-case, and nothing hangs on the end of a chunk."""
    parsed = re._parser.parse(rule.pattern.regex)  # type: ignore[attr-defined]
    assert parsed.getwidth()[1] <= rule.pattern.longest
    assert rule.pattern.keywords
    assert all(word == word.lower() for word in rule.pattern.keywords)
    assert not re.search("AT_(?:BEGINNING|END)", repr(parsed))


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.id) for rule in RULES])
def test_no_rule_is_catastrophic(rule: Rule) -> None:
    expression, start = re.compile(rule.pattern.regex), time.perf_counter()
    for word in rule.pattern.keywords[:3]:
        for fill in (b" ", b"a", b"=", b"a=", b"-", b".", b"/", word):
            text = word + fill * (rule.pattern.longest // len(fill))
            expression.match(text)
            expression.search(text)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize("kind", [Perscan, Hyperscan, Keywords])
def test_every_engine_takes_the_rules(kind: type) -> None:
    pytest.importorskip({Perscan: "pyperscan", Hyperscan: "hyperscan", Keywords: "ahocorasick_rs"}[kind])
    PatternSet([rule.pattern for rule in RULES], kind)


@pytest.mark.parametrize(("value", "bits"), [(b"aaaa", 0.0), (b"abab", 1.0), (b"abcdefgh", 3.0)])
def test_entropy(value: bytes, bits: float) -> None:
    assert entropy(value) == pytest.approx(bits)


@pytest.mark.parametrize(
    ("value", "known"),
    [(b"eyJhbGciOiJIUzI1NiJ9.e30", True), (b"eyJhIjoxfQ.e30", False), (b"eyJhbG.e30", False), (b"WzFd.e30", False)],
)
def test_is_jwt(value: bytes, known: bool) -> None:
    assert is_jwt(value) is known


@pytest.mark.parametrize(
    ("value", "varied"),
    [
        pytest.param(b"a8f5f167f44f4964", True, id="hex"),
        pytest.param(b"get_value_from_header", False, id="words"),
        pytest.param(b"x448.X448PrivateKey.generate", False, id="dotted names"),
        pytest.param(b"2024-01-02", False, id="date"),
    ],
)
def test_is_varied(value: bytes, varied: bool) -> None:
    assert is_varied(value) is varied


@pytest.mark.parametrize(
    ("names", "chosen"),
    [(("aws",), True), (("aws-access-key-id",), True), (("aws-access",), True), (("aw",), False), (("github",), False)],
)
def test_named_by(names: tuple[str, ...], chosen: bool) -> None:
    rule = next(rule for rule in RULES if rule.id == "aws-access-key-id")
    assert rule.named_by(names) is chosen




@pytest.mark.parametrize(
    ("before", "first", "begins"),
    [(b"", b"m", True), (b"_", b"m", True), (b"a", b"M", True), (b"a", b"m", False), (b"A", b"M", False)],
)
def test_begins_word(before: bytes, first: bytes, begins: bool) -> None:
    assert begins_word(before, first) is begins
