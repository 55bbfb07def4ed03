"""What else a plan can ask for; what is asked for holds, or is refused."""

import pytest

from redirector.plan import Scope
from redirector.wire import Failed, Ready
from tests.contract.lab import CLIENT4, LAN, ORIGIN4, SECOND4
from tests.contract.rig import APP_UID, PROXY_PORT, Seen, ask, usual

pytestmark = pytest.mark.live


@pytest.mark.offers("local")
@pytest.mark.parametrize(("changes", "address"), [
    pytest.param({"lan": True}, LAN, id="LAN"),
    pytest.param({"loopback": True}, "127.0.0.1", id="loopback"),
    pytest.param({"loopback": True}, "::1", id="loopback, IPv6"),
    pytest.param({"loopback": True}, CLIENT4, id="an address of our own"),
])
def test_local_when_asked(rig, changes, address):
    rig.start(usual(rig, **changes))
    assert ask(rig, "who", address=address, port=443) == {"answer": f"{address} 443", "direct": False}
    assert rig.seen() == [Seen((address, 443))]


@pytest.mark.offers("local")
@pytest.mark.parametrize("address", ["127.0.0.1", CLIENT4])
def test_the_proxys_own_door_is_no_loop_when_loopback_is_captured(rig, address):
    """The door answers strangers with a reset, and goes on."""
    rig.start(usual(rig, loopback=True))
    assert "error" in ask(rig, "who", address=address, port=PROXY_PORT)
    assert ask(rig, "who", address=ORIGIN4, port=443)["direct"] is False
    assert len(rig.seen()) <= 2


@pytest.mark.offers("udp")
@pytest.mark.parametrize(("changes", "address"), [
    pytest.param({"quic": "allow"}, ORIGIN4, id="allowed"),
    pytest.param({}, LAN, id="LAN"),
])
def test_quic_is_not_refused(rig, changes, address):
    rig.start(usual(rig, **changes))
    assert ask(rig, "udp", address=address, port=443, limit=0.3)["error"] == "timeout"


@pytest.mark.offers("transparent")
@pytest.mark.parametrize(("field", "changes"), [
    pytest.param("users", {"scope": Scope(uid=APP_UID)}, id="one user"),
    pytest.param("closed", {"fail": "closed"}, id="closed"),
    pytest.param("open", {"fail": "open"}, id="open"),
    pytest.param("local", {"lan": True}, id="LAN"),
    pytest.param("local", {"loopback": True}, id="loopback"),
    pytest.param("forwarded", {"forward": ("e0",)}, id="forwarded"),
    pytest.param("existing", {"existing": "cut"}, id="cutting older connections"),
])
def test_what_is_not_offered_is_refused(rig, field, changes):
    """Never ignored: who asks for less than everything, or for a fail mode, relies on it."""
    answer = rig.start(usual(rig, **changes))
    offered = getattr(rig.declaration, field) or (rig.declaration.lan and "lan" in changes)
    assert isinstance(answer, Ready if offered else Failed), answer
    if isinstance(answer, Failed):
        assert len(answer.reason.split()) > 3       # a sentence


@pytest.mark.offers("transparent")
def test_a_control_group_that_is_not_offered_is_refused(rig, cgroup):
    answer = rig.start(usual(rig, scope=Scope(cgroup=f"/{cgroup.name}")))
    assert isinstance(answer, Ready if rig.declaration.groups else Failed), answer


@pytest.mark.offers("transparent")
def test_data_in_the_syn_with_a_cookie_from_before(rig):
    """The kernel remembers the origin's cookie, so the first SYN has data."""
    assert ask(rig.lab, "fast_open", address=SECOND4, port=443)["answers"] == [f"{SECOND4} 443"] * 2
    rig.start(usual(rig))
    assert ask(rig, "fast_open", address=SECOND4, port=443)["answers"] == [f"{SECOND4} 443"] * 2
    assert rig.seen() == [Seen((SECOND4, 443))] * 2
