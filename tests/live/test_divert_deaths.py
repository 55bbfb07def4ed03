"""What holds under `divert` when the redirector, the process of the packets or the guard dies or hangs.

Needs neither nft nor the proxy.
"""
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from redirector import release
from redirector.divert import DIVERT_PRIORITY, GUARD_PRIORITY, SILENCE_LIMIT
from redirector.plan import Scope
from redirector.wire import Failed, Ready, Stop
from tests.live.diverting import DIVERTED, PLAN, needs_divert, network, programs
from tests.redirector.namespaces import APP_UID, PROXY_UID, Launcher, echo
from tests.waiting import BUSY, HOLDS, wait_for

pytestmark = needs_divert
__all__ = ["network"]
SHUT = replace(PLAN, fail="closed")


@pytest.fixture
def launch(network, tmp_path):
    made = []

    def make():
        made.append(Launcher(network.client, tmp_path))
        return made[-1]

    yield make
    for launcher in made:
        launcher.close()
    network.client.call(release.release, str(tmp_path))
    assert wait_for(lambda: not programs(network), BUSY), programs(network)
    assert [record for record in release.read(str(tmp_path)) if record.alive()] == []


def pid_of(launcher, role):
    if role == "redirector":
        return launcher.process.pid
    return next(record.pid for record in release.status(str(launcher.run_dir)) if record.role == role)


@pytest.mark.parametrize("role", ["redirector", "diverter"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
@pytest.mark.parametrize(("plan", "answer"), [(PLAN, "origin"), (SHUT, "refused")], ids=["open", "closed"])
def test_fail_mode_holds(network, launch, plan, answer, role, number):
    launcher = launch()
    assert isinstance(launcher.start(plan), Ready)
    assert network.ask() == DIVERTED
    os.kill(pid_of(launcher, role), number)
    if (role, number) == ("redirector", signal.SIGSTOP):
        time.sleep(SILENCE_LIMIT)
        assert network.ask() == DIVERTED, "who hangs has its launcher to end it"
        launcher.process.kill()
    assert wait_for(lambda: network.ask() == answer, HOLDS + BUSY), network.ask()
    assert launcher.process.wait(BUSY) == (-9 if role == "redirector" else 1)
    assert network.ask(uid=PROXY_UID) == "origin"
    assert programs(network) == (set() if plan is PLAN else {GUARD_PRIORITY})


def test_nothing_goes_direct_between_a_death_and_the_guard(network, launch):
    """Each attempt is refused, or waits; none reaches the origin."""
    launcher = launch()
    launcher.start(SHUT)
    os.kill(pid_of(launcher, "diverter"), signal.SIGKILL)
    until = time.monotonic() + 4
    while time.monotonic() < until:
        assert network.ask() in ("refused", "silence")


def test_what_was_diverted_does_not_go_on_to_the_origin(network, launch):
    launcher = launch()
    launcher.start(SHUT)
    with network.connect() as connection:
        before = network.heard()
        os.kill(pid_of(launcher, "diverter"), signal.SIGKILL)
        assert launcher.process.wait(BUSY) == 1
        with pytest.raises(OSError):  # noqa: PT011  # aborted, or refused by the guard
            echo(connection)
            echo(connection)
        assert network.heard() == before


def test_a_guard_that_dies_is_replaced(network, launch):
    launcher = launch()
    launcher.start(SHUT)
    first = pid_of(launcher, "guard")
    os.kill(first, signal.SIGKILL)
    assert wait_for(lambda: any(record.role == "guard" and record.pid != first
                                for record in release.status(str(launcher.run_dir))), BUSY)
    os.kill(pid_of(launcher, "diverter"), signal.SIGKILL)
    launcher.process.wait(BUSY)
    assert network.ask() == "refused"


def test_the_next_start_takes_over_from_the_guard(network, launch):
    one = launch()
    one.start(SHUT)
    os.kill(one.process.pid, signal.SIGKILL)
    one.process.wait()
    assert wait_for(lambda: network.ask() == "refused", HOLDS + BUSY)
    two = launch()
    assert isinstance(two.start(SHUT), Ready)
    assert network.ask() == DIVERTED
    assert len([each for each in release.status(str(two.run_dir)) if each.role == "guard"]) == 1


def kill_all(launcher):
    for pid in [launcher.process.pid, *(record.pid for record in release.status(str(launcher.run_dir)))]:
        os.kill(pid, signal.SIGKILL)
    launcher.process.wait()


@pytest.mark.parametrize("cleaner", ["the next start", "release"])
def test_what_nobody_was_left_to_detach_lets_pass_and_is_detached_later(network, launch, cleaner):
    launcher = launch()
    launcher.start(SHUT)
    kill_all(launcher)
    assert wait_for(lambda: network.ask() == "origin", HOLDS + BUSY)
    assert programs(network) == {DIVERT_PRIORITY, GUARD_PRIORITY}
    if cleaner == "release":
        script = str(Path(release.__file__))
        network.client.call(subprocess.run, ["python3", script, str(launcher.run_dir)], check=True, capture_output=True)
    else:
        launcher = launch()
        launcher.start(PLAN)
        assert programs(network) == {DIVERT_PRIORITY}
        assert len(network.client.sh("tc filter show dev e0 egress | grep tc_divert").splitlines()) == 1
        launcher.send(Stop())
        launcher.process.wait(BUSY)
    assert programs(network) == set()


def test_those_of_another_that_lives_are_left_alone(network, launch):
    one, two = launch(), launch()
    one.start(replace(PLAN, scope=Scope(uid=APP_UID), exempt_uid=None), "one")
    two.start(replace(PLAN, scope=Scope(uid=APP_UID + 1), exempt_uid=None), "two")
    two.process.kill()
    two.process.wait()
    assert wait_for(lambda: len(release.status(str(one.run_dir))) == 2, BUSY)
    assert [network.ask(uid=uid) for uid in (APP_UID, APP_UID + 1)] == [DIVERTED, "origin"]


@pytest.mark.parametrize("plan", [PLAN, SHUT], ids=["open", "closed"])
def test_an_orderly_end_leaves_nothing(network, launch, plan):
    launcher = launch()
    launcher.start(plan)
    launcher.send(Stop())
    assert launcher.process.wait(BUSY) == 0
    assert (programs(network), network.ask(), list(Path(launcher.run_dir).iterdir())) == (set(), "origin", [])


def test_a_start_that_cannot_be_leaves_nothing(network, launch):
    """The guard was there first; it goes with the start."""
    answer = launch().start(replace(SHUT, loopback=True))
    assert isinstance(answer, Failed)
    assert "--capture divert does not offer loopback" in answer.reason
    assert wait_for(lambda: not programs(network), BUSY)
    assert network.ask() == "origin"
