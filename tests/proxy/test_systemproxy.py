"""The system's proxy setting: set, told when others change it, repaired, and undone byte for byte.

Everything is below a folder that stands for `/`; GNOME's settings are a file of the test's.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from certs.user import User
from proxy import cli, systemproxy
from proxy.options import UsageError
from proxy.settingrecord import SettingRecord
from proxy.settings import Gnome, apt, environment, places, profile
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


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_what_a_login_shell_gets(tmp_path, shell):
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    (tmp_path / "lockgate.sh").write_text(profile(PROXY))
    done = subprocess.run([shell, "-c", f". {tmp_path}/lockgate.sh; env"], capture_output=True, text=True, check=True, env={})
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert found["https_proxy"] == found["HTTP_PROXY"] == "http://127.0.0.1:8080"
    assert found["no_proxy"].split(",") == ["localhost", "127.0.0.1", "::1"]


@pytest.mark.skipif(not shutil.which("apt-config"), reason="needs apt")
def test_what_apt_gets(tmp_path):
    (tmp_path / "apt.conf").write_text(apt(("::1", 8080)))
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True,
                          env=os.environ | {"APT_CONFIG": str(tmp_path / "apt.conf")})
    assert 'Acquire::https::Proxy "http://[::1]:8080";' in done.stdout


@pytest.mark.skipif(not Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator").exists(),
                    reason="needs systemd")
def test_what_services_get(tmp_path):
    folder = tmp_path / "environment.d"
    folder.mkdir()
    (folder / "90-lockgate.conf").write_text(environment(PROXY))
    done = subprocess.run(["/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator"],
                          capture_output=True, text=True, check=True, env={"XDG_CONFIG_HOME": str(tmp_path), "HOME": "/"})
    assert "http_proxy=http://127.0.0.1:8080" in done.stdout


# -- GNOME

@pytest.fixture
def gnome(tmp_path):
    if not shutil.which("gsettings"):
        pytest.skip("needs gsettings")
    user = User(os.geteuid(), os.getegid(), tmp_path)
    found = Gnome(user, {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path),
                         "GSETTINGS_BACKEND": "keyfile"})
    try:
        found.read({})
    except OSError as error:
        pytest.skip(f"needs GNOME's schemas: {error}")
    return found


def test_gnome(gnome, tmp_path):
    """What was at its default is reset, what was set comes back; a manual SOCKS proxy leads nobody round us."""
    database = tmp_path / "glib-2.0/settings/keyfile"
    gnome.write({"org.gnome.system.proxy.socks host": "'old.test'", "org.gnome.system.proxy mode": "'auto'"})
    before = database.read_text()
    setting = SettingRecord(tmp_path / "record", {"gnome": gnome})
    setting.set(PROXY, ["gnome"])
    done = subprocess.run(["gsettings", "get", "org.gnome.system.proxy.https", "port"], capture_output=True, text=True,
                          check=True, env=dict(gnome.environment))
    assert done.stdout.strip() == "8080"
    assert setting.changes() == []
    assert gnome.read({"org.gnome.system.proxy mode": ""}) == {"org.gnome.system.proxy mode": "'manual'"}
    assert gnome.read({"org.gnome.system.proxy.socks host": ""}) == {"org.gnome.system.proxy.socks host": None}
    gnome.write({"org.gnome.system.proxy mode": "'none'"})
    (change,) = setting.changes()
    assert (change.key, change.now) == ("org.gnome.system.proxy mode", None)
    setting.repair([change])
    restored, left = setting.unset()
    assert left == []
    assert len(restored) == 5, "the other two are as GNOME has them by default"
    assert sorted(line for line in database.read_text().splitlines() if "=" in line) == sorted(
        line for line in before.splitlines() if "=" in line)


def test_a_desktop_that_cannot_be_reached_stays_on_record(gnome, tmp_path):
    setting = SettingRecord(tmp_path / "record", {"gnome": gnome})
    setting.set(PROXY, ["gnome"])
    assert SettingRecord(tmp_path / "record", {}).unset() == ([], [])
    restored, _ = setting.unset()
    assert "org.gnome.system.proxy mode" in restored
    assert not setting.path.exists()


def test_a_users_places_are_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/alice")
    found = places(tmp_path)
    assert sorted(found) == ["environment", "pac"]
    files = [path for place in found.values() for path in place.contents]
    assert {path.parent for path in files} == {tmp_path / "home/alice/.config/environment.d",
                                               tmp_path / "home/alice/.config/lockgate"}


@ROOT
def test_undone_by_another_while_it_is_repaired(setting, root):
    setting.set(PROXY, ["environment"])
    (root / "etc/profile.d/lockgate.sh").write_text("theirs")
    changes = setting.changes()
    setting.unset()
    setting.repair(changes)
    assert ours(root) == []


def test_below_a_prefix_there_are_files_only(tmp_path):
    assert "gnome" not in places(tmp_path)
