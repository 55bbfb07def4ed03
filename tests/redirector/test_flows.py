"""The flow table: who is turned round, by which ports, and for how long. Neither root nor packets on a wire."""
import pytest

from redirector.flows import ACK, CLOSED_LIMIT, FIN, OPEN_LIMIT, OPENING_LIMIT, RST, SYN, Action, FlowTable, ends_of
from tests.redirector.segments import ports, tcp

PROXY = 8080
C, S, T = ("198.51.100.1", 40000), ("198.51.100.2", 443), ("198.51.100.2", 80)
C6, S6 = ("2001:db8::1", 40000), ("2001:db8::2", 443)
PASS, REFLECT, DROP, ASK = Action.PASS, Action.REFLECT, Action.DROP, Action.ASK


class Driven:
    """A table, and somebody who decides that every SYN is to be diverted, or to pass."""

    def __init__(self, divert=True, **more):
        self.table, self.divert = FlowTable(PROXY, **more), divert

    def __call__(self, client, server, flags, now=0.0):
        """What became of the packet, and the packet."""
        packet = tcp(client, server, flags)
        action = self.table.take(packet, now)
        if action is ASK and flags == SYN:
            flow = self.table.begin(packet, now, divert=self.divert)
            return (self.table.reflect(packet, flow) if flow.diverted else PASS) if flow else DROP, packet
        return action, packet

    def back(self, client, server, flags, now=0.0, alias=None):
        """The proxy's answer."""
        return self((client[0], PROXY), (server[0], alias or client[1]), flags, now)


@pytest.mark.parametrize(("client", "server"), [pytest.param(C, S, id="IPv4"), pytest.param(C6, S6, id="IPv6")])
def test_each_side_sees_the_other_s_address(client, server):
    driven = Driven()
    action, packet = driven(client, server, SYN)
    assert (action, ends_of(packet)) == (REFLECT, ((server[0], client[1]), (client[0], PROXY), True))
    action, packet = driven.back(client, server, SYN | ACK)
    assert (action, ends_of(packet)[:2]) == (REFLECT, (server, client))


def test_options_of_ipv4_stay_where_they_are():
    table, packet = FlowTable(PROXY), tcp(C, S, SYN, options=b"\x94\x04\0\0", payload=b"body")
    assert table.take(packet, 0.0) is ASK
    table.reflect(packet, table.begin(packet, 0.0, divert=True))
    assert (ports(packet), bytes(packet[20:24]), bytes(packet[-4:])) == ((40000, PROXY), b"\x94\x04\0\0", b"body")


CLIENT, ANSWER = "client", "proxy"


@pytest.mark.parametrize(("steps", "left"), [
    pytest.param([(CLIENT, ACK, ASK)], 0, id="began before us"),
    pytest.param([(ANSWER, SYN | ACK, DROP)], 0, id="a stranger asked the proxy's port"),
    pytest.param([(CLIENT, SYN, REFLECT), (CLIENT, ACK, REFLECT)], 1, id="a new connection"),
    pytest.param([(CLIENT, SYN, REFLECT), (ANSWER, RST | ACK, REFLECT), (CLIENT, ACK, ASK)], 0, id="refused by the proxy"),
    pytest.param([(CLIENT, SYN, REFLECT), (CLIENT, RST, REFLECT), (ANSWER, ACK, DROP)], 0, id="reset by the client"),
    pytest.param([(CLIENT, SYN, REFLECT), (ANSWER, SYN | ACK, REFLECT), (CLIENT, FIN | ACK, REFLECT), (ANSWER, ACK, REFLECT),
                  (ANSWER, FIN | ACK, REFLECT), (CLIENT, ACK, REFLECT)], 1, id="ended by both: the last words go on"),
    pytest.param([(CLIENT, SYN, REFLECT), (CLIENT, FIN, REFLECT), (CLIENT, SYN, REFLECT), (CLIENT, ACK, REFLECT)], 1,
                 id="the same port again"),
])
def test_a_connection(steps, left):
    driven = Driven()
    for who, flags, action in steps:
        assert (driven if who == CLIENT else driven.back)(C, S, flags)[0] is action
    assert len(driven.table) == left


@pytest.mark.parametrize(("steps", "limit"), [
    pytest.param([(CLIENT, SYN)], OPENING_LIMIT, id="never answered"),
    pytest.param([(CLIENT, SYN), (ANSWER, SYN | ACK), (CLIENT, ACK)], OPEN_LIMIT, id="open"),
    pytest.param([(CLIENT, SYN), (ANSWER, SYN | ACK), (CLIENT, FIN)], OPEN_LIMIT, id="half closed: the other half may be long"),
    pytest.param([(CLIENT, SYN), (ANSWER, SYN | ACK), (CLIENT, FIN), (ANSWER, FIN)], CLOSED_LIMIT, id="closed"),
    pytest.param([(CLIENT, SYN), (ANSWER, SYN | ACK), (ANSWER, FIN), (CLIENT, FIN)], CLOSED_LIMIT, id="closed by the proxy first"),
])
def test_silence(steps, limit):
    driven = Driven()
    for who, flags in steps:
        (driven if who == CLIENT else driven.back)(C, S, flags, now=100.0)
    driven.table.expire(100.0 + limit)
    assert len(driven.table) == 1
    driven.table.expire(100.1 + limit)
    assert len(driven.table) == 0
    assert driven(C, S, ACK)[0] is ASK


def test_every_packet_keeps_a_flow_alive():
    driven = Driven()
    driven(C, S, SYN, 0.0)
    driven.back(C, S, SYN | ACK, 0.0)
    for now in range(1, 4):
        driven.back(C, S, ACK, now * OPEN_LIMIT)
        driven.table.expire(now * OPEN_LIMIT)
        assert len(driven.table) == 1


def test_one_port_to_two_of_a_server_gets_an_alias():
    driven = Driven()
    driven(C, S, SYN)
    _, second = driven(C, T, SYN)
    alias = ports(second)[0]
    assert alias != C[1]
    assert {flow.ends.server: flow.alias for flow in driven.table.diverted()} == {S: C[1], T: alias}
    assert ends_of(driven.back(C, S, ACK)[1])[:2] == (S, C)
    assert ends_of(driven.back(C, T, ACK, alias=alias)[1])[:2] == (T, C)
    driven(C, S, RST)
    assert ports(driven(C, T, ACK)[1]) == (alias, PROXY), "the one's end is not the other's"


def test_what_passes_is_left_as_it_is_and_may_be_diverted_next_time():
    driven = Driven(divert=False)
    for flags in (SYN, ACK, FIN):
        action, packet = driven(C, S, flags)
        assert (action, ends_of(packet)[:2]) == (PASS, (C, S))
    driven.divert = True
    assert driven(C, S, SYN)[0] is REFLECT
    driven.divert = False
    assert driven(C, S, SYN)[0] is PASS
    assert driven.back(C, S, ACK)[0] is DROP


def test_the_table_is_bounded_and_prefers_those_that_live():
    driven = Driven(limit=3)
    clients = [(C[0], port) for port in range(40000, 40004)]
    assert [driven(client, S, SYN)[0] for client in clients] == [REFLECT, REFLECT, REFLECT, DROP]
    for turn in (driven, driven.back):
        turn(clients[1], S, FIN)
    assert driven(clients[3], S, SYN)[0] is REFLECT, "the one that had ended made room"
    assert [driven(client, S, ACK)[0] for client in clients] == [REFLECT, ASK, REFLECT, REFLECT]


def test_ipv6_extension_headers_are_not_followed():
    packet = tcp(C6, S6, SYN)
    packet[6] = 60      # destination options
    assert FlowTable(PROXY).take(packet, 0.0) is DROP
