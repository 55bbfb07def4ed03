"""Known values are found in every spelling; others, and single ones where a row is asked for, are not."""

import random
from pathlib import Path

import pytest

from addons.exactdata import ExactData
from addons.exactindex import IndexBuilder
from addons.verdict import Action
from tests.addons.conftest import SIZES, cut, heard, request

ROWS = [
    ["John Smith", "DE89 3704 0044 0532 0130 00", "john.smith@example.com"],
    ["Zoë Müller-Lüdenscheidt", "GB29NWBK60161331926819", "zoe@example.org"],
    ["山田太郎様", "0301234567", "taro77@example.jp"],
    ["Karl", "123456", ""],
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "x.edm"
    builder = IndexBuilder(["name", "account", "mail"], b"s" * 32)
    for row in ROWS:
        builder.add(row)
    builder.write(path)
    return path


def found(rule: ExactData, text: bytes, size: int = 1 << 16) -> list[tuple[str, str]]:
    finder = rule.scanner()
    findings = [each for chunk in cut(text, size) for each in finder.feed(chunk)]
    return [(each.rule, text[each.start : each.end].decode()) for each in findings]


FOUND = [
    pytest.param("Dear JOHN  SMITH,", "name", "JOHN  SMITH", id="case, spaces"),
    pytest.param("first=john&last=x&john\r\nsmith", "name", "john\r\nsmith", id="over a line break"),
    pytest.param('{"iban": "DE89370400440532013000"}', "account", "DE89370400440532013000", id="solid"),
    pytest.param("de89-3704-0044-0532-0130-00", "account", "de89-3704-0044-0532-0130-00", id="dashes"),
    pytest.param("DE 8937 0400 4405 3201 3000.", "account", "DE 8937 0400 4405 3201 3000", id="other groups"),
    pytest.param("tel (030) 123-4567", "account", "030) 123-4567", id="telephone"),
    pytest.param("<Taro77@example.jp>", "mail", "Taro77@example.jp", id="e-mail"),
    pytest.param("ZOE MULLER LUDENSCHEIDT", "name", "ZOE MULLER LUDENSCHEIDT", id="without accents"),
    pytest.param("zoë müller-lüdenscheidt!", "name", "zoë müller-lüdenscheidt", id="in Unicode"),
    pytest.param("担当は山田太郎様です", "name", "山田太郎様", id="no spaces around"),
    pytest.param("x" * 5000 + " 123-456 " + "y" * 5000, "account", "123-456", id="far inside"),
    pytest.param("\xff\xfe\n" * 900 + "John Smith", "name", "John Smith", id="behind odd characters"),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("text", "column", "value"), FOUND)
def test_found(index: Path, text: str, column: str, value: str, size: int) -> None:
    assert found(ExactData(index), text.encode(), size) == [(column, value)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("John Smithson", id="a longer word"),
        pytest.param("John A. Smith", id="another word between"),
        pytest.param("1234567 x123456 123456x", id="part of a longer number"),
        pytest.param("DE89 3704 0044 0532 0130 01", id="another account"),
        pytest.param("karl", id="too short to be in the index"),
        pytest.param("john" + " " * 2000 + "smith", id="far apart"),
    ],
)
def test_not_found(index: Path, text: str) -> None:
    assert found(ExactData(index), text.encode()) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("text", "require", "rules"),
    [
        pytest.param("John Smith, DE89370400440532013000", 2, ["name", "account+name"], id="a row"),
        pytest.param("DE89370400440532013000 (JOHN SMITH)", 2, ["account", "account+name"], id="in any order"),
        pytest.param("John Smith, GB29NWBK60161331926819", 2, [], id="of two rows"),
        pytest.param("John Smith" + " -" * 240 + " DE89370400440532013000", 2, ["name", "account+name"], id="near"),
        pytest.param("John Smith" + " -" * 251 + " DE89370400440532013000", 2, [], id="far"),
        pytest.param("John Smith John Smith", 2, [], id="one column twice"),
        pytest.param(
            "John Smith Zoe Muller Ludenscheidt GB29 NWBK 6016 1331 9268 19", 2, ["name", "account+name"], id="the right one"
        ),
        pytest.param("John Smith john.smith@example.com", 3, [], id="two of three"),
        pytest.param(
            "John Smith DE89370400440532013000 john.smith@example.com", 3, ["account", "name", "account+mail+name"], id="three"
        ),
    ],
)
def test_rows(index: Path, text: str, require: int, rules: list[str], size: int) -> None:
    got = [rule for rule, _ in found(ExactData(index, require=require), text.encode(), size)]
    assert sorted("+".join(sorted(rule.split("+"))) for rule in got) == sorted(rules)


def test_columns(index: Path) -> None:
    rule = ExactData(index, columns=("account",))
    assert found(rule, b"John Smith 123456 x") == [("account", "123456")]


@pytest.mark.parametrize(
    ("options", "text", "action"),
    [
        pytest.param({}, "John Smith", Action.BLOCK, id="block"),
        pytest.param({"action": "alert"}, "John Smith", Action.ALERT, id="alert"),
        pytest.param({"minimum": 2}, "John Smith", None, id="below the minimum"),
        pytest.param({"minimum": 2}, "John Smith 123456", Action.BLOCK, id="two"),
        pytest.param({"require": 2, "minimum": 2}, "John Smith DE89370400440532013000", None, id="one row"),
    ],
)
def test_verdict(index: Path, options: dict, text: str, action: Action | None) -> None:
    verdicts = [v.action for v in heard(ExactData(index, **options).requestviews(request()), text.encode(), 5)]
    assert verdicts[-1:] == ([action] if action else [])


def test_url_and_sample(index: Path) -> None:
    verdict = ExactData(index).requestheaders(request("/?q=john%20smith"))
    assert verdict
    assert {(f.kind, f.where, f.sample) for f in verdict.findings} == {("exact.name", "url", "john…")}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"columns": ("iban",)}, "no 'iban'"),
        ({"require": 4}, "require"),
        ({"require": 0}, "require"),
        ({"within": 4001}, "within"),
        ({"minimum": 0}, "minimum"),
        ({"action": "explode"}, "action"),
    ],
)
def test_bad_options(index: Path, options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ExactData(index, **options)


def test_rows_need_pairs(tmp_path: Path) -> None:
    builder = IndexBuilder(["a", "b"], b"s" * 32, pairs=False)
    builder.add(["John Smith", "123456"])
    builder.write(tmp_path / "x")
    assert found(ExactData(tmp_path / "x"), b"john smith") == [("a", "john smith")]
    with pytest.raises(ValueError, match="--alone"):
        ExactData(tmp_path / "x", require=2)


def test_noise(index: Path) -> None:
    dice = random.Random(1)
    assert found(ExactData(index), dice.randbytes(1 << 20) + dice.randbytes(1 << 18).hex().encode()) == []
