"""Which process called connect(): noted by the kernel at the call, asked for by the socket's cookie (bpf(2)).

Theory of operation. A BPF program of some thirty instructions, built here, runs in every connect() of the host, in the
calling process. It writes process, thread, user, time and name into a table in the kernel, whose key is the cookie that
the kernel gives a socket once and never again. sock_diag(7) says the same cookie of a socket that we are asked about.
So the answer is about that very socket, in whatever network namespace; nothing is read from a queue that could
overflow, no thread listens, and what the table cannot hold makes room by the oldest. Program, links and table are file
descriptors of this process: they go with it, also by kill -9.

Choices, measured on Linux 6.18 with 2 cores. pydivert's FLOW layer says the same, but it reads every packet of the host
(echoes over loopback became 7 to 33 % slower) and takes 0.27 s to open; ours costs each connect() about 1 us and takes
1 ms to open. The process connector (netlink, CN_IDX_PROC) refuses any network namespace but the first. A ring buffer
that tells of each call at once, to look at the process before it ends, was tried: on a busy computer one in forty of
those that connect, speak and exit was still there.

It needs CAP_BPF and CAP_NET_ADMIN (and CAP_PERFMON, or there is no name), cgroup v2 mounted somewhere, and a kernel
that lets such programs ask for the process (this is tried, not guessed). Where it cannot be had, `owner` searches
/proc, as before. To read the executables of other users' processes, either way, takes CAP_SYS_PTRACE.
"""
import ctypes
import os
import platform
import struct
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple, Self

from redirector import cgroups

#: Calls of connect() that are remembered: a look-up comes within milliseconds of its call, and 16 384 take 2 MB.
MAX_CALLS = 16_384
#: bpf(2) by machine (asm/unistd.h); others have no table, and search.
_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
#: Inodes of the first pid and time namespace (linux/proc_ns.h): BPF speaks of processes and times as these do.
_FIRST = {"pid": 0xEFFFFFFC, "time": 0xEFFFFFFA}

# linux/bpf.h: commands, types of map and program, places of attachment, helpers
_MAP_CREATE, _MAP_LOOKUP, _PROG_LOAD, _LINK_CREATE = 0, 1, 5, 28
_LRU_HASH, _CGROUP_SOCK_ADDR = 9, 18
_CONNECT4, _CONNECT6 = 10, 11
_MAP_UPDATE_ELEM, _GET_PID_TGID, _GET_UID_GID, _GET_COMM, _GET_COOKIE = 2, 14, 15, 16, 46
_GET_CGROUP, _GET_BOOT_NS = 80, 125
#: Bytes of a union bpf_attr that a kernel of any age takes, if the rest is zero.
_ATTRIBUTES = 128

_KEY = struct.Struct("=Q")          # the cookie
_VALUE = struct.Struct("=QQQQ16s")  # time; process above thread; gid above uid; control group; name
#: Where they lie below the frame's end.
_KEY_AT, _NAME_AT, _CGROUP_AT, _USER_AT, _IDS_AT, _VALUE_AT = -8, -24, -32, -40, -48, -56
_TYPE_IN_CONTEXT, _SOCK_STREAM = 32, 1      # struct bpf_sock_addr; MPTCP is of this type too


class Caller(NamedTuple):
    """Who called connect(): `at` in nanoseconds since boot; `uid` the real one; `cgroup` the id of the control group;
    `name` what the thread called itself (16 bytes)."""

    pid: int
    thread: int
    at: int
    uid: int
    cgroup: int
    name: bytes


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """A struct bpf_insn (linux/bpf.h)."""
    registers = target | source << 4 if struct.pack("=H", 1)[0] else target << 4 | source
    return struct.pack("=BBhi", code, registers, offset, value)


def _program(table: int, named: bool) -> bytes:
    """The instructions; `table` is the map's descriptor. Opcodes: Documentation/bpf/standardization/instruction-set."""
    def copy(target: int, source: int) -> bytes:
        return _instruction(0xBF, target, source)

    def put(target: int, value: int) -> bytes:
        return _instruction(0xB7, target, value=value)

    def call(helper: int) -> bytes:
        return _instruction(0x85, value=helper)

    def keep(at: int) -> bytes:                 # r0 into the frame
        return _instruction(0x7B, 10, 0, at)

    def place(target: int, at: int) -> bytes:   # the address of a part of the frame
        return copy(target, 10) + _instruction(0x07, target, value=at)

    note = b"".join((
        copy(1, 6), call(_GET_COOKIE), keep(_KEY_AT),
        call(_GET_BOOT_NS), keep(_VALUE_AT),
        call(_GET_PID_TGID), keep(_IDS_AT), call(_GET_UID_GID), keep(_USER_AT), call(_GET_CGROUP), keep(_CGROUP_AT),
        *((place(1, _NAME_AT), put(2, 16), call(_GET_COMM)) if named else
          (put(0, 0), keep(_NAME_AT), keep(_NAME_AT + 8))),
        _instruction(0x18, 1, 1, value=table), _instruction(0),     # 64 bits wide, so two
        place(2, _KEY_AT), place(3, _VALUE_AT), put(4, 0), call(_MAP_UPDATE_ELEM)))
    return b"".join((
        copy(6, 1), _instruction(0x61, 1, 6, _TYPE_IN_CONTEXT),
        _instruction(0x55, 1, offset=len(note) // 8, value=_SOCK_STREAM),   # another type: on to the end
        note, put(0, 1), _instruction(0x95)))       # 1: connect() goes on


class Connects:
    """The table, kept by the kernel until `close`. Raises OSError or ValueError where it cannot be had."""

    def __init__(self) -> None:
        if platform.machine() not in _SYSCALL:
            raise ValueError(f"the number of bpf(2) on {platform.machine()} is not known here")
        _require_first(_FIRST)
        with ExitStack() as opened:
            def own(descriptor: int) -> int:
                opened.callback(os.close, descriptor)
                return descriptor

            group = own(os.open(cgroups.mount(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            self._table = own(_bpf(_MAP_CREATE, "=IIIII", _LRU_HASH, _KEY.size, _VALUE.size, MAX_CALLS, 0))
            for place in (_CONNECT4, _CONNECT6):
                loaded = own(_load(self._table, place))
                own(_bpf(_LINK_CREATE, "=IIII", loaded, group, place, 0))
            self._opened = opened.pop_all()

    def caller(self, cookie: int) -> Caller | None:
        """Who connected the socket with this cookie; None if that was before us, or too many calls ago."""
        key, value = ctypes.create_string_buffer(_KEY.pack(cookie), _KEY.size), ctypes.create_string_buffer(_VALUE.size)
        try:
            _bpf(_MAP_LOOKUP, "=I4xQQQ", self._table, ctypes.addressof(key), ctypes.addressof(value), 0)
        except OSError:         # none such
            return None
        at, ids, user, cgroup, name = _VALUE.unpack(value.raw)
        return Caller(ids >> 32, ids & 0xFFFFFFFF, at, user & 0xFFFFFFFF, cgroup, name.partition(b"\0")[0])

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _require_first(namespaces: Iterable[str]) -> None:
    for name in namespaces:
        path = f"/proc/self/ns/{name}"
        if os.path.exists(path) and os.stat(path).st_ino != _FIRST[name]:  # noqa: PTH110, PTH116
            raise ValueError(f"in a {name} namespace of its own, where BPF speaks of other processes than /proc")


def _load(table: int, place: int) -> int:
    try:
        return _load_program(_program(table, named=True), place)
    except OSError:
        return _load_program(_program(table, named=False), place)


def _load_program(program: bytes, place: int) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    return _bpf(_PROG_LOAD, "=IIQQIIQII16sII", _CGROUP_SOCK_ADDR, len(program) // 8, ctypes.addressof(code),
                ctypes.addressof(licence), 0, 0, 0, 0, 0, b"lockgate_connect"[:15], 0, place)


_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, form: str, *fields: int | bytes) -> int:
    """bpf(2). Raises OSError."""
    attributes = ctypes.create_string_buffer(struct.pack(form, *fields), _ATTRIBUTES)
    result: int = _libc.syscall(ctypes.c_long(_SYSCALL[platform.machine()]), ctypes.c_long(command), attributes,
                                ctypes.c_long(_ATTRIBUTES))
    if result < 0:
        raise OSError(number := ctypes.get_errno(), f"bpf: {os.strerror(number)}")
    return result
