"""Many connections: none lost, none to the wrong place. FULL=1 in the environment: ten thousand, not one."""

import os

import pytest

from tests.contract.lab import ORIGIN4, ORIGIN6, SECOND4
from tests.contract.rig import ask

pytestmark = pytest.mark.live
SHORT = 10_000 if os.environ.get("FULL") else 1_000
#: Seconds: 50 a second, by the slowest backend on a busy machine.
LIMIT = SHORT / 50 + 20


@pytest.mark.parametrize("threads", [1, 16], ids=["one after the other", "16 at a time"])
def test_short_connections(running, threads):
    targets = [(ORIGIN4, 443), (SECOND4, 443), (ORIGIN4, 80), (SECOND4, 80)]
    if running.declaration.ipv6:
        targets.append((ORIGIN6, 443))
    assert ask(running, "many", LIMIT, targets=targets, count=SHORT, threads=threads) == {"right": SHORT}
    seen = [each.server for each in running.seen()]
    assert {target: seen.count(target) for target in targets} == dict.fromkeys(targets, SHORT // len(targets))


def test_open_at_the_same_time(running):
    assert ask(running, "at_once", address=ORIGIN4, port=443, count=400) == {"right": 400}
    assert len(running.seen()) == 400
