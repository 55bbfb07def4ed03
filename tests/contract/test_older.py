"""Connections that were open before the capture."""

import os
import signal
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from tests.contract.lab import ORIGIN4, ORIGIN6
from tests.contract.rig import MODES, Application, ask
from tests.waiting import BUSY, HOLDS, wait_for

pytestmark = [pytest.mark.live, pytest.mark.offers("existing")]


@pytest.fixture
def older(rig, lab):
    """Two connections, of either family where there is IPv6; they have been used."""
    lab.quiet()
    with ExitStack() as stack:
        apps = []
        for address in (ORIGIN4, ORIGIN6 if rig.declaration.ipv6 else ORIGIN4):
            apps.append(stack.enter_context(closing(Application(lab, "hold", address=address, port=443))))
            assert apps[-1].says() == {"answer": "ping"}
        yield apps


@pytest.mark.parametrize("plan", MODES)
def test_they_are_counted_and_go_on(rig, older, plan):
    ready = rig.start(plan)
    assert (ready.existing, ready.cut) == (2, False)
    for app in older:
        app.go_on()
        assert app.says() == {"answer": "ping"}
    assert rig.seen() == []
    rig.stop()
    for app in older:
        app.go_on()
        assert app.says() == {"answer": "ping"}


@pytest.mark.parametrize("plan", MODES)
def test_they_are_cut_when_asked(rig, older, plan):
    ready = rig.start(replace(plan, existing="cut"))
    assert (ready.existing, ready.cut) == (2, True)
    for app in older:
        app.go_on()
        assert app.result(5)["error"] in ("ECONNABORTED", "ECONNRESET", "EPIPE")
    assert ask(rig, "who", address=ORIGIN4, port=443)["direct"] is False


@pytest.mark.parametrize("plan", MODES)
def test_their_ports_are_not_free_for_new_ones(rig, lab, plan):
    """What lets them go on lets nobody else past us, nor past what stands when the proxy has died."""
    lab.quiet()
    port = 20_000 + len(plan.fail)          # each its own, and nobody else's: the last use is remembered for a minute
    with closing(Application(lab, "hold", address=ORIGIN4, port=443, local_port=port)) as app:
        app.says()
        assert rig.start(plan).existing == 1
        lab.client.sh(f"ss -K -Htn dst {ORIGIN4} sport = :{port}")
    if plan.fail == "closed":
        os.kill(rig.processes()["proxy"], signal.SIGKILL)
        assert wait_for(lambda: "error" in ask(rig, "who", address=ORIGIN4, port=443), HOLDS + BUSY)
    answer = ask(rig, "who", address=ORIGIN4, port=443, local_port=port, limit=3)
    assert answer.get("direct") is not True, answer
    assert answer.get("error") not in ("EADDRINUSE", "EADDRNOTAVAIL"), "nothing was shown"
