"""Where a captured connection was going, addresses that none may be led to, and how one with several is made."""

import asyncio
import ipaddress
import os
import socket
import struct
from collections.abc import Sequence
from functools import lru_cache

from proxy import ports

#: getsockopt(2) names of Linux's netfilter: <linux/netfilter_ipv4.h>, <linux/netfilter_ipv6/ip6_tables.h>.
SO_ORIGINAL_DST = IP6T_SO_ORIGINAL_DST = 80

#: Where clouds serve credentials besides link-local addresses: Amazon's and Google's by IPv6, Alibaba's, Azure's.
METADATA = frozenset(("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16"))
#: Seconds that an address has to itself before the next is tried as well (RFC 8305, 5).
ATTEMPT_DELAY = 0.25

type Address = tuple[str, int]


@lru_cache(1024)    # the same few come again and again
def plain(address: str) -> str:
    """An IPv4 address also where a dual-stack socket shows it as mapped, without a scope id."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def numeric(host: str) -> bool:
    """Is it an address, not a name?"""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def original(sock: socket.socket) -> Address:
    """Return the address that the client dialled before netfilter redirected it; OSError where it was not."""
    if sock.family == socket.AF_INET6:
        raw = sock.getsockopt(socket.IPPROTO_IPV6, IP6T_SO_ORIGINAL_DST, 28)
        port, address = struct.unpack_from("!2xH4x16s", raw)
        return plain(socket.inet_ntop(socket.AF_INET6, address)), port
    raw = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    port, address = struct.unpack_from("!2xH4s", raw)
    return socket.inet_ntoa(address), port


def peer(sock: socket.socket) -> Address:
    """Return address and port of the other end."""
    host, port = sock.getpeername()[:2]
    return plain(host), port


def reflected(sock: socket.socket) -> Address:
    """The client's address, where its packets were turned round: it is our own end's, and the port is the peer's."""
    return plain(sock.getsockname()[0]), sock.getpeername()[1]


def is_here(client: socket.socket) -> bool:
    """Is the other end on this computer?  It is, if it comes from loopback, or from the very address it came to."""
    there, here = peer(client)[0], plain(client.getsockname()[0])
    return there == here or ipaddress.ip_address(there).is_loopback


def forbidden(address: str, port: int, own: set[Address], *, here: bool = True) -> str | None:
    """Say why a connection may not be led there through the explicit door, or None.

    An open relay to ourselves would loop; at link-local and some other addresses clouds serve credentials to whoever
    asks; and on loopback are services that are for this computer alone, where clients are that are `here`.
    """
    ip = ipaddress.ip_address(plain(address))
    if ours(address, port, own):
        return "that is lockgate itself"
    if ip.is_loopback and not here:
        return "this computer's own services are not for other computers"
    if ip.is_link_local or str(ip) in METADATA:
        return "link-local and cloud metadata addresses are not served through the proxy"
    if ip.is_unspecified or ip.is_multicast:
        return "not an address to connect to"
    return None


def ours(address: str, port: int, own: set[Address]) -> bool:
    """Does what is sent there come to one of the addresses that we listen on?"""
    ip = ipaddress.ip_address(plain(address))
    return any(port == own_port and _takes(host, ip) for host, own_port in own)


def _takes(listening: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Does a listener there get what is sent to `ip`?  One without an address does, if `ip` can be bound here."""
    if ip.is_loopback or ip.is_unspecified or str(ip) == listening:
        return True
    if not ipaddress.ip_address(listening).is_unspecified:
        return False
    with socket.socket(_family(str(ip)), socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(ip), 0))
        except OSError:
            return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def dial(addresses: Sequence[Address]) -> socket.socket:
    """Connect to the first of these numeric addresses, at least one, that answers (RFC 8305, 5).

    The next is tried when one fails or has not answered for `ATTEMPT_DELAY`; the others are given up once one is
    connected.  Raises the first OSError where none is.
    """
    if len(addresses) == 1:     # as for all that is captured: no task, no waiting
        return await _connect(addresses[0])
    waiting, attempts, errors = list(addresses), set[asyncio.Task[socket.socket]](), list[BaseException]()
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(_connect(waiting.pop(0))))
            delay = ATTEMPT_DELAY if waiting else None
            done, _ = await asyncio.wait(attempts, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                attempts.discard(attempt)
                if (error := attempt.exception()) is None:
                    return attempt.result()
                errors.append(error)
        raise errors[0]
    finally:
        for attempt in attempts:
            if not attempt.cancel() and attempt.exception() is None:
                attempt.result().close()


def words(error: OSError) -> str:
    """What went wrong, as the system says it: asyncio's own words leave that out."""
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__


async def _connect(address: Address) -> socket.socket:
    family = _family(address[0])
    if (own := ports.in_use()) is not None:
        return await own.connect(family, address)
    return await ports.connected(socket.socket(family, socket.SOCK_STREAM), address)


async def streams(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a host, by name or address, as all our connections are made.  Raises OSError."""
    addresses = [(host, port)]
    if not numeric(host):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [(str(entry[4][0]), int(entry[4][1])) for entry in found]
    return await asyncio.open_connection(sock=await dial(addresses))
