"""The system's proxy setting: set, told when others change it, repaired, and undone byte for byte.

Everything is below a folder that stands for `/`.
"""

import json
import os
import stat
import sys

import pytest

from proxy import cli, systemproxy
from proxy.options import UsageError
from proxy.settingrecord import SettingRecord
from proxy.settings import profile
from proxy.systemproxy import MAX_REPAIRS, Keeper

PROXY = ("127.0.0.1", 8080)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the files of POSIX systems")


@pytest.fixture
def root(tmp_path):
    """A system with some files of its own; one of them has our name."""
    (tmp_path / "etc/profile.d").mkdir(parents=True)
    (tmp_path / "etc/profile.d/lockgate.sh").write_bytes(b"# mine \xff\r\nexport http_proxy=other\n")
    (tmp_path / "etc/profile.d/lockgate.sh").chmod(0o640)
    (tmp_path / "etc/environment").write_text("http_proxy=other\n")
    return tmp_path


@pytest.fixture
def setting(root):
    return systemproxy.record(root)


def tree(root):
    """Every path with its mode and content."""
    return {str(path.relative_to(root)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes() if path.is_file() else b"")
            for path in sorted(root.rglob("*"))}


def ours(root):
    """Our files that are there."""
    return [path for path in (root / "etc").rglob("*") if path.is_file() and b"undone by" in path.read_bytes()]


def command(*words):
    return cli.main(["system-proxy", *map(str, words)])


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="the computer's own places are root's")


@ROOT
def test_set_and_unset_leave_every_byte_as_before(root, capsys):
    before = tree(root)
    assert command("set", "--to", "127.0.0.1:8080", "--prefix", root, "--places", "environment,pac,apt") == 0
    assert len(ours(root)) == 3
    assert command("show", "--prefix", root) == 0
    assert command("set", "--to", "127.0.0.1:9090", "--prefix", root) == 0, "again, elsewhere"
    assert command("unset", "--prefix", root) == 0
    assert {path: what for path, what in tree(root).items() if not path.startswith("var")} == before
    assert "as before" in capsys.readouterr().out
    assert command("unset", "--prefix", root) == 0
    assert "nothing was set" in capsys.readouterr().out
    assert command("show", "--prefix", root) == 1


@ROOT
@pytest.mark.parametrize("survives", range(4))
def test_undone_also_after_a_crash_in_the_middle(root, setting, survives):
    """Whichever of the writes was the last."""
    before, names = tree(root), ["environment", "pac", "apt"]
    budget = [survives]
    wrapped = {name: _Fragile(place, budget) for name, place in setting._places.items()}
    with pytest.raises(_Killed):
        SettingRecord(setting.path.parent, wrapped).set(PROXY, names)
    restored, left = systemproxy.record(root).unset()
    assert (len(restored), left) == (survives, [])
    assert {path: what for path, what in tree(root).items() if not path.startswith("var")} == before


class _Killed(Exception):
    """As by kill -9: nothing after it happens."""


class _Fragile:
    """A place whose process ends after so many writes, of all places together."""

    def __init__(self, place, budget):
        self._place, self._budget = place, budget
        self.name, self.wanted, self.read, self.made = place.name, place.wanted, place.read, place.made

    def write(self, values):
        for key, value in values.items():
            if self._budget[0] == 0:
                raise _Killed
            self._budget[0] -= 1
            self._place.write({key: value})


@ROOT
@pytest.mark.parametrize("change", [
    pytest.param(lambda path: path.write_text("export http_proxy=theirs\n"), id="changed"),
    pytest.param(lambda path: path.unlink(), id="removed"),
])
def test_what_others_changed_is_said_and_left_alone(root, setting, change, capsys):
    setting.set(PROXY, ["environment", "pac"])
    path = root / "etc/profile.d/lockgate.sh"
    change(path)
    theirs = path.read_bytes() if path.exists() else None
    assert command("show", "--prefix", root) == 1
    assert str(path) in capsys.readouterr().out
    assert command("unset", "--prefix", root, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["key"] for each in found["left"]] == [str(path)]
    assert (path.read_bytes() if path.exists() else None) == theirs
    assert ours(root) == []


@ROOT
@pytest.mark.parametrize("wish", ["watch", "repair"])
def test_watched(root, setting, wish):
    """A change is said once; with `repair` it is undone, as often as it is sensible."""
    setting.set(PROXY, ["environment"])
    said, path = [], root / "etc/profile.d/lockgate.sh"
    keeper = Keeper(setting, said.append, repair=wish == "repair")
    keeper.look()
    assert said == []
    path.write_text("theirs")
    keeper.look()
    assert len(said) == 1
    assert str(path) in said[0]
    assert (path.read_text() == profile(PROXY)) == (wish == "repair")
    keeper.look()
    assert len(said) == 1
    for number in range(MAX_REPAIRS + 2):
        path.write_text(f"theirs {number}")
        keeper.look()
    if wish == "repair":
        assert "too often" in said[-1]
    assert path.read_text() == f"theirs {MAX_REPAIRS + 1}"
    assert len(said) == MAX_REPAIRS + 3


@ROOT
def test_kept_while_a_proxy_runs(root):
    before, said = tree(root), []
    with systemproxy.kept(PROXY, "watch", root, said.append):
        assert len(ours(root)) == 2
        assert stat.S_IMODE(next(root.rglob("record.json")).stat().st_mode) == 0o600
    assert (said, ours(root)) == ([], [])
    assert {path: what for path, what in tree(root).items() if not path.startswith("var")} == before


@ROOT
def test_a_link_stays_a_link(root, setting):
    target = root / "elsewhere"
    target.write_text("linked")
    path = root / "etc/profile.d/lockgate.sh"
    path.unlink()
    path.symlink_to(target)
    setting.set(PROXY, ["environment"])
    assert target.read_text() == profile(PROXY)
    setting.unset()
    assert (path.is_symlink(), target.read_text()) == (True, "linked")


@pytest.mark.parametrize(("words", "said"), [
    (("set", "--to", "192.0.2.1:8080"), "127.0.0.1"),
    (("set", "--to", "0.0.0.0:8080"), "127.0.0.1"),
    (("set", "--to", "127.0.0.1:8080", "--places", "gnome"), "no such place"),
    (("set", "--to", "127.0.0.1:8080", "--places", "nonsense"), "no such place"),
    (("set",), "no explicit proxy runs"),
    (("unset", "--places", "apt"), "for `set`"),
])
def test_what_cannot_be_done_is_said(tmp_path, words, said, capsys):
    state = ("--state", tmp_path / "state", "--run-dir", tmp_path / "run", "--prefix", tmp_path)
    assert command(*words, *state) == 2
    assert said in capsys.readouterr().err


def test_a_damaged_record_is_said(tmp_path, capsys):
    setting = systemproxy.record(tmp_path)
    setting.path.parent.mkdir(parents=True)
    setting.path.write_text("{")
    assert command("unset", "--prefix", tmp_path) == 2
    assert "damaged" in capsys.readouterr().err


def test_a_listener_for_others_is_no_systems_proxy():
    for listen in (("0.0.0.0", 8080), ("192.0.2.1", 8080), ("::", 8080), ("somewhere.test", 8080)):
        with pytest.raises(UsageError, match="--system-proxy"):
            systemproxy.loopback(listen)


@ROOT
def test_undone_by_another_while_it_is_repaired(setting, root):
    setting.set(PROXY, ["environment"])
    (root / "etc/profile.d/lockgate.sh").write_text("theirs")
    changes = setting.changes()
    setting.unset()
    setting.repair(changes)
    assert ours(root) == []
