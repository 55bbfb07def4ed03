"""A connection leads to the process that opened it also when that has ended, or its socket, and to no other in its place."""
import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import time

import pytest

from redirector import owner, sockets
from redirector.plan import NO_UID
from tests.redirector.whose import NOBODY, ask, child, own_group, server, shell, source, started
from tests.waiting import wait_for

__all__ = ["child", "server", "source"]
#: A system call that has the same number everywhere.
CLONE3 = 435
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", "--clear-groups", "bash", "-c")


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups here")
def test_the_unit_is_known_of_one_that_has_ended(server):
    with own_group(b"own.service", "lockgate-test-%d.slice") as enter:
        subprocess.run(["bash", "-c", shell(server, "")], preexec_fn=enter, check=True)
        found = ask(server)
    assert found.ended
    if found.uid == NO_UID and not owner._connects:
        pytest.skip("the kernel has forgotten the socket already, and nobody noted who connected it")
    assert (found.service, found.cgroup) == ("own.service", f"/lockgate-test-{os.getpid()}.slice/own.service")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
def test_a_user_who_has_left_is_not_taken_for_root(server, source):
    """Of a socket that is closed on our side the kernel soon says uid 0, and nothing of its group."""
    with own_group(b"own.service", "lockgate-test-%d.slice") as enter:
        subprocess.run([*AS_NOBODY, shell(server, "")], preexec_fn=enter, check=True)
        accepted, client = server.accept()
        with accepted:
            assert accepted.recv(1) == b""
            assert wait_for(lambda: sockets.find(client, server.getsockname()).uid == NO_UID, 5)
            found = owner.find(client, server.getsockname())
    if source == "noted":
        assert (found.uid, found.user, found.service, found.ended) == (NOBODY, "nobody", "own.service", True)
    else:
        assert (found.uid, found.user, found.ended) == (NO_UID, "", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups here")
def test_a_process_of_a_user_who_has_left(server):
    """The socket is closed and forgotten, its process is there."""
    with started([*AS_NOBODY, shell(server, "exec 3>&-; echo; read")]) as process:
        accepted, client = server.accept()
        with accepted:
            wait_for(lambda: sockets.find(client, server.getsockname()).uid != NOBODY, 5)
            found = owner.find(client, server.getsockname())
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
    with started(["bash", "-c", shell(server)]) as process:
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
    script = f"for i in $(seq 20); do bash -c '{shell(server, 'echo $$ >&3')}'; done"
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
