"""The kernel remembers connections whose ends are long gone; the proxy's own must not be led by what it remembers."""
import socket
import subprocess
from dataclasses import replace

import pytest

from tests.redirector.namespaces import EVERYTHING, ORIGIN4, PROXY_UID, launch, needs_root, network

pytestmark = needs_root
__all__ = ["launch", "network"]

#: TCP_REPAIR of <linux/tcp.h>: a socket closed in it vanishes without a FIN or RST.
TCP_REPAIR = 19
#: Perl can say where it calls from, and every user may run it.
ASK = (f"my $s = IO::Socket::INET->new(PeerAddr => '{ORIGIN4}:443', LocalPort => $ARGV[0], Timeout => 5) or die $!; "
       "print scalar <$s>")


def vanish(sock):
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.close()


@pytest.mark.parametrize(("port", "listening"), [
    pytest.param(40_001, True, id="the proxy's own port"),
    pytest.param(40_002, False, id="the port of one that has ended"),
])
def test_the_proxy_is_not_led_by_a_connection_that_has_gone(network, launch, port, listening):
    """Without a zone of their own its SYNs came round to the proxy itself, or were refused: one in some thousand."""
    proxy = network.client.call(socket.create_server, ("127.0.0.1", 0))
    launcher = launch()
    launcher.start(replace(EVERYTHING, listen_port=proxy.getsockname()[1]))
    application = network.client.call(socket.create_connection, (ORIGIN4, 443), 5, ("", port))
    diverted, _ = proxy.accept()
    vanish(application)
    vanish(diverted)
    if not listening:
        proxy.close()
    asked = network.client.call(subprocess.run, ["perl", "-MIO::Socket::INET", "-e", ASK, str(port)], capture_output=True,
                                text=True, user=PROXY_UID, group=PROXY_UID, extra_groups=[], timeout=10)
    proxy.close()
    assert asked.stdout.strip() == "origin", asked.stderr
