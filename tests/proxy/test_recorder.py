"""The recorder as its own process: it writes, it ends when it should, and it says what stands in its way."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from proxy import history
from proxy.recorder import Order, recording
from proxy.schema import History
from tests.waiting import wait_for

#: Seconds for it to have written what there is.
WAIT = 15.0


def recorded(state, port):
    try:
        return [row for row in history.read(history.folder_of(state)) if port in (row.local[1], row.remote[1])]
    except FileNotFoundError:
        return []


@pytest.fixture
def connect():
    """Makes connections: listener, client, accepted."""
    made = []

    def make():
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        made.extend((server, client, server.accept()[0]))
        return made[-3:]

    yield make
    for end in made:
        end.close()


def recorder(state, folder=None, **more):
    order = Order(str(state), str(folder or history.folder_of(state)), 1000, 30)
    return subprocess.Popen([sys.executable, "-m", "proxy.recorder", json.dumps(asdict(order))], stdin=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **more)


def test_a_connection_is_recorded_open_and_ended(tmp_path, connect):
    state = tmp_path / "state"
    with recording(state, History()):
        server, client, accepted = connect()
        port = client.getsockname()[1]
        client.sendall(b"x" * 1000)
        accepted.recv(1000)
        assert wait_for(lambda: [row for row in recorded(state, port) if row.ended is None and row.pid == os.getpid()], WAIT)
        for end in (client, accepted, server):
            end.close()
        assert wait_for(lambda: [row for row in recorded(state, port) if row.ended is not None], WAIT)
    row, = (row for row in recorded(state, port) if row.local[1] == port)
    assert (row.sent, row.pid, row.state) == (1000, os.getpid(), "CLOSED")


def test_what_ended_last_is_written_at_the_end(tmp_path, connect):
    state = tmp_path / "state"
    with recording(state, History()):
        assert wait_for(lambda: (history.folder_of(state) / history.DATABASE).exists(), WAIT)
        time.sleep(1)
        ends = connect()
        port = ends[1].getsockname()[1]
        for end in ends:
            end.close()
        time.sleep(0.5)
    assert len(recorded(state, port)) == 2


def test_none_is_written_where_none_is_wanted(tmp_path):
    with recording(tmp_path / "state", History(max_days=0)):
        time.sleep(0.5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["its input ends", "SIGTERM"])
def test_it_ends(tmp_path, how):
    with recorder(tmp_path / "state") as child:
        assert wait_for(lambda: (history.folder_of(tmp_path / "state") / history.DATABASE).exists(), WAIT)
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)        # the launcher's, not its
        if how == "SIGTERM":
            child.terminate()
        else:
            child.stdin.close()
        assert child.wait(10) == 0
        assert child.stderr.read() == ""


def test_what_stands_in_its_way_is_said(tmp_path):
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    with recorder(tmp_path / "state", tmp_path / "open" / "history") as child:
        assert child.wait(10) == 1
        said = child.stderr.read()
    assert said.startswith("lockgate: no history of connections is written: ")
    assert "Traceback" not in said


def test_a_full_disk_is_a_gap_and_it_goes_on(tmp_path, connect):
    """A file size limit, lifted later."""
    state = tmp_path / "state"

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))

    with recorder(state, preexec_fn=limited) as child:
        assert wait_for(lambda: (history.folder_of(state) / history.DATABASE).exists(), WAIT)
        time.sleep(1)
        for _ in range(40):     # more rows than there is room for
            with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
                for _ in range(25):
                    socket.create_connection(server.getsockname()).close()
        assert "gap" in child.stderr.readline()
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        time.sleep(1)
        port = connect()[1].getsockname()[1]
        assert wait_for(lambda: recorded(state, port), WAIT)
        child.stdin.close()
        assert child.wait(15) == 0
