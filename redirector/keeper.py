"""Who starts a command under `hook`: puts the filter on it, keeps what redirectors come and go with, and looks into it.

                     filter, listener's descriptor
    keeper  <---------------------------------------  command and all that it starts
      | one socket for each redirector: the listener goes there, and each question comes back:
      | what is at this address of that thread, and what is its descriptor?
    redirector

The keeper is an ancestor of the whole tree (processes whose parent ended are handed to it), which is what the Yama
module asks of whoever looks into a process (ptrace(2)); a redirector that replaced a dead one is not. As the keeper
holds the listener, calls wait a while where there is no redirector, and are then refused; when the keeper ends, the
kernel answers them with ENOSYS.
"""
import contextlib
import errno
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Self

from redirector import seccomp
from redirector.seccomp import Call, Listener

#: A question: thread, descriptor, and where an address lies and how long it is.
_QUESTION = struct.Struct("=iIQI")
#: What comes first in a message of the keeper's: an error number, 0 before an answer's bytes, or that it is no answer.
_HEAD, _LISTENER = struct.Struct("=i"), -1
#: sizeof(struct sockaddr_storage); connect(2) takes no longer addresses.
MAX_ADDRESS = 128
#: pidfd_open(2) with a thread's id, Linux 6.9.
PIDFD_THREAD = os.O_EXCL
#: pidfd_getfd(2), the same number everywhere.
_GETFD = 438
#: Calls before the last one that a redirector which died may have left without an answer: the kernel numbers them.
BEHIND = 1 << 14
#: Seconds that calls wait for a redirector in place of one that has gone; then they are refused until it is there.
GRACE = 3.0
#: Seconds between two looks at what waits.
TICK = 0.1
#: Seconds for what a command left running to end, once killed.
KILL_LIMIT = 2.0


class Keeper:
    """Of one command, or of several. `filter` is called in a child before exec, `serve` when it has been started."""

    def __init__(self) -> None:
        self.inside, self._outside = socket.socketpair()
        self._listeners: list[tuple[int, int]] = []
        self._redirector: socket.socket | None = None
        self._lock = threading.Lock()
        seccomp.prctl(seccomp.PR_SET_CHILD_SUBREAPER, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self.inside, self._outside):
            end.close()
        with self._lock:
            self._leave()
            while self._listeners:
                for descriptor in self._listeners.pop():
                    os.close(descriptor)
        seccomp.prctl(seccomp.PR_SET_CHILD_SUBREAPER, 0)

    def filter(self) -> None:
        """Raises OSError."""
        join(self.inside)

    def serve(self) -> None:
        """Take the listener of the child that was started last, and answer redirectors from now on."""
        (listener,) = socket.recv_fds(self._outside, 1, 1)[1]
        last = os.memfd_create("lockgate-hook")     # for the id of the last call that a redirector took
        with self._lock:
            self._listeners.append((listener, last))
            if self._redirector is not None:
                _hand_over(self._redirector, listener, last)
                if len(self._listeners) == 1:
                    self._begin(self._redirector)

    def attach(self) -> socket.socket:
        """The end for a new redirector, which takes the place of the one before; to be closed once it is started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._lock:
            self._leave()
            self._redirector = ours
            for pair in self._listeners:
                _hand_over(ours, *pair)
            if self._listeners:
                self._begin(ours)
        return theirs

    def _leave(self) -> None:
        if self._redirector is not None:
            with contextlib.suppress(OSError):      # wakes the thread that reads from it
                self._redirector.shutdown(socket.SHUT_RDWR)
            self._redirector.close()
            self._redirector = None

    def _begin(self, redirector: socket.socket) -> None:
        """In a thread, which begins after the first command has been forked."""
        threading.Thread(target=self._stay, args=(redirector,), daemon=True).start()

    def _stay(self, redirector: socket.socket) -> None:
        """Answer a redirector's questions; after it has gone, the calls, until there is another."""
        with contextlib.suppress(OSError):      # closed: it has gone
            while question := redirector.recv(_QUESTION.size):
                _answer(redirector, question)
        until = time.monotonic() + GRACE
        while self._redirector is redirector:
            time.sleep(TICK)
            if time.monotonic() > until:
                self._refuse(redirector)

    def _refuse(self, last: socket.socket) -> None:
        with self._lock:        # nobody else takes a call between a look at a listener and its turn
            for number, noted in self._listeners if self._redirector is last else ():
                listener, poll = Listener(number), select.poll()
                give_up(listener, noted)
                poll.register(number, select.POLLIN)
                while any(events & select.POLLIN for _, events in poll.poll(0)):
                    if (call := listener.receive()) is not None:
                        listener.answer(call.id, errno.ECONNREFUSED)

    # -- what the command leaves

    def reap(self, own: Collection[int]) -> None:
        """Bury what was handed to us as its parents ended; `own` children are their owners' to wait for."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in own:
                os.waitpid(ended.si_pid, 0)

    def end(self, own: Collection[int]) -> None:
        """What the command left running could not connect any more: it ends with the command."""
        until = time.monotonic() + KILL_LIMIT
        while (left := _children() - set(own)) and time.monotonic() < until:
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self.reap(own)
            time.sleep(0.01)


def _children() -> set[int]:
    return {int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()}


# -- looking into a process

def _answer(redirector: socket.socket, question: bytes) -> None:
    """Raises OSError, where the redirector has gone."""
    try:
        address, descriptor = look(*_QUESTION.unpack(question))
    except OSError as error:
        redirector.send(_HEAD.pack(error.errno or errno.EIO))
        return
    try:
        socket.send_fds(redirector, [_HEAD.pack(0) + address], [descriptor])
    finally:
        os.close(descriptor)


def look(tid: int, descriptor: int, place: int, length: int) -> tuple[bytes, int]:
    """The bytes in a thread's memory, and a duplicate of its descriptor. Raises OSError, as the thread's call would.

    EACCES: the process forbids it (PR_SET_DUMPABLE of prctl(2), a program that one may run but not read).
    """
    if length > MAX_ADDRESS:
        raise OSError(errno.EINVAL, "an address of that length")
    try:
        return _memory(tid, place, length), _duplicate(tid, descriptor)
    except PermissionError as error:
        raise OSError(errno.EACCES, "the process forbids it") from error


def _memory(tid: int, place: int, length: int) -> bytes:
    memory = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(memory, length, place)
    except (OverflowError, OSError):        # proc(5): EIO where nothing is mapped
        data = b""
    finally:
        os.close(memory)
    if len(data) < length:
        raise OSError(errno.EFAULT, "not an address of its memory")
    return data


def _duplicate(tid: int, descriptor: int) -> int:
    """pidfd_getfd(2). The descriptor is the thread's own: it may have other ones than its process."""
    try:
        process = os.pidfd_open(tid, PIDFD_THREAD)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        process = os.pidfd_open(group(tid))
    try:
        taken = seccomp.syscall(_GETFD, process, descriptor, 0)
    finally:
        os.close(process)
    if not os.path.samestat(os.fstat(taken), os.stat(f"/proc/{tid}/fd/{descriptor}")):  # noqa: PTH116
        os.close(taken)
        raise OSError(errno.EBADF, "the thread's descriptor is another")
    return taken


def group(tid: int) -> int:
    """The process of a thread. Raises OSError, where it has ended."""
    with Path(f"/proc/{tid}/status").open() as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Tgid:"))


# -- between keeper and redirector

def join(keeper: socket.socket) -> None:
    """Put the filter on this process, and give the listener to the keeper. Raises OSError."""
    listener = seccomp.install()
    socket.send_fds(keeper, [b"\0"], [listener])
    os.close(listener)


def _hand_over(redirector: socket.socket, listener: int, last: int) -> None:
    with contextlib.suppress(OSError):      # it has gone already
        socket.send_fds(redirector, [_HEAD.pack(_LISTENER)], [listener, last])


def note(last: int, call: Call) -> None:
    """A redirector has taken it."""
    os.pwrite(last, call.id.to_bytes(8, "little"), 0)


def give_up(listener: Listener, last: int) -> None:
    """Fail what a redirector took and did not answer before it died: its threads would wait for ever."""
    if before := int.from_bytes(os.pread(last, 8, 0), "little"):
        for number in range(before - BEHIND, before + 2):       # it may not have noted the last one any more
            listener.answer(number % 2**64, errno.ECONNABORTED)


class Link:
    """The redirector's end."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self._listeners: list[tuple[int, int]] = []

    def look(self, tid: int, descriptor: int, place: int, length: int) -> tuple[bytes, int]:
        """`look`, done by the keeper. Raises OSError; ConnectionError without a keeper."""
        self.channel.send(_QUESTION.pack(tid, descriptor & 0xFFFFFFFF, place, length & 0xFFFFFFFF))
        while (answer := self._receive()) is None:
            pass
        return answer

    def listeners(self) -> list[tuple[int, int]]:
        """Those that have come, with where each notes its last call; at once if there are any, else waits for one.

        Raises ConnectionError without a keeper.
        """
        if not self._listeners:
            self._receive()
        came, self._listeners = self._listeners, []
        return came

    def _receive(self) -> tuple[bytes, int] | None:
        message, taken, _, _ = socket.recv_fds(self.channel, _HEAD.size + MAX_ADDRESS, 2)
        if not message:
            raise ConnectionError("the keeper has gone")
        (code,) = _HEAD.unpack_from(message)
        if code in (0, _LISTENER) and not taken:
            raise OSError(errno.EMFILE, "too many open files here")
        if code == _LISTENER:
            self._listeners.append((taken[0], taken[1]))
            return None
        if code:
            raise OSError(code, os.strerror(code))
        return message[_HEAD.size:], taken[0]
