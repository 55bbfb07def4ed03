"""UDP, and what is none of our business."""

import subprocess

import pytest

from tests.contract.lab import LAN, ORIGIN4, ORIGIN6
from tests.contract.rig import ask, usual

pytestmark = pytest.mark.live
#: Seconds for a refusal: browsers then go on with TCP; on an idle machine it takes a millisecond.
AT_ONCE = 0.1


@pytest.mark.offers("udp")
@pytest.mark.parametrize("address", [ORIGIN4, pytest.param(ORIGIN6, marks=pytest.mark.offers("ipv6"))])
def test_quic_is_refused_at_once(rig, address):
    rig.start(usual(rig))
    answer = ask(rig, "udp", address=address, port=443)
    assert answer["error"] in ("ECONNREFUSED", "EPERM")     # the second from send() itself, by a packet filter
    assert answer["seconds"] < AT_ONCE


@pytest.mark.offers("udp")
@pytest.mark.parametrize(("changes", "address"), [
    pytest.param({"quic": "allow"}, ORIGIN4, id="allowed"),
    pytest.param({}, LAN, id="LAN"),
])
def test_quic_is_not_refused(rig, changes, address):
    rig.start(usual(rig, **changes))
    assert ask(rig, "udp", address=address, port=443, limit=0.3)["error"] == "timeout"


@pytest.mark.parametrize("address", [ORIGIN4, ORIGIN6, LAN, "127.0.0.1"])
def test_other_udp(rig, address):
    rig.start(usual(rig))
    assert ask(rig, "udp", address=address, port=8443)["answer"] == "hello"


def test_ping(rig):
    rig.start(usual(rig))
    assert ask(rig, "ping", address=ORIGIN4) == {"answer": "pong"}


@pytest.mark.offers("transparent")
def test_what_comes_in_from_outside(rig):
    """A server on this computer is reached by others as before, at the captured ports too."""
    rig.start(usual(rig))
    script = 'exec 3<>/dev/tcp/198.51.100.1/443; echo who >&3; read -u 3 host port rest; echo $host $port'
    assert rig.lab.origin.call(output, ["bash", "-c", script]) == "198.51.100.1 443"
    assert rig.seen() == []


def output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
