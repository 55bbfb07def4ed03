"""Our own packets are what the server would have answered."""
import struct

import pytest

from redirector import answers
from redirector.flows import ACK, FIN, RST, SYN, ends_of, protocol
from tests.redirector.segments import tcp, udp

C, S = ("198.51.100.1", 40000), ("198.51.100.2", 443)
C6, S6 = ("2001:db8::1", 40000), ("2001:db8::2", 443)
FAMILIES = pytest.mark.parametrize(("client", "server", "at"), [(C, S, 20), (C6, S6, 40)], ids=["IPv4", "IPv6"])


@FAMILIES
@pytest.mark.parametrize(("flags", "payload", "answer"), [
    pytest.param(SYN, b"", (0, 1001, RST | ACK), id="SYN"),
    pytest.param(SYN, b"early", (0, 1006, RST | ACK), id="fast open"),
    pytest.param(ACK, b"data", (77, 0, RST), id="the middle of a connection"),
    pytest.param(FIN | ACK, b"", (77, 0, RST), id="its end"),
])
def test_reset(client, server, at, flags, payload, answer):
    packet = bytes(tcp(client, server, flags, payload=payload, acknowledged=77 if flags & ACK else 0))
    made = answers.reset(packet)
    assert ends_of(made)[:2] == (server, client)
    sequence, acknowledged, offset, given = struct.unpack_from("!IIBB", made, at + 4)
    assert ((sequence, acknowledged, given), offset, len(made)) == (answer, 5 << 4, at + 20)


@FAMILIES
def test_unreachable(client, server, at):
    packet = bytes(udp(client, server, b"q" * 1300))
    made = answers.unreachable(packet)
    assert protocol(made) == {20: 1, 40: 58}[at]
    assert tuple(made[at:at + 2]) == {20: (3, 3), 40: (1, 4)}[at]
    assert packet.startswith(made[at + 8:]), "it quotes what it refuses"
    assert len(made) <= 1280, "it must fit any link (RFC 4443, 2.4)"
