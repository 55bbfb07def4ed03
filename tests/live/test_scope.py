"""`lockgate start`: for a user or a control group; how it is stopped; what was open before it."""

import os
import subprocess
from pathlib import Path

import pytest

from redirector.cgroups import mount
from tests.live.lab import ORIGIN, running
from tests.waiting import HOLDS, wait_for

pytestmark = pytest.mark.live
#: Nobody's uid: an application.
APP = 61999


def test_only_a_user(lab, state):
    with lab.start("--only-user", APP, state=state, policy=lab.policy("user.yaml")):
        assert lab.status("https://blocked.test/", user=APP) == "403"
        assert lab.status("https://blocked.test/") == "200"


def test_only_a_control_group(lab, state):
    group = Path(mount(), f"lockgate-test-start-{os.getpid()}")
    group.mkdir()
    enter = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
    try:
        with lab.start("--only-cgroup", f"/{group.name}", state=state, policy=lab.policy("group.yaml")):
            ask = ("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://blocked.test/")
            assert lab.call(*enter, *ask).stdout == "403"
            assert lab.call(*ask).stdout == "200"
    finally:
        assert wait_for(lambda: not (group / "cgroup.procs").read_text(), HOLDS)
        group.rmdir()


def test_stop_ends_it_from_elsewhere(lab, state):
    with lab.start(state=state, policy=lab.policy("stop.yaml")) as started:
        done = lab.call(*lab.lockgate("stop", "--state", state, "--run-dir", lab.folder / "run"))
        assert (done.returncode, done.stdout) == (0, "stopped\n")
        assert started.process.wait(5) == 0
    done = lab.call(*lab.lockgate("stop", "--state", state, "--run-dir", lab.folder / "run"))
    assert done.returncode == 1


def test_older_connections_are_counted_and_go_on(lab, state):
    holder = (
        "import socket,time,sys; s=socket.create_connection((sys.argv[1],80)); print(1,flush=True); sys.stdin.read(1); "
        "s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); print(s.recv(99)[:15])"
    )
    with running(
        lab.inside("python3", "-c", holder, ORIGIN), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as older:
        assert older.stdout.readline() == "1\n"
        with lab.start(state=state, policy=lab.policy("older.yaml")) as started:
            assert started.ready["existing"] == 1
            assert older.communicate("x", timeout=5)[0] == "b'HTTP/1.1 200 OK'\n"
