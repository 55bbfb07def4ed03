"""The flow table of `divert`: which packets belong to a diverted connection, and how each is turned round. No I/O.

Reflection: a packet from the client to the server comes back to the computer as if the server had sent it, to the
proxy's port; the proxy's answer, as if the server had sent that to the client. So each side sees the other's address,
and nothing is routed anew.

    client:40000 -> server:443    is sent inbound as    server:40000 -> client:8080
    client:8080 -> server:40000   is sent inbound as    server:443 -> client:40000

A flow begins with a SYN that somebody decided on; it ends with a RST, some time after both sides' FIN, or by silence.
Where a client has one port to two ports of a server, the second flow gets another port, an alias, on the proxy's side.
"""
import ipaddress
import random
import struct
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from redirector.plan import Endpoint

FIN, SYN, RST, ACK = 1, 2, 4, 16
TCP, UDP = 6, 17
#: Flows at once; some 600 bytes each. At the limit those that have ended go, and then no new one begins.
MAX_FLOWS = 1 << 16
#: Seconds of silence until a flow is forgotten: before the handshake is done and while it is open (RFC 5382, REQ-5),
#: and after both ends' FIN (TIME_WAIT of Linux and Windows).
OPENING_LIMIT, OPEN_LIMIT, CLOSED_LIMIT = 240.0, 7440.0, 60.0
#: Ports tried for an alias. A client with so many connections to one address waits for one of them to end.
ALIAS_TRIES = 64

_PORTS = struct.Struct("!HH")


class Action(Enum):
    """What becomes of a packet."""

    PASS = auto()       # on its way, as it is
    REFLECT = auto()    # rewritten; it is to be sent inbound
    DROP = auto()
    REFUSE = auto()     # dropped, and its sender gets a reset
    ASK = auto()        # of no flow that we know: decide, and `begin`


class Ends(NamedTuple):
    """From whom a packet of ours came, and to whom it went."""

    client: Endpoint
    server: Endpoint
    syn: bool


class Flow:
    """A connection; `diverted`, or let pass."""

    __slots__ = ("alias", "diverted", "ends", "fins", "heard", "keys", "limit")

    def __init__(self, ends: Ends, diverted: bool, keys: tuple[bytes, ...], alias: int, now: float) -> None:
        self.ends, self.diverted, self.keys, self.alias = ends, diverted, keys, alias
        self.heard, self.limit, self.fins = now, OPENING_LIMIT, 0


#: A flow, the ports that its packets in one direction are given, and the bit of their FIN.
_Route = tuple[Flow, bytes, int]


class FlowTable:
    """Flows by their packets' addresses and ports. Time is the caller's, in seconds."""

    def __init__(self, listen_port: int, limit: int = MAX_FLOWS) -> None:
        self._listen = listen_port.to_bytes(2)
        self._limit = limit
        self._routes: dict[bytes, _Route] = {}
        self._flows: dict[bytes, Flow] = {}

    def __len__(self) -> int:
        return len(self._flows)

    def take(self, packet: bytearray | memoryview, now: float) -> Action:
        """What becomes of an outbound TCP packet; REFLECT has rewritten it, all but its checksum."""
        if packet[0] >> 4 == 4:
            start, half, at = 12, 4, (packet[0] & 15) * 4
        elif packet[6] == TCP:
            start, half, at = 8, 16, 40
        else:
            return Action.DROP      # extension headers: the right to send them is that to send raw packets
        key = bytes(packet[start:start + 2 * half]) + bytes(packet[at:at + 4])
        route = self._routes.get(key)
        flags = packet[at + 13]
        if route is None or flags & (SYN | ACK) == SYN:
            return Action.DROP if key[-4:-2] == self._listen else Action.ASK    # who asked our port, we did not lead
        flow, ports, fin = route
        flow.heard = now
        if flags & (FIN | SYN | RST):
            self._turn(flow, flags, fin)
        if not flow.diverted:
            return Action.PASS
        packet[start:start + 2 * half] = key[half:2 * half] + key[:half]    # the addresses change places
        packet[at:at + 4] = ports
        return Action.REFLECT

    def reflect(self, packet: bytearray | memoryview, flow: Flow) -> Action:
        """Turn round the packet that `flow` began with."""
        start, half, at = (12, 4, (packet[0] & 15) * 4) if packet[0] >> 4 == 4 else (8, 16, 40)
        key = flow.keys[0]
        packet[start:start + 2 * half] = key[half:2 * half] + key[:half]
        packet[at:at + 4] = self._routes[key][1]
        return Action.REFLECT

    def _turn(self, flow: Flow, flags: int, fin: int) -> None:
        if flags & RST:
            self._forget(flow)
        elif flags & SYN:               # with ACK: the proxy's answer
            flow.limit = OPEN_LIMIT
        else:
            flow.fins |= fin
            if flow.fins == 3 or not flow.diverted:     # of one that passes, we see one side only
                flow.limit = CLOSED_LIMIT

    def begin(self, packet: bytearray | memoryview, now: float, *, divert: bool) -> Flow | None:
        """A flow that starts with this packet; it replaces one between the same ends. None: there is no room."""
        ends, key = ends_of(packet), _key(packet)
        if (earlier := self._flows.get(key)) is not None:
            if earlier.diverted == divert:          # a SYN again, or its port again: the same way
                earlier.heard, earlier.limit, earlier.fins = now, OPENING_LIMIT, 0
                return earlier
            self._forget(earlier)
        if len(self._flows) >= self._limit and not self._room(now):
            return None
        if not divert:
            flow = Flow(ends, False, (key,), ends.client[1], now)
            flow.limit = OPENING_LIMIT if ends.syn else OPEN_LIMIT
            self._routes[key] = flow, b"", 1
        else:
            back = key[:-4] + self._listen      # as the proxy sends: from our address to the server's
            alias = self._alias(back, ends.client[1])
            if alias is None:
                return None
            back += alias.to_bytes(2)
            flow = Flow(ends, True, (key, back), alias, now)
            self._routes[key] = flow, back[-2:] + self._listen, 1
            self._routes[back] = flow, key[-2:] + key[-4:-2], 2
        self._flows[key] = flow
        return flow

    def _alias(self, back: bytes, port: int) -> int | None:
        tries = (random.randint(1024, 65535) for _ in range(ALIAS_TRIES))  # noqa: S311  # any free one will do
        return next((each for each in (port, *tries) if back + each.to_bytes(2) not in self._routes), None)

    def _forget(self, flow: Flow) -> None:
        if self._flows.get(flow.keys[0]) is flow:
            del self._flows[flow.keys[0]]
            for key in flow.keys:
                del self._routes[key]

    def _room(self, now: float) -> bool:
        self.expire(now)
        if len(self._flows) >= self._limit:
            for flow in [flow for flow in self._flows.values() if flow.limit == CLOSED_LIMIT]:
                self._forget(flow)
        return len(self._flows) < self._limit

    def expire(self, now: float) -> None:
        """Forget those that have been silent for too long."""
        for flow in [flow for flow in self._flows.values() if now - flow.heard > flow.limit]:
            self._forget(flow)

    def diverted(self) -> Iterator[Flow]:
        yield from (flow for flow in self._flows.values() if flow.diverted)


def _key(packet: bytearray | memoryview) -> bytes:
    if packet[0] >> 4 == 4:
        at = (packet[0] & 15) * 4
        return bytes(packet[12:20]) + bytes(packet[at:at + 4])
    return bytes(packet[8:44])


def ends_of(packet: bytearray | memoryview) -> Ends:
    """Of a TCP or UDP packet without IPv6 extension headers."""
    key = _key(packet)
    half = (len(key) - 4) // 2
    source, target = (str(ipaddress.ip_address(key[at:at + half])) for at in (0, half))
    ports = _PORTS.unpack(key[-4:])
    at = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40
    syn = protocol(packet) == TCP and packet[at + 13] & (SYN | ACK) == SYN
    return Ends((source, ports[0]), (target, ports[1]), syn)


def protocol(packet: bytearray | memoryview) -> int:
    """Of IPv4, or the first header's of IPv6."""
    return packet[9] if packet[0] >> 4 == 4 else packet[6]
