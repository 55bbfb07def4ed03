"""Where a captured connection was going, and addresses that no connection may be led to."""

import ipaddress
import socket
import struct

#: getsockopt(2) names of Linux's netfilter: <linux/netfilter_ipv4.h>, <linux/netfilter_ipv6/ip6_tables.h>.
SO_ORIGINAL_DST = IP6T_SO_ORIGINAL_DST = 80

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


def forbidden(address: str, port: int, own: set[Address]) -> str | None:
    """Say why a connection may not be led there through the explicit door, or None.

    An open relay to ourselves would loop; link-local addresses are where clouds serve credentials to whoever asks.
    """
    ip = ipaddress.ip_address(plain(address))
    if any(port == own_port and (ip.is_loopback or ip.is_unspecified or str(ip) == host) for host, own_port in own):
        return "that is lockgate itself"
    if ip.is_link_local:
        return "link-local addresses (cloud metadata among them) are not served through the proxy"
    if ip.is_unspecified or ip.is_multicast:
        return "not an address to connect to"
    return None
