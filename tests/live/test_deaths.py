"""Whatever is killed or stopped, under load: the chosen fail mode holds, what died is replaced, nothing stays behind.

ROUNDS=20 in the environment has each death twenty times.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.live.lab import Lab, Started
from tests.waiting import HOLDS, wait_for

pytestmark = pytest.mark.live
ROUNDS = int(os.environ.get("ROUNDS", "1"))
CLIENTS = 4
#: Seconds until all is as before: to notice (the redirector's silence, at most 3), and to start a worker under load.
RECOVERS = 20.0
OURS, DIRECT = "200 lockgate", "200 lab"


class Load:
    """Clients that ask all the time; `outcomes` since a moment."""

    def __init__(self, lab: Lab, root: Path) -> None:
        trusted = lab.folder / "trusted-by-load.pem"
        trusted.write_bytes(root.read_bytes() + (lab.folder / "roots.pem").read_bytes())
        self._log = lab.folder / "load.log"
        command = [sys.executable, "-I", Path(__file__).with_name("load.py"), "origin.test", trusted, CLIENTS]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                lab.inside(*command), stdin=subprocess.PIPE, stdout=log, env=lab.environment
            )

    def outcomes(self, since: float, until: float = float("inf")) -> Counter[str]:
        """What the requests got that began and ended in this time."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()[:-1]]
        return Counter(outcome for began, took, outcome in lines if began >= since and began + took <= until)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(params=["closed", "open"])
def under_load(request, lab, state):
    """A running lockgate, its fail mode, and clients that keep it busy."""
    policy = lab.policy(f"{request.param}.yaml", fail=request.param)
    with (
        lab.start(state=state, policy=policy) as started,
        contextlib.closing(Load(lab, Path(started.ready["ca"]))) as load,
    ):
        assert wait_for(lambda: load.outcomes(0)[OURS] > 20, HOLDS * 5)
        yield request.param, started, load


def tables(lab: Lab, fail: str) -> bool:
    """Are there the tables that belong to this fail mode, and no others?"""
    found = lab.tables()
    return "lockgate_main" in found and len(found) == (2 if fail == "closed" else 1)


def test_a_death_of_each_kind(lab, under_load):
    fail, started, load = under_load
    began = time.monotonic()
    for number in range(ROUNDS):
        for victim in ("proxy.worker", "redirector", *(["guard"] if fail == "closed" else [])):
            for death in (signal.SIGKILL, signal.SIGSTOP):
                one_death(lab, started, load, fail, victim, death)
        print(f"round {number + 1}: {dict(load.outcomes(began))}")
    if fail == "closed":
        assert not load.outcomes(began)[DIRECT]


def one_death(lab: Lab, started: Started, load: Load, fail: str, victim: str, death: signal.Signals) -> None:
    pid = started.guard() if victim == "guard" else started.child(victim)
    moment = time.monotonic()
    os.kill(pid, death)
    if (victim, death) == ("guard", signal.SIGSTOP):  # it has only to be there
        assert tables(lab, fail)
        os.kill(pid, signal.SIGCONT)
        return
    assert wait_for(lambda: not alive(pid), RECOVERS), f"{victim} was not replaced after {death.name}"
    if victim != "guard":
        assert started.message("restarted")
    assert wait_for(lambda: tables(lab, fail), HOLDS), lab.tables()
    back = time.monotonic()
    assert wait_for(lambda: load.outcomes(back)[OURS] > CLIENTS, RECOVERS), load.outcomes(moment)
    if fail == "open" and death == signal.SIGKILL:
        # Requests go direct until all is back; those that begin while the rules come in may be reset once.
        between = load.outcomes(moment + HOLDS, back)
        assert between[OURS] + between[DIRECT] >= between.total() - CLIENTS, between


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("fail", "left", "answer"),
    [
        pytest.param("closed", 1, "refused", id="closed: the guard holds"),
        pytest.param("open", 0, "200", id="open: all rules are gone"),
    ],
)
def test_a_killed_launcher(lab, state, fail, left, answer):
    policy = lab.policy(f"launcher-{fail}.yaml", fail=fail)
    with lab.start(state=state, policy=policy) as first:
        first.process.kill()
        assert wait_for(lambda: len(lab.tables()) == left and lab.status("https://origin.test/") == answer, HOLDS)
        assert lab.status("https://blocked.test/") == answer
        with lab.start(state=state, policy=policy) as second:  # takes over, from the guard as well
            assert lab.status("https://blocked.test/") == "403"
            assert len(lab.tables()) == left + 1
            assert second.ready["existing"] == 0
        assert lab.status("https://origin.test/") == "200"
        first.process.wait()


def test_a_stopped_launcher_is_not_missed_until_it_is_to_stop(lab, state):
    with lab.start(state=state, policy=lab.policy("stopped.yaml")) as started:
        started.process.send_signal(signal.SIGSTOP)
        time.sleep(HOLDS)
        assert lab.status("https://blocked.test/") == "403"
        done = lab.call(*lab.lockgate("stop", "--state", state, "--run-dir", lab.folder / "run"))
        assert (done.returncode, done.stdout) == (0, "stopped\n")


def test_release_after_the_worst_lifts_everything(lab, state):
    """Also by the system's Python, without the environment."""
    with lab.start(state=state, policy=lab.policy("worst.yaml")) as started:
        started.process.kill()
        os.kill(started.guard(), signal.SIGSTOP)
        assert wait_for(lambda: len(lab.tables()) == 1, HOLDS)
        script = Path(__file__).parents[2] / "redirector/release.py"
        done = lab.call("/usr/bin/python3", script, lab.folder / "run")
        assert (done.returncode, lab.tables(), lab.status("https://origin.test/")) == (0, [], "200"), done
        started.process.wait()
