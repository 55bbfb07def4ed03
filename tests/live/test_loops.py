"""Loops, with real redirectors: our own traffic, two lockgates that capture each other, another proxy in the way."""

import contextlib
import subprocess
import sys
import time

import pytest

from tests.live.lab import ORIGIN, Started, running
from tests.waiting import wait_for

pytestmark = pytest.mark.live

#: `lockgate` under another name in the kernel: two of them on one computer.
NAMED = """
import sys
from functools import partial
from proxy import cli, commands
commands.Launch = partial(commands.Launch, instance=sys.argv.pop(1))
sys.exit(cli.main())
"""
#: Seconds that a client may wait for the error; 0.1 on an idle machine.
AT_ONCE = 2.5
#: An ordinary CONNECT proxy, as people have them on their computers.
CONNECT_PROXY = """
import socket, sys, threading
def move(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)
def serve(client):
    head = b""
    while not head.endswith(b"\\r\\n\\r\\n"):
        head += client.recv(1)
    host, port = head.split()[1].decode().split(":")
    origin = socket.create_connection((host, int(port)))
    client.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    threading.Thread(target=move, args=(client, origin), daemon=True).start()
    move(origin, client)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"""
#: A filter that has business of its own with the network: by its name service over TCP, and by HTTP.
OWN_TRAFFIC = """
import socket
class Asks:
    def connection(self, connection):
        for port, words in ((53, b"query"), (80, b"GET /own HTTP/1.0\\r\\n\\r\\n")):
            with socket.create_connection(("{origin}", port), 2) as own:
                own.sendall(words)
                assert own.recv(100)
"""
#: What stands in for a name server: it says the query again.
ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], 53)) as listener:
    while True:
        with listener.accept()[0] as peer:
            peer.sendall(peer.recv(100) or b"-")
"""


@contextlib.contextmanager
def lockgate(lab, state, name, *words, policy=None):
    """`lockgate start` of that name, ready; what it says on standard error is in a file next to its state."""
    command = [sys.executable, "-I", "-c", NAMED, name, "start", "--json", "--state", state, "--run-dir",
               lab.folder / "run", "--policy", policy or lab.policy(), *words]
    with state.with_suffix(".err").open("w") as complaints, subprocess.Popen(
            lab.inside(*command), stdout=subprocess.PIPE, stderr=complaints, text=True, env=lab.environment) as process:
        started = Started(lab, state, process)
        try:
            started.ready = started.message("ready")
            yield started
        finally:
            process.terminate()
            process.wait(20)


def worker_of(started):
    return next(int(pid) for pid in subprocess.run(
        ["pgrep", "-P", str(started.process.pid), "-f", "proxy.worker"], capture_output=True, text=True,
        check=True).stdout.split())


def loops(lab, started):
    return lab.events(started.state, "--filter", "loop")


def upstream(lab):
    """How many connections to the origin are open on the computer."""
    shown = lab.call("ss", "-Htn", "state", "connected", "exclude", "time-wait", "dst", ORIGIN).stdout
    return len(shown.splitlines())


# -- our own

def test_what_we_send_ourselves_is_not_captured(lab, state):
    (lab.folder / "asks.py").write_text(OWN_TRAFFIC.format(origin=ORIGIN))
    text = lab.policy().read_text().replace("{fail: closed}", "{fail: closed, ports: [53, 80, 443]}")
    policy = lab.folder / "own.yaml"
    policy.write_text(text + "  - {id: asks, use: './asks.py:Asks'}\n")
    server = ["nsenter", f"--net=/run/netns/{lab.origin}", sys.executable, "-c", ECHO, ORIGIN]
    with running(server), lockgate(lab, state, "main", policy=policy) as started:
        before = lab.requests().count("origin.test GET /index.html HTTP/2.0")
        assert lab.status("https://origin.test/") == "200"
        assert lab.requests().count("origin.test GET /index.html HTTP/2.0") == before + 1
        assert any("/own" in line for line in lab.requests())
        mine = worker_of(started)
        assert [event for event in lab.events(state) if event.get("process", {}).get("pid") == mine] == []
        assert loops(lab, started) == []


# -- another proxy in the way

def test_a_local_proxy_of_the_application_s_is_captured_once(lab, state):
    with running(lab.inside(sys.executable, "-c", CONNECT_PROXY, "3128")) as other, \
            lockgate(lab, state, "main") as started:
        assert lab.status("https://origin.test/", "-x", "http://127.0.0.1:3128", "--connect-to", f"::{ORIGIN}:") == "200"
        assert lab.issuer("https://origin.test/").startswith("lockgate root")
        events = [event for event in lab.events(state, "--host", "origin.test") if event["event_type"] == "http"]
        assert events[-2]["process"]["pid"] == other.pid
        assert loops(lab, started) == []


# -- chains

def test_what_our_upstream_proxy_sends_on_for_us_goes_straight_to_the_origin(lab, state):
    """It is captured as everybody is: without the guard it would be sent to it again, and again."""
    policy = lab.folder / "chain.yaml"
    policy.write_text(lab.policy().read_text().replace(
        "{fail: closed}", "{fail: closed, upstream_proxy: 'http://127.0.0.1:3128'}"))
    with running(lab.inside(sys.executable, "-c", CONNECT_PROXY, "3128")) as other, \
            lockgate(lab, state, "main", policy=policy) as started:
        assert wait_for(lambda: lab.status("https://origin.test/") == "200", 5)      # the proxy is up
        before = len(lab.requests())
        for _ in range(3):
            assert lab.status("https://origin.test/") == "200"
        assert lab.status("https://blocked.test/") == "403"
        assert len(lab.requests()) == before + 3
        events = lab.events(state, "--filter", "capture.upstream_proxy")
        assert {event["process"]["pid"] for event in events} == {other.pid}
        assert [event["lockgate"]["verdict"] for event in events].count("bypass") >= 3
        assert loops(lab, started) == []


def test_two_that_are_each_other_s_upstream_proxy(lab, tmp_path):
    policies = []
    for name, other in (("a", 8081), ("b", 8080)):
        policies.append(lab.folder / f"mutual-{name}.yaml")
        policies[-1].write_text(lab.policy().read_text().replace(
            "{fail: closed}", f"{{fail: closed, upstream_proxy: 'http://127.0.0.1:{other}'}}"))
    explicit = ("--capture", "explicit", "--listen")
    with lockgate(lab, tmp_path / "a", "a", *explicit, "127.0.0.1:8080", policy=policies[0]) as first, \
            lockgate(lab, tmp_path / "b", "b", *explicit, "127.0.0.1:8081", policy=policies[1]) as second:
        before = len(lab.requests())
        for url in ("https://origin.test/", "http://origin.test/"):
            began = time.monotonic()
            done = lab.curl(url, "-k", "-i", "-x", "http://127.0.0.1:8080")
            assert time.monotonic() - began < AT_ONCE
            assert "200 OK" not in done.stdout
        assert len(lab.requests()) == before
        said = "".join(each.state.with_suffix(".err").read_text() for each in (first, second))
        assert said.count("a loop was stopped") in range(1, 7), said
        assert f"pid {worker_of(first)}" in said
        assert f"pid {worker_of(second)}" in said


# -- two that capture each other

@pytest.fixture(scope="module")
def two(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    with lockgate(lab, folder / "a", "a") as first, lockgate(lab, folder / "b", "b") as second:
        yield first, second


@pytest.mark.parametrize("url", ["https://origin.test/", "http://origin.test/", "https://six.test/", "https://bank.test/"])
def test_two_that_capture_each_other_stop_at_the_first_round(lab, two, url):
    before = len(lab.requests()), sum(len(loops(lab, started)) for started in two)
    began = time.monotonic()
    done = lab.curl(url, "-k", "-i")
    took = time.monotonic() - began
    assert took < AT_ONCE
    assert "508" in done.stdout.split("\n")[0] or "403 Forbidden" in done.stdout
    events = [event for started in two for event in loops(lab, started)]
    assert 1 <= len(events) - before[1] <= 3
    assert len(lab.requests()) == before[0]
    first, second = map(worker_of, two)
    for event in events:        # either may have been met first
        here, there = (first, second) if f"pid {first})" in event["lockgate"]["reason"].partition("lockgate (")[2] else (
            second, first)
        assert event["process"]["pid"] == there
        assert f"pid {there})" in event["lockgate"]["reason"]
        assert f"pid {here})" in event["lockgate"]["reason"]
    said = "".join(started.state.with_suffix(".err").read_text() for started in two)
    assert events[-1]["lockgate"]["reason"] in said
    assert wait_for(lambda: upstream(lab) == 0, 3), "something is left pending"


def test_many_at_once_are_all_answered(lab, two):
    began = time.monotonic()
    clients = [subprocess.Popen(lab.inside("curl", "-sk", "-m", "20", "-w", "%{http_code}", "-o", "/dev/null",
                                           "https://origin.test/"), stdout=subprocess.PIPE, text=True)
               for _ in range(10)]
    answers = {client.communicate(timeout=30)[0] for client in clients}
    assert "508" in answers
    assert answers <= {"508", "502"}        # the other's refusal fails as a handshake with an origin does
    assert time.monotonic() - began < 10 * AT_ONCE
    assert wait_for(lambda: upstream(lab) == 0, 3)
