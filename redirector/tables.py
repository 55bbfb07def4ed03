"""All TCP and UDP sockets of this network namespace with their bytes, and those that end: sock_diag(7), linux/tcp.h.

A dump says what is there now. Between two dumps the kernel's destroy notifications say what every TCP socket had moved
when it ended, however short it lived; they name neither its owner nor, where its own process aborted it, its peer and
its bytes. The cookie ties a socket's messages together; none is used twice until a reboot. All of it needs no rights
(Linux 6.18; some kernels ask for CAP_NET_ADMIN for the notifications).
"""
import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from redirector.plan import Endpoint
from redirector.sockets import (
    NETLINK_SOCK_DIAG,
    NLM_F_DUMP,
    SOCK_DIAG_BY_FAMILY,
    exchange,
    messages,
)

#: linux/inet_diag.h: the attribute with tcp_info.
INET_DIAG_INFO = 2
#: linux/sock_diag.h: SKNLGRP_INET_TCP_DESTROY 1 and SKNLGRP_INET6_TCP_DESTROY 3, as bits for bind(2). Those of UDP tell
#: nothing of use, and each notification costs the kernel some five microseconds.
DESTROY_GROUPS = 0b0101
#: SO_RCVBUFFORCE of socket(7): for root beyond the system's limit.
SO_RCVBUFFORCE = 33
#: Bytes of notifications that may wait: some ten thousand, two seconds of a very busy computer.
WAITING = 16 << 20
#: The piece that is read at once.
_BUFFER = 1 << 18

#: net/tcp_states.h, under the names of RFC 9293; a UDP socket has a peer (1) or none (7).
TCP_STATES = {1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT",
              7: "CLOSED", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "SYN_RECV"}
UDP_STATES = {1: "CONNECTED", 7: "UNCONNECTED"}
ALL_STATES = 0xFFFFFFFF
#: States after the peer's FIN, which counts as a byte received.
_PEER_FINISHED = frozenset(("CLOSE_WAIT", "LAST_ACK", "CLOSING"))

_HEADER = struct.Struct("=IHHII")                   # nlmsghdr
_REQUEST = struct.Struct("=BBBxI48s")               # inet_diag_req_v2: family, protocol, extensions, states, id
#: inet_diag_msg: family, state, ports, addresses, interface, cookie; expires and queues; uid, inode.
_MESSAGE = struct.Struct("=BBxxHH16s16s4xQ12xII")
_ATTRIBUTE = struct.Struct("=HH")
#: tcp_info: bytes_acked, bytes_received; bytes_sent, bytes_retrans (Linux 4.19).
_ACKED, _SENT = struct.Struct("=120xQQ"), struct.Struct("=200xQQ")


@dataclass(slots=True)
class Socket:
    """One socket. `inode` is 0 where no process holds it; `sent` and `received` are payload, None where unknown."""

    protocol: str
    state: str
    local: Endpoint
    remote: Endpoint
    uid: int
    inode: int
    cookie: int
    sent: int | None = None
    received: int | None = None


def dump() -> Iterator[Socket]:
    """Every TCP and UDP socket, listening and closing ones too. Raises OSError."""
    for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        for family in (socket.AF_INET, socket.AF_INET6):
            yield from _dump(family, protocol)


def _dump(family: int, protocol: int) -> Iterator[Socket]:
    request = _REQUEST.pack(family, protocol, 1 << (INET_DIAG_INFO - 1), ALL_STATES, bytes(48))
    try:
        for body in exchange(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request):
            yield parse(body, protocol)
    except OSError as error:
        if error.errno != errno.ENOENT:         # no module for this protocol here
            raise


class Destroyed:
    """The TCP sockets that end, from now on. Raises PermissionError where the kernel asks for CAP_NET_ADMIN.

    `lost` counts the times that more came than may wait.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WAITING)   # as far as the system lets us
            with suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, WAITING)
            self._socket.bind((0, DESTROY_GROUPS))
        except OSError:
            self._socket.close()
            raise

    def take(self) -> Iterator[Socket]:
        """Those that have ended since the last time."""
        while True:
            try:
                data = self._socket.recv(_BUFFER)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost += 1
                continue
            for kind, body in messages(data):
                if kind == SOCK_DIAG_BY_FAMILY:
                    yield parse(body, socket.IPPROTO_TCP)

    def close(self) -> None:
        self._socket.close()


def parse(body: bytes, protocol: int) -> Socket:
    """One inet_diag_msg with its attributes."""
    family, state, sport, dport, source, target, cookie, uid, inode = _MESSAGE.unpack_from(body)
    local, remote = (_text(family, source), socket.ntohs(sport)), (_text(family, target), socket.ntohs(dport))
    if protocol == socket.IPPROTO_UDP:
        return Socket("udp", UDP_STATES.get(state, str(state)), local, remote, uid, inode, cookie)
    found = Socket("tcp", TCP_STATES.get(state, str(state)), local, remote, uid, inode, cookie)
    offset, end = _MESSAGE.size, len(body)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if kind == INET_DIAG_INFO and found.state != "LISTEN" and length >= 4 + _SENT.size:
            found.sent, found.received = _moved(body, offset + 4, found.state)
            break
        offset += max(4, (length + 3) & ~3)
    return found


def _moved(body: bytes, offset: int, state: str) -> tuple[int, int]:
    """Payload sent, each byte once, and received.

    The peer's FIN counts as one byte received. Of a socket that has ended nobody says whether there was one: where
    what was acknowledged is more than the payload, our own FIN was too, so there was an orderly end, or our SYN, so
    that of a connection which was reset this is a byte too few.
    """
    acked, received = _ACKED.unpack_from(body, offset)
    sent, again = _SENT.unpack_from(body, offset)
    finished = state in _PEER_FINISHED or (state == "CLOSED" and acked > sent - again)
    return max(0, sent - again), received - (finished and received > 0)


@lru_cache(8192)        # a few addresses are at the ends of most sockets
def _text(family: int, packed: bytes) -> str:
    """The address, without the IPv6 dress of an IPv4 one."""
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, packed[:4])
    if packed[:12] == bytes(10) + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)
