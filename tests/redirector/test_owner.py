"""A connection leads to the process that opened it; those that have ended are in test_owner_gone.py."""
import contextlib
import os
import pwd
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redirector import owner
from redirector.wire import MAX_CMDLINE, Decoder, Lookup, Owner, encode
from tests.redirector.whose import CONNECT, NOBODY, ask, child, own_group, server, shell, source, started

__all__ = ["child", "server", "source"]


def test_another_process(server, child):
    found = ask(server)
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
    found = ask(server)
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
    with own_group(name) as enter, started([program, b"-c", shell(server).encode(), name], preexec_fn=enter) as process:
        found = ask(server)
    assert found.pid == process.pid
    assert found.exe.startswith(str(tmp_path))
    assert found.cgroup.startswith("/lockgate-test") or os.geteuid() != 0
    assert Decoder().feed(encode(Owner(1, found))) == [Owner(1, found)]
    assert all(text.isprintable() for text in (found.exe, found.cgroup, *found.cmdline))


def test_a_path_too_long_for_the_kernel_hides_no_process(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(40):                 # 4 000 bytes are a page, and the kernel says no more
        Path("d" * 120).mkdir()
        os.chdir("d" * 120)
    shutil.copy(os.path.realpath("/bin/bash"), "bash")
    with started(["./bash", "-c", shell(server)]) as process:
        found = ask(server)
    assert (found.pid, found.exe) == (process.pid, "")


def test_a_search_ends_in_time_however_many_processes_there_are(monkeypatch):
    monkeypatch.setattr(owner, "_recent", ())
    assert list(owner._candidates(0, deadline=0.0)) == []


def test_ourselves_by_either_form_of_the_address(server):
    with socket.create_connection(server.getsockname()) as client:
        (host, port), (server_host, server_port) = client.getsockname(), client.getpeername()
        assert owner.find((host, port), (server_host, server_port)).pid == os.getpid()
        assert owner.find((f"::ffff:{host}", port), (f"::ffff:{server_host}", server_port)).pid == os.getpid()


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
        found = ask(server)
        process.stdin.close()
    assert found.pid == process.pid
    assert found.exe == (expected or perl)


def test_a_child_that_inherits_it_is_not_the_one_who_connected(server):
    """A shell connects, a child of it speaks: the shell is named, while it lives."""
    with subprocess.Popen(["bash", "-c", shell(server, "sleep 60 & echo $!; read")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as connecting:
        child = int(connecting.stdout.readline())
        accepted, client = server.accept()
        with accepted, os.fdopen(os.pidfd_open(child)) as handle:
            there = owner.find(client, server.getsockname())
            connecting.kill()
            connecting.wait()
            gone = owner.find(client, server.getsockname())
            signal.pidfd_send_signal(handle.fileno(), signal.SIGKILL)
    assert there.pid in ((connecting.pid,) if owner._connects else (connecting.pid, child))
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
