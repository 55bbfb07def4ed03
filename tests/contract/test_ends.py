"""How connections begin and end: as without us."""

import uuid

import pytest

from tests.contract.lab import BANNER4, BANNER6, ORIGIN4, ORIGIN6, SECOND4
from tests.contract.rig import EVERYTHING, Seen, ask

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def started(rig):
    rig.start(EVERYTHING)


@pytest.fixture
def ident():
    return uuid.uuid4().hex


def test_the_client_ends_its_half(rig):
    pieces = ["count\n", "x" * 1000]
    assert ask(rig, "talk", address=ORIGIN4, port=443, pieces=pieces)["answer"].startswith("1000 ")


def test_the_origin_ends_its_half(rig, ident):
    assert ask(rig, "go_on_after_the_end", address=ORIGIN4, port=443, ident=ident, count=1000) == {"said": "bye"}
    assert rig.lab.heard(ident) == {"id": ident, "end": "eof", "bytes": 1000}


@pytest.mark.parametrize(("how", "end"), [("reset", "reset"), ("close", "eof")])
def test_the_client_hangs_up(rig, ident, how, end):
    ask(rig, "hang_up", address=ORIGIN4, port=443, ident=ident, how=how)
    assert rig.lab.heard(ident) == {"id": ident, "end": end, "bytes": 5}


@pytest.mark.parametrize("count", [0, 100_000])
def test_the_origin_resets(rig, count):
    """A clean end would make the answer look whole. What was sent before the reset arrives (on this quiet network)."""
    assert ask(rig, "cut_off", address=ORIGIN4, port=443, count=count) == {"got": count, "end": "reset"}


@pytest.mark.parametrize("address", [BANNER4, pytest.param(BANNER6, marks=pytest.mark.offers("ipv6"))])
def test_the_origin_speaks_first(rig, address):
    answer = ask(rig, "listen_first", address=address, port=443)
    assert answer == {"greeting": "220 origin speaks first", "answer": "ehlo\n"}


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["closed at once", "open for a second"])
def test_never_used(rig, seconds):
    """It does not disturb the next one."""
    assert ask(rig, "never_used", address=ORIGIN4, port=443, seconds=seconds) == {}
    assert ask(rig, "who", address=ORIGIN4, port=443)["direct"] is False


@pytest.mark.parametrize("action", ["non_blocking", "inherited"])
@pytest.mark.parametrize("address", [ORIGIN4, pytest.param(ORIGIN6, marks=pytest.mark.offers("ipv6"))])
@pytest.mark.offers("transparent")
def test_connecting_in_other_ways(rig, action, address):
    assert ask(rig, action, address=address, port=443) == {"answer": f"{address} 443"}
    assert rig.seen() == [Seen((address, 443))]


@pytest.mark.offers("transparent")
def test_data_in_the_syn(rig):
    """TCP fast open: what came with the SYN is neither lost nor sent past the proxy."""
    assert ask(rig, "fast_open", address=ORIGIN4, port=443) == {"answers": [f"{ORIGIN4} 443"] * 2}
    assert rig.seen() == [Seen((ORIGIN4, 443))] * 2


@pytest.mark.offers("transparent")
def test_data_in_the_syn_with_a_cookie_from_before(rig):
    """The kernel remembers the origin's cookie, so the first SYN has data."""
    rig.close()
    assert ask(rig.lab, "fast_open", address=SECOND4, port=443)["answers"] == [f"{SECOND4} 443"] * 2
    rig.start(EVERYTHING)
    assert ask(rig, "fast_open", address=SECOND4, port=443)["answers"] == [f"{SECOND4} 443"] * 2
    assert rig.seen() == [Seen((SECOND4, 443))] * 2


def test_a_source_port_again_and_again(rig):
    """The same four numbers at once, as after a reset, and the same port to another origin."""
    targets = [(ORIGIN4, 443), (ORIGIN4, 443), (SECOND4, 443), (ORIGIN4, 80)]
    assert ask(rig, "same_numbers", targets=targets, local_port=45_000, count=60) == {"right": 60}
    assert [each.server for each in rig.seen()] == [tuple(target) for target in targets] * 15
