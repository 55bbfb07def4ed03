"""`lockgate scan`: files, folders and standard input; findings never show a value."""

import io
import json

import pytest

from proxy import cli

KEY, CARD = "AKIA" + "4QXB7ZKLMRTW2NPD", "4111 1111 1111 1111"
KEYS = {"file", "filter", "rule", "kind", "where", "offset", "sample"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text(f"key {KEY} card {CARD}\n")
    (tmp_path / "sub/b.txt").write_text("x" * 300_000 + f" {CARD} ")
    (tmp_path / "clean.txt").write_text("nothing here")
    return tmp_path


def scan(capsys, *words):
    code = cli.main(["scan", "--json", *map(str, words)])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_folder(folder, capsys):
    code, rows = scan(capsys, folder)
    assert code == 1
    assert {(row["file"].removeprefix(f"{folder}/"), row["kind"], row["offset"], row["sample"]) for row in rows} == {
        ("a.txt", "secret.aws-access-key-id", 4, "AKIA…"),
        ("a.txt", "pii.credit_card", 30, "4111…"),
        ("sub/b.txt", "pii.credit_card", 300_001, "4111…"),
    }
    assert all(set(row) == KEYS for row in rows)


def test_a_clean_file(folder, capsys):
    assert scan(capsys, folder / "clean.txt") == (0, [])


def test_standard_input(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(CARD.encode())))
    code, rows = scan(capsys, "-")
    assert (code, [row["file"] for row in rows]) == (1, ["-"])


def test_a_policy_chooses_the_filters(folder, capsys):
    policy = folder / "policy.yaml"
    policy.write_text("version: 1\nfilters:\n  - {id: only-cards, use: cards.Cards}\n  - {id: c, use: classify.Http}\n")
    _, rows = scan(capsys, "--policy", policy, folder / "a.txt")
    assert [row["filter"] for row in rows] == ["only-cards"]


def test_for_a_person(folder, capsys):
    assert cli.main(["scan", str(folder / "a.txt"), str(folder / "clean.txt")]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0].endswith("a.txt: secret.aws-access-key-id at 4: AKIA… (secrets.Secrets)")
    assert shown.err == "2 found\n"
    assert KEY not in shown.out


def test_what_cannot_be_read_is_told_and_the_rest_scanned(folder, capsys):
    (folder / "gone").symlink_to("/nonexistent")
    (folder / "0").symlink_to("/proc/self/mem")
    assert cli.main(["scan", str(folder)]) == 1
    assert "3 found" in capsys.readouterr().err
