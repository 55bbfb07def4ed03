"""The redirector on real traffic: what is diverted, what is left alone, and what a start says when it cannot be."""
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from redirector.plan import Scope
from redirector.wire import Failed, Lookup, Owner, Ready, Start, encode
from tests.redirector.namespaces import (
    APP_UID,
    CLIENT4,
    CLOSED,
    DIVERTED,
    EVERYTHING,
    ORIGIN4,
    ORIGIN6,
    ORIGIN_LAN,
    PROXY_UID,
    WAIT,
    cgroup,
    echo,
    launch,
    needs_root,
    network,
)
from tests.waiting import wait_for

pytestmark = needs_root
__all__ = ["cgroup", "launch", "network"]


@pytest.mark.parametrize(("address", "port", "uid", "answer"), [
    pytest.param(ORIGIN4, 443, 0, DIVERTED, id="IPv4"),
    pytest.param(ORIGIN4, 80, APP_UID, f"proxy for {ORIGIN4} 80", id="any user, port 80"),
    pytest.param(ORIGIN6, 443, 0, f"proxy for {ORIGIN6} 443", id="IPv6"),
    pytest.param(ORIGIN4, 8443, 0, "origin", id="another port"),
    pytest.param(ORIGIN4, 443, PROXY_UID, "origin", id="the proxy itself"),
    pytest.param(ORIGIN6, 443, PROXY_UID, "origin", id="the proxy itself, IPv6"),
    pytest.param(ORIGIN_LAN, 443, 0, "origin", id="LAN"),
    pytest.param("127.0.0.1", 443, 0, "local", id="loopback"),
    pytest.param("::1", 443, 0, "local", id="loopback, IPv6"),
    pytest.param(CLIENT4, 443, 0, "local", id="an address of our own"),
])
@pytest.mark.parametrize("plan", [EVERYTHING, CLOSED], ids=["open", "closed"])
def test_what_is_diverted(network, launch, plan, address, port, uid, answer):
    assert launch().start(plan) == Ready("nftables", existing=0, cut=False)
    assert network.ask(address, port, uid) == answer


@pytest.mark.parametrize(("changes", "address", "answer"), [
    pytest.param({"lan": True}, ORIGIN_LAN, f"proxy for {ORIGIN_LAN} 443", id="LAN"),
    pytest.param({"loopback": True}, "127.0.0.1", "proxy for 127.0.0.1 443", id="loopback"),
    pytest.param({"loopback": True}, CLIENT4, f"proxy for {CLIENT4} 443", id="an address of our own"),
])
def test_what_is_diverted_when_asked(network, launch, changes, address, answer):
    launch().start(replace(EVERYTHING, **changes))
    assert network.ask(address) == answer
    assert network.ask(address, uid=PROXY_UID) in ("origin", "local")


@pytest.mark.parametrize("exempt", [None, PROXY_UID], ids=["nobody exempt", "proxy exempt"])
@pytest.mark.parametrize("fail", ["open", "closed"])
def test_only_one_user(network, launch, fail, exempt):
    launch().start(replace(EVERYTHING, scope=Scope(uid=APP_UID), exempt_uid=exempt, fail=fail))
    assert [network.ask(uid=uid) for uid in (APP_UID, 0, PROXY_UID)] == [DIVERTED, "origin", "origin"]


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_only_one_control_group(network, launch, cgroup, fail):
    below = cgroup / "below"
    below.mkdir()
    launcher = launch()
    assert isinstance(launcher.start(replace(EVERYTHING, scope=Scope(cgroup=f"/{cgroup.name}"), fail=fail)), Ready)
    assert [network.ask(cgroup=group) for group in (cgroup, below, None)] == [DIVERTED, DIVERTED, "origin"]
    launcher.kill()
    assert network.ask(cgroup=cgroup) == ("refused" if fail == "closed" else "origin")
    assert network.ask() == "origin"
    wait_for(lambda: not (below / "cgroup.procs").read_text())
    below.rmdir()


@pytest.mark.parametrize(("plan", "uid", "refused"), [
    pytest.param(EVERYTHING, 0, True, id="an application"),
    pytest.param(EVERYTHING, PROXY_UID, False, id="the proxy"),
    pytest.param(replace(EVERYTHING, quic="allow"), 0, False, id="allowed"),
])
def test_quic_is_refused_at_once(network, launch, plan, uid, refused):
    launch().start(plan)
    script = f"exec 3<>/dev/udp/{ORIGIN4}/443; echo hello >&3; read -t 0.5 -u 3 line; echo again >&3"
    done = network.client.call(subprocess.run, ["bash", "-c", script], capture_output=True, text=True, user=uid)
    assert ("refused" in done.stderr) == refused


@pytest.mark.parametrize("plan", [EVERYTHING, CLOSED], ids=["open", "closed"])
@pytest.mark.parametrize("address", [ORIGIN4, ORIGIN6], ids=["IPv4", "IPv6"])
def test_open_connections_are_counted_and_go_on(network, launch, plan, address):
    with network.connect(address) as older:
        launcher = launch()
        assert launcher.start(plan) == Ready("nftables", existing=1, cut=False)
        assert echo(older) == b"ping"
        launcher.kill()
        assert echo(older) == b"ping"


@pytest.mark.parametrize("plan", [EVERYTHING, CLOSED], ids=["open", "closed"])
@pytest.mark.parametrize("address", [ORIGIN4, ORIGIN6], ids=["IPv4", "IPv6"])
def test_open_connections_are_cut_on_both_sides(network, launch, plan, address):
    with network.connect(address) as older:
        assert launch().start(replace(plan, existing="cut")) == Ready("nftables", existing=1, cut=True)
        with pytest.raises(ConnectionError):
            older.recv(100)
        assert wait_for(lambda: "ESTAB" not in network.origin.sh("ss -Htn"))


def test_lookup_names_the_process_of_a_diverted_connection(network, launch):
    launcher = launch()
    launcher.start(EVERYTHING)
    with network.connect() as connection:
        launcher.send(Lookup(7, connection.getsockname()[:2], (ORIGIN4, 443)))
        owner = launcher.receive()
        assert isinstance(owner, Owner)
        assert owner.process
        assert (owner.id, owner.process.pid, owner.process.exe) == (7, os.getpid(), str(Path(sys.executable).resolve()))


def test_a_hostile_file_in_the_current_folder_is_not_imported(network, launch, tmp_path):
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in ("json", "redirector", "socket", "guard"):
        (hostile / f"{name}.py").write_text("import os; os._exit(66)")
    assert isinstance(launch(cwd=hostile).start(CLOSED), Ready)
    assert network.ask() == DIVERTED


@pytest.mark.parametrize(("prepare", "plan", "reason"), [
    pytest.param(lambda path: path.chmod(0o777), EVERYTHING, "root alone may write", id="run folder open to others"),
    pytest.param(lambda path: path.rmdir(), EVERYTHING, "No such file", id="no run folder"),
    pytest.param(lambda _: None, replace(EVERYTHING, scope=Scope(cgroup="/none/such")), "no control group /none/such",
                 id="no such control group"),
])
def test_a_start_that_cannot_be_says_why(network, launch, tmp_path, prepare, plan, reason):
    launcher = launch()
    launcher.run_dir = tmp_path / "run"
    launcher.run_dir.mkdir()
    prepare(launcher.run_dir)
    answer = launcher.start(plan)
    assert isinstance(answer, Failed)
    assert reason in answer.reason
    assert launcher.process.wait(WAIT) == 1


def test_without_the_right_it_says_so(network, launch, tmp_path):
    launcher = launch()
    launcher.close()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--",
                   sys.executable, "-I", "-m", "redirector"]
        process = network.client.call(subprocess.Popen, command, stdin=theirs, stdout=theirs,
                                      stderr=subprocess.DEVNULL)
        ours.sendall(encode(Start("t", str(tmp_path), CLOSED)))
        assert process.wait(WAIT) == 1
        assert b"run as root" in ours.recv(4096)
