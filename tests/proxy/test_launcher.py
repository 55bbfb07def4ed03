"""The launcher and its pair: started, supervised, stopped; here through the explicit door, which needs no rights."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from proxy.launcher import Launch, Launcher, LaunchError


@pytest.fixture
def launch(tmp_path):
    tmp_path.chmod(0o755)
    return Launch(tmp_path / "state", None, [("127.0.0.1", 0)], run_dir=str(tmp_path / "run"))


@pytest.fixture
def launcher(launch):
    launcher = Launcher(launch)
    yield launcher
    launcher.stop()


def pids(launcher):
    return {process.pid for process in (launcher.pair.worker, launcher.pair.redirector)}


def reachable(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_both_are_there_when_it_is_ready_and_gone_when_it_is_stopped(launcher):
    ready = launcher.start().ready
    host, port = ready["listen"][0]
    assert (host, ready["type"], reachable(port)) == ("127.0.0.1", "ready", True)
    assert b"CERTIFICATE" in Path(ready["ca"]).read_bytes()
    before = pids(launcher)
    launcher.stop()
    assert not reachable(port)
    assert not [pid for pid in before if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("which", ["worker", "redirector"])
def test_one_that_dies_is_replaced_with_the_other_at_the_same_port(launcher, which):
    port = launcher.start().ready["listen"][0][1]
    before, told = pids(launcher), []

    def tell(message):
        told.append(message)

    os.kill(getattr(launcher.pair, which).pid, signal.SIGKILL)
    launcher.supervise(tell, lambda: "restarted" in [message["type"] for message in told])
    assert [message["type"] for message in told if message["type"] != "failed"] == ["restarting", "restarted"]
    assert told[-1]["listen"] == [["127.0.0.1", port]]
    assert not before & pids(launcher)


def test_a_signal_ends_supervision_at_once(launcher):
    launcher.start()
    stopped = []
    before = signal.signal(signal.SIGUSR1, lambda *_: stopped.append(True))
    try:
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        began = time.monotonic()
        launcher.supervise(lambda _: None, lambda: bool(stopped))
        assert time.monotonic() - began < 0.9  # less than a look's interval
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_is_wrong_with_the_policy_is_raised(launch, tmp_path):
    launch.policy = tmp_path / "policy.yaml"
    launch.policy.write_text("version: 1\nfilters: [{id: a, use: no.Such}, {id: b, use: ./absent.py:X}]\n")
    launch.policy.chmod(0o644)
    launcher = Launcher(launch)
    with pytest.raises(LaunchError) as raised:
        launcher.start()
    assert len(raised.value.errors) == 2
    assert launcher.pair.worker.poll() is not None
    launcher.stop()


def test_a_port_that_is_taken_is_said(launch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        launch.listen = [other.getsockname()]
        launcher = Launcher(launch)
        with pytest.raises(LaunchError, match="in use"):
            launcher.start()
        launcher.stop()


def test_keys_of_sessions_are_not_written_for_others(launcher, tmp_path, monkeypatch):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    launcher.start()
    environment = Path(f"/proc/{launcher.pair.worker.pid}/environ").read_bytes()
    assert b"SSLKEYLOGFILE" not in environment
