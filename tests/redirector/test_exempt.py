"""A server is found by where it listens, set apart with its children, and put back; and what was killed is undone."""
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from redirector import exempt, release
from redirector.cgroups import mount
from redirector.exempt import Exemption, listening, sweep
from redirector.plan import BackendError, Plan
from tests.waiting import wait_for

#: Two children hold the listener, as workers do; a grandchild and a child from before do not.
SERVER = """
import os, socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
before = os.fork()
if not before:
    time.sleep(60)
listener = socket.create_server((sys.argv[1], 0), family=family)
for _ in range(2):
    if not os.fork():
        os.set_inheritable(listener.fileno(), False)
        if not os.fork():
            os.execlp("sleep", "sleep", "60")
        time.sleep(60)
print(listener.getsockname()[1], flush=True)
time.sleep(60)
"""
needs_root = [pytest.mark.live, pytest.mark.skipif(os.geteuid() != 0, reason="control groups need root")]


@pytest.fixture
def server():
    process = subprocess.Popen([sys.executable, "-c", SERVER, "127.0.0.1"], stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
    yield process.pid, int(process.stdout.readline())
    os.killpg(process.pid, 9)
    process.wait()
    process.stdout.close()


def group(pid):
    return next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))[3:]


def plan(port):
    return Plan((80,), port, own_server=True)


@pytest.mark.live
def test_holders_and_their_family(server):
    pid, port = server
    assert exempt.holders(("", port)) == [pid]
    assert wait_for(lambda: len(exempt.family([pid])) == 6)


@pytest.mark.parametrize("mark", [pytest.param(None, marks=needs_root)])
def test_it_is_set_apart_and_put_back(server, mark):
    pid, port = server
    assert wait_for(lambda: len(exempt.family([pid])) == 6)
    before = {each: group(each) for each in exempt.family([pid])}
    with Exemption(plan(port), "t") as apart:
        assert apart.paths == [f"{before[pid].rstrip('/')}/{release.exempt_group('t')}"]
        assert {group(each) for each in before} == set(apart.paths)
        assert sorted(exempt.members("t")) == sorted(before)
    assert {each: group(each) for each in before} == before
    assert sweep("t") == []


@pytest.mark.parametrize("mark", [pytest.param(None, marks=needs_root)])
def test_what_a_killed_redirector_left_is_taken_over_and_swept(server, mark):
    pid, port = server
    before = group(pid)
    Exemption(plan(port), "t").enter()          # and never leaves
    with Exemption(plan(port), "t") as second:
        assert group(pid) == second.paths[0]
        assert group(pid).count("lockgate_exempt_t_") == 1
    assert group(pid) == before
    Exemption(plan(port), "t").enter()
    release.put_back("another")
    assert group(pid) != before
    release.put_back()
    assert group(pid) == before
    Exemption(plan(port), "t").enter()
    assert sweep("another") == []
    assert len(sweep("t")) == 1
    assert group(pid) == before
    assert not [path for path, _, _ in os.walk(mount()) if "lockgate_exempt_t" in path]


@pytest.mark.parametrize("mark", [pytest.param(None, marks=needs_root)])
def test_without_a_server_nothing_is_done(mark):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(BackendError, match="no process listens at loopback"):
            Exemption(plan(free.getsockname()[1]), "t").enter()
    assert sweep("t") == []


@pytest.mark.parametrize(("host", "asked", "found"), [
    ("127.0.0.1", "", True), ("0.0.0.0", "", True), ("0.0.0.0", "192.0.2.1", True), ("127.0.0.1", "192.0.2.1", False),
    ("::1", "", True), ("::", "2001:db8::1", True), ("::1", "2001:db8::1", False),
])
def test_which_listeners_take_what_is_sent_there(host, asked, found):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        inode = os.fstat(listener.fileno()).st_ino
        assert (inode in listening((asked, listener.getsockname()[1]))) is found
