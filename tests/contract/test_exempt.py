"""The proxy's own connections are not captured, and nobody else can have that for himself."""

import os
import signal
from contextlib import closing

import pytest

from redirector.nftables import MARK
from tests.contract.lab import ORIGIN4, SECOND4
from tests.contract.rig import APP_UID, MODES, OTHER_UID, PROXY_PORT, Application, Seen, ask, usual
from tests.waiting import BUSY, HOLDS, wait_for

pytestmark = pytest.mark.live


def test_the_proxys_own_connections_are_not_captured(rig):
    """Else this one would come round."""
    rig.start(usual(rig))
    assert ask(rig, "who", address=ORIGIN4, port=443)["answer"] == f"{ORIGIN4} 443"
    assert rig.seen() == [Seen((ORIGIN4, 443))]


@pytest.mark.offers("transparent")
@pytest.mark.parametrize("plan", MODES)
@pytest.mark.parametrize("uid", [0, APP_UID, OTHER_UID], ids=["root", "a user", "another user"])
def test_a_local_port_of_the_proxys_does_not_exempt(rig, plan, uid):
    """As `curl --local-port`: the port of a connection that the proxy has just now, and those reserved for it."""
    rig.start(plan)
    with closing(Application(rig, "hold", address=ORIGIN4, port=443)) as app:
        app.says()
        ours = proxys_ports(rig)
        assert ours
        ports = [*ours, *rig.exempt_ports[:2], *rig.exempt_ports[-2:]]
        answers = [ask(rig, "who", address=SECOND4, port=443, local_port=port, uid=uid, limit=3) for port in ports]
    assert all("error" in answer or answer["direct"] is False for answer in answers), answers


@pytest.mark.offers("transparent")
@pytest.mark.parametrize("plan", MODES)
def test_the_numbers_of_a_connection_that_the_proxy_had_do_not_exempt(rig, plan):
    """All four, at once: the kernel may still remember whose it was."""
    rig.start(plan)
    with closing(Application(rig, "hold", address=ORIGIN4, port=443)) as app:
        app.says()
        [port] = proxys_ports(rig)
        rig.lab.client.sh(f"ss -K -Htn dst {ORIGIN4} sport = :{port}")
    answer = ask(rig, "who", address=ORIGIN4, port=443, local_port=port, limit=3)
    assert "error" in answer or answer["direct"] is False, answer


def proxys_ports(rig) -> list[int]:
    """The local ports of its connections to the origin: of all of the lab's, those that its process holds, but not of
    those with applications, which have the origin's address where packets are turned round."""
    pid = rig.processes()["proxy"]
    lines = rig.lab.client.sh(f"ss -Htnp dst {ORIGIN4}").splitlines()
    ports = [int(line.split()[3].rpartition(":")[2]) for line in lines if f"pid={pid}," in line]
    return [port for port in ports if port != PROXY_PORT]


@pytest.mark.offers("transparent")
@pytest.mark.parametrize("plan", MODES)
@pytest.mark.parametrize("mark", [MARK, 0xffffffff], ids=["the proxy's", "all bits"])
def test_a_mark_does_not_exempt(rig, plan, mark):
    """A packet mark (SO_MARK) is not the connection mark that the proxy's have."""
    rig.start(plan)
    assert ask(rig, "who", address=ORIGIN4, port=443, mark=mark)["direct"] is False
    if plan.fail == "closed":
        os.kill(rig.processes()["proxy"], signal.SIGKILL)
        assert wait_for(lambda: "error" in ask(rig, "who", address=ORIGIN4, port=443), HOLDS + BUSY)
        assert "error" in ask(rig, "who", address=ORIGIN4, port=443, mark=mark)
