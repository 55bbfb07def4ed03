"""Packets of our own, by which a refused client knows at once: a TCP reset, an ICMP error. Checksums are left at 0."""
import struct

#: RFC 792 and RFC 4443, 3.1: destination unreachable, port unreachable.
_UNREACHABLE4, _UNREACHABLE6 = b"\x03\x03" + bytes(6), b"\x01\x04" + bytes(6)
#: Bytes of the refused packet that an error quotes: enough for its ports (RFC 792), and what fits anywhere (RFC 4443).
_QUOTED4, _QUOTED6 = 28, 1200
_ICMP, _ICMP6, _TCP = 1, 58, 6
_HOPS = 64
_ACK, _RST, _SYN, _FIN = 16, 4, 2, 1


def reset(packet: bytes) -> bytes:
    """The reset that the server would have answered a TCP packet with (RFC 9293, 3.5.2)."""
    at = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40
    source, target, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", packet, at)
    if flags & _ACK:
        answer = acknowledged, 0, _RST
    else:
        length = len(packet) - at - (offset >> 4) * 4 + bool(flags & _SYN) + bool(flags & _FIN)
        answer = 0, (sequence + length) & 0xFFFFFFFF, _RST | _ACK
    return _back(packet, _TCP, struct.pack("!HHIIBBHHH", target, source, *answer[:2], 5 << 4, answer[2], 0, 0, 0))


def unreachable(packet: bytes) -> bytes:
    """Port unreachable, as if the server had answered a UDP packet with it."""
    if packet[0] >> 4 == 4:
        return _back(packet, _ICMP, _UNREACHABLE4 + packet[:_QUOTED4])
    return _back(packet, _ICMP6, _UNREACHABLE6 + packet[:_QUOTED6])


def _back(packet: bytes, protocol: int, payload: bytes) -> bytes:
    """From whom `packet` was for, to whom it was from."""
    if packet[0] >> 4 == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, _HOPS, protocol, 0)
        return header + packet[16:20] + packet[12:16] + payload
    header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, _HOPS)
    return header + packet[24:40] + packet[8:24] + payload
