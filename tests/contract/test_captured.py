"""What is captured, what is left alone, and that whatever it is arrives where it was going."""

import pytest

from redirector.wire import Ready
from tests.contract.lab import CLIENT4, LAN, MAPPED, ORIGIN4, ORIGIN6
from tests.contract.rig import EVERYTHING, ask

pytestmark = pytest.mark.live


@pytest.mark.parametrize(("address", "port", "captured"), [
    pytest.param(ORIGIN4, 443, True, id="IPv4, port 443"),
    pytest.param(ORIGIN4, 80, True, id="IPv4, port 80"),
    pytest.param(MAPPED, 443, True, id="IPv4 by a dual-stack socket"),
    pytest.param(ORIGIN4, 8443, False, id="another port"),
    pytest.param(LAN, 443, False, id="LAN"),
    pytest.param("127.0.0.1", 443, False, id="loopback"),
    pytest.param(CLIENT4, 443, False, id="an address of our own"),
])
def test_what_is_captured(rig, address, port, captured):
    assert isinstance(rig.start(EVERYTHING), Ready)
    plain = address.removeprefix("::ffff:")
    assert ask(rig, "who", address=address, port=port)["answer"].removeprefix("::ffff:") == f"{plain} {port}"
    assert [each.server for each in rig.seen()] == ([(plain, port)] if captured else [])


@pytest.mark.offers("ipv6")
@pytest.mark.parametrize(("address", "port", "captured"), [
    pytest.param(ORIGIN6, 443, True, id="IPv6"),
    pytest.param(ORIGIN6, 8443, False, id="IPv6, another port"),
    pytest.param("::1", 443, False, id="loopback, IPv6"),
])
def test_what_is_captured_of_ipv6(rig, address, port, captured):
    rig.start(EVERYTHING)
    assert ask(rig, "who", address=address, port=port)["answer"] == f"{address} {port}"
    assert [each.server for each in rig.seen()] == ([(address, port)] if captured else [])
