"""What the service manager runs, as far as it needs none."""

import json
import os
import pwd
import signal
import subprocess
import sys

import pytest

from proxy.serving import INSTANCE, PORTS, START, Serving, main
from redirector.activated import read_start

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="the run folder is root's")


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "policy.yaml").write_text("version: 1\ncapture: {ports: [443], encrypted_dns: refuse}\n")
    return tmp_path


def plan(folder, user="nobody"):
    return main(["plan", "--policy", str(folder / "policy.yaml"), "--run-dir", str(folder / "run"), "--user", user])


@ROOT
def test_the_policys_capture_becomes_the_start_of_every_redirector(folder):
    assert plan(folder) == 0
    start = read_start(str(folder / "run" / START))
    assert (start.instance, start.run_dir, start.plan.ports, start.plan.encrypted_dns) == (
        INSTANCE, str(folder / "run"), (443,), "refuse")
    assert (start.plan.exempt_uid, start.plan.listen_port in PORTS) == (pwd.getpwnam("nobody").pw_uid, True)


@ROOT
def test_a_port_is_another_each_time_so_that_nobody_can_sit_on_it(folder):
    found = {read_start(str(folder / "run" / START)).plan.listen_port for _ in range(5) if plan(folder) == 0}
    assert len(found) > 1


@ROOT
@pytest.mark.parametrize("spoil", [
    pytest.param(lambda folder: (folder / "policy.yaml").write_text("version: 2\n"), id="a bad policy"),
    pytest.param(lambda folder: (folder / "policy.yaml").chmod(0o666), id="a policy of everybody's"),
    pytest.param(lambda folder: ((folder / "run").mkdir(), (folder / "run").chmod(0o777)), id="a folder of everybody's"),
])
def test_nothing_is_written_for_what_cannot_be_believed(folder, spoil, capsys):
    spoil(folder)
    assert plan(folder) == 2
    assert capsys.readouterr().err
    assert not (folder / "run" / START).exists()


@ROOT
def test_no_such_user(folder, capsys):
    assert plan(folder, "no-such-user") == 2
    assert "no-such-user" in capsys.readouterr().err


@pytest.mark.parametrize(("result", "lifted"), [("success", True), ("watchdog", False), (None, False)])
def test_only_an_orderly_end_lifts_the_guard(monkeypatch, tmp_path, result, lifted):
    """A stand-in for the guard: a process with its record."""
    tmp_path.chmod(0o755)
    script = (f"from redirector import release; import sys; release.write({str(tmp_path)!r}, 'guard', {INSTANCE!r}, 't', 'closed', []); "
              "print(flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-I", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guard:
        guard.stdout.readline()
        if result:
            monkeypatch.setenv("SERVICE_RESULT", result)
        assert main(["stopped", "--run-dir", str(tmp_path)]) == 0
        assert (guard.poll() is not None or guard.wait(2) == -signal.SIGKILL) if lifted else guard.poll() is None
        guard.kill()


class Told:
    """Keeps what a service manager would hear."""

    def __init__(self):
        self.said = []

    def ready(self, status):
        self.said.append(("ready", status))

    def status(self, text):
        self.said.append(("status", text))


@pytest.mark.parametrize(("message", "said"), [
    ({"type": "ready"}, ("ready", "inspecting")), ({"type": "restarted"}, ("ready", "inspecting")),
    ({"type": "reloaded"}, ("ready", "inspecting")),
    ({"type": "reload-failed", "errors": ["x"]}, ("ready", "the new policy has mistakes, the old one is in force")),
    ({"type": "restarting", "reason": "the proxy ended"}, ("status", "restarting: the proxy ended")),
])
def test_the_launchers_words_reach_the_manager_and_the_journal(message, said, capsys):
    told = Told()
    Serving(None, told).tell(message)
    assert told.said == [said]
    assert json.loads(capsys.readouterr().out) == message
