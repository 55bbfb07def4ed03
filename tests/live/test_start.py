"""`lockgate start` for the whole computer: what clients see."""

import json
import select
import signal
import subprocess

import pytest

from tests.live.lab import BLOCKED, ORIGIN, START, running
from tests.waiting import wait_for

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def started(lab, tmp_path_factory):
    with lab.start(state=tmp_path_factory.mktemp("start") / "state", policy=lab.policy()) as started:
        yield started


@pytest.mark.parametrize(
    ("url", "options", "answer"),
    [
        pytest.param("https://origin.test/", (), "200", id="TLS"),
        pytest.param("https://origin.test/", ("--http1.1",), "200", id="HTTP/1.1"),
        pytest.param("https://six.test/", (), "200", id="IPv6"),
        pytest.param("http://origin.test/", (), "200", id="plain HTTP"),
        pytest.param(f"https://{ORIGIN}/", (), "200", id="an address, no name"),
        pytest.param("https://blocked.test/", (), "403", id="blocked, TLS"),
        pytest.param("http://blocked.test/", (), "403", id="blocked, plain"),
        pytest.param("https://origin.test/post", ("-d", "card=4111 1111 1111 1111"), "403", id="a card number"),
    ],
)
def test_what_clients_get(lab, started, url, options, answer):
    assert lab.status(url, *options) == answer


def test_a_blocked_host_gets_a_page_with_the_reason_and_not_one_packet(lab, started):
    before = lab.packets("blocked")
    page = lab.curl("https://blocked.test/", "-k", "-H", "accept: text/html").stdout
    assert "blocked.test" in page
    assert "no-go" in page
    assert lab.packets("blocked") == before
    event = lab.events(started.state, "--host", "blocked.test", "--limit", "1")[0]
    assert (event["lockgate"]["filter"], event["dest_ip"]) == ("no-go", BLOCKED)
    assert event["process"]["exe"].endswith("/curl")


def test_an_inspected_host_has_our_certificate_and_a_bypassed_one_its_own(lab, started):
    assert lab.issuer("https://origin.test/").startswith("lockgate root")
    assert lab.issuer("https://bank.test/") == "lab root"


def test_quic_is_refused_at_once(lab, started):
    before = lab.packets("quic")
    script = (
        "import socket, sys, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.settimeout(5); began = time.time(); s.connect((sys.argv[1], 443))\n"
        "try: s.send(b'initial'); s.recv(1)\n"
        "except OSError as error: print(type(error).__name__, time.time() - began < 0.5)"
    )
    assert lab.call("python3", "-c", script, ORIGIN).stdout in (
        "PermissionError True\n",
        "ConnectionRefusedError True\n",
    )
    assert lab.packets("quic") == before


def test_events_are_followed_and_found(lab, started):
    words = ("events", "--state", started.state, "--follow", "--json", "--verdict", "block", "--host", "blocked.test")
    with running(lab.inside(*lab.lockgate(*words)), stdout=subprocess.PIPE, text=True) as following:
        try:
            assert wait_for(lambda: followed(lab, following), START)
            event = json.loads(following.stdout.readline())
        finally:
            following.terminate()
    incident = event["lockgate"]["incident"]
    found = lab.events(
        started.state, "--incident", incident.lower(), "--filter", "no-go", "--app", "curl", "--since", "1m"
    )
    assert [each["lockgate"]["incident"] for each in found] == [incident]
    assert lab.events(started.state, "--app", "wget") == []


def followed(lab, following):
    """Something has been written; there is no telling when the command began to look."""
    lab.status("https://blocked.test/")
    return select.select([following.stdout], [], [], 0.5)[0]


def test_status_says_what_runs(lab, started):
    words = ("status", "--state", started.state, "--run-dir", lab.folder / "run")
    shown = json.loads(lab.call(*lab.lockgate(*words, "--json")).stdout)
    assert shown["running"]["pid"] == started.process.pid
    assert {each["role"] for each in shown["kernel"]} == {"redirector", "guard"}
    assert "running: pid" in lab.call(*lab.lockgate(*words)).stdout


def test_a_second_start_with_the_same_state_is_refused(lab, started):
    done = lab.call(*lab.lockgate("start", "--state", started.state, "--run-dir", lab.folder / "run"))
    assert (done.returncode, "lockgate stop" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_a_changed_policy_is_in_force_and_a_bad_one_is_not(lab, started):
    path = lab.folder / "policy.yaml"
    good = path.read_text()
    path.write_text(good.replace("hosts: [blocked.test]", "hosts: [six.test]"))
    assert started.message("reloaded")
    assert (lab.status("https://six.test/"), lab.status("https://blocked.test/")) == ("403", "200")
    path.write_text("version: 2\n")
    assert started.message("reload-failed")["errors"]
    assert lab.status("https://six.test/") == "403"
    path.write_text(good)
    started.process.send_signal(signal.SIGHUP)
    assert started.message("reloaded")
    assert lab.status("https://blocked.test/") == "403"
