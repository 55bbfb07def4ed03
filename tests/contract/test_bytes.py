"""What passes arrives whole and in order. FULL=1 in the environment: as much as the contract says, 1 GB."""

import hashlib
import os

import pytest

from tests.contract.lab import MTU, ORIGIN4, ORIGIN6
from tests.contract.origin import pattern
from tests.contract.rig import ask

pytestmark = pytest.mark.live
FULL = bool(os.environ.get("FULL"))
LARGE = 1_000_000_000 if FULL else 50_000_000
#: Seconds for the large ones, on a busy machine and by the slowest backend: at least 3 MB/s.
LIMIT = LARGE / 3_000_000 + 20
#: A ClientHello's beginning (RFC 8446, 4.1.2), as far as it matters here: five bytes of record header, four of message.
HELLO = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def expected(count: int) -> dict[str, object]:
    digest = hashlib.sha256()
    for block in pattern(count):
        digest.update(block)
    return {"bytes": count, "sha256": digest.hexdigest()}


@pytest.mark.parametrize(("pieces", "pause"), [
    pytest.param(list("echo\nhello"), 0.01, id="byte by byte"),
    pytest.param(["echo\n" + HELLO[:1], *HELLO[1:]], 0.01, id="a ClientHello byte by byte"),
    pytest.param(["e", "cho\n" + "x" * 50_000], 0.1, id="one byte, then much"),
])
def test_pieces(running, pieces, pause):
    answer = ask(running, "talk", address=ORIGIN4, port=443, pieces=pieces, pause=pause)["answer"]
    assert answer == "".join(pieces).removeprefix("echo\n")


def test_an_urgent_byte_keeps_its_place(running):
    """As one of the stream (RFC 6093): a byte that only one of inspection and origin sees is a way around."""
    assert ask(running, "urgent", address=ORIGIN4, port=443) == {"answer": "abcde"}


def test_large_upload(running):
    assert ask(running, "upload", address=ORIGIN4, port=443, count=LARGE, patience=LIMIT) == {"intact": True}


def test_large_download(running):
    assert ask(running, "download", address=ORIGIN4, port=443, count=LARGE, patience=LIMIT) == expected(LARGE)


@pytest.mark.parametrize("address", [ORIGIN4, pytest.param(ORIGIN6, marks=pytest.mark.offers("ipv6"))])
@pytest.mark.parametrize("mtu", [1280, 9000])
def test_small_and_large_segments(running, cable, address, mtu):
    """1280 is the least that IPv6 allows (RFC 8200, 5)."""
    cable(mtu)
    assert ask(running, "upload", address=address, port=443, count=3_000_000, size=700) == {"intact": True}
    assert ask(running, "download", address=address, port=443, count=3_000_000) == expected(3_000_000)


def test_a_path_that_takes_small_segments_only(running, cable):
    """What is too large for the path is told back to us (RFC 1191)."""
    cable(1280, only="origin")
    assert ask(running, "upload", address=ORIGIN4, port=443, count=1_000_000) == {"intact": True}


@pytest.fixture
def cable(lab):
    """Sets how large a packet may be, at both ends or one."""
    def set_mtu(mtu: int, only: str = "") -> None:
        for where in ("client", "origin"):
            if only in ("", where):
                getattr(lab, where).sh(f"ip link set e0 mtu {mtu}")

    yield set_mtu
    set_mtu(MTU)
