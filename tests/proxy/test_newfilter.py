"""A new filter works as it is written: its test passes, a policy takes it, and what was there stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.registry import load_all

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("name", "files", "cls"), [
    ("big_uploads", "big_uploads", "BigUploads"),
    ("BigUploads", "big_uploads", "BigUploads"),
    ("dlp2", "dlp2", "Dlp2"),
    ("no-json", "no_json", "NoJson"),
])
def test_a_new_filter_runs_as_it_is(tmp_path, monkeypatch, capsys, name, files, cls):
    monkeypatch.chdir(tmp_path)
    assert main(["filters", "new", name]) == 0
    said = capsys.readouterr().out
    assert f"pytest test_{files}.py" in said
    (tmp_path / "policy.yaml").write_text("version: 1\nfilters:\n" + said.partition("`filters:`\n")[2])
    _, (loaded,) = load_all(tmp_path / "policy.yaml", strict=False)
    assert type(loaded.filter).__name__ == cls
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", f"test_{files}.py", "-p", "no:cacheprovider"],
                          capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert "6 passed" in done.stdout, done.stdout + done.stderr


def test_its_test_fails_when_the_filter_forgets_what_went_before(tmp_path, monkeypatch):
    """The template's carry is what the fixture is for."""
    monkeypatch.chdir(tmp_path)
    assert main(["filters", "new", "words"]) == 0
    path = tmp_path / "words.py"
    path.write_text(path.read_text().replace("text = tail + piece", "text = piece"))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "test_words.py", "-p", "no:cacheprovider"],
                          capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert "in pieces of" in done.stdout


@pytest.mark.parametrize("taken", ["words.py", "test_words.py"])
def test_nothing_is_overwritten(tmp_path, monkeypatch, capsys, taken):
    monkeypatch.chdir(tmp_path)
    (tmp_path / taken).write_text("mine")
    assert main(["filters", "new", "words"]) == 2
    assert taken in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(taken, "mine")]


@pytest.mark.parametrize("words", [["new"], ["new", "a", "b"], ["new", "../x"], ["new", "class"], ["new", "1"], ["new", ""],
                                   ["card.Cards"]])
def test_bad_names(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert main(["filters", *words]) == 2
    assert "lockgate filters:" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
