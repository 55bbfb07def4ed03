"""The places of the system's proxy setting: what shells, apt, services and GNOME make of what we write there.

GNOME's settings are a file of the test's.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from certs.user import User
from proxy.settingrecord import SettingRecord
from proxy.settings import Gnome, apt, environment, places, profile

PROXY = ("127.0.0.1", 8080)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the files of POSIX systems")


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


def test_below_a_prefix_there_are_files_only(tmp_path):
    assert "gnome" not in places(tmp_path)
