"""The filter: which calls are asked about, refused, or left alone; by a BPF machine of our own, and by the kernel."""
import errno
import platform
import struct

import pytest

from redirector import seccomp
from redirector.seccomp import ALLOW, ERRNO, MACHINES, MSG_FASTOPEN, NOTIFY, program
from tests.redirector.hooked import Hooked, hooked

__all__ = ["hooked"]        # a fixture
ABSENT = ERRNO | errno.ENOSYS
X86, ARM = MACHINES["x86_64"], MACHINES["aarch64"]


def decide(code: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would do with it: bpf(4), <linux/filter.h>, struct seccomp_data."""
    words = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *words)
    place, value = 0, 0
    while True:
        operation, then, otherwise, operand = struct.unpack_from("=HBBI", code, 8 * place)
        place += 1
        match operation:
            case 0x20:
                (value,) = struct.unpack_from("=I", data, operand)
            case 0x06:
                return operand
            case 0x15 | 0x35 | 0x45:
                true = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[operation]
                place += then if true else otherwise
            case _:
                raise AssertionError(f"not an operation that we use: {operation:#x}")


@pytest.mark.parametrize("machine", [pytest.param(each, id=name) for name, each in MACHINES.items()])
@pytest.mark.parametrize(("call", "arguments", "expected"), [
    pytest.param("connect", (), NOTIFY, id="connect"),
    pytest.param("sendto", (3, 1, 1199, 0, 5), ALLOW, id="a short datagram"),
    pytest.param("sendto", (3, 1, 1200, 0, 5), NOTIFY, id="one as long as QUIC's first"),
    pytest.param("sendto", (3, 1, 1200, 0, 5 << 32), NOTIFY, id="its address lies high"),
    pytest.param("sendto", (3, 1, 1200, 0, 0), ALLOW, id="without an address"),
    pytest.param("sendto", (3, 1, 1, MSG_FASTOPEN | 0x4000, 5), ERRNO | errno.EOPNOTSUPP, id="fast open"),
    pytest.param("sendmsg", (3, 1, MSG_FASTOPEN), ERRNO | errno.EOPNOTSUPP, id="fast open of a message"),
    pytest.param("sendmsg", (3, 1, 0x4000), ALLOW, id="a message"),
    pytest.param("sendmmsg", (3, 1, 1, MSG_FASTOPEN), ERRNO | errno.EOPNOTSUPP, id="fast open of messages"),
    pytest.param("sendmmsg", (3, 1, 1, 0), ALLOW, id="messages"),
    pytest.param("socket", (2, 1, 0), ALLOW, id="a socket"),
    pytest.param("socket", (43, 1, 0), ERRNO | errno.EAFNOSUPPORT, id="a socket of SMC"),
])
def test_calls_of_the_machines_own(machine, call, arguments, expected):
    assert decide(program(machine), machine.arch, getattr(machine, call), *arguments) == expected


@pytest.mark.parametrize(("machine", "arch", "number", "expected"), [
    pytest.param(X86, X86.arch, 0, ALLOW, id="read"),
    *(pytest.param(each, each.arch, n, ABSENT, id=f"io_uring {n} {each.arch:x}") for each in (X86, ARM) for n in (425, 426, 427)),
    pytest.param(X86, X86.arch, 0x40000000 + 42, ABSENT, id="x32: connect"),
    pytest.param(X86, X86.arch, 0x40000000 + 1, ABSENT, id="x32: write"),
    pytest.param(X86, 0x40000003, 102, ABSENT, id="i386: socketcall"),
    pytest.param(X86, 0x40000003, 362, ABSENT, id="i386: connect"),
    pytest.param(X86, 0x40000003, 369, ABSENT, id="i386: sendto"),
    pytest.param(X86, 0x40000003, 425, ABSENT, id="i386: io_uring"),
    pytest.param(X86, 0x40000003, 42, ALLOW, id="i386: pipe has the number of connect"),
    pytest.param(ARM, 0x40000028, 283, ABSENT, id="arm: connect"),
    pytest.param(ARM, 0x40000028, 3, ALLOW, id="arm: read"),
    pytest.param(X86, ARM.arch, 203, ABSENT, id="a third architecture"),
    pytest.param(X86, X86.arch, -1, ABSENT, id="no number"),
])
def test_other_numbers_for_the_same_are_no_way_around(machine, arch, number, expected):
    assert decide(program(machine), arch, number) == expected


def test_a_machine_without_a_filter_says_so(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        seccomp.machine()


@pytest.mark.parametrize(("code", "expected"), [
    pytest.param("say(syscall(425, 1, ctypes.create_string_buffer(120)))", "ENOSYS", id="io_uring"),
    pytest.param("say(syscall(0x40000000 + 39))", "ENOSYS", id="x32"),
    pytest.param("s = socket.socket(); say(tried(s.sendto, b'x', 0x20000000, ('127.0.0.1', origin)))", "ENOTSUP",
                 id="fast open"),
    pytest.param("s = socket.socket(); say(tried(s.sendmsg, [b'x'], [], 0x20000000, ('127.0.0.1', origin)))",
                 "ENOTSUP", id="fast open of a message"),
    pytest.param("say(tried(socket.socket, 43))", "EAFNOSUPPORT", id="SMC"),
    pytest.param("a, b = socket.socketpair(); a.sendmsg([b'x']); say(b.recv(9).decode())", "x", id="messages pass"),
    pytest.param("say([l.split()[1] for l in open('/proc/self/status') if l.startswith(('NoNew', 'Seccomp:'))])",
                 ["1", "2"], id="no new privileges"),
    pytest.param("from redirector import seccomp\nsay(tried(seccomp.install))", "EBUSY", id="a second one"),
])
def test_what_the_kernel_does(hooked: Hooked, code, expected):
    if platform.machine() != "x86_64":
        pytest.skip("numbers of another machine")
    assert hooked.run(code) == expected     # there is no redirector: it is the filter alone


def test_32_bit_calls_are_no_way_around(hooked: Hooked):
    """int 0x80 from a 64-bit program is a call of i386."""
    if platform.machine() != "x86_64":
        pytest.skip("instructions of another machine")
    code = """
import mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("53 89f8 89f3 89d1 31d2 cd80 5b c3"))      # push, eax=edi, ebx=esi, ecx=edx, int 0x80, pop, ret
call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
say(call(20, 0, 0) == os.getpid(), [errno.errorcode[-call(number, 3, 0)] for number in (102, 362, 369, 425)])"""
    process = hooked.python(code)
    output, _ = process.communicate()
    if process.returncode == -11:
        pytest.skip("this kernel has no 32-bit calls")
    assert output == '[true, ["ENOSYS", "ENOSYS", "ENOSYS", "ENOSYS"]]\n'


def test_without_a_keeper_there_is_no_connection(hooked: Hooked):
    process = hooked.python("input(); say(tried(socket.create_connection, ('127.0.0.1', origin)))", stdin=-1)
    hooked.keeper.__exit__()
    assert process.communicate("\n", timeout=5)[0] == '"ENOSYS"\n'
