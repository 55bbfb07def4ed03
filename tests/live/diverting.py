"""What the tests of `divert` share: the network with a stand-in for the proxy, plans, and which programs are attached."""
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from redirector import handles
from tests.redirector.namespaces import EVERYTHING, ORIGIN4, ORIGIN6, Network

needs_divert = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and packets need root"),
    pytest.mark.skipif(not shutil.which("tc"), reason="tc is not installed: apt install iproute2"),
    pytest.mark.skipif(bool(handles.usable()), reason=str(handles.usable())),
]
#: The proxy's own ports, and where it listens.
OWN = (61440, 65535)
PORT = 8081
PLAN = replace(EVERYTHING, backend="divert", listen_port=PORT, exempt_ports=OWN)
DIVERTED = f"proxy for ::ffff:{ORIGIN4}"


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    network = Network()
    network._serve(network.client, "::", PORT, lambda peer: f"proxy for {peer.getpeername()[0]}")
    network.connect(), network.connect(ORIGIN6)     # neighbours are found: no case waits for that
    yield network
    network.close()


def programs(network: Network) -> set[int]:
    """The priorities of pydivert's programs on the client: it numbers its TC filters 30001 less the priority."""
    listing = network.client.sh("for dev in $(ip -o link | cut -d: -f2 | cut -d@ -f1); do "
                                "tc filter show dev $dev egress; tc filter show dev $dev ingress; done")
    found = (line.split() for line in listing.splitlines() if "tc_divert" in line)
    return {30001 - int(words[words.index("pref") + 1]) for words in found}
