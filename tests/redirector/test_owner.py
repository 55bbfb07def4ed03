"""A connection leads to the process that opened it, as long as there is one."""
import os
import pwd
import socket
import statistics
import subprocess
import sys
import time

import pytest

from redirector import owner
from redirector.wire import MAX_CMDLINE, Lookup, Owner, encode

CONNECT = """import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(flush=True)
input()"""


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
    assert found.parents[0] == os.getpid()
    assert abs(found.started - time.time()) < 60
    assert found.cgroup.startswith("/")


def test_the_answer_always_fits_a_line(server, child):
    accepted, client = server.accept()
    with accepted:
        found = owner.find(client, server.getsockname())
    assert sum(len(word.encode()) + 1 for word in found.cmdline) <= MAX_CMDLINE
    assert encode(Owner(1, found))


def test_ourselves_by_either_form_of_the_address(server):
    with socket.create_connection(server.getsockname()) as client:
        (host, port), (server_host, server_port) = client.getsockname(), client.getpeername()
        assert owner.find((host, port), (server_host, server_port)).pid == os.getpid()
        assert owner.find((f"::ffff:{host}", port), (f"::ffff:{server_host}", server_port)).pid == os.getpid()


def test_a_process_that_has_ended(server, child):
    accepted, client = server.accept()
    with accepted:
        accepted.sendall(b"x" * 1000)            # unread: the socket ends by a reset, and nothing of it stays
        child.kill()
        child.wait()
        found = owner.find(client, server.getsockname())
    assert found is None or (found.pid, found.ended) == (None, True)


def test_a_socket_that_is_still_closing_has_no_process(server):
    with socket.create_connection(server.getsockname()) as client:
        here, there = client.getsockname(), client.getpeername()
    found = owner.find(here, there)
    assert (found.pid, found.ended) == (None, True)


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
