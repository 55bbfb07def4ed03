"""`lockgate doctor`: every row says what it found, and a bad one what to do."""

import json
import os
import subprocess
import sys
import time
from importlib import metadata

import pytest

from certs.authority import Authority
from proxy import doctor, history
from proxy.doctor import Row


def test_all_is_well_here_and_quickly(tmp_path):
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "proxy.cli",
        "doctor",
        "--json",
        "--state",
        str(tmp_path / "state"),
        "--run-dir",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    rows = {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert {row["check"] for row in rows.values() if row["result"] == "fail"} == set(), done.stdout
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert {"python", "mitmproxy", "nftables", "decrypt", "block", "leak", "fail mode"} <= set(rows)
    assert ("capture" in rows) == (os.geteuid() == 0)
    assert ("loop guard" in rows) == (os.geteuid() == 0)
    assert time.monotonic() - began < 30
    assert not (tmp_path / "state").exists()


def test_rows_for_a_person_and_the_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(
        doctor, "rows", lambda *_: iter([Row("a", "ok", "fine"), Row("b", "fail", "broken", "mend it")])
    )
    from proxy import cli

    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().out == f"ok   a             fine\nfail b             broken\n{'':19}-> mend it\n"


def test_a_check_that_fails_itself_is_a_row(monkeypatch, tmp_path):
    def broken():
        raise OSError("no such device")
        yield

    monkeypatch.setattr(doctor, "python", broken)
    monkeypatch.setattr(doctor, "self_test", lambda: iter([]))
    assert Row("python", "fail", "no such device") in list(doctor.rows(tmp_path, str(tmp_path)))


@pytest.mark.parametrize(("content", "result", "text"), [
    pytest.param(None, "ok", "no connections are kept", id="none yet"),
    pytest.param("kept", "ok", "0 connections; 0.0 MB", id="a new one"),
    pytest.param(b"x" * 5000, "fail", "not a database", id="damaged"),
])
def test_the_history(tmp_path, content, result, text):
    folder = history.folder_of(tmp_path / "state")
    if content == "kept":
        history.History(folder, 10, 1).close()
    elif content:
        folder.mkdir()
        (folder / history.DATABASE).write_bytes(content)
    (row,) = doctor.kept(tmp_path / "state")
    assert (row.result, text in row.text, bool(row.mend)) == (result, True, result == "fail"), row.text


@pytest.mark.parametrize(
    ("days", "result"),
    [
        pytest.param(400, "ok", id="new"),
        pytest.param(20, "warn", id="about to end"),
        pytest.param(-1, "fail", id="ended"),
    ],
)
def test_the_roots_age(tmp_path, monkeypatch, days, result):
    authority = Authority.create(tmp_path / "ca")
    monkeypatch.setattr(type(authority.root), "days_left", days)
    row = next(doctor.root(tmp_path))
    assert (row.result, bool(row.mend)) == (result, result != "ok")


def test_no_root_yet(tmp_path):
    (row,) = doctor.root(tmp_path)
    assert (row.result, "first start" in row.text) == ("ok", True)


@pytest.mark.parametrize(
    ("variables", "result"),
    [
        pytest.param({}, "ok", id="none"),
        pytest.param({"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}, "ok", id="the system's own"),
        pytest.param({"SSL_CERT_FILE": "/opt/corporate.pem"}, "warn", id="another bundle"),
        pytest.param({"SSL_CERT_DIR": "/opt/certs"}, "warn", id="another folder"),
    ],
)
def test_variables_that_hide_the_systems_store(monkeypatch, variables, result):
    monkeypatch.setattr("os.environ", variables)
    (row,) = doctor.environment()
    assert row.result == result
    assert all(name in row.mend for name in variables if result == "warn")


def test_a_package_of_the_same_name(monkeypatch):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.4.4" if name == "proxy.py" else real(name))
    assert [(row.check, row.result) for row in doctor.packages()] == [("mitmproxy", "ok"), ("packages", "fail")]


def test_an_old_mitmproxy(monkeypatch):
    def version(name):
        if name == "proxy.py":
            raise metadata.PackageNotFoundError
        return "12.2.1"

    monkeypatch.setattr(metadata, "version", version)
    (row,) = doctor.packages()
    assert (row.result, "pip install" in row.mend) == ("fail", True)


def test_missing_programs(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert {row.mend for row in doctor.programs()} == {"apt install libnss3-tools", "apt install openssl"}


@pytest.mark.skipif(os.geteuid() != 0, reason="a guard takes root")
def test_a_guard_that_was_left_over_is_found(tmp_path):
    from redirector import guard, release
    from redirector.nftables import guard_ruleset
    from redirector.plan import Plan

    tmp_path.chmod(0o755)

    def stand():
        rules = guard_ruleset(Plan((80,), 8080, exempt_uid=61184), "lockgate_guard_t")
        return guard.start(guard.Order(str(tmp_path), "t", "lockgate_guard_t", rules, []))

    started = []
    doctor.apart(os.CLONE_NEWNET, lambda: started.append(stand()))
    try:
        row = next(row for row in doctor.left_over(tmp_path / "state", str(tmp_path)) if row.check == "left over")
        assert (row.result, "release" in row.mend) == ("fail", True)
    finally:
        release.release(str(tmp_path))
        started[0].wait()


def test_what_runs_apart_raises_here():
    def fail():
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        doctor.apart(0, fail)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a namespace")
@pytest.mark.parametrize(("enter", "result"), [
    pytest.param([], "ok", id="here"), pytest.param(["unshare", "--pid", "--fork", "--mount-proc"], "warn", id="in a container"),
])
def test_who_connects(enter, result):
    script = "from proxy import doctor; print(next(doctor.identity()).result)"
    done = subprocess.run([*enter, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == result
