"""Sockets, processes and what a worker says, joined: real connections of a program of its own; this process is the
proxy."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.monitor import Monitor
from proxy.rows import OWN, PROXY, SEEN
from tests.proxy.answering import END, Answering, line

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel notes callers for root")

ORIGIN = ("192.0.2.9", 443)
#: A program that connects and sends what its lines say; an empty line closes the oldest.
APPLICATION = """
import socket, sys
made = []
for words in map(str.split, sys.stdin):
    if words:
        made.append(socket.socket())
        made[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made[-1].bind(("127.0.0.1", int(words[3])))
        made[-1].connect((words[0], int(words[1])))
        made[-1].sendall(bytes(int(words[2])))
        print(made[-1].getsockname()[1], flush=True)
    else:
        made.pop(0).close()
        print(0, flush=True)
"""


class Application:
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-c", APPLICATION], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def _do(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def connect(self, host, port, size, own=0):
        """Connect and send so many bytes; returns the own port."""
        return self._do(host, port, size, own)

    def end(self):
        """Close the oldest."""
        self._do()

    def close(self):
        self.process.stdin.close()
        self.process.wait(5)
        self.process.stdout.close()


@pytest.fixture
def application():
    found = Application()
    yield found
    found.close()


@pytest.fixture
def door():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def watching(tmp_path):
    made = []

    def make(*lines, listen=(), **more):
        """A monitor, and a worker that says these lines."""
        head = json.dumps({"listen": listen, "ended": 0, "dialled": 0}).encode() + b"\n"
        if not made:
            made.extend((Monitor(tmp_path, **more), Answering(tmp_path, b"")))
        made[1].answer = head + b"".join(lines) + END
        return made[0]

    yield make
    for each in made:
        each.close()


def rows(monitor, port):
    """Those with this port at either end."""
    return [row for row in monitor.look() if port in (row.local[1], row.remote[1])]


def said(port, door, **more):
    now = time.time()
    return line(**{"id": port, "client": ["127.0.0.1", port], "server": list(ORIGIN), "local": list(door.getsockname()),
                   "started": now, "process": {"pid": 4, "exe": "/said", "user": "said"}} | more)


def gone(monitor, port):
    """Those that have ended, with this port, as soon as the kernel says so."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        monitor.look()
        if found := [row for row in monitor.gone(now=True) if port in (row.local[1], row.remote[1])]:
            return found
        time.sleep(0.05)
    return []


def test_a_captured_connection_is_its_applications_own_with_its_real_destination(application, door, watching):
    port = application.connect(*door.getsockname(), 500)
    peer, _ = door.accept()
    with peer:
        peer.recv(500)
        monitor = watching(said(port, door, verdict="alert", labels=["ads"]), listen=[door.getsockname()])
        shown, = (row for row in rows(monitor, port) if row.role != PROXY)
        proxys, = (row for row in rows(monitor, port) if row.role == PROXY)
    assert (shown.remote, shown.host, shown.host_from, shown.verdict, shown.labels) == (
        ORIGIN, "a.example", OWN, "alert", ("ads",))
    assert (shown.pid, shown.exe) == (application.process.pid, str(Path(sys.executable).resolve()))    # not what was said
    assert (shown.sent, shown.received, shown.captured, shown.began) == (500, 0, True, True)
    assert (proxys.pid, proxys.captured) == (os.getpid(), False)


@pytest.mark.parametrize("noted", [pytest.param(True, marks=needs_root), False])
def test_one_that_nobody_saw_alive_is_its_callers_or_has_the_workers_word(application, door, watching, noted):
    monitor = watching(listen=[door.getsockname()])
    if not noted and monitor._callers is not None:      # as without rights
        monitor._callers.close()
        monitor._callers = None
    monitor.look()
    port = application.connect(*door.getsockname(), 70)
    peer, _ = door.accept()
    peer.recv(70)
    application.end()
    peer.close()
    watching(said(port, door, ended=time.time()), listen=[door.getsockname()])
    row, = gone(monitor, port)
    process = (application.process.pid, str(Path(sys.executable).resolve()), "root") if noted else (4, "/said", "said")
    assert (row.pid, row.exe, row.user) == process
    assert (row.sent, row.remote, row.host) == (70, ORIGIN, "a.example")
    assert (row.state, row.captured) == ("CLOSED", True)


def test_what_is_not_captured_is_as_the_kernel_says(application, door, watching):
    port = application.connect(*door.getsockname(), 10)
    with door.accept()[0] as peer:
        peer.recv(10)
        row, = (row for row in rows(watching(), port) if row.local[1] == port)
    assert (row.remote, row.sent, row.captured, row.verdict, row.host) == (door.getsockname(), 10, False, "", "")
    assert row.pid == application.process.pid
    assert not row.began


def test_a_name_seen_for_an_address_is_marked(application, door, watching):
    port = application.connect(*door.getsockname(), 10)
    with door.accept()[0]:
        other = said(1, door, client=["192.0.2.1", 1], server=["127.0.0.1", 7], host="seen.example")
        row, = (row for row in rows(watching(other), port) if row.local[1] == port)
    assert (row.host, row.host_from, row.captured) == ("seen.example", SEEN, False)


@pytest.mark.parametrize(("more", "why"), [
    ({"client": ["127.0.0.2", None]}, "another address"),
    ({"server": ["192.0.2.8", 1], "local": ["127.0.0.9", 9]}, "another destination, by another door"),
    ({"started": 1.0, "ended": 2.0}, "long ago"),
])
def test_a_word_on_another_connection_is_not_taken(application, door, watching, more, why):
    port = application.connect(*door.getsockname(), 1)
    if "client" in more:
        more = more | {"client": [more["client"][0], port]}
    with door.accept()[0]:
        assert not any(row.captured for row in rows(watching(said(port, door, **more)), port)), why


def test_packets_turned_round_are_joined(application, door, watching):
    """The proxy sees the server's address with the client's port (WinDivert's reflection)."""
    port = application.connect(*door.getsockname(), 1)
    server = list(door.getsockname())
    with door.accept()[0]:
        word = said(port, door, client=[server[0], port], server=server, local=["192.0.2.1", 9])
        assert any(row.captured for row in rows(watching(word), port) if row.local[1] == port)


def test_a_client_elsewhere_is_shown_by_the_proxys_end(application, door, watching):
    """In a container, or another computer: this process holds both ends, so the client's is nobody else's."""
    with socket.create_connection(door.getsockname()) as client, door.accept()[0] as peer:
        client.sendall(bytes(30))
        peer.recv(30)
        port = client.getsockname()[1]
        monitor = watching(said(port, door), listen=[door.getsockname()])
        row, = (row for row in rows(monitor, port) if row.role != PROXY)
        again, = (row for row in rows(monitor, port) if row.role != PROXY)
    assert (row.local, row.remote, row.sent, row.received) == (("127.0.0.1", port), ORIGIN, 30, 0)
    assert (again.sent, again.received, row.exe, row.user) == (30, 0, "/said", "said")


def test_the_proxys_own_that_nobody_saw_alive_stay_its_own(application, door, watching):
    """And only they: who has the same ends later, when those have gone, is somebody else."""
    monitor, found, port = watching(), [], 0
    monitor.look()
    for dialled in (True, False):
        before = time.time()
        port = application.connect(*door.getsockname(), 5, port)
        peer, _ = door.accept()
        peer.recv(5)
        peer.close()
        application.end()
        ends = ["127.0.0.1", port], list(door.getsockname())
        watching(*([json.dumps({"dialled": [*ends, before]}).encode() + b"\n"] if dialled else []))
        time.sleep(0.3)
        monitor.look()
        found.append([row.role for row in monitor.gone(now=True) if row.local[1] == port])
    assert found == [[], [""]]


@pytest.mark.parametrize("at_once", [False, True], ids=["heard of at their end", "heard of together"])
def test_an_applications_and_the_proxys_own_with_the_same_ends_in_turn(application, door, watching, at_once):
    """The kernel gives the proxy's connection to an origin the port that an application had, and the other way round."""
    monitor, words, port = watching(), [], 0
    monitor.look()
    for name in ("first.example", None, "second.example"):
        before = time.time()
        port = application.connect(*door.getsockname(), 5, port)
        peer, _ = door.accept()
        peer.recv(5)
        peer.close()
        application.end()
        ends, now = (["127.0.0.1", port], list(door.getsockname())), time.time()
        words.append(json.dumps({"dialled": [*ends, before]}).encode() + b"\n" if name is None else said(
            port, door, id=len(words), host=name, server=ends[1], local=["127.0.0.1", 9], started=before, ended=now))
        if not at_once:
            time.sleep(0.3)
            monitor.attend()
    time.sleep(0.3)
    watching(*words)
    monitor.look()
    found = [row for row in monitor.gone(now=True) if row.local[1] == port]
    assert [row.host for row in found] == ["first.example", "second.example"]


def test_ports_are_used_again(application, door, watching):
    """Connections from one port, one after the other: what was said of one is not taken for another's."""
    monitor, found, port = watching(listen=[door.getsockname()]), [], 0
    monitor.look()
    for name in ("first.example", "second.example", None):
        port = application.connect(*door.getsockname(), 1, port)
        peer, _ = door.accept()
        peer.recv(1)
        peer.close()            # the other end is the one that waits
        application.end()
        now = time.time()
        words = [said(port, door, id=len(found) + 1, host=name, started=now - 0.1, ended=now)] if name else []
        watching(*words, listen=[door.getsockname()])
        found += [row for row in gone(monitor, port) if row.local[1] == port]
        time.sleep(0.2)
    assert [row.host for row in found] == ["first.example", "second.example", ""]


def test_a_half_closed_one_does_not_come_back_as_a_strangers(application, door, watching):
    port = application.connect(*door.getsockname(), 1)
    with door.accept()[0]:
        monitor = watching(said(port, door), listen=[door.getsockname()])
        assert [row.role for row in rows(monitor, port) if row.role != PROXY] == [""]
        application.end()
        time.sleep(0.3)
        assert [row for row in rows(monitor, port) if row.role != PROXY and row.state != "FIN_WAIT2"] == []


def test_it_knows_from_the_history_since_when(application, door, tmp_path, watching):
    port = application.connect(*door.getsockname(), 1)
    with door.accept()[0]:
        cookie, = (row.cookie for row in rows(watching(), port) if row.local[1] == port)
        later = Monitor(tmp_path, {cookie: 1000.0})
        row, = (row for row in rows(later, port) if row.local[1] == port)
        later.close()
    assert (row.first, row.began) == (1000.0, True)


def test_what_a_worker_says_of_the_future_is_forgotten_too(watching, door):
    far = [said(n, door, client=["192.0.2.1", n + 1], ended=9e10, started=9e10) for n in range(100)]
    monitor = watching(*far)
    monitor.look()
    assert all(each.ended <= time.time() for same in monitor._known.values() for each in same)
