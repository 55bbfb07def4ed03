"""Answers the calls of a command under `hook`: see hook.py for what is decided, keeper.py for how we see its memory.

No call waits for another: a connect() that blocks is begun, and answered when its socket is connected or failed, while
its thread waits in the kernel and can be interrupted as without us.
"""
import errno
import fcntl
import mmap
import os
import select
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redirector import keeper, owner, seccomp, sockets
from redirector.hook import Kept, destination, rewritten, wanted
from redirector.plan import Endpoint, Plan
from redirector.seccomp import Call, Listener

#: Calls before the last one that a redirector which died may have left without an answer: the kernel numbers them.
BEHIND = 1 << 14
#: Blocking connects that wait at once. More are refused, as where there are no ports left.
MAX_WAITING = 4096
#: Seconds between two looks at the time that blocking connects have.
TICK = 0.5
QUIC_PORT = 443
_INTERNET = (socket.AF_INET, socket.AF_INET6)
# TCP states, net/tcp_states.h: the first byte of TCP_INFO.
_ESTABLISHED, _CLOSED = 1, 7
#: SO_COOKIE of <asm-generic/socket.h>: the kernel's number of a socket, which no other ever gets.
_COOKIE = 57


@dataclass
class Waiting:
    """A blocking connect that has begun; `until` is when its SO_SNDTIMEO ends (socket(7))."""

    call: Call
    sock: socket.socket
    until: float


class Supervisor:
    """Answers the calls of one listener, which comes through `channel`, from the keeper. One thread."""

    def __init__(self, plan: Plan, channel: socket.socket, kept: Kept) -> None:
        self._plan, self._channel, self._kept = plan, channel, kept
        self._waiting: dict[int, Waiting] = {}
        self._sendto = seccomp.machine().sendto
        #: Sockets whose connect we made, but whose thread was interrupted: it asks again (signal(7), SA_RESTART).
        self._unanswered: OrderedDict[int, None] = OrderedDict()

    def run(self) -> None:
        """Until the tree has ended, or the keeper."""
        _, descriptors, _, _ = socket.recv_fds(self._channel, 1, 2)
        if len(descriptors) != 2:
            return
        self._listener = Listener(descriptors[0])
        self._last = mmap.mmap(descriptors[1], 8)
        self._abandoned()
        self._poll = select.epoll()
        self._poll.register(descriptors[0], select.EPOLLIN)
        while True:
            for descriptor, events in self._poll.poll(TICK if self._waiting else None):
                if descriptor in self._waiting:
                    self._arrived(self._waiting[descriptor])
                elif not events & select.EPOLLIN:       # EPOLLHUP: nobody has the filter any more
                    return
                elif (call := self._listener.receive()) is not None:
                    self._take(call)
            self._expire()

    def _abandoned(self) -> None:
        """Answer what a redirector before us took and did not: its threads would wait for ever."""
        if last := int.from_bytes(self._last[:8], "little"):
            for number in range(last - BEHIND, last + 2):       # it may have died before it wrote down the last one
                self._listener.answer(number % 2**64, errno.ECONNABORTED)

    def _take(self, call: Call) -> None:
        self._last[:8] = call.id.to_bytes(8, "little")
        try:
            self._attend(call)
        except OSError as error:
            self._listener.answer(call.id, error.errno or errno.EACCES)

    def _attend(self, call: Call) -> None:
        """Answer it, or have it wait. Raises OSError: the call's own error."""
        place, length = call.arguments[4:6] if call.number == self._sendto else call.arguments[1:3]
        sockaddr, taken = keeper.ask(self._channel, call.tid, call.arguments[0], place, length)
        with _closing(taken) as sock:
            if not self._listener.valid(call):      # the id of a thread that ended may be another's by now
                return
            if sock.family not in _INTERNET:
                self._listener.answer(call.id, go_on=True)
            elif sock.type != socket.SOCK_STREAM:
                self._datagrams(call, sock, sockaddr)
            elif call.number == self._sendto:       # on a stream the kernel ignores the address
                self._listener.answer(call.id, go_on=True)
            else:
                self._stream(call, sock, sockaddr)

    def _datagrams(self, call: Call, sock: socket.socket, sockaddr: bytes) -> None:
        """QUIC is refused at once, so that programs fall back to TCP."""
        server = destination(sockaddr)
        if self._plan.quic == "reject" and server and server[1] == QUIC_PORT and wanted(self._plan, server[0]):
            self._listener.answer(call.id, errno.ECONNREFUSED)
        elif call.number == self._sendto:
            self._listener.answer(call.id, go_on=True)
        else:
            self._listener.answer(call.id, seccomp.connect(sock.fileno(), sockaddr))

    def _stream(self, call: Call, sock: socket.socket, sockaddr: bytes) -> None:
        server = destination(sockaddr)
        if server and server[1] in self._plan.ports and wanted(self._plan, server[0]):
            error, blocking = self._divert(call, sock, sockaddr, (str(server[0]), server[1]))
        else:
            error, blocking = _begin(sock, sockaddr)
        if blocking and error in (errno.EINPROGRESS, errno.EALREADY):
            if _state(sock) != _ESTABLISHED:
                self._wait(call, sock)
                return
            error = 0
        if not self._listener.answer(call.id, self._first_answer(sock, error)):
            self._remember(sock)

    def _divert(self, call: Call, sock: socket.socket, sockaddr: bytes, server: Endpoint) -> tuple[int, bool]:
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).strip(b"\0"):
            return errno.ENETUNREACH, False         # the proxy is not on that device, and nobody else is to get it
        process = owner.describe(keeper.group(call.tid))
        with self._kept.lock:
            error, blocking = _begin(sock, rewritten(sockaddr, self._plan.listen_port))
            if error in (0, errno.EINPROGRESS):
                host, port = sock.getsockname()[:2]
                self._kept.add((str(sockets.plain(host)), port), server, process)
        return error, blocking

    # -- blocking connects

    def _wait(self, call: Call, sock: socket.socket) -> None:
        if len(self._waiting) >= MAX_WAITING:
            raise OSError(errno.EAGAIN, "too many wait")
        seconds, micros = struct.unpack("=qq", sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16))
        limit = seconds + micros / 1e6
        waiting = Waiting(call, sock.dup(), time.monotonic() + limit if limit else float("inf"))
        self._waiting[waiting.sock.fileno()] = waiting
        self._poll.register(waiting.sock, select.EPOLLOUT)

    def _arrived(self, waiting: Waiting) -> None:
        """Connected, or not: a second connect() brings the error, and leaves the socket as one that may try again."""
        failed = _state(waiting.sock) == _CLOSED
        family = waiting.sock.family.to_bytes(2, "little")      # of the address the kernel looks at nothing else then
        self._end(waiting, _begin(waiting.sock, family.ljust(28, b"\0"))[0] if failed else 0)

    def _expire(self) -> None:
        now = time.monotonic()
        for waiting in list(self._waiting.values()):
            if waiting.until < now or not self._listener.valid(waiting.call):
                self._end(waiting, errno.EINPROGRESS)

    def _end(self, waiting: Waiting, error: int) -> None:
        self._listener.answer(waiting.call.id, error)
        self._poll.unregister(waiting.sock)
        del self._waiting[waiting.sock.fileno()]
        waiting.sock.close()

    # -- interrupted ones

    def _remember(self, sock: socket.socket) -> None:
        self._unanswered[_cookie(sock)] = None
        if len(self._unanswered) > MAX_WAITING:
            self._unanswered.popitem(last=False)

    def _first_answer(self, sock: socket.socket, error: int) -> int:
        """What the first time would have been answered, if this is the second one for a call that was interrupted."""
        if error not in (errno.EALREADY, errno.EISCONN) or _cookie(sock) not in self._unanswered:
            return error
        del self._unanswered[_cookie(sock)]
        return 0 if error == errno.EISCONN else errno.EINPROGRESS


@contextmanager
def _closing(descriptor: int) -> Iterator[socket.socket]:
    """Raises OSError (ENOTSOCK), as the call would."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise
    with sock:
        yield sock


def _begin(sock: socket.socket, sockaddr: bytes) -> tuple[int, bool]:
    """Begin to connect, without waiting; returns the error number, and whether the socket is one that waits."""
    flags = fcntl.fcntl(sock, fcntl.F_GETFL)
    if flags & os.O_NONBLOCK:
        return seccomp.connect(sock.fileno(), sockaddr), False
    fcntl.fcntl(sock, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        return seccomp.connect(sock.fileno(), sockaddr), True
    finally:
        fcntl.fcntl(sock, fcntl.F_SETFL, flags)


def _state(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def _cookie(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _COOKIE, 8), "little")
