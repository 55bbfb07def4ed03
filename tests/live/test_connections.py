"""`lockgate connections` beside real traffic: bytes as the origin counts them, captured connections once, the history."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live.lab import ORIGIN, running
from tests.waiting import wait_for

pytestmark = pytest.mark.live
COUNTING = Path(__file__).with_name("counting.py")
#: Connections of each kind; FULL=1 makes it a thousand in all.
COUNT = 334 if os.environ.get("FULL") else 40
DIRECT, INSPECTED, BYPASSED = 9000, 9001, 9002
POLICY = """\
version: 1
capture: {{fail: {fail}, ports: [80, 443, 9001, 9002]}}
tls: {{bypass: [bank.test], upstream: {{trusted_ca: {roots}}}}}
connections: [{{id: straight, verdict: bypass, ports: [9002]}}]
filters: [{{id: no-go, use: blocklist.Hosts, with: {{hosts: [blocked.test]}}}}]
"""
#: Seconds for the recorder: a look, the wait for the worker's word, and a busy computer.
RECORDED = 20.0


def connections(lab, state, *words):
    done = lab.call(*lab.lockgate("connections", "--state", state, "--json", *words))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def started(lab, tmp_path_factory):
    state = tmp_path_factory.mktemp("connections") / "state"
    with lab.start(state=state, policy=lab.policy("connections.yaml", POLICY)) as started:
        yield started


def test_bytes_are_those_that_the_origin_counts(lab, started):
    """Each of a thousand (FULL=1) short connections, direct and captured, most of them between two looks."""
    ports = (DIRECT, INSPECTED, BYPASSED)
    serve = ["nsenter", f"--net=/run/netns/{lab.origin}", sys.executable, str(COUNTING), "serve", *map(str, ports)]
    clients = {}
    with running(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as origin:
        assert origin.stdout.readline() == "ready\n"
        for port in ports:
            done = lab.call(sys.executable, COUNTING, "load", ORIGIN, port, COUNT, 8, limit=120)
            assert done.returncode == 0, done.stderr
            clients |= json.loads(done.stdout)
        counted = json.loads(origin.communicate("", timeout=10)[0])

    def rows():
        return {(row["remote_port"], row["local_port"]): row for row in connections(lab, started.state, "--history")
                if row["ended"] and row["remote_port"] in ports}

    wait_for(lambda: len(rows()) >= len(clients), RECORDED)
    found = rows()
    wrong = {}
    for port in ports:
        sums = [0, 0, 0, 0]
        for number, (local, up, down) in clients.items():
            if number.startswith(f"{port}-"):
                row = found[port, local]
                sent, received = counted[number]
                if abs(row["sent"] - up) > 1 or abs(row["received"] - down) > 1:
                    wrong[number] = (row["sent"], up, row["received"], down)
                sums = [a + b for a, b in zip(sums, (row["sent"], row["received"], received, sent))]
        print(f"{port}: shown {sums[:2]}, counted by the origin {sums[2:]}")
        assert sums[0] == pytest.approx(sums[2], rel=0.01)
        assert sums[1] == pytest.approx(sums[3], rel=0.01)
    assert not wrong
    theirs = {(int(number.partition("-")[0]), local) for number, (local, *_) in clients.items()}
    # Where the proxy does not answer in time, one of its own may pass for an application's.
    assert len(found.keys() - theirs) <= len(theirs) // 100
    found = {key: row for key, row in found.items() if key in theirs}
    assert all(row["pid"] for row in found.values()), "also what was over before anybody looked"
    assert {(row["remote_port"], row["captured"], row["verdict"]) for row in found.values()} == {
        (DIRECT, False, None), (INSPECTED, True, "inspect"), (BYPASSED, True, "bypass")}
    assert {row["remote_ip"] for row in found.values()} == {ORIGIN}
    assert {Path(row["exe"] or "").name for row in found.values() if row["captured"]} == {Path(sys.executable).resolve().name}


@pytest.mark.parametrize(("url", "host", "verdict"), [
    ("https://origin.test/slow", "origin.test", "inspect"),
    ("https://bank.test/slow", "bank.test", "bypass"),
    ("http://origin.test/slow", "origin.test", "inspect"),
])
def test_a_captured_connection_shows_once_with_where_it_really_goes(lab, started, url, host, verdict):
    (lab.folder / "www/slow").write_bytes(bytes(60_000_000))
    curl = lab.inside("curl", "-sk", "--limit-rate", "100k", "-o", "/dev/null", url)
    with running(curl) as client:
        def mine():
            return [row for row in connections(lab, started.state, "--app", "curl") if row["received"]]
        rows = wait_for(mine, 10)
        client.kill()
    row, = rows
    assert (row["host"], row["host_from"], row["verdict"], row["remote_ip"]) == (host, "connection", verdict, ORIGIN)
    assert (row["captured"], row["role"], row["user"]) == (True, None, "root")
    assert row["pid"] == client.pid


def test_the_proxys_own_are_shown_when_asked_for(lab, started):
    with running(lab.inside("curl", "-sk", "--limit-rate", "100k", "-o", "/dev/null", "http://origin.test/slow")) as client:
        def own():
            return [row for row in connections(lab, started.state, "--all", "--port", "80")
                    if row["role"] == "proxy" and row["remote_ip"] == ORIGIN]
        assert wait_for(own, 10)
        assert all(row["role"] is None for row in connections(lab, started.state))
        client.kill()


def test_a_hostile_name_reaches_no_terminal(lab, started):
    """The name of a program is its author's choice."""
    program = lab.folder / "tmp" / "x\x1b]0;owned\x07y"
    program.write_bytes(Path("/usr/bin/curl").read_bytes())
    program.chmod(0o755)
    with running(lab.inside(program, "-sk", "--limit-rate", "10k", "-o", "/dev/null", "http://origin.test/slow")):
        def shown():
            done = lab.call(*lab.lockgate("connections", "--state", started.state))
            return done.stdout if "owned" in done.stdout else ""
        text = wait_for(shown, 10)
    assert "owned" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


def test_watch_in_a_terminal_marks_what_comes_and_goes(lab, started):
    master, terminal = pty.openpty()
    os.set_blocking(master, False)
    import fcntl
    import struct
    import termios
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 90, 0, 0))
    seen = b""

    def read(wanted):
        nonlocal seen
        if select.select([master], [], [], 0.1)[0]:
            seen += os.read(master, 65536)
        return re.search(wanted, seen)

    with running(lab.inside(*lab.lockgate("connections", "--state", started.state, "--watch")), stdin=terminal,
                 stdout=terminal) as watch:
        assert wait_for(lambda: read(rb"APP"), 20)
        with running(lab.inside("curl", "-sk", "--limit-rate", "10k", "-o", "/dev/null", "https://origin.test/slow")) as client:
            assert wait_for(lambda: read(rb"\+ curl[^\r]*origin\.test"), 20), seen[-3000:]
            client.kill()
        assert wait_for(lambda: read(rb"- curl[^\r]*origin\.test"), 20), seen[-3000:]
        os.write(master, b"q")
        assert watch.wait(10) == 0
        read(rb"never")
    assert seen.endswith(b"\x1b[?25h\x1b[?1049l")
    frames = seen.decode().split("\x1b[H")[1:]
    assert all(len(re.sub(r"\x1b\[[0-9?;]*[a-zA-Z]", "", line)) <= 90 for frame in frames for line in frame.split("\r\n"))
    os.close(master)
    os.close(terminal)


def test_watch_in_a_pipe_says_what_changes(lab, started):
    with running(lab.inside(*lab.lockgate("connections", "--state", started.state, "--watch", "--json", "--app", "curl")),
                 stdout=subprocess.PIPE, text=True) as watch:
        time.sleep(1.5)
        assert lab.status("https://origin.test/") == "200"
        lines = [json.loads(watch.stdout.readline())]
        assert lines[-1]["event"] in ("new", "gone")
        while lines[-1]["event"] != "gone":
            lines.append(json.loads(watch.stdout.readline()))
        watch.terminate()
        assert watch.wait(10) == 130
    assert (lines[-1]["host"], lines[-1]["verdict"], lines[-1]["sent"] > 300) == ("origin.test", "inspect", True)


def test_the_recorder_is_of_no_consequence(lab, started):
    """It dies, and everything goes on."""
    os.kill(started.child("proxy.recorder"), 9)
    assert lab.status("https://origin.test/") == "200"
    assert lab.call(*lab.lockgate("status", "--state", started.state, "--run-dir", lab.folder / "run")).returncode == 0


def test_the_history_is_roots_own(lab, started):
    folder = started.state.with_name("state-history")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {(path.stat().st_mode & 0o777, path.stat().st_uid) for path in folder.iterdir()} == {(0o600, 0)}
