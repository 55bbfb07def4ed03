"""`lockgate pins`: what it shows, adds and takes away, and what it refuses to."""

import json
import os
import shutil
import stat
import sys
import time
from pathlib import Path

import pytest

from addons.connection import Connection, Process
from proxy import cli, pins, pinstore
from proxy.pinstore import Pin, Store

APP = str(Path(sys.executable).resolve())


@pytest.fixture
def command(tmp_path, capsys):
    """The command with a state of the test's own: returns exit code, output, errors."""
    def run(*words):
        code = cli.main(["pins", "--state", str(tmp_path / "state"), *map(str, words)])
        return code, *capsys.readouterr()

    return run


def connection(app=APP, host="api.example"):
    return Connection(host, ("192.0.2.1", 443), ("127.0.0.1", 1), Process(1, app))


def test_there_and_back(command, tmp_path):
    """A running proxy, which `Pins` stands for, follows within a second."""
    running = pins.Pins(tmp_path / "state")
    assert command()[:2] == (0, "no pins: every program is inspected, but for what the policy says\n")
    code, said, _ = command("add", APP, "API.example.", "--for", "12h")
    assert (code, f"{APP} passes unread with api.example until" in said) == (0, True)
    time.sleep(pins.LOOK_INTERVAL)
    found = running.find(connection())
    assert (found.cause, found.learned, round(found.until - found.since)) == ("added by hand", False, 12 * 3600)
    assert [line.split()[:2] for line in command("list")[1].splitlines()] == [["PROGRAM", "HOST"], [APP, "api.example"]]
    assert json.loads(command("--json")[1])["host"] == "api.example"
    assert command("revoke", APP, "api.example")[:2] == (0, f"{APP} is inspected with api.example again\n")
    time.sleep(pins.LOOK_INTERVAL)
    assert running.find(connection()) is None
    assert command("revoke", APP, "api.example")[0] == 1


def test_revoke_all(command, tmp_path):
    store, now = Store(tmp_path / "state"), time.time()
    for host in ("a.example", "b.example"):
        store.put(Pin("/opt/\x1b[2Japp", host, "unknown ca", True, now, now + 60), limit=0)
    assert "\x1b" not in command()[1]
    code, said, _ = command("revoke", "--all")
    assert (code, said.count("inspected"), "learned again" in said, "\x1b" in said) == (0, 2, True, False)
    assert store.read() == {}


@pytest.mark.parametrize(("words", "said"), [
    pytest.param(("add",), "which?", id="nothing said"),
    pytest.param(("add", APP), "which?", id="no host"),
    pytest.param(("add", "python3", "api.example"), "absolute path", id="a program by its name"),
    pytest.param(("add", APP, "*.example"), "connection rule", id="a pattern"),
    pytest.param(("add", APP, "192.0.2.1"), "address", id="an address"),
    pytest.param(("add", APP, "no name"), "not a host pattern", id="no host name"),
    pytest.param(("add", "/nowhere/app", "api.example"), "not a program", id="no such program"),
    pytest.param(("add", APP, "api.example", "--for", "91d"), "at most 90d", id="too long"),
    pytest.param(("add", APP, "api.example", "--for", "0d"), "90m", id="no time at all"),
    pytest.param(("add", APP, "api.example", "--for", "soon"), "90m", id="no time"),
    pytest.param(("revoke",), "--all", id="revoke what?"),
    pytest.param(("revoke", APP, "api.example", "--all"), "--all", id="one or all?"),
    pytest.param(("list", APP), "takes no program", id="list one"),
])
def test_what_cannot_be_done(command, words, said):
    code, out, error = command(*words)
    assert (code, out, said in error) == (2, "", True), error


def test_full(command, monkeypatch):
    monkeypatch.setattr(pinstore, "MAX_PINS", 1)
    assert command("add", APP, "a.example")[0] == 0
    assert "makes room" in command("add", APP, "b.example")[2]
    assert command("add", APP, "a.example", "--for", "1d")[0] == 0     # the same one, for longer or shorter


def test_a_link_to_a_program_is_the_program(command, tmp_path):
    """The kernel tells us the executable's own path."""
    (tmp_path / "link").symlink_to(APP)
    assert APP in command("add", tmp_path / "link", "api.example")[1]
    assert command("revoke", tmp_path / "link", "api.example")[0] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")
def test_what_root_adds_belongs_to_the_proxys_user(command, tmp_path):
    state = tmp_path / "state"
    state.mkdir(0o700)
    os.chown(state, 65534, 65534)
    command("add", APP, "api.example")
    for path in (state / "pins", state / "pins/pins.json"):
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode) & 0o077) == (65534, 0)


@pytest.mark.parametrize("lay", [
    pytest.param(lambda state, theirs: (state / "pins").symlink_to(theirs), id="the folder"),
    pytest.param(lambda state, theirs: ((state / "pins").mkdir(), (state / "pins/pins.json").symlink_to(theirs / "pins.json")),
                 id="the file"),
    pytest.param(lambda state, theirs: ((state / "pins").mkdir(), (state / "pins/.pins.json.part").symlink_to(theirs / "pins.json")),
                 id="the draft"),
])
def test_links_lead_nowhere(command, tmp_path, lay):
    """Root follows none that the proxy's user has laid."""
    state, theirs = tmp_path / "state", tmp_path / "theirs"
    state.mkdir()
    theirs.mkdir()
    (theirs / "pins.json").write_text("precious")
    lay(state, theirs)
    command("add", APP, "api.example")
    assert (theirs / "pins.json").read_text() == "precious"
    assert [path.name for path in theirs.iterdir()] == ["pins.json"]


def test_somebody_elses_state(command, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pinstore.os, "open", refuse)
    assert "sudo" in command()[2]


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        cli.main(["pins", "--help"])
    assert "lockgate pins add" in capsys.readouterr().out


def test_busy(command, tmp_path, monkeypatch):
    """Somebody holds the lock."""
    import fcntl

    from proxy import pinning
    command("add", APP, "a.example")
    monkeypatch.setattr(pinning, "PATIENCE", 0.1)
    folder = os.open(tmp_path / "state/pins", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert "locked by another process" in command("add", APP, "b.example")[2]
    os.close(folder)
    shutil.rmtree(tmp_path / "state")
