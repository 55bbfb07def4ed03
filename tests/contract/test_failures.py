"""Origins that cannot be had: the application learns of it, and soon; where the backend can, in the same words."""

import pytest

from tests.contract.lab import (
    BLACKHOLE4,
    NOWHERE4,
    NOWHERE6,
    ORIGIN4,
    REFUSED4,
    REFUSED6,
    UNREACHABLE4,
    UNREACHABLE6,
)
from tests.contract.rig import ask

pytestmark = pytest.mark.live
SIX = pytest.mark.offers("ipv6")
BAD = [
    pytest.param(REFUSED4, "ECONNREFUSED", id="refused"),
    pytest.param(REFUSED6, "ECONNREFUSED", id="refused, IPv6", marks=SIX),
    pytest.param(UNREACHABLE4, "EHOSTUNREACH", id="unreachable"),
    pytest.param(UNREACHABLE6, "EHOSTUNREACH", id="unreachable, IPv6", marks=SIX),
    pytest.param(NOWHERE4, "ENETUNREACH", id="no route"),
    pytest.param(NOWHERE6, "ENETUNREACH", id="no route, IPv6", marks=SIX),
]


@pytest.mark.parametrize(("address", "error"), BAD)
def test_an_error(running, address, error):
    """Neither a clean end, which reads as an empty answer, nor silence."""
    assert ask(running, "who", address=address, port=443)["error"] in (error, "ECONNRESET")


@pytest.mark.offers("refusals")
@pytest.mark.parametrize(("address", "error"), BAD)
def test_the_same_error(running, address, error):
    assert ask(running, "who", address=address, port=443) == {"error": error}


def test_a_black_hole(running):
    """The application's own patience counts, not ours."""
    assert ask(running, "who", address=BLACKHOLE4, port=443, limit=1.5) == {"error": "timeout"}
    assert ask(running, "who", address=ORIGIN4, port=443)["direct"] is False


def test_a_black_hole_holds_nobody_else_up(running):
    """Many that wait, and one that does not."""
    targets = [(BLACKHOLE4, 443)] * 9 + [(ORIGIN4, 443)]
    assert ask(running, "many", targets=targets, count=30, threads=30, limit=1.5)["right"] == 3
