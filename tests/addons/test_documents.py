"""Parts of protected documents are found in whatever shape; other texts are not."""

import random
from pathlib import Path

import pytest

from addons.documents import SHINGLE, WINDOW, Documents, DocumentsBuilder, Index, winnow
from addons.fold import fold, shingles
from addons.verdict import Action
from tests.addons.conftest import SIZES, cut, heard, request
from tests.addons.views.pdfs import pdf
from tests.addons.views.test_office import document, run, word

WORDS = [f"{a}{b}{c}" for a in ("ka", "lo", "mi", "nu", "re") for b in ("sta", "ver", "dim", "pol") for c in "aeiouy"]


def prose(seed: int, count: int) -> list[str]:
    return random.Random(seed).choices(WORDS, k=count)


REPORT, LETTER = prose(1, 4000), prose(2, 120)
BOILERPLATE = prose(3, 100)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "x.fp"
    builder = DocumentsBuilder(b"s" * 32, common=10)
    for name, words in (("report", [*REPORT, *BOILERPLATE]), ("letter", LETTER)):
        assert builder.add(name, shingles(fold(" ".join(words).encode()), SHINGLE))
    builder.ignore(shingles(fold(" ".join(BOILERPLATE).encode()), SHINGLE))
    assert builder.write(path)[1] == []
    return path


def found(rule: Documents, text: bytes, size: int = 1 << 16) -> list[str]:
    finder = rule.scanner()
    return [each.rule for chunk in cut(text, size) for each in finder.feed(chunk)]


def edited(words: list[str], every: int) -> list[str]:
    return [word if i % every else "changed" for i, word in enumerate(words, 1)]


CASES = [
    pytest.param(REPORT, ["report"], id="all of it"),
    pytest.param(REPORT[1000:2100], ["report"], id="a quarter"),
    pytest.param(prose(9, 3000) + REPORT[:1100] + prose(8, 3000), ["report"], id="a quarter, in another text"),
    pytest.param(prose(9, 400) + REPORT[700:1000] + prose(8, 400), ["report"], id="one page"),
    pytest.param(edited(REPORT[700:1000], 30), ["report"], id="one page, edited"),
    pytest.param(edited(REPORT, 10), ["report"], id="one word in ten changed"),
    pytest.param([w.upper() + "," for w in REPORT[700:1000]], ["report"], id="case and punctuation"),
    pytest.param(REPORT[:1000] + LETTER, ["report", "letter"], id="two"),
    pytest.param(REPORT[700:740], [], id="a quotation"),
    pytest.param(prose(7, 9000), [], id="another text of the same words"),
    pytest.param(BOILERPLATE * 5, [], id="boilerplate"),
    pytest.param(LETTER[:20] * 20, [], id="a sentence again and again"),
    pytest.param(LETTER[20:60], ["letter"], id="a third of a short one"),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("words", "names"), CASES)
def test_found(index: Path, words: list[str], names: list[str], size: int) -> None:
    assert found(Documents(index), " ".join(words).encode(), size) == names


@pytest.mark.parametrize(
    ("options", "words", "names"),
    [
        pytest.param({"overlap": 0.9, "run": 5000}, REPORT[:3000], [], id="less than is asked for"),
        pytest.param({"overlap": 0.7, "run": 5000}, REPORT[:3000], ["report"], id="enough"),
        pytest.param({"overlap": 0.9, "run": 200}, REPORT[:300], ["report"], id="a run"),
        pytest.param({"overlap": 0.9, "run": 200}, REPORT[:190], [], id="too short a run"),
        pytest.param({"overlap": 0.9, "run": 200}, REPORT[:120] + REPORT[2000:2120], [], id="two short runs"),
    ],
)
def test_options(index: Path, options: dict, words: list[str], names: list[str]) -> None:
    assert found(Documents(index, **options), " ".join(words).encode()) == names


def pages(words: list[str], count: int = 40) -> bytes:
    """A PDF document of pages of so many words, in lines of eight."""
    texts = [words[at : at + count] for at in range(0, len(words), count)]
    return pdf(*("\n".join(" ".join(page[i : i + 8]) for i in range(0, len(page), 8)) for page in texts))


def docx(words: list[str]) -> bytes:
    paragraphs = "".join(run(" ".join(words[at : at + 50])) for at in range(0, len(words), 50))
    return document(**{"word/document.xml": word(paragraphs)})


@pytest.mark.parametrize(
    ("body", "count"),
    [
        pytest.param(docx(REPORT[:1200]), 1, id="docx"),
        pytest.param(("<p>" + "</p><p>".join(" ".join(REPORT[i : i + 9]) for i in range(0, 1200, 9))).encode(), 1, id="HTML"),
        pytest.param(pages(REPORT[:1200]), 1, id="PDF of small pages"),
        pytest.param(docx(prose(5, 1200)), 0, id="another docx"),
        pytest.param(pages(prose(6, 800)), 0, id="another PDF"),
    ],
)
def test_formats(index: Path, body: bytes, count: int) -> None:
    said = list(heard(Documents(index).requestviews(request()), body))
    assert [(v.action, v.findings[-1].rule) for v in said] == [(Action.BLOCK, "report")] * count


def test_messages_are_apart(index: Path) -> None:
    rule = Documents(index, run=5000)
    for part in (REPORT[:500], REPORT[500:1000], REPORT[1000:1500], REPORT[1500:2000]):
        assert not list(heard(rule.requestviews(request()), " ".join(part).encode(), 999))


def test_no_text_is_in_it(index: Path) -> None:
    data = index.read_bytes()
    assert not any(word.encode() in data for word in REPORT)
    assert Index(index).names == ["report", "letter"]


def test_winnowing_keeps_one_of_each_window() -> None:
    dice = random.Random(1)
    digests = [dice.randbytes(1) for _ in range(500)]
    kept = winnow(digests)
    assert all(any(at <= k < at + WINDOW for k in kept) for at in range(len(digests) - WINDOW + 1))
    assert len(kept) < 0.5 * len(digests)
    assert winnow([]) == []
    assert winnow([b"b", b"a"]) == [1]


def test_what_many_documents_have_protects_none(tmp_path: Path) -> None:
    builder = DocumentsBuilder(b"s" * 32, common=3)
    for i in range(3):
        builder.add(f"own{i}", shingles(fold(" ".join([*prose(20 + i, 200), *LETTER]).encode()), SHINGLE))
    builder.add("copy", shingles(fold(" ".join(LETTER).encode()), SHINGLE))
    assert builder.write(tmp_path / "x")[1] == ["copy"]
    assert found(Documents(tmp_path / "x"), " ".join(LETTER).encode()) == []


def test_two_versions_are_both_known(tmp_path: Path) -> None:
    builder = DocumentsBuilder(b"s" * 32, common=10)
    for name, words in (("v1", REPORT), ("v2", [*REPORT[:3500], *prose(30, 500)])):
        builder.add(name, shingles(fold(" ".join(words).encode()), SHINGLE))
    builder.write(tmp_path / "x")
    assert found(Documents(tmp_path / "x"), " ".join(REPORT[:3500]).encode()) == ["v1"]


@pytest.mark.parametrize(
    ("options", "says"), [({"overlap": 0}, "overlap"), ({"overlap": 1.1}, "overlap"), ({"run": 5}, "run"), ({"action": "x"}, "action")]
)
def test_bad_options(index: Path, options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Documents(index, **options)
