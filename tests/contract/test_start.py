"""Starting, stopping, and what others do to our rules meanwhile."""

import subprocess
import time
from contextlib import closing

import pytest

from redirector.wire import Failed, Ready
from tests.contract.lab import ORIGIN4, SECOND4
from tests.contract.rig import MODES, PROXY_PORT, Application, ask, usual
from tests.waiting import BUSY, HOLDS, wait_for

pytestmark = pytest.mark.live
WHO = {"address": ORIGIN4, "port": 443}
#: What other programs do to the packet filters of a computer; those that are not installed do nothing.
CLEARING = ("nft flush ruleset", "nft delete table inet lockgate_contract", "iptables -F", "iptables -t nat -F",
            "tc qdisc del dev e0 clsact", "tc qdisc del dev lo clsact", "conntrack -F", "ip rule flush table 100")
#: Names of modules that what runs with rights imports, from the standard library, from us, and from outside.
HOSTILE = ("json", "socket", "redirector", "ctypes", "nft", "pydivert", "proxy", "encodings")


@pytest.mark.parametrize("plan", MODES)
def test_start_and_stop_again_and_again(rig, plan):
    for _ in range(2):
        assert isinstance(rig.start(plan), Ready)
        assert ask(rig, "who", **WHO)["direct"] is False
        rig.stop()
        assert wait_for(lambda: not rig.left(), HOLDS + BUSY) or rig.left() == []
        assert ask(rig.lab, "who", **WHO)["direct"] is True


@pytest.mark.offers("everything")
def test_a_second_one_is_refused_and_says_why(rig, new_rig):
    rig.start(usual(rig))
    second = new_rig()
    answer = second.start(usual(rig, listen_port=PROXY_PORT + 1))
    assert isinstance(answer, Failed)
    assert len(answer.reason.split()) > 3
    second.close()
    assert ask(rig, "who", **WHO)["direct"] is False


def test_hostile_files_in_the_current_folder(rig, tmp_path):
    """What runs with rights imports none of them."""
    for name in HOSTILE:
        (tmp_path / f"{name}.py").write_text("import os; os._exit(66)")
    assert isinstance(rig.start(usual(rig), cwd=str(tmp_path)), Ready)
    assert ask(rig, "who", **WHO)["direct"] is False


@pytest.mark.offers("transparent")
@pytest.mark.parametrize("plan", MODES)
def test_others_clear_the_rules_away(rig, plan):
    """It does not touch ours, or they are restored, or the fail mode holds: in the end it is one of these."""
    rig.start(plan)
    for command in CLEARING:
        rig.lab.client.call(subprocess.run, ["sh", "-c", command], capture_output=True)
    time.sleep(HOLDS)
    answer = ask(rig, "who", **WHO)
    assert "error" in answer or answer["direct"] is False or plan.fail == "open", answer


@pytest.mark.parametrize("plan", MODES)
def test_stop_under_load(rig, plan):
    """Nobody is left hanging, nobody is led astray, and then all goes direct."""
    rig.start(plan)
    with closing(Application(rig, "load", targets=[(ORIGIN4, 443), (SECOND4, 80)], threads=8)) as app:
        time.sleep(1.0)
        rig.stop()
        stopped = time.monotonic()
        time.sleep(1.0)
        outcomes = app.lines()
    assert {outcome for *_, outcome in outcomes} <= {"captured", "direct", "ECONNRESET", "ECONNREFUSED", "EPIPE",
                                                     "ECONNABORTED", "ended without an answer"}
    if rig.declaration.transparent and rig.declaration.everything:
        assert {outcome for began, _, outcome in outcomes if began > stopped} == {"direct"}
    assert max(took for _, took, _ in outcomes) < HOLDS + BUSY
