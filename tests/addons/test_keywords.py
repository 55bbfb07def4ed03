"""Terms are found however they are written, and weighed as the policy says."""

# ruff: noqa: RUF001  # letters of other scripts are what it is about

from pathlib import Path

import pytest

from addons.keywords import Keywords, Term, term
from addons.verdict import Action
from tests.addons.conftest import SIZES, cut, heard, request


@pytest.mark.parametrize(
    ("line", "read"),
    [
        pytest.param("project falcon", Term("project falcon"), id="phrase"),
        pytest.param(" Falcon | 3 case ", Term("Falcon", 3.0, case=True), id="weight and case"),
        pytest.param("leak | part 0.5", Term("leak", 0.5, part=True), id="part of a word"),
        pytest.param("a | b", Term("a | b"), id="a bar of the text"),
        pytest.param("/x|y/ | 2", Term("/x|y/", 2.0), id="expression"),
    ],
)
def test_term(line: str, read: Term) -> None:
    assert term(line) == read


def found(rule: Keywords, text: bytes, size: int = 1 << 16) -> list[tuple[str, str]]:
    finder = rule.scanner()
    findings = [each for chunk in cut(text, size) for each in finder.feed(chunk)]
    return [(each.rule, text[each.start : each.end].decode()) for each in findings]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("line", "text", "hits"),
    [
        pytest.param("project falcon", "the Project\r\n  FALCON, and", ["Project\r\n  FALCON"], id="phrase, line break"),
        pytest.param("project falcon", "project-falcon projectfalcon", ["project-falcon"], id="words, not letters"),
        pytest.param("falcon", "falcons falcon falcon's", ["falcon", "falcon"], id="whole words"),
        pytest.param("falcon | part", "falcons gyrfalcon", ["falcons", "gyrfalcon"], id="parts of words"),
        pytest.param("alcon pro | part", "falcon project", ["falcon project"], id="parts of two"),
        pytest.param("Falcon | case", "falcon FALCON Falcon", ["Falcon"], id="case"),
        pytest.param("Årsredovisning", "ARSREDOVISNING årsredovisning", ["ARSREDOVISNING", "årsredovisning"], id="accents"),
        pytest.param("секретно", "СЕКРЕТНО.", ["СЕКРЕТНО"], id="Cyrillic"),
        pytest.param("秘密", "これは秘密です", ["秘密"], id="no spaces"),
        pytest.param("/FAL-[0-9]{4}/", "x fal-1234 FAL-12", ["fal-1234"], id="expression"),
        pytest.param("/FAL-[0-9]{4}/ | case", "fal-1234 FAL-1234", ["FAL-1234"], id="expression, case"),
        pytest.param("a b a b", "a b a b a b", ["a b a b", "a b a b"], id="overlapping"),
        pytest.param("end", "x" * 5000 + " the end", ["end"], id="at the end"),
        pytest.param("start", "start" + " x" * 5000, ["start"], id="at the start"),
    ],
)
def test_found(line: str, text: str, hits: list[str], size: int) -> None:
    assert [hit for _, hit in found(Keywords((line,)), text.encode(), size)] == hits


def test_one_form_of_two_terms() -> None:
    rule = Keywords(("Resume | case", "résumé", "resume | part"))
    assert sorted(found(rule, b"Resume")) == [("Resume", "Resume"), ("resume", "Resume"), ("résumé", "Resume")]


@pytest.mark.parametrize("size", [1, 64, 1 << 20])
@pytest.mark.parametrize(
    ("options", "text", "action"),
    [
        pytest.param({"threshold": 3}, "alpha alpha", None, id="below"),
        pytest.param({"threshold": 3}, "alpha alpha alpha", Action.BLOCK, id="each counts"),
        pytest.param({"threshold": 3, "count": "unique"}, "alpha alpha alpha", None, id="unique"),
        pytest.param({"threshold": 3, "count": "unique"}, "alpha alpha beta", Action.BLOCK, id="two of them"),
        pytest.param({"threshold": 3, "near": 50}, "alpha " + "x" * 60 + " beta", None, id="far"),
        pytest.param({"threshold": 3, "near": 50}, "alpha " + "x" * 30 + " beta", Action.BLOCK, id="near"),
        pytest.param({"threshold": 3, "near": 50}, "alpha " + "x " * 900 + "alpha beta", Action.BLOCK, id="near, later"),
        pytest.param({"threshold": 1, "action": "alert"}, "alpha", Action.ALERT, id="alert"),
        pytest.param({"threshold": 100}, "alpha xyz " * 99, None, id="many, and one too few"),
        pytest.param({"threshold": 100}, "alpha xyz " * 100, Action.BLOCK, id="many"),
        pytest.param({"threshold": 102}, "beta " + "alpha xyz " * 100, Action.BLOCK, id="many, and one long ago"),
        pytest.param({"threshold": 190}, "alpha " * 1000, None, id="more, and too few at a time"),
    ],
)
def test_verdict(options: dict, text: str, action: Action | None, size: int) -> None:
    viewer = Keywords(("alpha", "beta | 2"), **options).requestviews(request())
    verdicts = [v.action for v in heard(viewer, text.encode(), size)]
    assert verdicts[-1:] == ([action] if action else [])


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "terms").write_text("# secret projects\nalpha | 2\n\nbeta\n")
    rule = Keywords(lists=(tmp_path / "terms",))
    assert rule.files == [tmp_path / "terms"]
    assert [name for name, _ in found(rule, b"beta alpha secret projects")] == ["beta", "alpha"]


def test_url() -> None:
    verdict = Keywords(("project falcon",)).requestheaders(request("/?q=Project+Falcon"))
    assert verdict
    assert verdict.reason == "keywords in the request: project falcon in url, score 1"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "between 1 and"),
        ({"terms": ("x | 1 2",)}, "more than one weight"),
        ({"terms": ("...",)}, "words of letters"),
        ({"terms": ("a " * 17,)}, "1 to 16 words"),
        ({"terms": ("/(/",)}, "terms: "),
        ({"terms": ("/^x/",)}, "mean nothing"),
        ({"terms": ("x",), "count": "some"}, "count"),
        ({"terms": ("x",), "threshold": 0}, "threshold"),
        ({"terms": ("x",), "near": -1}, "near"),
        ({"terms": ("x", "y | 3"), "threshold": 301}, "301 is never reached, 100 hits weigh 300 at most"),
        ({"terms": ("x", "y | 3"), "threshold": 5, "count": "unique"}, "5 is never reached, 100 hits weigh 4 at most"),
    ],
)
def test_bad_options(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Keywords(**options)


def test_a_class_may_begin_with_a_hat() -> None:
    assert Keywords((r"/[^a]x[$]/",))


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "terms").write_text("fine\n/(/\n")
    with pytest.raises(ValueError, match=r"terms:2: "):
        Keywords(lists=(tmp_path / "terms",))
