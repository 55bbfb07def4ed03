"""UDP, and what is none of our business."""

import subprocess

import pytest

from tests.contract.lab import LAN, ORIGIN4, ORIGIN6
from tests.contract.rig import ask

pytestmark = pytest.mark.live
#: Seconds for a refusal: browsers then go on with TCP; on an idle machine it takes a millisecond.
AT_ONCE = 0.1


@pytest.mark.offers("udp")
@pytest.mark.parametrize("address", [ORIGIN4, pytest.param(ORIGIN6, marks=pytest.mark.offers("ipv6"))])
def test_quic_is_refused_at_once(running, address):
    answer = ask(running, "udp", address=address, port=443)
    assert answer["error"] in ("ECONNREFUSED", "EPERM")     # the second from send() itself, by a packet filter
    assert answer["seconds"] < AT_ONCE


@pytest.mark.parametrize("address", [ORIGIN4, ORIGIN6, LAN, "127.0.0.1"])
def test_other_udp(running, address):
    assert ask(running, "udp", address=address, port=8443)["answer"] == "hello"


def test_ping(running):
    assert ask(running, "ping", address=ORIGIN4) == {"answer": "pong"}


@pytest.mark.offers("transparent")
def test_what_comes_in_from_outside(running):
    """A server on this computer is reached by others as before, at the captured ports too."""
    script = 'exec 3<>/dev/tcp/198.51.100.1/443; echo who >&3; read -u 3 host port rest; echo $host $port'
    assert running.lab.origin.call(output, ["bash", "-c", script]) == "198.51.100.1 443"
    assert running.seen() == []


def output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
