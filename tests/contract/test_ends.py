"""How connections begin and end: as without us."""

import uuid

import pytest

from tests.contract.lab import BANNER4, BANNER6, ORIGIN4, ORIGIN6, SECOND4
from tests.contract.rig import Seen, ask

pytestmark = pytest.mark.live


@pytest.fixture
def ident():
    return uuid.uuid4().hex


def test_the_client_ends_its_half(running):
    pieces = ["count\n", "x" * 1000]
    assert ask(running, "talk", address=ORIGIN4, port=443, pieces=pieces)["answer"].startswith("1000 ")


def test_the_origin_ends_its_half(running, ident):
    assert ask(running, "go_on_after_the_end", address=ORIGIN4, port=443, ident=ident, count=1000) == {"said": "bye"}
    assert running.lab.heard(ident) == {"id": ident, "end": "eof", "bytes": 1000}


@pytest.mark.parametrize(("how", "end"), [("reset", "reset"), ("close", "eof")])
def test_the_client_hangs_up(running, ident, how, end):
    ask(running, "hang_up", address=ORIGIN4, port=443, ident=ident, how=how)
    assert running.lab.heard(ident) == {"id": ident, "end": end, "bytes": 5}


@pytest.mark.parametrize("count", [0, 100_000])
def test_the_origin_resets(running, count):
    """A clean end would make the answer look whole. What was sent before the reset arrives (on this quiet network)."""
    assert ask(running, "cut_off", address=ORIGIN4, port=443, count=count) == {"got": count, "end": "reset"}


@pytest.mark.parametrize("address", [BANNER4, pytest.param(BANNER6, marks=pytest.mark.offers("ipv6"))])
def test_the_origin_speaks_first(running, address):
    answer = ask(running, "listen_first", address=address, port=443)
    assert answer == {"greeting": "220 origin speaks first", "answer": "ehlo\n"}


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["closed at once", "open for a second"])
def test_never_used(running, seconds):
    """It does not disturb the next one."""
    assert ask(running, "never_used", address=ORIGIN4, port=443, seconds=seconds) == {}
    assert ask(running, "who", address=ORIGIN4, port=443)["direct"] is False


@pytest.mark.parametrize("action", ["non_blocking", "inherited"])
@pytest.mark.parametrize("address", [ORIGIN4, pytest.param(ORIGIN6, marks=pytest.mark.offers("ipv6"))])
@pytest.mark.offers("transparent")
def test_connecting_in_other_ways(running, action, address):
    assert ask(running, action, address=address, port=443) == {"answer": f"{address} 443"}
    assert running.seen() == [Seen((address, 443))]


@pytest.mark.offers("transparent")
def test_data_in_the_syn(running):
    """TCP fast open: what came with the SYN is neither lost nor sent past the proxy."""
    assert ask(running, "fast_open", address=ORIGIN4, port=443) == {"answers": [f"{ORIGIN4} 443"] * 2}
    assert running.seen() == [Seen((ORIGIN4, 443))] * 2


def test_a_source_port_again_and_again(running):
    """The same four numbers at once, as after a reset, and the same port to another origin."""
    targets = [(ORIGIN4, 443), (ORIGIN4, 443), (SECOND4, 443), (ORIGIN4, 80)]
    assert ask(running, "same_numbers", targets=targets, local_port=21_000, count=60) == {"right": 60}
    assert [each.server for each in running.seen()] == [tuple(target) for target in targets] * 15
