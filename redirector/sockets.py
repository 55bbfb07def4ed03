"""The TCP sockets of this network namespace, asked of the kernel: sock_diag(7), inet_diag_req_v2 and inet_diag_msg."""
import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator

from redirector.plan import Connection, Endpoint

# linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 4, 20, 21
NLMSG_ERROR, NLMSG_DONE, NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 2, 3, 1, 4, 0x300
INET_DIAG_CGROUP_ID = 21
#: The TCP states (net/tcp_states.h) with an owner and a peer: not TIME_WAIT 6, CLOSE 7, LISTEN 10, NEW_SYN_RECV 12.
CONNECTED = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))
#: Seconds; the kernel answers at once or never.
ANSWER_LIMIT = 1.0
#: The kernel sends a dump in pieces of at most 32 KiB.
_BUFFER = 1 << 16

_HEADER = struct.Struct("=IHHII")                # nlmsghdr
_REQUEST = struct.Struct("=BBBxI48s")            # family, protocol, extensions, states, inet_diag_sockid
_SOCKET_ID = struct.Struct("!HH16s16s12s")       # ports, addresses, then interface and cookie
_MESSAGE = struct.Struct("=Bxxx48s12xII")        # family, inet_diag_sockid, uid, inode
#: No interface, no cookie (INET_DIAG_NOCOOKIE): any socket with these addresses.
_ANY = bytes(4) + b"\xff" * 8


def plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address without the IPv6 dress of an IPv4 one, and without a zone."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip


def find(client: Endpoint, server: Endpoint) -> Connection | None:
    """The socket whose local address is `client` and whose peer is `server`; a listener does not count."""
    source, target = plain(client[0]), plain(server[0])
    if source.version != target.version:
        return None
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    wanted = _SOCKET_ID.pack(client[1], server[1], source.packed, target.packed, _ANY)
    try:
        found = next(_ask(SOCK_DIAG_BY_FAMILY, 0, family, wanted), None)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return found if found and found.server[1] == server[1] else None


def connections() -> list[Connection]:
    """Every connected or connecting TCP socket."""
    return [connection for family in (socket.AF_INET, socket.AF_INET6)
            for connection in _ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, bytes(48))]


def destroy(connection: Connection) -> bool:
    """Abort it: its process gets ECONNABORTED, its peer a reset. False if it has gone, or the kernel will not."""
    try:
        list(_ask(SOCK_DESTROY, NLM_F_ACK, *connection.ident))
    except OSError:
        return False
    return True


def _ask(kind: int, flags: int, family: int, ident: bytes) -> Iterator[Connection]:
    """Send one request and yield what answers it. Raises OSError with the kernel's error number."""
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, CONNECTED, ident)
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
                yield _connection(body)
            if not flags & NLM_F_DUMP:
                return


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size:length]
        data = data[(length + 3) & ~3:]


def _connection(body: bytes) -> Connection:
    family, ident, uid, inode = _MESSAGE.unpack_from(body)
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
