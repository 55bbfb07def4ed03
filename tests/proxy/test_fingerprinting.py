"""Fingerprints as a user makes them, and as a policy uses them."""

import json
from pathlib import Path

import pytest

from addons.exactindex import Index
from proxy import cli
from proxy.fingerprinting import text_of
from tests.addons.test_documents import REPORT, docx, pages, prose

TABLE = 'name;iban;city\n"Smith; John";DE89 3704 0044 0532 0130 00;Rome\nAnna Bauer;GB29NWBK60161331926819\n\nBo;;x\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("c.csv").write_text(TABLE)
    return tmp_path


def lockgate(*words: str) -> int:
    return cli.main(list(words))


def test_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert lockgate("fingerprint", "values", "c.csv", "--column", "name,iban", "--out", "x.edm", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["columns"] == {"name": {"values": 2, "skipped": 1}, "iban": {"values": 2, "skipped": 0}}
    assert "name: 1 left out" in said.err
    assert Path("x.edm").stat().st_mode & 0o777 == 0o600
    assert Index(Path("x.edm")).find(b"smithjohn")[1] == (0,)


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_delimiters(sign: str) -> None:
    Path("t").write_text(f"\ufeffa{sign}mail{sign}b\r\n1{sign}anna@corp.example{sign}2\r\n")
    assert lockgate("fingerprint", "values", "t", "--column", "mail", "--out", "x") == 0
    assert Index(Path("x")).find(b"annacorpexample")[1] == (0,)


def test_salt_file(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("fingerprint", "values", "c.csv", "--column", "iban", "--salt-file", "salt", "--out")
    assert lockgate(*words, "x") == lockgate(*words, "y") == 0
    assert capsys.readouterr().err.count("a new salt") == 1
    assert Path("salt").stat().st_mode & 0o777 == 0o600
    assert Path("x").read_bytes() == Path("y").read_bytes()
    assert Index(Path("x"), Path("salt")).find(b"de89370400440532013000")[1] == (0,)


def test_alone() -> None:
    assert lockgate("fingerprint", "values", "c.csv", "--column", "name,iban", "--alone", "--out", "x") == 0
    assert Index(Path("x")).pairs is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("values", "c.csv", "--column", "nam", "--out", "x"), "no column 'nam'; the first line has 'name', 'iban', 'city'"),
        (("values", "c.csv", "--out", "x"), "--column"),
        (("values", "c.csv", "--column", "name"), "--out"),
        (("values", "none.csv", "--column", "name", "--out", "x"), "No such file"),
        (("values", "c.csv", "--column", "name", "--out", "none/x"), "No such file"),
        (("values", "c.csv", "--column", "name", "--out", "x", "--salt-file", "c.csv"), "64 hexadecimal"),
        (("documents", "none", "--out", "x"), "no such file or folder"),
        (("documents", ".", "--out", "x", "--common", "1"), "--common"),
    ],
)
def test_mistakes(words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lockgate("fingerprint", *words) == 2
    assert says in capsys.readouterr().err
    assert not Path("x").exists()


def test_a_table_without_values() -> None:
    Path("e.csv").write_text("name\nBo\n")
    assert lockgate("fingerprint", "values", "e.csv", "--column", "name", "--out", "x") == 1


def test_documents_and_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """A report made from its docx is found in a mail that cites it, and a canary beside it."""
    Path("secret").mkdir()
    Path("secret/report.docx").write_bytes(docx(REPORT[:2000]))
    Path("secret/plan.pdf").write_bytes(pages(prose(40, 800)))
    Path("secret/short.txt").write_text("too short")
    assert lockgate("fingerprint", "documents", "secret", "--out", "x.fp") == 0
    said = capsys.readouterr()
    assert "2 of 3 documents" in said.out
    assert "short.txt: left out" in said.err
    Path("p.yaml").write_text(
        "version: 1\nfilters:\n  - {id: papers, use: documents.Documents, with: {index: x.fp}}\n"
        "  - {id: canary, use: canary.Canary, with: {values: [AKIAOKN3IZZ4NHYG53CX]}}\n"
    )
    Path("mail.txt").write_text(" ".join([*prose(50, 300), *REPORT[500:800], "AKIAOKN3IZZ4NHYG53CX", *prose(51, 300)]))
    assert lockgate("check", "p.yaml") == 0
    capsys.readouterr()
    assert lockgate("scan", "mail.txt", "--policy", "p.yaml", "--json") == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["filter"], row["rule"]) for row in rows] == [("papers", "report.docx"), ("canary", "AKIA…")]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(" ".join(REPORT[:500]), id="plain"),
        pytest.param(" ".join(REPORT[:500]) + r' and then "say\n it\n in\n one\n small\n place\n" \u0041', id="an escape in it"),
        pytest.param(json.dumps({"a": "\n".join(REPORT[:500])}), id="escaped"),
    ],
)
def test_the_whole_text_counts(text: str) -> None:
    Path("d.txt").write_text(text)
    assert 450 < len(set(text_of(Path("d.txt")))) < 1050


def test_markup_does_not_count() -> None:
    Path("d.docx").write_bytes(docx(REPORT[:500]))
    assert len(set(text_of(Path("d.docx")))) < 600


def test_what_is_ignored() -> None:
    for name, words in (("secret/a.txt", REPORT[:500]), ("templates/a.txt", REPORT[:480])):
        Path(name).parent.mkdir()
        Path(name).write_text(" ".join(words))
    assert lockgate("fingerprint", "documents", "secret", "--ignore", "templates", "--out", "x") == 0
    assert lockgate("fingerprint", "documents", "secret", "--ignore", "secret", "--out", "x") == 1


@pytest.mark.parametrize("kind", ["aws", "token", "email", "host", "url"])
def test_canaries(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is fresh, and its rule is a policy that finds it."""
    values = set()
    for _ in range(2):
        assert lockgate("canary", "new", "--kind", kind, "--domain", "corp.example", "--json") == 0
        made = json.loads(capsys.readouterr().out)
        values.add(made["value"])
    assert len(values) == 2
    Path("p.yaml").write_text(f"version: 1\nfilters:\n  {made['policy']}\n")
    Path("t.txt").write_text(made["text"])
    assert lockgate("scan", "t.txt", "--policy", "p.yaml") == 1
