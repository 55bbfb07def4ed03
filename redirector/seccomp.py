"""seccomp(2) as far as `hook` needs it: a filter that asks about connect(), and the kernel's questions and answers.

The filter costs nothing for most system calls (Linux 5.11 remembers which of them it always allows), and a few
instructions for those whose arguments it looks at. What it cannot look at is memory: of a message's address (sendmsg)
it knows nothing. Numbers: <asm/unistd.h>, <linux/seccomp.h>, <linux/audit.h>; the rest is seccomp_unotify(2).
"""
import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

# prctl(2), <linux/prctl.h>
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
# seccomp(2). SPEC_ALLOW: nobody is locked in here, so the program need not pay for mitigations of speculation.
SET_MODE_FILTER, GET_ACTION_AVAIL, GET_NOTIF_SIZES = 1, 2, 3
SPEC_ALLOW, NEW_LISTENER = 1 << 2, 1 << 3
ALLOW, NOTIFY, ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
# ioctl(2) numbers of a listener.
RECV, SEND, ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
#: struct seccomp_notif: id, tid, flags, then number, architecture, instruction and six arguments of the call.
_NOTIF, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
#: Let the call go on as it is.
CONTINUE = 1

MSG_FASTOPEN = 0x20000000
#: TCP within, under another name: <linux/socket.h>.
AF_SMC = 43
#: The first datagrams of a QUIC connection are padded to this (RFC 9000, 14.1), so shorter ones need not be looked at.
QUIC_MINIMUM = 1200
#: The system calls from here on are those of the x32 ABI: <asm/unistd.h>, __X32_SYSCALL_BIT.
X32 = 0x40000000
#: io_uring_setup, _enter, _register: they have the same numbers everywhere.
IO_URING = (425, 426, 427)


class Machine(NamedTuple):
    """Numbers of one architecture. `narrow` is its 32-bit one, and what opens connections there."""

    arch: int
    connect: int
    sendto: int
    sendmsg: int
    sendmmsg: int
    socket: int
    narrow_arch: int
    narrow: tuple[int, ...]
    seccomp: int


MACHINES = {
    "x86_64": Machine(0xC000003E, 42, 44, 46, 307, 41, 0x40000003, (102, 345, 362, 369, 370), 317),
    "aarch64": Machine(0xC00000B7, 203, 206, 211, 269, 198, 0x40000028, (102, 283, 290, 296, 374), 277),
}


class Call(NamedTuple):
    """A system call that waits for an answer; `tid` is the thread's."""

    id: int
    tid: int
    number: int
    arguments: tuple[int, ...]


# -- the filter: classic BPF, <linux/bpf_common.h>

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


@dataclass(frozen=True)
class _Step:
    """One instruction; `then` and `otherwise` name the steps to go on with, None the next one."""

    code: int
    value: int
    then: str | None = None
    otherwise: str | None = None
    label: str | None = None


def _argument(number: int, *, high: bool = False) -> int:
    """The place of an argument's half in struct seccomp_data; both architectures are little-endian."""
    return 16 + 8 * number + 4 * high


def _steps(machine: Machine) -> Iterator[_Step]:
    yield _Step(_LOAD, 4)
    yield _Step(_EQUAL, machine.arch, "native")
    yield _Step(_EQUAL, machine.narrow_arch, "narrow", "absent")
    yield _Step(_LOAD, 0, label="native")
    yield _Step(_AT_LEAST, X32, "absent")       # on aarch64 there are no such numbers at all
    yield _Step(_EQUAL, machine.connect, "notify")
    for name in ("sendto", "sendmsg", "sendmmsg", "socket"):
        yield _Step(_EQUAL, getattr(machine, name), name)
    for number in IO_URING:
        yield _Step(_EQUAL, number, "absent")
    yield _Step(_RETURN, ALLOW)
    yield _Step(_LOAD, _argument(3), label="sendto")
    yield _Step(_ANY_BIT, MSG_FASTOPEN, "no fast open")
    yield _Step(_LOAD, _argument(2))
    yield _Step(_AT_LEAST, QUIC_MINIMUM, None, "allow")
    yield _Step(_LOAD, _argument(4))
    yield _Step(_EQUAL, 0, None, "notify")
    yield _Step(_LOAD, _argument(4, high=True))
    yield _Step(_EQUAL, 0, "allow", "notify")
    for name, flags in (("sendmsg", 2), ("sendmmsg", 3)):
        yield _Step(_LOAD, _argument(flags), label=name)
        yield _Step(_ANY_BIT, MSG_FASTOPEN, "no fast open", "allow")
    yield _Step(_LOAD, _argument(0), label="socket")
    yield _Step(_EQUAL, AF_SMC, "no family", "allow")
    yield _Step(_LOAD, 0, label="narrow")
    for number in (*machine.narrow, *IO_URING):
        yield _Step(_EQUAL, number, "absent")
    yield _Step(_RETURN, ALLOW, label="allow")          # jumps lead forward only
    yield _Step(_RETURN, NOTIFY, label="notify")
    yield _Step(_RETURN, ERRNO | errno.ENOSYS, label="absent")
    yield _Step(_RETURN, ERRNO | errno.EOPNOTSUPP, label="no fast open")
    yield _Step(_RETURN, ERRNO | errno.EAFNOSUPPORT, label="no family")


def program(machine: Machine) -> bytes:
    """The filter, as an array of struct sock_filter.

    Notified: connect, and sendto with an address and enough data for the start of a QUIC connection. Refused, so that
    programs do it the plain way: TCP fast open, io_uring, SMC. Of the 32-bit architecture all that opens connections,
    and of x32 everything, is absent: there is no way around by another number for the same thing.
    """
    steps = list(_steps(machine))
    places = {step.label: place for place, step in enumerate(steps) if step.label}

    def distance(place: int, label: str | None) -> int:
        return 0 if label is None else places[label] - place - 1

    return b"".join(struct.pack("=HBBI", step.code, distance(place, step.then), distance(place, step.otherwise),
                                step.value) for place, step in enumerate(steps))


# -- the kernel

_libc = ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: int) -> int:
    """Raises OSError."""
    result: int = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if result == -1:
        raise OSError(code := ctypes.get_errno(), os.strerror(code))
    return result


def prctl(option: int, value: int) -> None:
    """Raises OSError."""
    if _libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))) != 0:
        raise OSError(code := ctypes.get_errno(), os.strerror(code))


def connect(descriptor: int, address: bytes) -> int:
    """connect(2) with an address of any form, byte by byte as it is; returns the error number, 0 for none."""
    return 0 if _libc.connect(descriptor, address, len(address)) == 0 else ctypes.get_errno()


def machine() -> Machine:
    """Raises OSError where the filter is not written for this one."""
    try:
        return MACHINES[platform.machine()]
    except KeyError:
        raise OSError(errno.ENOSYS, f"no filter for {platform.machine()}") from None


def install() -> int:
    """Put the filter on this thread and its children, for good; returns the listener's descriptor.

    Without rights that takes no_new_privs: setuid programs run with the rights of who starts them. Raises OSError;
    EBUSY where a filter with a listener is there already.
    """
    here = machine()
    code = program(here)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    return syscall(here.seccomp, SET_MODE_FILTER, SPEC_ALLOW | NEW_LISTENER, ctypes.addressof(head))


class Listener:
    """The end at which calls arrive and are answered. Does not own its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        sizes = ctypes.create_string_buffer(6)
        syscall(machine().seccomp, GET_NOTIF_SIZES, 0, ctypes.addressof(sizes))
        question, answer, _ = struct.unpack("=HHH", sizes)      # a newer kernel may say more than we understand
        self._question = bytes(max(question, _NOTIF.size))
        self._rest = bytes(max(answer - _ANSWER.size, 0))

    def receive(self) -> Call | None:
        """The next call; it waits for one. None if its thread was interrupted or ended meanwhile. Raises OSError."""
        buffer = bytearray(self._question)      # the kernel insists on zeroes
        try:
            fcntl.ioctl(self.descriptor, RECV, buffer, True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        number, tid, _, call, _, _, *arguments = _NOTIF.unpack_from(buffer)
        return Call(number, tid, call, tuple(arguments))

    def valid(self, call: Call) -> bool:
        """Does it still wait? What was learned from its thread before is then true of that thread."""
        try:
            fcntl.ioctl(self.descriptor, ID_VALID, struct.pack("=Q", call.id))
        except OSError:
            return False
        return True

    def answer(self, number: int, error: int = 0, *, go_on: bool = False) -> bool:
        """Answer the call with this id; False if it does not wait any more."""
        answer = _ANSWER.pack(number, 0, -error, CONTINUE if go_on else 0) + self._rest
        try:
            fcntl.ioctl(self.descriptor, SEND, answer)
        except OSError:
            return False
        return True
