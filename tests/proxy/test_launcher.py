"""The launcher: starts, supervises, stops its pair; here through the explicit door, which needs no rights."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from proxy.launcher import Launch, Launcher
from proxy.pair import LaunchError, Pair


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


def test_the_worker_may_write_to_our_terminal_but_not_read_from_it(launcher):
    if os.geteuid() != 0:
        pytest.skip("it is the same user")
    launcher.start()
    fields = dict(line.split(":") for line in Path(f"/proc/{launcher.pair.worker.pid}/fdinfo/2").read_text().splitlines())
    assert int(fields["flags"], 8) & os.O_ACCMODE == os.O_WRONLY


def test_a_worker_that_talks_nonsense_is_replaced(launcher):
    launcher.start()
    before, told = pids(launcher), []
    read, write = os.pipe()
    os.write(write, b'{"type": "ready"}\n')
    with os.fdopen(read), os.fdopen(write):
        os.dup2(read, launcher.pair.worker.stdout.fileno())
        launcher.supervise(told.append, lambda: "restarted" in [message["type"] for message in told])
    assert "nonsense" in told[0]["reason"]
    assert not before & pids(launcher)


def test_the_root_certificate_is_read(launcher):
    launcher.start()
    assert b"CERTIFICATE" in launcher.root_certificate()


@pytest.mark.skipif(os.geteuid() != 0, reason="there is nobody else's that we could read")
@pytest.mark.parametrize("lay", [
    pytest.param(lambda place, secret: place.symlink_to(secret), id="a link"),
    pytest.param(lambda place, secret: place.hardlink_to(secret), id="a hard link"),
    pytest.param(lambda place, _: place.mkdir(), id="a folder"),
    pytest.param(lambda place, _: os.mkfifo(place), id="a pipe that nobody writes to"),
    pytest.param(lambda place, _: place.symlink_to("/dev/zero"), id="a device"),
])
def test_a_worker_cannot_make_us_read_what_is_not_its_own(launch, tmp_path, lay):
    """What is read is published as a root to trust."""
    secret, place = tmp_path / "secret", tmp_path / "ca.pem"
    secret.write_text("secret")
    lay(place, secret)
    launcher = Launcher(launch)
    if not place.is_file():     # what it can lay there is its own, but what that leads to is not
        os.chown(place, launcher.who.uid, launcher.who.gid, follow_symlinks=False)
    launcher.pair = Pair(None, ready={"ca": str(place)})
    with pytest.raises((ValueError, OSError)):
        launcher.root_certificate()
    launcher.pair = None
    launcher.stop()
