"""The units say what they should, and systemd takes them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from proxy.units import CAPABILITIES, RECORDER, RECORDING, REDIRECTOR, SERVICE, SOCKET, Setting, line, units

SETTING = Setting(Path("/opt/lockgate/bin/python"), Path("/etc/lockgate/policy.yaml"), (Path("/opt/lockgate"),))


def value(text, key):
    """The values of a key, in order."""
    return [each.partition("=")[2] for each in text.splitlines() if each.partition("=")[0] == key]


def test_the_proxy_has_no_rights_and_the_others_what_they_need():
    made = units(SETTING)
    assert value(made[SERVICE], "CapabilityBoundingSet") == [""]
    assert value(made[SERVICE], "User") == ["lockgate"]
    assert value(made[REDIRECTOR], "CapabilityBoundingSet") == [" ".join(CAPABILITIES)]
    assert value(made[RECORDER], "CapabilityBoundingSet") == [" ".join(RECORDING)]
    assert value(made[RECORDER], "ReadWritePaths") == ["/var/lib/lockgate"]
    for name in (SERVICE, REDIRECTOR, RECORDER):
        assert value(made[name], "NoNewPrivileges") == ["yes"]
        assert value(made[name], "ProtectSystem") == ["strict"]


def test_the_guard_outlives_the_redirector_and_the_proxy_comes_back_for_ever():
    made = units(SETTING)
    assert value(made[REDIRECTOR], "KillMode") == ["process"]
    assert (value(made[SERVICE], "Restart"), value(made[SERVICE], "StartLimitIntervalSec")) == (["always"], ["0"])


def test_only_the_proxy_may_ask_for_a_redirector():
    made = units(SETTING)[SOCKET]
    assert (value(made, "SocketUser"), value(made, "SocketGroup"), value(made, "SocketMode")) == (["root"], ["lockgate"], ["0660"])


@pytest.mark.parametrize(("closed", "before"), [(True, ["network-pre.target"]), (False, [""])])
def test_what_fails_closed_is_there_before_the_network(closed, before):
    made = units(Setting(SETTING.python, None, (), closed=closed))
    assert value(made[SERVICE], "Before") == before


@pytest.mark.parametrize(("code", "shown"), [
    pytest.param("/opt/lockgate", [""], id="code that everybody sees"),
    pytest.param("/home/ann/lockgate", ['"/home/ann/lockgate"'], id="code in a home"),
    pytest.param("/root/a b%c", ['"/root/a b%%c"'], id="an odd name"),
    pytest.param("/tmpfiles", [""], id="a name that begins like a hidden one"),
])
def test_code_in_hidden_folders_is_shown(code, shown):
    assert value(units(Setting(SETTING.python, None, (Path(code),)))[SERVICE], "BindReadOnlyPaths") == shown


@pytest.mark.parametrize(("word", "written"), [("/a/b", "/a/b"), ("/a b", "'/a b'"), ("100%", "100%%"), ("$HOME", "'$$HOME'"),
                                               ("a\\x20b", "'a\\\\x20b'"), ("", "''")])
def test_nothing_is_expanded(word, written):
    assert line([word]) == written


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("policy", [None, "/etc/lockgate/policy.yaml", "/etc/a b/50% $off.yaml"])
def test_systemd_takes_them(tmp_path, policy):
    setting = Setting(Path("/usr/bin/env"), policy and Path(policy), (Path("/home/ann/a b"),), user="root")
    for name, text in units(setting).items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in units(setting))],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize(("name", "most"), [(SERVICE, 20), (REDIRECTOR, 30), (RECORDER, 30)])
def test_systemd_finds_them_little_exposed(tmp_path, name, most):
    """Tenths of its ten; a unit without a sandbox is at 96."""
    (tmp_path / name).write_text(units(SETTING)[name])
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", f"--threshold={most}", tmp_path / name],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:]
