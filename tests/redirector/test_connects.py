"""The kernel tells who called connect(), of every way to do so, and forgets us when we end."""
import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from redirector import connects, sockets
from redirector.connects import Connects

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root")
TCP_FASTOPEN_CONNECT = 30
#: bpf(2): BPF_PROG_GET_NEXT_ID, BPF_PROG_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD; the name is at 64 in bpf_prog_info.
NEXT_ID, FD_BY_ID, INFO = 11, 13, 15


@pytest.fixture(scope="module")
def table():
    try:
        table = Connects()
    except (PermissionError, ValueError) as error:      # another error would be a program that the kernel refuses
        pytest.skip(str(error))
    with table:
        yield table


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request):
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as server:
        yield server


def plain_connect(family, address):
    sock = socket.socket(family)
    sock.connect(address)
    return sock


def not_waiting(family, address):
    sock = socket.socket(family)
    sock.setblocking(False)
    sock.connect_ex(address)
    return sock


def bound_first(family, address):
    sock = socket.socket(family)
    sock.bind((address[0], 0))
    sock.connect(address)
    return sock


def fast_open(family, address):
    sock = socket.socket(family)
    sock.sendto(b"early", socket.MSG_FASTOPEN, address)
    return sock


def fast_open_connect(family, address):
    sock = socket.socket(family)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    sock.connect(address)
    sock.send(b"early")
    return sock


def mapped(family, address):
    """IPv4 from a socket of IPv6."""
    sock = socket.socket(socket.AF_INET6)
    sock.connect(address if family == socket.AF_INET6 else (f"::ffff:{address[0]}", address[1]))
    return sock


@pytest.mark.parametrize("connect", [plain_connect, not_waiting, bound_first, fast_open, fast_open_connect, mapped])
def test_every_way_to_connect_is_noted(table, server, connect):
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    with connect(server.family, server.getsockname()[:2]) as client:
        found = sockets.find(client.getsockname()[:2], server.getsockname()[:2])
        caller = table.caller(sockets.cookie(found))
    assert (caller.pid, caller.thread) == (os.getpid(), threading.get_native_id())
    assert before <= caller.at <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_a_thread_is_one_of_its_process(table, server):
    clients, thread = [], threading.Thread(target=lambda: clients.append(
        plain_connect(server.family, server.getsockname()[:2])))
    thread.start()
    native = thread.native_id
    thread.join()
    with clients[0] as client:
        caller = table.caller(sockets.cookie(sockets.find(client.getsockname()[:2], server.getsockname()[:2])))
    assert (caller.pid, caller.thread) == (os.getpid(), native)
    assert native != os.getpid()


def test_the_same_addresses_in_another_network_are_another_socket(table):
    """What is noted belongs to a socket, not to an address: another namespace has the very same ones."""
    script = ("import socket; s = socket.create_server(('127.0.0.1', 40001)); c = socket.socket();"
              "c.bind(('127.0.0.1', 40002)); c.connect(s.getsockname()); print(flush=True); input()")
    enter = "ip link set lo up && exec \"$0\" -c \"$1\""
    command = ["unshare", "-n", "sh", "-c", enter, sys.executable, script]
    with (subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
          socket.create_server(("127.0.0.1", 40001)) as server, socket.socket() as client):
        process.stdout.readline()
        client.bind(("127.0.0.1", 40002))
        client.connect(server.getsockname())
        caller = table.caller(sockets.cookie(sockets.find(client.getsockname(), server.getsockname())))
        process.stdin.close()
    assert caller.pid == os.getpid()


def test_what_does_not_connect_is_not_noted(table, server):
    """An accepted socket has a cookie too, and nobody called connect() for it; and a cookie may be none."""
    with plain_connect(server.family, server.getsockname()[:2]) as client, server.accept()[0] as accepted:
        other_end = sockets.find(server.getsockname()[:2], client.getsockname()[:2])
        assert accepted
        assert table.caller(sockets.cookie(other_end)) is None
    assert table.caller(0) is None


def test_the_table_makes_room_by_the_oldest(monkeypatch, server):
    """However many connect: it stays as large as it is, and the newest are in it."""
    monkeypatch.setattr(connects, "MAX_CALLS", 1024)
    with Connects() as small:
        for _ in range(1500):
            with socket.socket(server.family) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.connect(server.getsockname()[:2])
            server.accept()[0].close()
        with plain_connect(server.family, server.getsockname()[:2]) as client:
            found = sockets.find(client.getsockname()[:2], server.getsockname()[:2])
            assert small.caller(sockets.cookie(found)).pid == os.getpid()


def programs():
    """The ids and names of all BPF programs of the host."""
    number, found = 0, set()
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("=I", number), 128)
        if connects._libc.syscall(connects._SYSCALL[os.uname().machine], NEXT_ID, attributes, 128) < 0:
            return found
        number = struct.unpack_from("=II", attributes.raw)[1]
        with contextlib.suppress(FileNotFoundError):         # gone meanwhile
            info, program = ctypes.create_string_buffer(256), connects._bpf(FD_BY_ID, "=I", number)
            connects._bpf(INFO, "=IIQ", program, 256, ctypes.addressof(info))
            os.close(program)
            found.add((number, info.raw[64:80].rstrip(b"\0")))


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_however_we_end(death):
    before = programs()
    script = "from redirector.connects import Connects; c = Connects(); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        ours = {each for each in programs() - before if each[1] == b"lockgate_connec"}
        assert len(ours) >= 2
        process.send_signal(death)
        process.wait()
    until = time.monotonic() + 5        # the kernel ends programs a moment after their last user
    while ours & programs() and time.monotonic() < until:
        time.sleep(0.02)
    assert not ours & programs()


LEAST = "-all,+net_admin,+bpf"


@pytest.mark.parametrize(("rights", "name"), [(LEAST, b""), (f"{LEAST},+perfmon", b"python")], ids=["least", "named"])
def test_the_least_rights_will_do(server, rights, name):
    """As a service has them, without those of root."""
    host, port = server.getsockname()[:2]
    script = ("import socket, sys\nfrom redirector import sockets\nfrom redirector.connects import Connects\n"
              "with Connects() as table, socket.create_connection((sys.argv[1], int(sys.argv[2]))) as client:\n"
              "    found = sockets.find(client.getsockname()[:2], client.getpeername()[:2])\n"
              "    print(*table.caller(sockets.cookie(found)))")
    command = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", sys.executable, "-c", script, host, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        pid, *_, said = process.stdout.read().decode().split()
    assert int(pid) == process.pid
    assert said.startswith(repr(name)[:-1])


@pytest.mark.parametrize(("prepare", "reason"), [
    pytest.param(["setpriv", "--bounding-set", "-bpf,-sys_admin", "--inh-caps", "-bpf,-sys_admin", "--"],
                 "Operation not permitted", id="without the right"),
    pytest.param(["unshare", "--pid", "--fork", "--mount-proc"], "a pid namespace of its own", id="other pids"),
    pytest.param(["unshare", "--time", "--fork"], "a time namespace of its own", id="another clock"),
    pytest.param(["unshare", "--mount", "sh", "-c", "umount -a -t cgroup2; exec \"$@\"", "sh"],
                 "cgroup v2 is not mounted", id="no control groups"),
])
def test_where_it_cannot_be_had_it_says_why(prepare, reason):
    script = ("from redirector import owner\nwith owner.watching() as why: print(why)\n")
    done = subprocess.run([*prepare, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert reason in done.stdout
