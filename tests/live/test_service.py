"""`lockgate service` on a computer that systemd has booted: what runs, with which rights, and what holds when it dies."""

import contextlib
import json
import re
import signal
import sys
import time

import pytest

from proxy.confine import ACCOUNT
from proxy.units import CAPABILITIES, RECORDING
from tests.live.lab import missing
from tests.live.machine import SYSTEMD, Machine
from tests.waiting import HOLDS, wait_for

pytestmark = pytest.mark.live

POLICY = """\
version: 1
capture: {fail: closed}
tls: {bypass: [bank.test], upstream: {trusted_ca: /etc/lockgate/roots.pem}}
filters:
  - {id: no-go, use: blocklist.Hosts, with: {hosts: [blocked.test]}}
"""
FILES = ("lockgate.service", "lockgate-redirector.socket", "lockgate-redirector@.service", "lockgate-recorder.service")
#: <linux/capability.h>
NUMBERS = {"CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_PERFMON": 38, "CAP_BPF": 39}
MASK, RECORDERS = (sum(1 << NUMBERS[name] for name in names) for names in (CAPABILITIES, RECORDING))
#: Somebody who is neither root nor the proxy.
USER = 61185
INSTALL = ("service", "install", "--policy", "/etc/lockgate/policy.yaml")


@pytest.fixture(scope="module")
def machine(lab, tmp_path_factory):
    if not SYSTEMD.exists():
        pytest.skip("systemd is not installed")
    if absent := missing("useradd", "chroot", "setpriv"):
        pytest.skip(f"not installed: {absent}")
    folder, given = tmp_path_factory.mktemp("machine"), tmp_path_factory.mktemp("given")
    (given / "policy.yaml").write_text(POLICY)
    (given / "roots.pem").write_bytes((lab.folder / "roots.pem").read_bytes())
    (given / "hosts").write_bytes((lab.folder / "hosts").read_bytes())
    machine = Machine(lab, folder / "disk", given)
    try:
        machine.await_boot()
        yield machine
    finally:
        machine.close()


def lockgate(machine, *words):
    return machine.call(sys.executable, "-I", "-m", "proxy.cli", *words)


@pytest.fixture(scope="module")
def before(machine):
    """What the system's own folders hold without the service."""
    return inventory(machine)


@pytest.fixture(scope="module")
def installed(machine, before):
    done = lockgate(machine, *INSTALL, "--yes")
    assert done.returncode == 0, done.stderr + machine.call("journalctl", "-n", "50", "-o", "cat").stdout
    return done.stdout


@pytest.fixture
def running(machine, installed):
    assert wait_for(lambda: state(machine)["running"] and len(state(machine)["kernel"]) == 2, 60)
    return state(machine)


def inventory(machine):
    listing = machine.call("sh", "-c", "cd /etc; find . -type f ! -name '*-' -exec sha256sum {} +; find . -type l").stdout
    return set(listing.splitlines())


def state(machine):
    return json.loads(lockgate(machine, "service", "status", "--json").stdout)


def pids_of(machine, module):
    return set(map(int, machine.call("pgrep", "-f", f" -m {module}( |$)").stdout.split()))


def pid_of(machine, module):
    return next(iter(pids_of(machine, module)))


def status_of(machine, module):
    lines = machine.call("cat", f"/proc/{pid_of(machine, module)}/status").stdout.splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def ask(machine, url, user=USER):
    done = machine.call("curl", "-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url, user=user)
    return done.stdout if done.returncode == 0 else "refused"


def events(machine, *words):
    done = lockgate(machine, "events", "--state", "/var/lib/lockgate/state", "--json", *words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_dry_run_shows_everything_and_changes_nothing(machine, before):
    done = lockgate(machine, *INSTALL, "--dry-run")
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        "create", *["write"] * len(FILES), "systemctl", "systemctl", "systemctl"]
    assert inventory(machine) == before


def test_a_policy_that_others_may_write_is_refused(machine, before):
    machine.call("sh", "-c", "cp /etc/lockgate/policy.yaml /etc/lockgate/open.yaml; chmod 666 /etc/lockgate/open.yaml")
    done = lockgate(machine, "service", "install", "--policy", "/etc/lockgate/open.yaml", "--yes")
    machine.call("rm", "/etc/lockgate/open.yaml")
    assert (done.returncode, "chmod go-w" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
    assert inventory(machine) == before


def test_it_captures_and_knows_whose_connection_it_is(machine, running):
    assert ask(machine, "https://origin.test/") == "200"
    assert ask(machine, "https://blocked.test/") == "403"
    event = events(machine, "--host", "blocked.test", "--limit", "1")[0]
    assert (event["lockgate"]["filter"], event["process"]["uid"]) == ("no-go", USER)
    assert event["process"]["exe"] == "/usr/bin/curl"
    assert event["process"]["pid"]


def test_the_history_knows_its_host_and_its_process_and_goes_on_after_its_end(machine, running):
    """A connection of curl is over within a second: what is known of it comes from the kernel and from the proxy."""
    assert ask(machine, "https://origin.test/") == "200"
    assert wait_for(lambda: recorded(machine, "origin.test"), 20)
    row = recorded(machine, "origin.test")[0]
    assert (row["exe"], row["verdict"], row["user"]) == ("/usr/bin/curl", "inspect", str(USER))
    machine.call("pkill", "-KILL", "-f", "proxy.serving record")
    assert wait_for(lambda: pids_of(machine, "proxy.serving record"), 20)
    assert ask(machine, "https://blocked.test/") == "403"
    assert wait_for(lambda: recorded(machine, "blocked.test"), 20)


def recorded(machine, host):
    done = lockgate(machine, "connections", "--state", "/var/lib/lockgate/state", "--history", "--json", "--host", host)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_second_install_has_nothing_to_do(machine, running):
    done = lockgate(machine, *INSTALL, "--yes")
    assert (done.returncode, done.stdout) == (0, "nothing to do\n")


@pytest.mark.parametrize(("module", "capabilities", "user"), [
    pytest.param("proxy.serving run", 0, ACCOUNT, id="launcher"), pytest.param("proxy.worker", 0, ACCOUNT, id="worker"),
    pytest.param("redirector.activated", MASK, "root", id="redirector"),
    pytest.param("redirector.guard", MASK, "root", id="guard"),
    pytest.param("proxy.serving record", RECORDERS, "root", id="recorder")])
def test_each_process_has_the_rights_it_needs_and_no_other(machine, running, module, capabilities, user):
    found = status_of(machine, module)
    uid = int(machine.call("id", "-u", user).stdout)
    sets = {name: int(found[name][0], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")}
    assert {sets["CapEff"], sets["CapPrm"], sets["CapBnd"]} == {capabilities}
    assert (sets["CapInh"], sets["CapAmb"]) == (0, 0)
    assert set(found["Uid"]) == {str(uid)}
    assert (found["NoNewPrivs"], found["Seccomp"]) == (["1"], ["2"])


@pytest.mark.parametrize(("missing", "lost"), [
    pytest.param("CAP_SYS_PTRACE", ("pid", "exe"), id="CAP_SYS_PTRACE"),
    pytest.param("CAP_DAC_READ_SEARCH", ("pid", "exe"), id="CAP_DAC_READ_SEARCH")])
def test_with_one_right_less_it_captures_and_does_not_know_the_program(machine, running, missing, lost):
    """That is what these two are for; without CAP_NET_ADMIN there would be no rules."""
    with drop_in(machine, "lockgate-redirector@.service", f"CapabilityBoundingSet=~{missing}"):
        assert wait_for(lambda: ask(machine, "https://blocked.test/") == "403", 20)
        event = events(machine, "--host", "blocked.test", "--limit", "1")[0]
        assert event["process"]["uid"] == USER
        assert not [name for name in lost if event["process"].get(name)]


@contextlib.contextmanager
def drop_in(machine, unit, line):
    """What an administrator could write, until the next boot."""
    folder = f"/run/systemd/system/{unit}.d"
    machine.call("sh", "-c", f"mkdir -p {folder}; printf '[Service]\n{line}\n' > {folder}/test.conf; "
                 "systemctl daemon-reload; systemctl restart lockgate")
    try:
        yield
    finally:
        machine.call("sh", "-c", f"rm -r {folder}; systemctl daemon-reload; systemctl restart lockgate")


def test_systemd_finds_no_fault_with_the_units(machine, running):
    done = machine.call("systemd-analyze", "verify", *(f"/etc/systemd/system/{name}" for name in FILES))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(("unit", "most"), [("lockgate.service", 20), ("lockgate-redirector@x.service", 30)])
def test_systemd_calls_their_exposure_ok(machine, running, unit, most):
    """Tenths, of 100; what has no sandbox is at 96."""
    done = machine.call("systemd-analyze", "security", "--no-pager", unit)
    assert int(re.search(r"exposure level for .*: (\d+)\.(\d)", done.stdout)[0][-3:].replace(".", "")) <= most


def test_nobody_else_gets_a_redirector(machine, running):
    """Whoever could connect would end, or learn, what is captured."""
    script = "import socket; socket.socket(socket.AF_UNIX).connect('/run/lockgate/redirector.sock')"
    done = machine.call("/usr/bin/python3", "-c", script, user=USER)
    assert "PermissionError" in done.stderr


@pytest.mark.parametrize(("module", "number"), [
    ("proxy.worker", signal.SIGKILL), ("proxy.worker", signal.SIGSTOP), ("redirector.activated", signal.SIGKILL),
    ("redirector.activated", signal.SIGSTOP), ("proxy.serving run", signal.SIGKILL)])
def test_whatever_dies_or_hangs_nothing_passes_uninspected_and_all_comes_back(machine, running, module, number):
    broken = pid_of(machine, module)
    machine.call("kill", f"-{int(number)}", broken)
    until = time.monotonic() + HOLDS
    answers = set()
    while time.monotonic() < until:
        answers.add(issuer(machine))
    assert not [answer for answer in answers if answer and not answer.startswith("lockgate root")]
    assert wait_for(lambda: pids_of(machine, module) - {broken}, 60), journal(machine)
    assert wait_for(lambda: broken not in pids_of(machine, module), 30)
    assert wait_for(lambda: ask(machine, "https://blocked.test/") == "403", 60), journal(machine)
    assert wait_for(lambda: len(state(machine)["kernel"]) == 2, 60)


def journal(machine):
    return machine.call("journalctl", "-n", "60", "-o", "short-precise").stdout


def issuer(machine):
    """Who certified the origin, as a client sees it; nothing where it sees none."""
    done = machine.call("curl", "-skv", "-m", "1", "-o", "/dev/null", "https://origin.test/", user=USER)
    found = re.search(r"issuer:.*CN ?= ?([^;\n]*)", done.stderr)
    return found[1] if found else ""


def test_a_launcher_that_hangs_is_replaced(machine, running):
    with drop_in(machine, "lockgate.service", "WatchdogSec=2"):
        hung = pid_of(machine, "proxy.serving run")
        machine.call("kill", "-STOP", hung)
        assert wait_for(lambda: state(machine)["unit"]["MainPID"] not in ("0", str(hung)) and state(machine)["running"], 40)
        assert "watchdog" in machine.call("journalctl", "-u", "lockgate", "-o", "cat").stdout.lower()


def test_a_reload_takes_the_new_policy_into_force_and_a_bad_one_not(machine, running):
    machine.write("/etc/lockgate/policy.yaml", POLICY.replace("[blocked.test]", "[origin.test]"))
    assert machine.call("systemctl", "reload", "lockgate").returncode == 0
    assert wait_for(lambda: (ask(machine, "https://origin.test/"), ask(machine, "https://blocked.test/")) == ("403", "200"), 5)
    machine.write("/etc/lockgate/policy.yaml", "version: 2\n")
    machine.call("systemctl", "reload", "lockgate")
    assert wait_for(lambda: "mistakes" in state(machine)["unit"]["StatusText"], 5)
    assert ask(machine, "https://origin.test/") == "403"
    machine.write("/etc/lockgate/policy.yaml", POLICY)
    machine.call("systemctl", "reload", "lockgate")
    assert wait_for(lambda: state(machine)["unit"]["StatusText"] == "inspecting", 5)


def test_stopped_it_refuses_nothing(machine, running):
    assert machine.call("systemctl", "stop", "lockgate").returncode == 0
    assert (machine.call("nft", "list", "tables").stdout, ask(machine, "https://blocked.test/")) == ("", "200")
    found = lockgate(machine, "service", "status")
    assert (found.returncode, found.stdout.startswith("inactive (dead), enabled")) == (1, True)
    assert machine.call("systemctl", "start", "lockgate").returncode == 0


def test_uninstalled_nothing_is_left_but_keys_and_events_which_are_roots(machine, before, running):
    done = lockgate(machine, "service", "uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert inventory(machine) == before
    assert machine.call("nft", "list", "tables").stdout == ""
    assert machine.call("pgrep", "-f", "lockgate|proxy[.]|redirector[.]").stdout == ""
    assert machine.call("find", "/var/lib/lockgate", "!", "-user", "root").stdout == ""
    assert "/var/lib/lockgate/state/ca/ca.pem" in machine.call("find", "/var/lib/lockgate").stdout
    again = lockgate(machine, "service", "uninstall", "--yes")
    assert (again.returncode, again.stdout) == (0, "nothing to do\n")
