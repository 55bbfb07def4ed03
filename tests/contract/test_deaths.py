"""Whatever is killed or stopped, under load: the chosen fail mode holds, nothing goes astray, nothing stays behind.

ROUNDS=50 in the environment has each death fifty times.
"""

import os
import signal
import time
from collections import Counter
from contextlib import closing

import pytest

from redirector.wire import Ready
from tests.contract.lab import ORIGIN4, ORIGIN6, SECOND4
from tests.contract.rig import MODES, Application, alive, ask
from tests.waiting import BUSY, HOLDS, wait_for

pytestmark = pytest.mark.live
ROUNDS = int(os.environ.get("ROUNDS", "1"))
#: Seconds of silence after which a proxy takes the redirector for gone (proxy/channel.py).
SILENCE = 3.0
WHO = {"address": ORIGIN4, "port": 443}
#: Seconds for one answer where all should go direct.
ONE = 1.5


def mode(answer: dict[str, object]) -> str:
    """What holds, by what an application saw: captured, open, or closed."""
    return "closed" if "error" in answer else "open" if answer["direct"] else "captured"


@pytest.mark.parametrize("plan", MODES)
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_death_of_each_process(rig, plan, death):
    targets = [(ORIGIN4, 443), (SECOND4, 80), (ORIGIN6 if rig.declaration.ipv6 else ORIGIN4, 443)]
    for number in range(ROUNDS):
        assert isinstance(rig.start(plan), Ready)
        roles = sorted(rig.processes())
        rig.close()
        for role in roles:
            with closing(Application(rig, "load", targets=targets, threads=4)) as load:
                one_death(rig, plan, role, death, load)
        print(f"round {number + 1}: {', '.join(roles)}")


def one_death(rig, plan, role, death, load):
    rig.start(plan)
    ready = time.monotonic()
    time.sleep(0.3)
    pid = rig.processes()[role]
    os.kill(pid, death)
    # A hung redirector is the proxy's to notice and the launcher's to end; with all else they manage on their own.
    helped = role != "proxy" and death == signal.SIGSTOP
    expected = {plan.fail} if role in ("proxy", "redirector") else {"captured", plan.fail}
    assert wait_for(lambda: holds(rig, expected, helped), HOLDS + BUSY + (SILENCE if helped else 0)), (role, ask(rig, "who", **WHO))
    holding = time.monotonic()
    time.sleep(0.5)
    assert mode(ask(rig, "who", **WHO)) in expected
    before_the_end = time.monotonic()
    rig.close()
    outcomes = load.lines()
    between = Counter(outcome for began, took, outcome in outcomes if ready < began and began + took < before_the_end)
    after = Counter(outcome for began, took, outcome in outcomes if holding < began and began + took < before_the_end)
    assert not {"wrong", "hangs"} & set(between), (role, between)
    assert max(took for began, took, _ in outcomes if began < before_the_end) < HOLDS + BUSY + SILENCE, role
    if plan.fail == "closed" and rig.declaration.transparent:
        assert not between["direct"], (role, between)
    if expected == {"open"}:
        assert set(after) <= {"direct"}, (role, after)
    assert wait_for(lambda: not rig.left(), HOLDS + BUSY) or rig.left() == [], role


def holds(rig, expected, helped):
    if helped:
        rig.mend()
    # one that is caught in between may get no answer at all, and must not use up the time of all the others
    return mode(ask(rig, "who", **WHO, **({"limit": ONE} if expected == {"open"} else {}))) in expected


@pytest.mark.parametrize("plan", MODES)
def test_all_killed_at_once_leaves_nothing(rig, plan):
    """Nobody is left to clean up."""
    rig.start(plan)
    with closing(Application(rig, "load", targets=[(ORIGIN4, 443)], threads=4)):
        time.sleep(0.3)
        pids = rig.processes().values()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not any(map(alive, pids)), HOLDS)
        assert wait_for(lambda: not rig.left(), HOLDS + BUSY) or rig.left() == []
    if rig.declaration.everything:
        assert mode(ask(rig, "who", **WHO)) == "open"


@pytest.mark.offers("closed", "transparent")
def test_after_a_crash_the_next_start_takes_over(rig, new_rig):
    """What held closed is replaced without a gap."""
    plan = MODES[1].values[0]
    rig.start(plan)
    for role in ("proxy", "redirector"):
        os.kill(rig.processes()[role], signal.SIGKILL)
    assert wait_for(lambda: mode(ask(rig, "who", **WHO)) == "closed", HOLDS + BUSY)
    with closing(Application(rig, "load", targets=[(ORIGIN4, 443)], threads=4)) as load:
        time.sleep(0.2)
        assert isinstance(rig.start(plan), Ready)
        assert mode(ask(rig, "who", **WHO)) == "captured"
        before_the_end = time.monotonic()
        time.sleep(0.1)
        outcomes = load.lines()
    assert "direct" not in {outcome for began, took, outcome in outcomes if began + took < before_the_end}
