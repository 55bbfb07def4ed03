"""Who starts a command under `hook`: puts the filter on it, keeps what redirectors come and go with, and looks into it.

                     filter, listener's descriptor
    keeper  <---------------------------------------  command and all that it starts
      | one socket for each redirector: the listener goes there, and each question comes back:
      | what is at this address of that thread, and what is its descriptor?
    redirector

The keeper is an ancestor of the whole tree (processes whose parent ended are handed to it), which is what the Yama
module asks of whoever looks into a process (ptrace(2)); a redirector that replaced a dead one is not. As the keeper
holds the listener, calls wait while there is no redirector; when the keeper ends, the kernel answers them with ENOSYS.
"""
import contextlib
import errno
import os
import platform
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
from redirector.seccomp import Listener

#: A question: thread, descriptor, and where an address lies and how long it is. The answer: an error number, the bytes.
_QUESTION, _ERROR = struct.Struct("=iiQI"), struct.Struct("=i")
#: sizeof(struct sockaddr_storage); connect(2) takes no longer addresses.
MAX_ADDRESS = 128
#: pidfd_open(2) with a thread's id, Linux 6.9.
PIDFD_THREAD = os.O_EXCL
#: pidfd_getfd(2), the same number everywhere.
_GETFD = 438
#: Seconds for what a command left running to end, once killed.
KILL_LIMIT = 2.0
#: Seconds for the trial, which takes some milliseconds.
TRIAL_LIMIT = 5.0
#: What the trial's connect() is answered with: an error that no connect() gives (connect(2)).
_TRIAL = errno.EUCLEAN
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
#: Of Yama's levels the last that lets a process look into its descendants.
_DESCENDANTS = 1


class Keeper:
    """For one command. `filter` is called in the child before exec, `serve` when it has been started."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair()
        # eight bytes that outlive a redirector: the id of the last call that one took
        self._last = os.memfd_create("lockgate-hook")
        os.ftruncate(self._last, 8)
        self._listener: int | None = None
        self._redirector: socket.socket | None = None
        seccomp.prctl(seccomp.PR_SET_CHILD_SUBREAPER, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._inside, self._outside, self._redirector):
            if end is not None:
                with contextlib.suppress(OSError):      # wakes who reads from it
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        for descriptor in (self._last, self._listener):
            if descriptor is not None:
                os.close(descriptor)
        seccomp.prctl(seccomp.PR_SET_CHILD_SUBREAPER, 0)

    def filter(self) -> None:
        """Raises OSError."""
        socket.send_fds(self._inside, [b"\0"], [seccomp.install()])

    def serve(self) -> None:
        """Take the listener from the child, and answer redirectors from now on."""
        self._listener = socket.recv_fds(self._outside, 1, 1)[1][0]
        self._begin()

    def attach(self) -> socket.socket:
        """The end for a new redirector, which takes the place of the one before; to be closed once it is started."""
        if self._redirector is not None:
            self._redirector.close()
        self._redirector, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._begin()
        return theirs

    def _begin(self) -> None:
        if self._listener is None or self._redirector is None:
            return
        with contextlib.suppress(OSError):      # it has gone already
            socket.send_fds(self._redirector, [b"\0"], [self._listener, self._last])
        threading.Thread(target=_reach, args=(self._redirector,), daemon=True).start()

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

def _reach(redirector: socket.socket) -> None:
    with contextlib.suppress(OSError):      # closed: another redirector has come, or it is over
        while question := redirector.recv(_QUESTION.size):
            try:
                address, descriptor = look(*_QUESTION.unpack(question))
            except OSError as error:
                redirector.send(_ERROR.pack(error.errno or errno.EIO))
                continue
            with contextlib.closing(socket.socket(fileno=descriptor)) as taken:
                socket.send_fds(redirector, [_ERROR.pack(0) + address], [taken.fileno()])


def ask(keeper: socket.socket, tid: int, descriptor: int, place: int, length: int) -> tuple[bytes, int]:
    """`look`, done by the keeper at the other end. Raises OSError; ConnectionError without a keeper."""
    keeper.send(_QUESTION.pack(tid, descriptor, place, length))
    answer, taken, _, _ = socket.recv_fds(keeper, _ERROR.size + MAX_ADDRESS, 1)
    if not answer:
        raise ConnectionError("the keeper has gone")
    if code := _ERROR.unpack_from(answer)[0]:
        raise OSError(code, os.strerror(code))
    return answer[_ERROR.size:], taken[0]


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


# -- can it be had here?

def obstacle() -> str | None:
    """Why connections cannot be redirected by seccomp here, or None."""
    if platform.system() != "Linux":
        return "seccomp is Linux's"
    try:
        if _YAMA.exists() and int(_YAMA.read_text()) > _DESCENDANTS and os.geteuid() != 0:
            return "kernel.yama.ptrace_scope keeps processes from looking into their own children"
        _trial()
    except OSError as error:
        if error.errno == errno.EBUSY:
            return "this process is under a filter of that kind already"
        return f"the kernel refuses: {error.strerror}"
    return None


def _trial() -> None:
    """One connect() of a child, seen and answered. Raises OSError."""
    seccomp.machine()
    inside, outside = socket.socketpair()
    with inside, outside:
        child = os.fork()
        if child == 0:
            os._exit(_try(inside))
        inside.close()
        try:
            outside.settimeout(TRIAL_LIMIT)
            said, descriptors, _, _ = socket.recv_fds(outside, _ERROR.size, 1)
            if not descriptors:
                raise OSError(code := _ERROR.unpack(said)[0], os.strerror(code))
            with os.fdopen(descriptors[0], closefd=True):
                _answer_trial(Listener(descriptors[0]))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _try(inside: socket.socket) -> int:
    try:
        listener = seccomp.install()
        socket.send_fds(inside, [_ERROR.pack(0)], [listener])
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", 9))
    except OSError as error:
        inside.send(_ERROR.pack(error.errno or errno.EIO))
        return 1


def _answer_trial(listener: Listener) -> None:
    if not select.select([listener.descriptor], [], [], TRIAL_LIMIT)[0] or (call := listener.receive()) is None:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    _, taken = look(call.tid, call.arguments[0], call.arguments[1], call.arguments[2] & 0xFFFFFFFF)
    os.close(taken)
    if not listener.answer(call.id, _TRIAL):
        raise OSError(errno.ENOSYS, "an answer was not taken")
