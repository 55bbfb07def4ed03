"""TCP and UDP packets as bytes, for tests."""
import ipaddress
import struct

from redirector.flows import TCP, UDP


def tcp(client, server, flags, *, options=b"", payload=b"", sequence=1000, acknowledged=0):
    """A segment between two (address, port); `options` are those of IPv4."""
    header = struct.pack("!HHIIBBHHH", client[1], server[1], sequence, acknowledged, 5 << 4, flags, 65535, 0, 0)
    return ip(client, server, TCP, header + payload, options)


def udp(client, server, payload=b"hello"):
    return ip(client, server, UDP, struct.pack("!HHHH", client[1], server[1], 8 + len(payload), 0) + payload)


def ip(client, server, protocol, body, options=b""):
    source, target = (ipaddress.ip_address(end[0]).packed for end in (client, server))
    if len(source) == 4:
        size = 20 + len(options)
        head = struct.pack("!BBHHHBBH", 0x40 + size // 4, 0, size + len(body), 1, 0, 64, protocol, 0)
        return bytearray(head + source + target + options + body)
    return bytearray(struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + source + target + body)


def ports(packet):
    at = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40
    return struct.unpack_from("!HH", packet, at)
