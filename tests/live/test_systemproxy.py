"""The system's proxy setting while an explicit proxy runs, and after its death."""

import os
import signal

import pytest

from tests.waiting import wait_for

pytestmark = pytest.mark.live
PROXY = "127.0.0.1:8080"
EXPLICIT = ("--capture", "explicit", "--listen", PROXY)


@pytest.fixture
def system(tmp_path):
    (tmp_path / "root/etc/profile.d").mkdir(parents=True)
    (tmp_path / "root/etc/profile.d/lockgate.sh").write_text("# somebody's\n")
    return tmp_path / "root"


def ours(system):
    return sorted(path.name for path in (system / "etc").rglob("*")
                  if path.is_file() and (b"undone by" in path.read_bytes() or path.suffix == ".pac"))


def test_the_systems_proxy_while_it_runs(lab, state, system):
    profile = system / "etc/profile.d/lockgate.sh"
    with lab.start(*EXPLICIT, "--system-proxy=repair", "--prefix", system, state=state, policy=lab.policy()) as started:
        assert wait_for(lambda: len(ours(system)) == 3, 5)
        assert PROXY in (system / "etc/lockgate/proxy.pac").read_text()
        done = lab.call("sh", "-c", f". {profile}; curl -skSo /dev/null -w '%{{http_code}}' https://blocked.test/")
        assert done.stdout == "403"
        ours_before = profile.read_bytes()
        profile.write_text("export http_proxy=http://elsewhere.test:1\n")
        message = started.message("system-proxy")
        assert str(profile) in message["reason"]
        assert profile.read_bytes() == ours_before
        assert str(profile) in (lab.folder / "stderr").read_text()
        found = wait_for(lambda: [event for event in lab.events(state) if event["event_type"] == "lockgate"
                                  and event["lockgate"]["event"] == "system proxy"], 5)
        assert str(profile) in found[0]["lockgate"]["reason"]
    assert (ours(system), profile.read_text()) == ([], "# somebody's\n")
    assert not (system / "etc/lockgate").exists()


def test_after_a_kill_it_is_undone_by_the_command(lab, state, system):
    """Until then the setting stays: programs get no connection rather than an uninspected one."""
    with lab.start(*EXPLICIT, "--system-proxy", "--prefix", system, state=state, policy=lab.policy()) as started:
        assert wait_for(lambda: len(ours(system)) == 3, 5)
        os.kill(started.process.pid, signal.SIGKILL)
        started.process.wait(10)
    assert len(ours(system)) == 3
    words = ("system-proxy", "unset", "--prefix", system)
    done = lab.call(*lab.lockgate(*words))
    assert done.returncode == 0, done.stderr
    assert (ours(system), (system / "etc/profile.d/lockgate.sh").read_text()) == ([], "# somebody's\n")


def test_a_captured_computer_needs_no_setting(lab, state, system):
    done = lab.call(*lab.lockgate("start", "--capture", "nftables", "--system-proxy", "--prefix", system, "--state", state,
                                  "--run-dir", lab.folder / "run"))
    assert (done.returncode, "--capture explicit" in done.stderr, ours(system)) == (2, True, [])
