"""Where a captured connection was going, addresses that none may be led to, and how one with several is made."""

import asyncio
import ipaddress
import os
import socket
import struct
from collections.abc import Sequence

from proxy.dialled import dialled

#: getsockopt(2) names of Linux's netfilter: <linux/netfilter_ipv4.h>, <linux/netfilter_ipv6/ip6_tables.h>.
SO_ORIGINAL_DST = IP6T_SO_ORIGINAL_DST = 80

#: Where clouds serve credentials besides link-local addresses: Amazon's and Google's by IPv6, Alibaba's, Azure's.
METADATA = frozenset(("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16"))
#: Seconds that an address has to itself before the next is tried as well (RFC 8305, 5).
ATTEMPT_DELAY = 0.25

type Address = tuple[str, int]


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


def forbidden(address: str, port: int, own: set[Address]) -> str | None:
    """Say why a connection may not be led there through the explicit door, or None.

    An open relay to ourselves would loop; at link-local and some other addresses clouds serve credentials to whoever
    asks.
    """
    ip = ipaddress.ip_address(plain(address))
    if any(port == own_port and _takes(host, ip) for host, own_port in own):
        return "that is lockgate itself"
    if ip.is_link_local or str(ip) in METADATA:
        return "link-local and cloud metadata addresses are not served through the proxy"
    if ip.is_unspecified or ip.is_multicast:
        return "not an address to connect to"
    return None


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
    sock = socket.socket(_family(address[0]), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        finally:
            dialled.note(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
