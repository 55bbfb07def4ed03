"""The TCP sockets of this network namespace, asked of the kernel: sock_diag(7), inet_diag_req_v2 and inet_diag_msg."""
import errno
import ipaddress
import socket
import struct
from collections.abc import Collection, Iterator
from functools import lru_cache

from redirector.plan import NO_UID, Connection, Endpoint

# linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 4, 20, 21
NLMSG_ERROR, NLMSG_DONE, NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 2, 3, 1, 4, 0x300
INET_DIAG_CGROUP_ID = 21
INET_DIAG_REQ_BYTECODE, BC_JMP, BC_S_GE, BC_S_LE, BC_D_COND = 1, 1, 2, 3, 8
#: The TCP states (net/tcp_states.h) with an owner and a peer: not TIME_WAIT 6, CLOSE 7, LISTEN 10, NEW_SYN_RECV 12.
CONNECTED = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))
LISTENING = 1 << 10
#: Addresses in one question: a filter is at most a few KiB, and is run for every socket there is.
MAX_ENDS = 32
#: Seconds; the kernel answers at once or never.
ANSWER_LIMIT = 1.0
#: The kernel sends a dump in pieces of at most 32 KiB.
_BUFFER = 1 << 16

_HEADER = struct.Struct("=IHHII")                # nlmsghdr
_REQUEST = struct.Struct("=BBBxI48s")            # family, protocol, extensions, states, inet_diag_sockid
_SOCKET_ID = struct.Struct("!HH16s16s12s")       # ports, addresses, then interface and cookie
_OPERATION = struct.Struct("=BBH")               # inet_diag_bc_op: code, and where to go on: if so, if not
_HOST = struct.Struct("=BBxxi")                  # inet_diag_hostcond: family, bits of the address, port
_MESSAGE = struct.Struct("=BxBx48s12xII")        # family, timer, inet_diag_sockid, uid, inode
#: The timer of a socket of which the kernel keeps the addresses alone, in FIN_WAIT2 too: what it says of uid is 0.
_TIME_WAIT = 3
#: No interface, no cookie (INET_DIAG_NOCOOKIE): any socket with these addresses.
_ANY = bytes(4) + b"\xff" * 8


@lru_cache(1024)    # the same few come again and again
def plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address without the IPv6 dress of an IPv4 one, and without a zone."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip


def find(client: Endpoint, server: Endpoint) -> Connection | None:
    """The socket whose local address is `client` and whose peer is `server`; a listener does not count."""
    found = _find(client, server, socket.IPPROTO_TCP)
    return found if found and found.server[1] == server[1] else None


def find_udp(client: Endpoint, server: Endpoint) -> Connection | None:
    """The UDP socket that sends from `client` to `server`, connected or not."""
    return _find(server, client, socket.IPPROTO_UDP)    # udp_diag takes the two the other way round


def _find(client: Endpoint, server: Endpoint, protocol: int) -> Connection | None:
    source, target = plain(client[0]), plain(server[0])
    if source.version != target.version:
        return None
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    wanted = _SOCKET_ID.pack(client[1], server[1], source.packed, target.packed, _ANY)
    try:
        return next(_ask(SOCK_DIAG_BY_FAMILY, 0, family, wanted, protocol=protocol), None)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def connections() -> list[Connection]:
    """Every connected or connecting TCP socket."""
    return [connection for family in (socket.AF_INET, socket.AF_INET6)
            for connection in _ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, bytes(48))]


def facing(ends: Collection[Endpoint]) -> list[Connection]:
    """The sockets whose peer is one of `ends` (the last MAX_ENDS): who holds the other end of a connection, wherever
    NAT has led it, as long as that is in this network namespace."""
    known = [(plain(host).packed, port) for host, port in list(ends)[-MAX_ENDS:]]
    four = _any_peer([end for end in known if len(end[0]) == 4])
    both = _any_peer(known)         # a dual-stack socket shows the peers of IPv4 too, and the kernel compares them so
    return [connection for family, code in ((socket.AF_INET, four), (socket.AF_INET6, both)) if code
            for connection in _ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, bytes(48), code=code)]


def towards(server: Endpoint) -> list[Connection]:
    """The sockets whose peer is `server`, as their processes see it."""
    return [each for each in facing([server]) if each.server == (str(plain(server[0])), server[1])]


def listeners(port: int) -> list[Connection]:
    """The sockets that listen on this port; what they show as their peer means nothing."""
    code = _OPERATION.pack(BC_S_GE, 8, 20) + _OPERATION.pack(0, 0, port)
    code += _OPERATION.pack(BC_S_LE, 8, 12) + _OPERATION.pack(0, 0, port)
    return [connection for family in (socket.AF_INET, socket.AF_INET6)
            for connection in _ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, bytes(48), LISTENING, code)]


def _any_peer(ends: list[tuple[bytes, int]]) -> bytes:
    """A filter that takes what has one of these peers.  It takes what comes to its end exactly (net/ipv4/inet_diag.c,
    inet_diag_bc_run), so each condition is followed by a jump there, and the last one goes beyond it if it fails."""
    code = b""
    for address, port in reversed(ends):
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        size = _OPERATION.size + _HOST.size + len(address)
        jump = _OPERATION.pack(BC_JMP, _OPERATION.size, _OPERATION.size + len(code))
        code = (_OPERATION.pack(BC_D_COND, size, size + _OPERATION.size + (0 if code else 4))
                + _HOST.pack(family, 8 * len(address), port) + address + jump + code)
    return code
def cookie(connection: Connection) -> int:
    """The kernel's number of the socket, which no other ever has: two words, the lower first (inet_diag_sockid)."""
    low, high = struct.unpack_from("=II", connection.ident[1], _SOCKET_ID.size - 8)
    return int(low | high << 32)


def destroy(connection: Connection) -> bool:
    """Abort it: its process gets ECONNABORTED, its peer a reset. False if it has gone, or the kernel will not."""
    try:
        list(_ask(SOCK_DESTROY, NLM_F_ACK, *connection.ident))
    except OSError:
        return False
    return True


def _ask(kind: int, flags: int, family: int, ident: bytes, states: int = CONNECTED,
         code: bytes = b"", protocol: int = socket.IPPROTO_TCP) -> Iterator[Connection]:
    """Send one request and yield what answers it, of a dump what the filter `code` takes.

    Raises OSError with the kernel's error number.
    """
    request = _REQUEST.pack(family, protocol, 0, states, ident)
    if code:
        request += struct.pack("=HH", 4 + len(code), INET_DIAG_REQ_BYTECODE) + code
    yield from map(_connection, exchange(kind, flags, request))


def exchange(kind: int, flags: int, request: bytes) -> Iterator[bytes]:
    """Send one request of sock_diag(7) and yield the bodies that answer it. Raises OSError with the kernel's number."""
    header = _HEADER.pack(_HEADER.size + len(request), kind, NLM_F_REQUEST | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(ANSWER_LIMIT)
        netlink.send(header + request)
        while True:
            for kind, body in messages(netlink.recv(_BUFFER)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    if code := -struct.unpack_from("=i", body)[0]:
                        raise OSError(code, "sock_diag")
                    return
                yield body
            if not flags & NLM_F_DUMP:
                return


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and bodies of the netlink messages in what was received (netlink(7))."""
    while data:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size:length]
        data = data[(length + 3) & ~3:]


def _connection(body: bytes) -> Connection:
    family, timer, ident, uid, inode = _MESSAGE.unpack_from(body)
    if timer == _TIME_WAIT:
        uid = NO_UID
    sport, dport, source, target, _ = _SOCKET_ID.unpack(ident)
    width = 4 if family == socket.AF_INET else 16
    client, server = (str(plain(socket.inet_ntop(family, packed[:width]))) for packed in (source, target))
    return Connection((client, sport), (server, dport), uid, inode, _cgroup(body[_MESSAGE.size:]), (family, ident))


def _cgroup(attributes: bytes) -> int:
    """The id of the control group that made the socket, 0 where the kernel does not say (before 5.7)."""
    while len(attributes) >= 4:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == INET_DIAG_CGROUP_ID:
            return int.from_bytes(attributes[4:length], "little")
        attributes = attributes[max(4, (length + 3) & ~3):]
    return 0
