"""What the kernel remembers of connections that are over: ctnetlink (linux/netfilter/nfnetlink_conntrack.h).

It tracks only while somebody's rules need it. So the end of a connection may be missed, and is then remembered for days
(nf_conntrack_tcp_timeout_established). A new connection between the same ports would be taken for that one: led to a
proxy that has gone, or, if that was not diverted, refused. One that is older than the rules would be led astray too.
"""
import socket
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address

from redirector import sockets
from redirector.plan import Endpoint

NETLINK_NETFILTER, CT_GET, CT_DELETE = 12, 0x101, 0x102         # the subsystem's number, 1, in the upper byte
TUPLE_ORIG, TUPLE_REPLY, ID, ZONE = 1, 2, 12, 18
#: Attributes of a tuple: its IP and its protocol part, its zone; members of the former (IPv4 first), of the latter.
TUPLE_IP, TUPLE_PROTO, TUPLE_ZONE, SOURCES, TARGETS = 1, 2, 3, (1, 3), (2, 4)
PROTO_NUMBER, SOURCE_PORT, TARGET_PORT = 1, 2, 3
#: Seconds; a hundred thousand entries take one or two on an idle computer. What is left then stays, and fails closed.
LIMIT = 5.0
_MASK = 0x3fff          # without the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER
_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=BBH")

Pair = tuple[Endpoint, Endpoint]


def forget(ports: Collection[int], exempt_uid: int | None = None) -> int:
    """Remove what is remembered of this computer's own connections to `ports` that no longer exist; says how many.

    One lives when its own socket does, and, if it is led elsewhere, a process has the other end there: what a proxy
    leaves that died still sends for a minute. Only those of `exempt_uid` are in the proxy's zone: what is remembered
    there by the numbers of others is not theirs. Raises OSError where the kernel cannot be asked.
    """
    there = sockets.connections()
    alive = {(each.client, each.server) for each in there}
    held = {(each.client, each.server) for each in there if each.inode}
    apart = {(each.client, each.server) for each in there if each.uid != exempt_uid}
    until, count = time.monotonic() + LIMIT, 0
    for family in (socket.AF_INET, socket.AF_INET6):
        stale = [entry for entry in _entries(family, until) if _is_stale(entry, ports, alive, held, apart)]
        for entry in stale:
            with suppress(OSError):         # gone by now
                _ask(CT_DELETE, sockets.NLM_F_REQUEST | sockets.NLM_F_ACK, family, _name(entry))
                count += 1
    return count


def _is_stale(entry: dict[int, bytes], ports: Collection[int], alive: set[Pair], held: set[Pair],
              apart: set[Pair]) -> bool:
    there = _tuple(entry.get(TUPLE_ORIG, b""))
    if there is None or there[1][1] not in ports or not _is_local(there[0][0]):
        return False
    if there not in alive or (there in apart and TUPLE_ZONE in _attributes(entry[TUPLE_ORIG])):
        return True
    back = _tuple(entry.get(TUPLE_REPLY, b""))
    return back is not None and back[0] != there[1] and back not in held


@lru_cache(256)
def _is_local(address: str) -> bool:
    """Only an address of this computer can be bound to (ip(7))."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _entries(family: int, until: float) -> Iterator[dict[int, bytes]]:
    """All that there are, as attributes."""
    for body in _ask(CT_GET, sockets.NLM_F_REQUEST | sockets.NLM_F_DUMP, family, b""):
        yield _attributes(body[_GENERIC.size:])
        if time.monotonic() > until:
            return


def _ask(kind: int, flags: int, family: int, attributes: bytes) -> Iterator[bytes]:
    """Send one request; what answers it. Raises OSError with the kernel's error number."""
    body = _GENERIC.pack(family, 0, 0) + attributes
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        netlink.settimeout(sockets.ANSWER_LIMIT)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        return iter(list(_answers(netlink)))


def _answers(netlink: socket.socket) -> Iterator[bytes]:
    while True:
        for kind, body in sockets.messages(netlink.recv(1 << 16)):
            if kind == sockets.NLMSG_DONE:
                return
            if kind == sockets.NLMSG_ERROR:
                if code := -struct.unpack_from("=i", body)[0]:
                    raise OSError(code, "ctnetlink")
                return
            yield body


def _attributes(data: bytes) -> dict[int, bytes]:
    """netlink(7): length, type, value, padded to four bytes."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & _MASK] = data[4:length]
        data = data[max(4, (length + 3) & ~3):]
    return found


def _tuple(data: bytes) -> Pair | None:
    """Source and destination of a TCP connection."""
    parts = _attributes(data)
    addresses, proto = _attributes(parts.get(TUPLE_IP, b"")), _attributes(parts.get(TUPLE_PROTO, b""))
    if proto.get(PROTO_NUMBER) != bytes([socket.IPPROTO_TCP]):
        return None
    source, target = (next(addresses[kind] for kind in kinds if kind in addresses) for kinds in (SOURCES, TARGETS))
    ports = (int.from_bytes(proto[kind], "big") for kind in (SOURCE_PORT, TARGET_PORT))
    return (str(ip_address(source)), next(ports)), (str(ip_address(target)), next(ports))


def _name(entry: dict[int, bytes]) -> bytes:
    """What tells it from all others: its ends, its zone, and its number, so that no later one is meant."""
    nested = 0x8000
    named = ((TUPLE_ORIG, nested), (ID, 0), (ZONE, 0))
    return b"".join(_attribute(kind | flag, entry[kind]) for kind, flag in named if kind in entry)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
