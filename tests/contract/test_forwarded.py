"""What a container, or another computer, sends through this one."""

import os
import signal
import subprocess
from dataclasses import replace

import pytest

from tests.contract.lab import CLIENT4, ORIGIN4
from tests.contract.rig import CLOSED, Seen, ask, usual
from tests.contract.worker import Client
from tests.redirector.namespaces import Namespace, sh
from tests.waiting import BUSY, HOLDS, wait_for

pytestmark = [pytest.mark.live, pytest.mark.offers("forwarded")]
#: A documentation prefix (RFC 5737) and an interface for the guest.
GATEWAY, GUEST, INTERFACE = "192.0.2.1", "192.0.2.2", "g0"
CAPTURED, DIRECT = ({"answer": f"{ORIGIN4} 443", "direct": direct} for direct in (False, True))
WHO = {"address": ORIGIN4, "port": 443}


@pytest.fixture(scope="module")
def guest(lab):
    """A computer whose way to the origin leads through the client."""
    other = Namespace(f"lgk{os.getpid()}g")
    sh(f"ip link add {INTERFACE} netns {lab.client.name} type veth peer name e0 netns {other.name}")
    sh(f"ip -n {lab.client.name} address add {GATEWAY}/24 dev {INTERFACE}")
    sh(f"ip -n {lab.client.name} link set {INTERFACE} up")
    sh(f"ip -n {other.name} address add {GUEST}/24 dev e0 && ip -n {other.name} link set e0 up")
    sh(f"ip -n {other.name} route add default via {GATEWAY}")
    sh(f"ip -n {lab.origin.name} route add 192.0.2.0/24 via {CLIENT4}")
    lab.client.sh("sysctl -qw net.ipv4.ip_forward=1")

    def popen(command, *, uid=0, cgroup=None, **more):
        return other.call(subprocess.Popen, command, text=True, **more)

    client = Client(lab, popen)
    assert wait_for(lambda: "error" not in ask(client, "who", limit=1, **WHO), 10)
    yield client
    lab.client.sh("sysctl -qw net.ipv4.ip_forward=0")
    sh(f"ip -n {lab.origin.name} route del 192.0.2.0/24")
    sh(f"ip netns delete {other.name}")


def passes_on(answer):
    """Not by the hops: what a gateway forwards has one less as well."""
    return answer["answer"] == f"{ORIGIN4} 443"


def test_captured_when_asked(rig, guest):
    rig.start(usual(rig, forward=(INTERFACE,)))
    assert passes_on(ask(guest, "who", **WHO))
    assert ask(rig, "who", **WHO) == CAPTURED
    assert rig.seen() == [Seen((ORIGIN4, 443))] * 2


@pytest.mark.parametrize(("forward", "port"), [((INTERFACE,), 8443), ((), 443), (("other0",), 443)])
def test_untouched(rig, guest, forward, port):
    rig.start(usual(rig, forward=forward))
    assert ask(guest, "who", address=ORIGIN4, port=port)["answer"] == f"{ORIGIN4} {port}"
    assert rig.seen() == []


def test_quic_is_refused(rig, guest):
    rig.start(usual(rig, forward=(INTERFACE,)))
    assert ask(guest, "udp", address=ORIGIN4, port=443)["error"] == "ECONNREFUSED"


@pytest.mark.parametrize("role", ["proxy", "redirector"])
def test_closed(rig, guest, role):
    rig.start(replace(CLOSED, forward=(INTERFACE,)))
    os.kill(rig.processes()[role], signal.SIGKILL)
    assert wait_for(lambda: "error" in ask(guest, "who", limit=3, **WHO), HOLDS + BUSY)
    assert "error" in ask(guest, "who", limit=3, **WHO)


def test_its_door_is_not_open_to_the_guest(rig, guest):
    """The proxy listens on every address then."""
    plan = usual(rig, forward=(INTERFACE,))
    rig.start(plan)
    assert ask(guest, "who", address=GATEWAY, port=plan.listen_port)["error"] in ("ECONNREFUSED", "ECONNRESET")
