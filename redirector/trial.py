"""Can `hook` be had here? Tried once with a child, as kernels, containers and security modules each have a say."""
import errno
import os
import platform
import select
import signal
import socket
import struct
from pathlib import Path

from redirector import keeper, seccomp
from redirector.seccomp import Listener

#: Seconds for the trial, which takes some milliseconds.
LIMIT = 5.0
#: What the trial's connect() is answered with: an error that no connect() gives (connect(2)).
_ANSWER = errno.EUCLEAN
_ERROR = struct.Struct("=i")
#: The Yama module (ptrace(2)); of its levels the last that lets a process look into its descendants.
_YAMA, _DESCENDANTS = Path("/proc/sys/kernel/yama/ptrace_scope"), 1


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
            try:
                _try(inside)
            finally:
                os._exit(0)
        try:
            outside.settimeout(LIMIT)
            said, descriptors, _, _ = socket.recv_fds(outside, _ERROR.size, 1)
            if not descriptors:
                raise OSError(code := _ERROR.unpack(said)[0], os.strerror(code))
            with os.fdopen(descriptors[0]):
                _answer(Listener(descriptors[0]))
            if outside.recv(_ERROR.size) != _ERROR.pack(_ANSWER):
                raise OSError(errno.ENOSYS, "answers are not obeyed")
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _try(inside: socket.socket) -> None:
    try:
        listener = seccomp.install()
    except OSError as error:
        inside.send(_ERROR.pack(error.errno or errno.EIO))
        return
    socket.send_fds(inside, [_ERROR.pack(0)], [listener])
    with socket.socket() as client:
        inside.send(_ERROR.pack(client.connect_ex(("127.0.0.1", 9))))


def _answer(listener: Listener) -> None:
    if not select.select([listener.descriptor], [], [], LIMIT)[0] or (call := listener.receive()) is None:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    _, taken = keeper.look(call.tid, call.arguments[0], call.arguments[1], call.arguments[2])
    os.close(taken)
    listener.answer(call.id, _ANSWER)
