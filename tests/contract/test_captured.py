"""What is captured, what is left alone, and that whatever it is arrives where it was going."""


import pytest

from tests.contract.lab import CLIENT4, CLIENT6, LAN, MAPPED, ORIGIN4, ORIGIN6
from tests.contract.rig import PROXY_PORT, Seen, ask

pytestmark = pytest.mark.live


@pytest.mark.parametrize(("address", "port"), [
    pytest.param(ORIGIN4, 443, id="IPv4, port 443"),
    pytest.param(ORIGIN4, 80, id="IPv4, port 80"),
    pytest.param(MAPPED, 443, id="IPv4 by a dual-stack socket"),
])
def test_captured(running, address, port):
    plain = address.removeprefix("::ffff:")
    assert ask(running, "who", address=address, port=port) == {"answer": f"{plain} {port}", "direct": False}
    assert running.seen() == [Seen((plain, port))]


@pytest.mark.offers("ipv6")
@pytest.mark.parametrize("port", [443, 80])
def test_captured_ipv6(running, port):
    assert ask(running, "who", address=ORIGIN6, port=port) == {"answer": f"{ORIGIN6} {port}", "direct": False}
    assert running.seen() == [Seen((ORIGIN6, port))]


@pytest.mark.parametrize(("address", "port"), [
    pytest.param(LAN, 443, id="LAN"),
    pytest.param("127.0.0.1", 443, id="loopback"),
    pytest.param(CLIENT4, 443, id="an address of our own"),
])
def test_untouched(running, address, port):
    assert ask(running, "who", address=address, port=port) == {"answer": f"{address} {port}", "direct": True}
    assert running.seen() == []


@pytest.mark.offers("transparent")
@pytest.mark.parametrize(("address", "port"), [
    pytest.param(ORIGIN4, 8443, id="IPv4"),
    pytest.param(ORIGIN6, 8443, id="IPv6"),
    pytest.param("::1", 443, id="loopback, IPv6"),
])
def test_other_ports_untouched(running, address, port):
    assert ask(running, "who", address=address, port=port) == {"answer": f"{address} {port}", "direct": True}
    assert running.seen() == []


@pytest.mark.offers("transparent")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", CLIENT4])
def test_connecting_to_the_proxy_itself_is_refused(running, address):
    """It is no relay: what was not captured has no destination."""
    assert ask(running, "who", address=address, port=PROXY_PORT)["error"] in ("ECONNREFUSED", "ECONNRESET")
    assert [each for each in running.seen() if each.server[1] != PROXY_PORT] == []
    assert ask(running, "who", address=ORIGIN4, port=443)["direct"] is False


@pytest.mark.offers("peername")
@pytest.mark.parametrize(("address", "here"), [(ORIGIN4, CLIENT4), (ORIGIN6, CLIENT6)])
def test_the_application_has_the_origin_as_its_peer(running, address, here):
    assert ask(running, "names", address=address, port=443) == {"peer": [address, 443], "here": here}


@pytest.mark.offers("transparent")
def test_bound_to_an_address(running):
    """As `curl --interface 198.51.100.1`."""
    assert ask(running, "bound", address=ORIGIN4, port=443, source=CLIENT4)["answer"] == f"{ORIGIN4} 443"
    assert running.seen() == [Seen((ORIGIN4, 443))]


@pytest.mark.offers("transparent")
def test_bound_to_a_device_is_not_past_us(running):
    """As `curl --interface e0`: where the proxy is on loopback such a socket cannot reach it, and then does not connect."""
    answer = ask(running, "bound", address=ORIGIN4, port=443, device="e0", limit=1.5)
    assert answer == {"answer": f"{ORIGIN4} 443"} if running.seen() else "error" in answer


@pytest.mark.offers("ipv6")
def test_a_computer_without_ipv4(running, without_ipv4):
    assert ask(running, "who", address=ORIGIN6, port=443) == {"answer": f"{ORIGIN6} 443", "direct": False}
    assert ask(running, "who", address=ORIGIN4, port=443) == {"error": "ENETUNREACH"}


@pytest.fixture
def without_ipv4(lab):
    addresses = (f"{CLIENT4}/24", "10.77.0.1/24")
    for address in addresses:
        lab.client.sh(f"ip address del {address} dev e0")
    yield
    for address in addresses:
        lab.client.sh(f"ip address add {address} dev e0")
