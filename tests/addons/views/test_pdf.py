"""PDF documents are read in another process, and whatever happens there is an answer."""

import gc
import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from addons.views import Tree, pdfworker
from addons.views import pdf as reader
from addons.views.pdf import POOL, Collected, Process
from tests.addons.conftest import SIZES
from tests.addons.views.collect import Collect, read
from tests.addons.views.pdfs import pdf

ENCRYPT = ("/ID [<00><00>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <" + "41" * 32 + "> /U <" + "42" * 32 + "> >>")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("data", "path", "text"), [
    pytest.param(pdf("one", "two"), "page[2]", b"two", id="pages"),
    pytest.param(pdf("one", info="Jane"), "metadata", b"Jane", id="metadata"),
    pytest.param(pdf("one", field="4111"), "notes[1]", b"4111", id="a form field"),
    pytest.param(pdf("one", note="remark"), "notes[1]", b"remark", id="a note"),
    pytest.param(pdf("one", link="https://a.example/?secret"), "notes[1]", b"https://a.example/?secret", id="a link"),
    pytest.param(pdf("one", attached=("a.gz", gzip.compress(b"deep"))), "file:a.gz > gzip", b"deep", id="an attached file"),
])
def test_texts(data, path, text, size):
    heard = read(data, size)
    assert not heard.refused
    assert heard.texts[f"body > {path}"] == text
    assert heard.texts["body"] == data
    assert Collected.total == 0


@pytest.mark.parametrize(("data", "reason"), [
    pytest.param(b"%PDF-1.7\n" + b"x" * 5000, "cannot be opened", id="no document"),
    pytest.param(pdf("one", encrypt=ENCRYPT), "encrypted", id="encrypted"),
    pytest.param(b"%PDF-1.7\n" + bytes(33 << 20), "more than 32 MiB", id="too large"),
])
def test_unscannable(data, reason):
    heard = read(data)
    assert [why for _, why in heard.refused if reason in why], heard.refused
    assert Collected.total == 0


@pytest.mark.parametrize(("limit", "told"), [(2, False), (1, True)])
def test_notes_that_are_too_many_are_not_passed_over_in_silence(monkeypatch, limit, told):
    monkeypatch.setattr(pdfworker, "MAX_NOTES", limit)
    frames = dict(pdfworker.frames(pdf("one", note="remark", link="https://a.example/")))
    assert (b"e" in frames) is told
    assert b"remark" in frames[b"f"]


def test_nothing_leaves_before_it_is_read():
    hear, data = Collect(), pdf("one") + b"%" * 20_000
    tree = Tree(hear)
    tree.feed(data)
    tree.end()
    assert tree.waiting
    assert tree.clear == 0


def test_a_message_that_is_dropped_gives_back_what_it_kept():
    tree = Tree(Collect())
    tree.feed(pdf("one"))
    assert Collected.total > 0
    del tree
    gc.collect()
    assert Collected.total == 0


def test_a_worker_that_is_killed_is_unscannable_and_replaced():
    heard = read(pdf("one"))
    for process in POOL._free:
        os.kill(process._process.pid, signal.SIGKILL)
    heard = read(pdf("one"))
    assert [why for _, why in heard.refused if "broke its reader" in why]
    assert not read(pdf("one")).refused


def test_a_worker_that_takes_too_long_is_killed(monkeypatch):
    monkeypatch.setattr(reader, "PATIENCE", 0.3)
    monkeypatch.setattr(reader, "_COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    process = Process()
    with pytest.raises(reader.Unscannable, match="too long"):
        process.ask(pdf("one"))
    assert process._process.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the kernel")
def test_the_worker_has_no_rights():
    """What it may open and start, by its own account of its limits."""
    process = Process()
    process.ask(pdf("one"))
    limits = Path(f"/proc/{process._process.pid}/limits").read_text()
    process.close()
    for name in ("Max processes", "Max file size", "Max core file size"):
        line = next(line for line in limits.splitlines() if line.startswith(name))
        assert line.removeprefix(name).split()[:2] == ["0", "0"]


def test_the_worker_ends_with_its_input():
    ended = subprocess.run(reader._COMMAND, input=b"", capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (0, b"")
