"""A connection leads to the process that opened it, as long as there is one."""
import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redirector import cgroups, owner, sockets
from redirector.plan import NO_UID
from redirector.wire import MAX_CMDLINE, Decoder, Lookup, Owner, encode

#: A system call that has the same number everywhere.
CLONE3 = 435
CONNECT = """import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(flush=True)
input()"""


@pytest.fixture(params=["noted", "searched"], autouse=True)
def source(request):
    """Every answer is the same whether the kernel noted who connected, or /proc is searched."""
    if request.param == "searched":
        yield request.param
        return
    with owner.watching() as hindrance:
        if hindrance:
            pytest.skip(hindrance)
        yield request.param


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def child(server):
    """A process with one connection to the server, and awkward arguments."""
    command = [sys.executable, "-c", CONNECT, str(server.getsockname()[1]), "a b", "\x1b[2J\n", "ü" * 1000]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_another_process(server, child):
    accepted, client = server.accept()
    with accepted:
        found = owner.find(client, server.getsockname())
    assert (found.pid, found.uid, found.ended) == (child.pid, os.geteuid(), False)
    assert found.user == pwd.getpwuid(os.geteuid()).pw_name
    assert found.exe == os.path.realpath(sys.executable)
    script, port = CONNECT.replace("\n", "\ufffd"), str(server.getsockname()[1])
    assert found.cmdline[1:6] == ("-c", script, port, "a b", "\ufffd[2J\ufffd")
    assert found.parents[0] == (os.getpid(), os.path.realpath(sys.executable))
    assert found.name
    assert abs(found.started - time.time()) < 60
    assert found.cgroup.startswith("/")


def test_the_answer_always_fits_a_line(server, child):
    accepted, client = server.accept()
    with accepted:
        found = owner.find(client, server.getsockname())
    assert sum(len(word.encode()) + 1 for word in found.cmdline) <= MAX_CMDLINE
    assert encode(Owner(1, found))


ANYTHING = bytes(byte for byte in range(1, 256) if byte not in b"/\n")


@pytest.mark.parametrize("name", [
    pytest.param(b"\xff\xfe", id="no UTF-8"), pytest.param("\ud800".encode(errors="surrogatepass"), id="a surrogate"),
    pytest.param(b"a\r0::b\x0b\x0c\x1c\xc2\x85", id="ends of lines"), pytest.param(b'"\\' * 120, id="quotes"),
    pytest.param(ANYTHING[:128], id="bytes below 128"), pytest.param(ANYTHING[128:], id="bytes above 128"),
])
def test_names_may_be_any_bytes(server, tmp_path, name):
    """A program at such a path, with such a name and such words, in such a control group where we may make one."""
    program = os.fsencode(tmp_path) + b"/" + name
    shutil.copy(os.path.realpath("/bin/bash"), program)
    script = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}; echo; read".encode()
    with own_group(name) as enter, subprocess.Popen([program, b"-c", script, name], stdin=subprocess.PIPE,
                                                    stdout=subprocess.PIPE, preexec_fn=enter) as process:
        process.stdout.readline()
        accepted, client = server.accept()
        with accepted:
            found = owner.find(client, server.getsockname())
        process.kill()
    assert found.pid == process.pid
    assert found.exe.startswith(str(tmp_path))
    assert found.cgroup.startswith("/lockgate-test") or os.geteuid() != 0
    assert Decoder().feed(encode(Owner(1, found))) == [Owner(1, found)]
    assert all(text.isprintable() for text in (found.exe, found.cgroup, *found.cmdline))


@contextlib.contextmanager
def own_group(name, above="lockgate-test-%d"):
    """What a child calls to enter a control group of this name; nothing for who may make none."""
    if os.geteuid() != 0:
        yield None
        return
    outer = Path(cgroups.mount(), above % os.getpid())
    inner = outer / os.fsdecode(name)
    inner.mkdir(parents=True)
    try:
        yield lambda: (inner / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        inner.rmdir()
        outer.rmdir()


def test_a_path_too_long_for_the_kernel_hides_no_process(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(40):                 # 4 000 bytes are a page, and the kernel says no more
        Path("d" * 120).mkdir()
        os.chdir("d" * 120)
    shutil.copy(os.path.realpath("/bin/bash"), "bash")
    script = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}; echo; read"
    with subprocess.Popen(["./bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        accepted, client = server.accept()
        with accepted:
            found = owner.find(client, server.getsockname())
        process.kill()
    assert (found.pid, found.exe) == (process.pid, "")


def test_a_search_ends_in_time_however_many_processes_there_are(monkeypatch):
    monkeypatch.setattr(owner, "_recent", ())
    assert list(owner._candidates(0, deadline=0.0)) == []


def test_ourselves_by_either_form_of_the_address(server):
    with socket.create_connection(server.getsockname()) as client:
        (host, port), (server_host, server_port) = client.getsockname(), client.getpeername()
        assert owner.find((host, port), (server_host, server_port)).pid == os.getpid()
        assert owner.find((f"::ffff:{host}", port), (f"::ffff:{server_host}", server_port)).pid == os.getpid()


def test_a_process_that_has_ended(server, child, source):
    accepted, client = server.accept()
    with accepted:
        accepted.sendall(b"x" * 1000)            # unread: the socket ends by a reset, and nothing of it stays
        child.kill()
        child.wait()
        found = owner.find(client, server.getsockname())
    pid = child.pid if source == "noted" else None
    assert found is None or (found.pid, found.exe, found.ended) == (pid, "", True)


def test_a_socket_that_is_still_closing(server, source):
    """The one who connected is known, a holder there is none."""
    with socket.create_connection(server.getsockname()) as client:
        here, there = client.getsockname(), client.getpeername()
    found = owner.find(here, there)
    assert (found.pid, found.ended) == ((os.getpid(), False) if source == "noted" else (None, True))


def test_no_such_connection(server):
    assert owner.find(("127.0.0.1", 1), server.getsockname()) is None


def test_a_process_seen_before_is_found_fast(server):
    times = []
    with socket.create_connection(server.getsockname()) as client:
        for _ in range(50):
            began = time.perf_counter()
            owner.find(client.getsockname(), client.getpeername())
            times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.005


def test_what_is_asked_is_what_the_channel_carries():
    assert encode(Lookup(1, ("127.0.0.1", 1), ("127.0.0.1", 2)))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a mount namespace")
@pytest.mark.parametrize(("place", "expected"), [
    pytest.param("", "", id="the same file as everybody's"),
    pytest.param("/opt/backup", "elsewhere:/opt/backup/perl", id="a path that is not there"),
    pytest.param("/usr/local/bin", "elsewhere:/usr/local/bin/perl", id="a folder that hides another"),
])
def test_a_path_of_ones_own_making_is_not_believed(server, place, expected):
    """In a mount namespace, which any user can make where user namespaces are allowed."""
    script = f"use IO::Socket::INET; my $s = IO::Socket::INET->new('127.0.0.1:{server.getsockname()[1]}'); <STDIN>"
    perl = os.path.realpath("/usr/bin/perl")
    own = f"mount -t tmpfs none {Path(place).parent} && mkdir -p {place} && cp {perl} {place}/perl && "
    command = ["unshare", "-m", "sh", "-c", f"{own if place else ''}exec {place or '/usr/bin'}/perl -e \"$0\"", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        accepted, client = server.accept()
        with accepted:
            found = owner.find(client, server.getsockname())
        process.stdin.close()
    assert found.pid == process.pid
    assert found.exe == (expected or perl)


def test_a_child_that_inherits_it_is_not_the_one_who_connected(server):
    """A shell connects, a child of it speaks: the shell is named, while it lives."""
    script = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}; sleep 60 & echo $!; read"
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        child = int(shell.stdout.readline())
        accepted, client = server.accept()
        with accepted, os.fdopen(os.pidfd_open(child)) as handle:
            there = owner.find(client, server.getsockname())
            shell.kill()
            shell.wait()
            gone = owner.find(client, server.getsockname())
            signal.pidfd_send_signal(handle.fileno(), signal.SIGKILL)
    assert there.pid in ((shell.pid,) if owner._connects else (shell.pid, child))
    assert (gone.pid, gone.ended) == (child, False)


SEND = """import os, socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
socket.send_fds(socket.socket(fileno=int(sys.argv[2])), [b"x"], [connection.fileno()])
print(flush=True)
input()"""
TAKE = """import os, socket, sys
data, (taken,), *_ = socket.recv_fds(socket.socket(fileno=int(sys.argv[1])), 1, 1)
print(flush=True)
input()"""
NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be two users")
@pytest.mark.parametrize("taker", [NOBODY, 0], ids=["the same user", "another user"])
def test_one_that_was_sent_a_socket_is_not_the_one_who_connected(server, source, taker):
    """Or a user could look like a program of somebody else's, by sending it a connection."""
    here, there = socket.socketpair()
    port = str(server.getsockname()[1])
    with here, there, contextlib.ExitStack() as ends:
        def start(user, script, *words, fd):
            return ends.enter_context(subprocess.Popen(
                ["/usr/bin/python3", "-c", script, *words, str(fd)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                pass_fds=[fd], user=user, group=user, extra_groups=[]))

        sender = start(NOBODY, SEND, port, fd=here.fileno())
        receiver = start(taker, TAKE, fd=there.fileno())
        sender.stdout.readline(), receiver.stdout.readline()
        accepted, client = server.accept()
        with accepted:
            found = owner.find(client, server.getsockname())
            sender.kill()
            sender.wait()
            gone = owner.find(client, server.getsockname())
        receiver.stdin.close()
    if source == "noted":
        assert found.pid == sender.pid
        assert (gone.pid, gone.ended) == ((receiver.pid, False) if taker == NOBODY else (sender.pid, True))
    else:               # the newest holder of the user, and where there is none, of any
        assert found.pid in (sender.pid, receiver.pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups here")
def test_the_unit_is_known_of_one_that_has_ended(server):
    script = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}"
    with own_group(b"own.service", "lockgate-test-%d.slice") as enter:
        subprocess.run(["bash", "-c", script], preexec_fn=enter, check=True)
        accepted, client = server.accept()
        with accepted:
            found = owner.find(client, server.getsockname())
    assert found.ended
    if found.uid == NO_UID and not owner._connects:
        pytest.skip("the kernel has forgotten the socket already, and nobody noted who connected it")
    assert (found.service, found.cgroup) == ("own.service", f"/lockgate-test-{os.getpid()}.slice/own.service")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
def test_a_user_who_has_left_is_not_taken_for_root(server, source):
    """Of a socket that is closed on our side the kernel soon says uid 0, and nothing of its group."""
    script = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}"
    with own_group(b"own.service", "lockgate-test-%d.slice") as enter:
        subprocess.run(["setpriv", f"--reuid={NOBODY}", "--clear-groups", "bash", "-c", script], preexec_fn=enter, check=True)
        accepted, client = server.accept()
        with accepted:
            assert accepted.recv(1) == b""
            until = time.monotonic() + 5
            while sockets.find(client, server.getsockname()).uid == NOBODY and time.monotonic() < until:
                time.sleep(0.01)
            assert sockets.find(client, server.getsockname()).uid == NO_UID
            found = owner.find(client, server.getsockname())
    if source == "noted":
        assert (found.uid, found.user, found.service, found.ended) == (NOBODY, "nobody", "own.service", True)
    else:
        assert (found.uid, found.user, found.ended) == (NO_UID, "", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups here")
def test_a_process_of_a_user_who_has_left(server):
    """The socket is closed and forgotten, its process is there."""
    command = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "bash", "-c",
               f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}; exec 3>&-; echo; read"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        accepted, client = server.accept()
        with accepted:
            until = time.monotonic() + 5
            while sockets.find(client, server.getsockname()).uid == NOBODY and time.monotonic() < until:
                time.sleep(0.01)
            found = owner.find(client, server.getsockname())
        process.stdin.close()
    assert (found.uid, found.pid) == ((NOBODY, process.pid) if owner._connects else (NO_UID, None))


def started_as(pid, *command):
    """Start a program under a given process id: clone3(2) with `set_tid`. Raises OSError."""
    libc = ctypes.PyDLL(None, use_errno=True)       # keeps the interpreter's lock, so that the child has it
    wanted = (ctypes.c_int * 1)(pid)
    arguments = struct.pack("=11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1, 0)
    child = libc.syscall(CLONE3, arguments, len(arguments))
    if child == 0:
        try:
            os.execv(command[0], command)  # noqa: S606
        finally:
            os._exit(127)
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone3")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to choose a process id")
def test_another_process_with_the_same_number_is_not_the_one_who_connected(server):
    script = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}; echo; read"
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        accepted, client = server.accept()
    with accepted:                      # it ended in order, and its socket waits for our end
        time.sleep(0.05)                # the start of a process is known to 10 ms
        started_as(process.pid, os.path.realpath("/bin/sleep"), "60")
        try:
            found = owner.find(client, server.getsockname())
        finally:
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
    assert (found.pid, found.exe, found.ended) == (process.pid if owner._connects else None, "", True)


def test_many_short_processes_at_once(server, source):
    """Each connects and ends at once, unreaped or not: every pid is right."""
    if source == "searched":
        pytest.skip("what has ended cannot be searched")
    script = f"for i in $(seq 20); do bash -c 'exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}; echo $$ >&3'; done"
    server.listen(200)
    with contextlib.ExitStack() as ends:
        running = [ends.enter_context(subprocess.Popen(["bash", "-c", script])) for _ in range(4)]
        for _ in range(80):
            accepted, client = server.accept()
            with accepted:
                found = owner.find(client, server.getsockname())
                assert found.pid == int(accepted.makefile().readline())
                assert (found.exe == os.path.realpath("/bin/bash")) is not found.ended
        assert all(process.wait() == 0 for process in running)
