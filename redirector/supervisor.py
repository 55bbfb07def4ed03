"""Answers the calls of a command under `hook`: see hook.py for what is decided, keeper.py for how we see its memory.

No call waits for another: a connect() that blocks is begun, and answered when its socket is connected or failed, while
its thread waits in the kernel and can be interrupted as without us.
"""
import errno
import fcntl
import os
import resource
import select
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from redirector import processes, seccomp, sockets
from redirector.hook import Address, Kept, destination, rewritten, source, wanted
from redirector.keeper import Link, give_up, group, note
from redirector.plan import Plan
from redirector.seccomp import Call, Listener
from redirector.wire import Process

#: Blocking connects that wait at once. More are refused, as where there are no ports left.
MAX_WAITING = 4096
#: Seconds between two looks at the time that blocking connects have.
TICK = 0.5
QUIC_PORT = 443
_INTERNET = (socket.AF_INET, socket.AF_INET6)
#: TCP_SYN_SENT of net/tcp_states.h: the first byte of TCP_INFO.
_CONNECTING = 2
#: SO_COOKIE of <asm-generic/socket.h>: the kernel's number of a socket, which no other ever gets.
_COOKIE = 57


@dataclass
class Waiting:
    """A blocking connect that has begun; `until` is when its SO_SNDTIMEO ends (socket(7))."""

    listener: Listener
    call: Call
    sock: socket.socket
    until: float


class Supervisor:
    """Answers the calls of the listeners that come through `channel`, from the keeper. One thread."""

    def __init__(self, plan: Plan, channel: socket.socket, kept: Kept) -> None:
        self._plan, self._link, self._kept = plan, Link(channel), kept
        self._listeners: dict[int, tuple[Listener, int]] = {}
        self._waiting: dict[int, Waiting] = {}
        self._looks_at = 0.0
        self._sendto = seccomp.machine().sendto
        #: Sockets whose connect we made, but whose thread was interrupted: it asks again (signal(7), SA_RESTART).
        self._unanswered: OrderedDict[int, None] = OrderedDict()

    def run(self) -> None:
        """Until the keeper has gone: raises ConnectionError."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * MAX_WAITING)), hard))
        self._poll = select.epoll()
        self._poll.register(self._link.channel, select.EPOLLIN)
        while True:
            for descriptor, events in self._poll.poll(TICK if self._waiting else None):
                if descriptor in self._waiting:
                    self._arrived(self._waiting[descriptor])
                elif descriptor in self._listeners:
                    self._heard(descriptor, events)
                elif descriptor == self._link.channel.fileno():
                    for pair in self._link.listeners():
                        self._add(*pair)
            self._expire()

    def _add(self, listener: int, last: int) -> None:
        """A new one, or one that had another redirector before us, which may have died."""
        self._listeners[listener] = Listener(listener), last
        give_up(self._listeners[listener][0], last)
        self._poll.register(listener, select.EPOLLIN)

    def _heard(self, descriptor: int, events: int) -> None:
        listener, last = self._listeners[descriptor]
        if not events & select.EPOLLIN:     # EPOLLHUP: nobody has the filter any more
            self._poll.unregister(descriptor)       # closing does not: the keeper has it open too
            del self._listeners[descriptor]
            os.close(descriptor)
            os.close(last)
        elif (call := listener.receive()) is not None:
            note(last, call)
            self._take(listener, call)

    def _take(self, listener: Listener, call: Call) -> None:
        try:
            self._attend(listener, call)
        except ConnectionError:
            raise
        except OSError as error:
            listener.answer(call.id, error.errno or errno.EACCES)

    def _attend(self, listener: Listener, call: Call) -> None:
        """Answer it, or have it wait. Raises OSError: the call's own error."""
        place, length = call.arguments[4:6] if call.number == self._sendto else call.arguments[1:3]
        sockaddr, taken = self._link.look(call.tid, call.arguments[0], place, length)
        with _closing(taken) as sock:
            if not listener.valid(call):      # the id of a thread that ended may be another's by now
                return
            if sock.family not in _INTERNET:
                listener.answer(call.id, go_on=True)
            elif sock.type != socket.SOCK_STREAM:
                self._datagrams(listener, call, sock, sockaddr)
            elif call.number == self._sendto:       # on a stream the kernel ignores the address
                listener.answer(call.id, go_on=True)
            else:
                self._stream(listener, call, sock, sockaddr)

    def _datagrams(self, listener: Listener, call: Call, sock: socket.socket, sockaddr: bytes) -> None:
        """QUIC is refused at once, so that programs fall back to TCP."""
        server = destination(sockaddr)
        if self._plan.quic == "reject" and server and server[1] == QUIC_PORT and wanted(self._plan, server[0]):
            listener.answer(call.id, errno.ECONNREFUSED)
        elif call.number == self._sendto:
            listener.answer(call.id, go_on=True)
        else:
            listener.answer(call.id, seccomp.connect(sock.fileno(), sockaddr))

    def _stream(self, listener: Listener, call: Call, sock: socket.socket, sockaddr: bytes) -> None:
        server = destination(sockaddr)
        if server and server[1] in self._plan.ports and wanted(self._plan, server[0]):
            error, blocking = self._divert(call, sock, sockaddr, server)
        else:
            error, blocking = _begin(sock, sockaddr)
        if blocking and error in (errno.EINPROGRESS, errno.EALREADY):
            if _state(sock) == _CONNECTING:
                self._wait(listener, call, sock)
                return
            error = _conclude(sock)
        if not listener.answer(call.id, self._first_answer(sock, error)):
            self._remember(sock)

    def _divert(self, call: Call, sock: socket.socket, sockaddr: bytes,
                server: tuple[Address, int]) -> tuple[int, bool]:
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).strip(b"\0"):
            return errno.ENETUNREACH, False         # the proxy is not on that device, and nobody else is to get it
        source(server[0])           # without a way there the program must hear so: it may have another address to try
        process = _described(group(call.tid))
        with self._kept.lock:
            error, blocking = _begin(sock, rewritten(sockaddr, self._plan.listen_port))
            if error in (0, errno.EINPROGRESS):
                host, port = sock.getsockname()[:2]
                self._kept.add((str(sockets.plain(host)), port), (str(server[0]), server[1]), process)
        return error, blocking

    # -- blocking connects

    def _wait(self, listener: Listener, call: Call, sock: socket.socket) -> None:
        if len(self._waiting) >= MAX_WAITING:
            raise OSError(errno.EAGAIN, "too many wait")
        seconds, micros = struct.unpack("=qq", sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16))
        limit = seconds + micros / 1e6
        waiting = Waiting(listener, call, sock.dup(), time.monotonic() + limit if limit else float("inf"))
        self._waiting[waiting.sock.fileno()] = waiting
        self._poll.register(waiting.sock, select.EPOLLOUT)

    def _arrived(self, waiting: Waiting) -> None:
        if (error := _conclude(waiting.sock)) != errno.EALREADY:
            self._end(waiting, error)

    def _expire(self) -> None:
        if (now := time.monotonic()) < self._looks_at:
            return
        self._looks_at = now + TICK
        for waiting in list(self._waiting.values()):
            if waiting.until < now or not waiting.listener.valid(waiting.call):
                self._end(waiting, errno.EINPROGRESS)

    def _end(self, waiting: Waiting, error: int) -> None:
        if not waiting.listener.answer(waiting.call.id, error):
            self._remember(waiting.sock)
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


def _conclude(sock: socket.socket) -> int:
    """The result of a connect() that has ended: as a second one brings it, after which the socket is connected, or one
    that may try again. Of its address the kernel looks at no more than the family."""
    return _begin(sock, sock.family.to_bytes(2, "little").ljust(28, b"\0"))[0]


def _state(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def _cookie(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _COOKIE, 8), "little")


def _described(pid: int) -> Process | None:
    """The process that calls; None if it has ended meanwhile."""
    with suppress(OSError):
        return processes.read(pid, os.stat(f"/proc/{pid}").st_uid)  # noqa: PTH116
    return None
