"""The proxy's own connections end at their origins too: also what the kernel sends when no process has the socket."""
import subprocess
from dataclasses import replace

import pytest

from tests.redirector.namespaces import CLOSED, EVERYTHING, ORIGIN4, ORIGIN6, PROXY_UID, launch, needs_root, network
from tests.waiting import wait_for

pytestmark = needs_root
__all__ = ["launch", "network"]
#: Perl, which every user may run: connects, hears the greeting, closes; the other end closes after that.
TALK = ("for (1..20) { my $s = IO::Socket::IP->new(PeerAddr => $ARGV[0], PeerPort => 443, Timeout => 5) or die $!; "
        "scalar <$s>; close $s }")


@pytest.mark.parametrize("address", [ORIGIN4, ORIGIN6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("plan", [EVERYTHING, CLOSED, replace(EVERYTHING, lan=True)], ids=["open", "closed", "LAN"])
def test_the_last_ack_arrives(network, launch, plan, address):
    launch().start(plan)
    network.client.call(subprocess.run, ["perl", "-MIO::Socket::IP", "-e", TALK, address], check=True, user=PROXY_UID,
                        group=PROXY_UID, extra_groups=[], timeout=20)
    assert wait_for(lambda: not network.origin.sh("ss -Htn state last-ack state closing state fin-wait-1"))
