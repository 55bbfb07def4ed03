"""Capture by seccomp user notification: connect() of one process tree, without rights, done by us in its place.

A connect() of the tree stops in the kernel and waits for our answer. We read its address once, take a duplicate of its
socket, and connect that, to the proxy if the Plan captures the address, else to where it wanted: so what was judged is
what is used, whatever another thread writes over the address meanwhile. Who is at the other end of the proxy's
connection, and where it wanted to go, is known before the proxy sees it.

Only what is no Internet socket goes on by itself, as its peer must see the caller and not us (SO_PEERCRED of unix(7)),
and so does a datagram that is not for port 443. A hostile program gains from that: a thread that puts another socket
in the descriptor's place in just that moment connects unseen. It has simpler ways, as it has the rights of its user:
it can ask any process of theirs that is outside the tree. Capture without rights is for programs, not against them.

What the program may notice: getpeername() is the proxy; setuid programs run without their rights; without us there is
no connection (ENOSYS).
"""
import socket
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, ClassVar, Self

from redirector import sockets
from redirector.plan import LAN, BackendError, Connection, Declaration, Endpoint, Plan, beyond
from redirector.wire import Lookup, Owner, Process, Ready

if TYPE_CHECKING:
    from redirector.supervisor import Supervisor

#: Connections whose destination the proxy has not asked for: it can have that many at once. The oldest are forgotten.
MAX_KEPT = 10_000
#: Seconds that a destination is kept: the proxy asks as soon as it accepts, and later the port may be somebody else's.
KEPT = 60.0

Address = IPv4Address | IPv6Address


# -- addresses

def destination(sockaddr: bytes) -> tuple[Address, int] | None:
    """Address and port in a struct sockaddr_in or _in6; IPv4 also where it comes as a mapped one. None: neither."""
    family = int.from_bytes(sockaddr[:2], "little") if len(sockaddr) >= 2 else None
    if family == socket.AF_INET and len(sockaddr) >= 8:
        port, packed = struct.unpack_from("!H4s", sockaddr, 2)
    elif family == socket.AF_INET6 and len(sockaddr) >= 24:
        port, packed = struct.unpack_from("!H4x16s", sockaddr, 2)
    else:
        return None
    return sockets.plain(socket.inet_ntop(family, packed)), port


def rewritten(sockaddr: bytes, port: int) -> bytes:
    """The same form with the proxy's address in it, on loopback."""
    head = sockaddr[:2] + struct.pack("!H", port)
    if int.from_bytes(sockaddr[:2], "little") == socket.AF_INET:
        return head + IPv4Address("127.0.0.1").packed + bytes(8)
    mapped = IPv6Address(sockaddr[8:24]).ipv4_mapped is not None
    return head + bytes(4) + IPv6Address("::ffff:127.0.0.1" if mapped else "::1").packed + bytes(4)


def wanted(plan: Plan, address: Address) -> bool:
    """Are connections to this address the Plan's business?"""
    if address.is_unspecified:      # the kernel takes it for this computer
        return plan.loopback
    if not plan.lan and any(address in network for network in LAN if network.version == address.version):
        return False
    return plan.loopback or not _ours(address)


def _ours(address: Address) -> bool:
    """Is it this computer itself? What one sends to oneself comes from there, too."""
    try:
        return address.is_loopback or source(address) == address
    except OSError:
        return False


def source(address: Address) -> Address:
    """The address that packets to this one would come from. Raises OSError, as connect(2) does, without a way there.

    A datagram socket is connected without a packet.
    """
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))
        return sockets.plain(probe.getsockname()[0])


# -- what is known of connections to the proxy

@dataclass
class Kept:
    """From the client's end of a connection to the proxy: where it wanted to go, and whose it is."""

    _known: OrderedDict[Endpoint, tuple[float, Endpoint, Process | None]] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, client: Endpoint, server: Endpoint, process: Process | None) -> None:
        self._known.pop(client, None)
        self._known[client] = time.monotonic(), server, process
        if len(self._known) > MAX_KEPT:
            self._known.popitem(last=False)

    def take(self, question: Lookup) -> Owner:
        """Each is told once: a connection from the same port later is another."""
        with self.lock:     # a connect that is being made is known before the proxy's question is looked at
            since, server, process = self._known.pop(question.client, (0.0, None, None))
        if time.monotonic() - since > KEPT:
            return Owner(question.id, None)
        return Owner(question.id, process, server)


# -- as a backend

class Hook:
    """The backend. `channel` leads to the keeper of the tree."""

    declaration: ClassVar = Declaration(
        "hook", rights="none (Linux with Yama: at most ptrace_scope 1)", systems=("Linux 5.6",), ipv6=True, udp=True,
        trees=True, processes=True, closed=True, transparent=True, local=True)

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._kept = channel, Kept()

    def install(self, plan: Plan, existing: Collection[Connection]) -> None:
        if not plan.scope.everything:
            raise BackendError("hook captures the tree that it was put on; a user or control group is for nftables")
        if plan.fail == "open":
            raise BackendError("hook cannot fail open: what has its filter cannot connect without it")
        if plan.existing == "cut":
            raise BackendError("hook cuts nothing: it begins with its command, which has no connections yet")
        from redirector.supervisor import Supervisor  # Linux only

        supervisor = Supervisor(plan, self._channel, self._kept)
        self._thread = threading.Thread(target=self._answer, args=(supervisor,), daemon=True)
        self._thread.start()

    def _answer(self, supervisor: "Supervisor") -> None:
        with suppress(ConnectionError):     # the keeper has gone, and all that it kept
            supervisor.run()

    def check(self) -> None:
        """Raises BackendError where nobody answers any more: another redirector is needed."""
        if not self._thread.is_alive():
            raise BackendError("nobody answers the calls any more")

    def remove(self) -> None:
        with suppress(OSError):     # the thread ends
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()

    def look_up(self, question: Lookup) -> Owner:
        return self._kept.take(question)


class HookSession:
    """What a Start with this backend puts in place: nothing outside this process, so there is no guard to tend."""

    def __init__(self, plan: Plan, channel: socket.socket) -> None:
        self._plan, self._backend = plan, Hook(channel)
        self.look_up = self._backend.look_up

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.remove()

    def install(self) -> Ready:
        if lacking := beyond(self._plan, self._backend.declaration):
            raise BackendError(f"--capture hook does not offer {', '.join(lacking)}: choose another")
        self._backend.install(self._plan, ())
        return Ready("hook", existing=0, cut=False)

    def tend(self) -> None:
        self._backend.check()

    def end_guard(self) -> None: ...
