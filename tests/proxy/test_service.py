"""`lockgate service` without a service manager: what it refuses, shows and notes. What it does is in tests/live/."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy import cli, confine, service, units
from proxy.options import UsageError
from proxy.policy import PolicyError
from redirector import release

ROOT = os.geteuid() == 0
INSTALLED = "- write"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A system of its own, where systemd does not run."""
    tmp_path.chmod(0o755)
    for name, path in {"UNITS": "units", "RECORD": "lib/service.json", "STATE": "lib/state", "BOOTED": "none"}.items():
        monkeypatch.setattr(service, name, tmp_path / path)
    monkeypatch.setattr(units, "RUN_DIR", str(tmp_path / "run"))
    (tmp_path / "units").mkdir()
    monkeypatch.setattr(service, "_exists", lambda user: user == confine.ACCOUNT)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin/systemctl"       # ours writes down what it was asked: the machine's own would enable units
    tool.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/asked\n")
    tool.chmod(0o755)
    return tmp_path


def call(action, **more):
    options = {"policy": None, "yes": True, "dry_run": False, "json": False} | more
    return service.service(argparse.Namespace(action=action, **options))


@pytest.mark.skipif(not ROOT, reason="the files are root's")
def test_what_is_installed_is_uninstalled(place, capsys):
    assert call("install") == 0
    assert {path.name for path in (place / "units").iterdir()} == {
        units.SERVICE, units.SOCKET, units.REDIRECTOR, units.RECORDER}
    assert "enable lockgate.service" in (place / "asked").read_text()
    (place / "lib/state").mkdir()
    (place / "lib/state/key").write_text("secret")
    os.chown(place / "lib/state/key", 61184, 61184)
    assert call("uninstall") == 0
    assert list((place / "units").iterdir()) == []
    assert (place / "lib/state/key").stat().st_uid == 0
    assert not (place / "lib/service.json").exists()
    capsys.readouterr()
    assert (call("uninstall"), capsys.readouterr().out) == (0, "nothing to do\n")


@pytest.mark.skipif(not ROOT, reason="the files are root's")
def test_a_unit_that_somebody_changed_is_kept_beside(place):
    call("install")
    (place / "units" / units.SERVICE).write_text("mine")
    call("uninstall")
    assert {path.name: path.read_text() for path in (place / "units").iterdir()} == {units.SERVICE + ".saved": "mine"}


@pytest.mark.skipif(not ROOT, reason="the files are root's")
def test_an_install_again_repairs_what_is_missing_only(place, capsys):
    call("install")
    (place / "units" / units.SOCKET).unlink()
    capsys.readouterr()
    call("install")
    written = [line for line in capsys.readouterr().out.splitlines() if line.startswith(INSTALLED)]
    assert written == [f"- write {place / 'units' / units.SOCKET}"]


@pytest.mark.skipif(not ROOT, reason="the files are root's")
def test_a_dry_run_as_json_changes_nothing(place, capsys):
    assert call("install", dry_run=True, json=True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (len(shown["steps"]), shown["done"], list((place / "units").iterdir())) == (5, False, [])


@pytest.mark.skipif(not ROOT, reason="the files are root's")
def test_nothing_happens_without_a_yes(place, monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", lambda _: "")
    assert call("install", yes=False) == 1
    assert "nothing was changed" in capsys.readouterr().out
    assert list((place / "units").iterdir()) == []


@pytest.mark.skipif(not ROOT, reason="giving away needs root")
@pytest.mark.parametrize("spoil", [
    pytest.param(lambda place: os.chown(place / "lib", 61184, 61184), id="the record's folder is somebody's"),
    pytest.param(lambda place: (place / "lib").chmod(0o777), id="the record's folder is everybody's")])
@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_a_record_that_others_may_have_written_is_not_believed(place, spoil, action):
    """It names files that root removes, and a user."""
    (place / "lib").mkdir()
    (place / "lib/service.json").write_text('{"units": {"../../etc/passwd": "x"}, "user": "daemon"}')
    spoil(place)
    with pytest.raises(UsageError, match="root alone"):
        call(action)


@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_code_that_others_may_change_is_refused(tmp_path, mode):
    tmp_path.chmod(0o755)
    (tmp_path / "module.py").write_text("")
    (tmp_path / "module.py").chmod(mode)
    with pytest.raises(UsageError, match="root is to run this"):
        service._refuse_foreign(tmp_path)


@pytest.mark.parametrize(("words", "said"), [
    pytest.param(("install", "--json"), "--json asks nothing", id="nothing to ask with"),
    pytest.param(("uninstall", "--policy", "x"), "--policy is for", id="a policy that has no use"),
    pytest.param(("install", "--policy", "/no/such.yaml"), "No such file", id="no such policy"),
    pytest.param(("restart",), "invalid choice", id="no such action"),
])
def test_what_cannot_be_done_is_said_in_a_line(words, said):
    if not ROOT and "choice" not in said:
        pytest.skip("root is asked first")
    done = subprocess.run([sys.executable, "-I", "-m", "proxy.cli", "service", *words, *(("--yes",) if "--json" not in words else ())],
                          capture_output=True, text=True)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_its_help_has_an_example():
    assert "sudo lockgate service install --policy" in cli.help_text("service")


@pytest.mark.parametrize(("shown", "kernel", "lines"), [
    pytest.param({}, [], ["installed; systemd does not run here, so nothing is known of it"], id="no systemd"),
    pytest.param({"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "MainPID": "7", "StatusText": "inspecting"},
                 [], ["active (running), enabled, pid 7: inspecting"], id="on"),
    pytest.param({"ActiveState": "failed", "SubState": "failed", "UnitFileState": "enabled", "MainPID": "0", "Result": "exit-code"},
                 [release.Record("guard", "service", 9, 1, "t", "closed", 1)],
                 ["failed (failed), enabled, pid 0: exit-code", "in the kernel: guard of service (pid 9, table t), fail closed",
                  "a guard holds the captured ports closed; `lockgate release` lifts it"], id="a guard is left"),
])
def test_what_status_tells(shown, kernel, lines):
    assert list(service._told(True, shown, kernel)) == lines


def test_not_installed(place, capsys):
    assert call("status", json=True) == 1
    assert json.loads(capsys.readouterr().out)["installed"] is False
    assert (call("status"), capsys.readouterr().out.startswith("not installed: sudo lockgate")) == (1, True)


@pytest.fixture
def written(place):
    """A policy with a filter beside it, and the folder that both are in."""
    folder = place / "etc"
    folder.mkdir()
    (folder / "mine.py").write_text("")
    (folder / "policy.yaml").write_text("version: 1\ncapture: {fail: open}\nfilters: [{id: a, use: ./mine.py:A}]\n")
    return folder


@pytest.mark.skipif(not ROOT, reason="the files are root's")
def test_the_policy_and_its_files_are_shown_to_the_service(written):
    made = service.setting(written / "policy.yaml")
    assert (made.closed, made.policy, made.code.count(written)) == (False, written / "policy.yaml", 2)


@pytest.mark.parametrize(("file", "shown"), [("/etc/lockgate/p.yaml", "/etc/lockgate"), ("/root/p.yaml", "/root/p.yaml"),
                                             ("/home/ann/p.yaml", "/home/ann/p.yaml"), ("/home/ann/x/p.yaml", "/home/ann/x")])
def test_no_home_is_shown_for_a_file_in_it(file, shown):
    assert service._view(Path(file)) == Path(shown)


@pytest.mark.skipif(not ROOT, reason="giving away needs root")
@pytest.mark.parametrize(("name", "change", "said"), [
    pytest.param("policy.yaml", lambda path: os.chown(path, 1000, 1000), "belongs to user 1000", id="sudo's caller has it"),
    pytest.param("policy.yaml", lambda path: path.chmod(0o600), "chmod o\\+r", id="the service may not read it"),
    pytest.param("mine.py", lambda path: path.chmod(0o600), "chmod o\\+r", id="nor its filter")])
def test_what_the_service_could_not_use_is_refused_before(written, monkeypatch, name, change, said):
    """Root and sudo's caller could, but at boot there is neither."""
    monkeypatch.setenv("SUDO_UID", "1000")
    change(written / name)
    with pytest.raises((UsageError, PolicyError), match=said):
        service.setting(written / "policy.yaml")
