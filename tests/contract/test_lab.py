"""The two computers are as the cases believe, when nothing is captured."""

import pytest

from tests.contract import lab as names
from tests.contract.rig import ask

pytestmark = pytest.mark.live


@pytest.mark.parametrize("address", [
    names.ORIGIN4, names.SECOND4, names.ORIGIN6, names.LAN, names.CLIENT4, "127.0.0.1", "::1"])
def test_who_answers(lab, address):
    assert ask(lab, "who", address=address, port=443) == {"answer": f"{address} 443", "direct": True}


@pytest.mark.parametrize(("addresses", "error"), [
    pytest.param((names.REFUSED4, names.REFUSED6), "ECONNREFUSED", id="refused"),
    pytest.param((names.UNREACHABLE4, names.UNREACHABLE6), "EHOSTUNREACH", id="unreachable"),
    pytest.param((names.NOWHERE4, names.NOWHERE6), "ENETUNREACH", id="no route"),
    pytest.param((names.BLACKHOLE4, names.BLACKHOLE6), "timeout", id="black hole"),
])
def test_who_does_not(lab, addresses, error):
    patience = 0.5 if error == "timeout" else 3.0
    assert [ask(lab, "who", address=address, port=443, limit=patience) for address in addresses] == [{"error": error}] * 2


def test_quic_is_neither_answered_nor_refused(lab):
    assert ask(lab, "udp", address=names.ORIGIN4, port=443, limit=0.3)["error"] == "timeout"
