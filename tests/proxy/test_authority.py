"""`lockgate ca`: made, shown, exported; installed, verified and removed, in stores of the test's own."""

import json
import os
import shutil
import stat

import pytest

from certs.debian import Debian
from certs.record import Record
from certs.root import Root
from proxy import authority, cli
from tests.certs.conftest import system_store, system_tree

__all__ = ["system_store"]


@pytest.fixture
def ca(tmp_path, monkeypatch, capsys):
    """The command with a state, a home and a record of the test's own: returns exit code, output, errors."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(authority, "default_folder", lambda: tmp_path / "record")

    def run(*words):
        code = cli.main(["ca", words[0], "--state", str(tmp_path / "state"), *map(str, words[1:])])
        return code, *capsys.readouterr()

    return run


def test_create_show_export(ca, tmp_path):
    code, said, _ = ca("create")
    assert (code, "SHA-256" in said) == (0, True)
    key = tmp_path / "state/ca/ca-key.pem"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (key, key.parent)] == [0o600, 0o700]
    code, _, error = ca("create")
    assert (code, "exists" in error) == (2, True)
    root = Root.read(tmp_path / "state/ca/ca.pem")
    facts = json.loads(ca("show", "--json")[1])
    assert facts == {
        "subject": root.subject,
        "sha256": root.fingerprint,
        "days_left": root.days_left,
        "not_after": root.certificate.not_valid_after_utc.isoformat(),
    }
    for form, data in {"pem": root.pem, "der": root.der}.items():
        out = tmp_path / f"root.{form}"
        assert ca("export", "--form", form, "--out", out)[0] == 0
        assert out.read_bytes() == data
        assert ca("export", "--out", out)[0] == 2  # never overwritten


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("show",), "ca create", id="no root yet"),
        pytest.param(("install", "--stores", "system,registry"), "registry", id="no such store"),
        pytest.param(("install", "--json"), "--yes", id="a program cannot be asked"),
    ],
)
def test_what_cannot_be_done(ca, words, said):
    if words[0] != "show":
        ca("create")
    code, out, error = ca(*words)
    assert (code, out, said in error) == (2, "", True)


def test_asking_gets_no_answer(ca, monkeypatch):
    ca("create")
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert ca("install")[0::2] == (1, "nothing was changed\n")
    code, said, _ = ca("install", "--dry-run")
    assert (code, "would" in said) == (0, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="a private mount namespace takes root")
@pytest.mark.skipif(not (Debian.present() and shutil.which("certutil")), reason="takes Debian's store and certutil")
@pytest.mark.usefixtures("system_store")
def test_there_and_back(ca, tmp_path):
    ca("create")
    before = system_tree()
    assert ca("verify")[0] == 1
    for _ in range(2):  # the second changes nothing
        code, said, _ = ca("install", "--yes", "--json")
        assert (code, {row["ok"] for row in map(json.loads, said.splitlines())}) == (0, {True})
    code, said, _ = ca("verify", "--stores", "system")
    assert (code, said) == (0, "ok   system: curl accepts it; Python accepts it\n")
    assert ca("uninstall", "--yes")[0] == 0
    assert system_tree() == before
    assert not list(tmp_path.glob("record/*"))


def test_the_record_is_not_where_the_proxys_user_may_write():
    """It says what `ca uninstall`, as root, writes where."""
    from certs.record import default_folder
    from proxy.options import default_state

    assert not default_folder().is_relative_to(default_state()) or os.geteuid() != 0
    assert Record(default_folder()).folder == default_folder()
