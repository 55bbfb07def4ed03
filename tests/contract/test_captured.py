"""What is captured, what is left alone, and that whatever it is arrives where it was going."""

from dataclasses import replace

import pytest

from redirector.wire import Ready
from tests.contract.lab import CLIENT4, LAN, MAPPED, ORIGIN4, ORIGIN6
from tests.contract.rig import EVERYTHING, PROXY_PORT, Seen, ask

pytestmark = pytest.mark.live


@pytest.mark.parametrize(("address", "port"), [
    pytest.param(ORIGIN4, 443, id="IPv4, port 443"),
    pytest.param(ORIGIN4, 80, id="IPv4, port 80"),
    pytest.param(MAPPED, 443, id="IPv4 by a dual-stack socket"),
])
def test_captured(rig, address, port):
    assert isinstance(rig.start(EVERYTHING), Ready)
    plain = address.removeprefix("::ffff:")
    assert ask(rig, "who", address=address, port=port) == {"answer": f"{plain} {port}", "direct": False}
    assert rig.seen() == [Seen((plain, port))]


@pytest.mark.offers("ipv6")
@pytest.mark.parametrize("port", [443, 80])
def test_captured_ipv6(rig, port):
    rig.start(EVERYTHING)
    assert ask(rig, "who", address=ORIGIN6, port=port) == {"answer": f"{ORIGIN6} {port}", "direct": False}
    assert rig.seen() == [Seen((ORIGIN6, port))]


@pytest.mark.parametrize(("address", "port"), [
    pytest.param(LAN, 443, id="LAN"),
    pytest.param("127.0.0.1", 443, id="loopback"),
    pytest.param(CLIENT4, 443, id="an address of our own"),
])
def test_untouched(rig, address, port):
    rig.start(EVERYTHING)
    assert ask(rig, "who", address=address, port=port) == {"answer": f"{address} {port}", "direct": True}
    assert rig.seen() == []


@pytest.mark.offers("transparent")
@pytest.mark.parametrize(("address", "port"), [
    pytest.param(ORIGIN4, 8443, id="IPv4"),
    pytest.param(ORIGIN6, 8443, id="IPv6"),
    pytest.param("::1", 443, id="loopback, IPv6"),
])
def test_other_ports_untouched(rig, address, port):
    rig.start(EVERYTHING)
    assert ask(rig, "who", address=address, port=port) == {"answer": f"{address} {port}", "direct": True}
    assert rig.seen() == []


@pytest.mark.offers("local")
@pytest.mark.parametrize(("changes", "address"), [
    pytest.param({"lan": True}, LAN, id="LAN"),
    pytest.param({"loopback": True}, "127.0.0.1", id="loopback"),
    pytest.param({"loopback": True}, "::1", id="loopback, IPv6"),
    pytest.param({"loopback": True}, CLIENT4, id="an address of our own"),
])
def test_local_when_asked(rig, changes, address):
    rig.start(replace(EVERYTHING, **changes))
    assert ask(rig, "who", address=address, port=443) == {"answer": f"{address} 443", "direct": False}
    assert rig.seen() == [Seen((address, 443))]


@pytest.mark.offers("local")
@pytest.mark.parametrize("address", ["127.0.0.1", CLIENT4])
def test_the_proxys_own_door_is_no_loop_when_loopback_is_captured(rig, address):
    """The door answers strangers with a reset, and goes on."""
    rig.start(replace(EVERYTHING, loopback=True))
    assert "error" in ask(rig, "who", address=address, port=PROXY_PORT)
    assert ask(rig, "who", address=ORIGIN4, port=443)["direct"] is False
    assert len(rig.seen()) <= 2


@pytest.mark.offers("transparent")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", CLIENT4])
def test_connecting_to_the_proxy_itself_is_refused(rig, address):
    """It is no relay: what was not captured has no destination."""
    rig.start(EVERYTHING)
    assert ask(rig, "who", address=address, port=PROXY_PORT)["error"] in ("ECONNREFUSED", "ECONNRESET")
    assert [each for each in rig.seen() if each.server[1] != PROXY_PORT] == []
    assert ask(rig, "who", address=ORIGIN4, port=443)["direct"] is False


@pytest.mark.offers("peername")
@pytest.mark.parametrize("address", [ORIGIN4, ORIGIN6])
def test_the_application_has_the_origin_as_its_peer(rig, address):
    direct = ask(rig.lab, "names", address=address, port=443)
    rig.start(EVERYTHING)
    assert ask(rig, "names", address=address, port=443) == direct


@pytest.mark.offers("transparent")
def test_bound_to_an_address(rig):
    """As `curl --interface 198.51.100.1`."""
    rig.start(EVERYTHING)
    assert ask(rig, "bound", address=ORIGIN4, port=443, source=CLIENT4)["answer"] == f"{ORIGIN4} 443"
    assert rig.seen() == [Seen((ORIGIN4, 443))]


@pytest.mark.offers("transparent")
def test_bound_to_a_device_is_not_past_us(rig):
    """As `curl --interface e0`: where the proxy is on loopback such a socket cannot reach it, and then does not connect."""
    rig.start(EVERYTHING)
    answer = ask(rig, "bound", address=ORIGIN4, port=443, device="e0", limit=1.5)
    assert answer == {"answer": f"{ORIGIN4} 443"} if rig.seen() else "error" in answer


@pytest.mark.offers("ipv6")
def test_a_computer_without_ipv4(rig, without_ipv4):
    rig.start(EVERYTHING)
    assert ask(rig, "who", address=ORIGIN6, port=443) == {"answer": f"{ORIGIN6} 443", "direct": False}
    assert ask(rig, "who", address=ORIGIN4, port=443) == {"error": "ENETUNREACH"}


@pytest.fixture
def without_ipv4(lab):
    addresses = (f"{CLIENT4}/24", "10.77.0.1/24")
    for address in addresses:
        lab.client.sh(f"ip address del {address} dev e0")
    yield
    for address in addresses:
        lab.client.sh(f"ip address add {address} dev e0")
