"""The administrator's script, as a program: what it prints, asks and answers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from certs.authority import Authority
from tests.certs.conftest import tree

pytestmark = pytest.mark.skipif(not shutil.which("certutil"), reason="certutil is not installed")


@pytest.fixture
def script(tmp_path: Path, authority: Authority):
    """Run the script on a home with an empty Chromium database; return its code, output and errors."""
    home, record = tmp_path / "home", tmp_path / "record"
    (home / ".pki/nssdb").mkdir(parents=True)
    subprocess.run(["certutil", "-N", "--empty-password", "-d", f"sql:{home}/.pki/nssdb"], check=True)

    def run(*arguments: str, answer: str = "", certificate: Path = authority.pem_path) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "certs.install", *arguments[:1], str(certificate), *arguments[1:]]
        environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
        stores = ["--record", str(record)] if "--stores" in arguments else ["--record", str(record), "--stores", "nss"]
        done = subprocess.run(
            [*command, *stores], input=answer, capture_output=True, text=True, env=environment, check=False
        )
        return done.returncode, done.stdout, done.stderr

    run.home = home
    return run


def test_a_life(script):
    before = tree(script.home)
    assert script("verify")[0] == 1
    code, output, _ = script("install", "--yes")
    assert (code, output.split()[0]) == (0, "ok")
    assert "already installed" in script("install", "--yes")[1]
    assert script("verify")[0] == 0
    code, output, _ = script("uninstall", "--yes")
    assert (code, "byte for byte" in output) == (0, True)
    assert tree(script.home) == before


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param("y\n", 0, id="yes"),
        pytest.param("YES\n", 0, id="in full"),
        pytest.param("n\n", 1, id="no"),
        pytest.param("\n", 1, id="just enter"),
        pytest.param("", 1, id="no answer"),
    ],
)
def test_it_asks_first(script, authority: Authority, answer, code):
    """Who agrees has seen the fingerprint, the scope, the plan and the way back."""
    before = tree(script.home)
    got, output, _ = script("install", answer=answer)
    assert got == code
    assert (tree(script.home) == before) is (code == 1)
    for text in (authority.fingerprint, "days left", "Chromium of", "certutil -A", "uninstall", "pose as any site"):
        assert text in output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(("show",), "not installed; would certutil -A", id="show"),
        pytest.param(("install", "--dry-run"), "not installed; would certutil -A", id="install"),
        pytest.param(("uninstall", "--dry-run"), "would remove what there is", id="uninstall"),
    ],
)
def test_nothing_is_changed(script, authority: Authority, arguments, text):
    before = tree(script.home)
    code, output, _ = script(*arguments)
    assert (code, authority.fingerprint in output, text in output) == (0, True, True)
    assert tree(script.home) == before


def test_json(script):
    code, output, _ = script("install", "--yes", "--json")
    (line,) = map(json.loads, output.splitlines())
    assert (code, set(line), line["ok"]) == (0, {"store", "ok", "text"}, True)


def test_a_broken_store_is_told(script):
    (script.home / ".pki/nssdb/cert9.db").write_bytes(b"garbage" * 1000)
    code, output, errors = script("install", "--yes")
    assert (code, output.split()[0], "certutil" in output, errors) == (1, "FAIL", True, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("remove",), "invalid choice", id="command"),
        pytest.param(("install", "--stores", "java"), "no such kind of store: java", id="store"),
        pytest.param(("install", "--force"), "unrecognized", id="option"),
    ],
)
def test_usage(script, arguments, message):
    code, _, errors = script(*arguments)
    assert (code, message in errors, "Traceback" in errors) == (2, True, False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"", "not a certificate", id="empty"),
        pytest.param(b"-----BEGIN PRIVATE KEY-----", "private key", id="the key"),
    ],
)
def test_bad_certificate(script, tmp_path: Path, content, message):
    if content is not None:
        (tmp_path / "in").write_bytes(content)
    code, _, errors = script("install", certificate=tmp_path / "in")
    assert (code, message in errors, "Traceback" in errors) == (2, True, False)
