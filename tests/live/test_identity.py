"""Every connection has the right process: four programs under real capture, and those that end before we look.

    FULL=1 .venv/bin/python -m pytest -s tests/live/test_identity.py      500 connections of each program
"""

import contextlib
import json
import os
import queue
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from redirector.wire import Lookup, Ready
from tests.live.lab import missing
from tests.redirector.namespaces import (
    EVERYTHING,
    ORIGIN4,
    PROXY_PORT,
    Launcher,
    launch,
    needs_root,
    network,
    original_destination,
)

pytestmark = needs_root
__all__ = ["launch", "network"]

COUNT = 500 if os.environ.get("FULL") else 40
#: Programs that have said goodbye before we look must be none of these.
CURL, BASH, PYTHON = (os.path.realpath(shutil.which(name) or name) for name in ("curl", "bash", sys.executable))
URL = f"http://{ORIGIN4}/"
SCRIPT = 'for i in $(seq "$1"); do ( exec "$0" -s -o /dev/null -H "X-Pid: $BASHPID" ' + URL + " ); done"
MANY = """import os, socket, sys, threading
def work(count):
    for _ in range(count):
        with socket.create_connection((sys.argv[2], 80)) as s:
            s.sendall(b"GET / HTTP/1.0\\r\\nX-Pid: %d\\r\\n\\r\\n" % os.getpid())
            while s.recv(1000): pass
threads = [threading.Thread(target=work, args=(int(sys.argv[1]) // 4,)) for _ in range(4)]
for each in threads: each.start()
for each in threads: each.join()"""
GO = """package main
import ("fmt"; "io"; "net"; "os"; "strconv"; "sync")
func main() {
  count, _ := strconv.Atoi(os.Args[1]); var all sync.WaitGroup
  for worker := 0; worker < 4; worker++ { all.Add(1); go func() { defer all.Done()
    for i := 0; i < count/4; i++ {
      c, err := net.Dial("tcp", os.Args[2]+":80"); if err != nil { panic(err) }
      fmt.Fprintf(c, "GET / HTTP/1.0\\r\\nX-Pid: %d\\r\\n\\r\\n", os.Getpid()); io.Copy(io.Discard, c); c.Close()
    } }() }
  all.Wait() }"""
#: Connects, speaks and is gone: nothing waits for the answer.
HASTY = f'for i in $(seq "$1"); do ( exec 3<>/dev/tcp/{ORIGIN4}/80; printf "X-Pid: $BASHPID\\r\\n\\r\\n" >&3 ) done'


class Proxy:
    """Takes diverted connections in order, asks whose each is once its first bytes are there, then answers it."""

    def __init__(self, where, launcher: Launcher) -> None:
        self._launcher, self.seen, self.times = launcher, queue.SimpleQueue(), []
        self._listener = where.call(socket.create_server, ("127.0.0.1", PROXY_PORT + 1), backlog=1000)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, client = self._listener.accept()
                with peer:
                    said = b""
                    while b"\r\n\r\n" not in said and (more := peer.recv(1000)):
                        said += more
                    began = time.perf_counter()
                    self._launcher.send(Lookup(1, client, (ORIGIN4, 80)))
                    owner = self._launcher.receive()
                    self.times.append(time.perf_counter() - began)
                    self.seen.put((int(said.partition(b"X-Pid: ")[2].split(b"\r")[0]), owner.process))
                    with contextlib.suppress(OSError):
                        assert original_destination(peer) == f"proxy for {ORIGIN4} 80"
                        peer.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def proxy(network, launch):
    launcher = launch()
    plan = EVERYTHING.__class__(**{**vars(EVERYTHING), "listen_port": PROXY_PORT + 1})
    assert isinstance(launcher.start(plan), Ready)
    proxy = Proxy(network.client, launcher)
    yield proxy
    proxy.close()


def from_a_script(folder):
    return [BASH, "-c", SCRIPT, CURL, str(COUNT)], CURL


def renamed(folder):
    return [BASH, "-c", SCRIPT, shutil.copy(CURL, folder / "updater"), str(COUNT)], str(folder / "updater")


def threaded(folder):
    return [PYTHON, "-c", MANY, str(COUNT), ORIGIN4], PYTHON


def static(folder):
    (folder / "main.go").write_text(GO)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(folder / "cache"), "GOTOOLCHAIN": "local"}
    built = subprocess.run(["go", "build", "-o", folder / "static", folder / "main.go"], env=environment, check=False,
                           capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"go does not build here: {built.stderr[:200]}")
    return [str(folder / "static"), str(COUNT), ORIGIN4], str(folder / "static")


@pytest.mark.parametrize("program", [from_a_script, renamed, threaded, static])
def test_every_pid_and_program_is_right(network, proxy, tmp_path, program):
    if absent := missing("curl", *["go"] * (program is static)):
        pytest.skip(f"not installed: {absent}")
    command, exe = program(tmp_path)
    with network.client.call(subprocess.Popen, command) as process:
        seen = [proxy.seen.get(timeout=30) for _ in range(COUNT)]
        assert process.wait(30) == 0
    assert [found.pid for _, found in seen] == [said for said, _ in seen]
    assert {(found.exe, found.ended) for _, found in seen} == {(exe, False)}
    if command[0] == BASH:
        assert {found.parents[0] for _, found in seen} == {(process.pid, BASH)}
        assert len({found.pid for _, found in seen}) == COUNT
    tell(program.__name__, proxy.times)


def test_those_that_do_not_wait_have_the_right_pid(network, proxy):
    """Such a process may have ended before its bytes are read: then it has a number and a name, and no program."""
    with network.client.call(subprocess.Popen, [BASH, "-c", HASTY, "-", str(COUNT)]) as process:
        seen = [proxy.seen.get(timeout=30) for _ in range(COUNT)]
        assert process.wait(30) == 0
    assert [found.pid for _, found in seen] == [said for said, _ in seen]
    assert {(found.exe, found.ended, found.name) for _, found in seen} <= {(BASH, False, "bash"), ("", True, "bash")}
    tell(f"hasty, {Counter(found.ended for _, found in seen)[True]} ended", proxy.times)


def tell(what, times):
    ordered = sorted(times)
    print(f"\n{what}: {len(times)} look-ups over the channel, median {statistics.median(times) * 1e6:.0f} us, "
          f"p99 {ordered[len(ordered) * 99 // 100] * 1e6:.0f} us")


POLICY = """\
version: 1
connections:
  - {{id: of-agent, verdict: block, trees: ["{agent}"]}}
tls: {{upstream: {{trusted_ca: {roots}}}}}
filters:
  - {{id: no-python, use: ./no.py:No, when: "~exe ^{python}$ | ~tree ^{agent}$"}}
"""
NO = """from lockgate import block
class No:
    def requestheaders(self, flow):
        return block("not you")
"""


def test_rules_and_events_know_who_asks(lab, state, tmp_path):
    """The whole way: a rule on a parent covers its children, a filter's `when` too, and the event says who it was."""
    agent = str(shutil.copy(BASH, lab.folder / "agent"))
    (lab.folder / "no.py").write_text(NO)
    text = POLICY.format(agent=agent, python=PYTHON, roots=lab.folder / "roots.pem")
    policy = lab.folder / "who.yaml"
    policy.write_text(text)
    fetch = ["curl", "-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "https://origin.test/"]
    script = "import ssl, urllib.request as u, sys\ntry: u.urlopen('http://origin.test/')\nexcept Exception as e: print(e.code)"
    with lab.start(state=state, policy=policy):
        said = [lab.call(*fetch).stdout, lab.call(BASH, "-c", '"$@"; :', "-", *fetch).stdout,
                lab.call(agent, "-c", '"$@"; :', "-", *fetch).stdout, lab.call(PYTHON, "-c", script).stdout.strip()]
    assert said == ["200", "200", "403", "403"]
    events = [each for each in lab.events(state) if "process" in each and each["lockgate"]["verdict"] != "inspect"]
    assert {each["lockgate"]["filter"] for each in events if each["lockgate"]["verdict"] == "block"} == {"of-agent", "no-python"}
    child = next(each["process"] for each in lab.events(state, "--tree", "agent"))
    assert (child["exe"], child["parents"][0]["exe"], child["user"], child["uid"]) == (CURL, agent, "root", 0)
    assert abs(time.time() - time.mktime(time.strptime(child["started"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 600
    assert child["cmdline"].startswith("curl -sk")
    assert lab.events(state, "--user", "nobody") == []
    assert json.dumps(child)
