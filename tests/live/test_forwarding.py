"""Gateway mode: what another computer, or a container, sends through this one."""

import os
import subprocess

import pytest

from tests.live.lab import CLIENT, ORIGIN, ORIGIN6, running, sh
from tests.waiting import HOLDS, wait_for

pytestmark = pytest.mark.live
GUEST, GATEWAY, GUEST6, GATEWAY6 = "203.0.113.2", "203.0.113.1", "2001:db8:99::2", "2001:db8:99::1"
INTERFACE = "lgguest0"


@pytest.fixture
def guest(lab):
    """A computer behind the lab's, which forwards for it; `guest(command)` runs one there."""
    name = f"lgg{os.getpid()}"
    sh(f"ip netns add {name} && ip -n {name} link set lo up")
    try:
        sh(f"ip link add {INTERFACE} netns {lab.client} type veth peer name up0 netns {name}")
        for namespace, device, addresses in ((lab.client, INTERFACE, (f"{GATEWAY}/24", f"{GATEWAY6}/64 nodad")),
                                             (name, "up0", (f"{GUEST}/24", f"{GUEST6}/64 nodad"))):
            for address in addresses:
                sh(f"ip -n {namespace} address add {address} dev {device}")
            sh(f"ip -n {namespace} link set {device} up")
        sh(f"ip -n {name} route add default via {GATEWAY}; ip -n {name} -6 route add default via {GATEWAY6}")
        sh(f"ip -n {lab.origin} route add 203.0.113.0/24 via {CLIENT}")
        sh(f"ip -n {lab.origin} -6 route add 2001:db8:99::/64 via 2001:db8:77::1")
        sh(f"nsenter --net=/run/netns/{lab.client} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        yield lambda *command, **more: [
            "nsenter", f"--net=/run/netns/{name}", "unshare", "--mount", "--propagation", "private", "sh", "-c",
            f'mount --bind {lab.folder}/hosts /etc/hosts; exec "$@"', "sh", *map(str, command)]
    finally:
        sh(f"ip netns delete {name}; ip -n {lab.client} link delete {INTERFACE} 2>/dev/null || true")
        sh(f"ip -n {lab.origin} route flush 203.0.113.0/24; ip -n {lab.origin} -6 route flush 2001:db8:99::/64")


def status(guest, url, *more):
    command = guest("curl", "-skm", "5", "-o", "/dev/null", "-w", "%{http_code}", *more, url)
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else "silence" if done.returncode == 28 else "refused"


@pytest.fixture
def captured(lab, state, guest):
    policy = lab.policy("gateway.yaml")
    with lab.start("--forward", INTERFACE, state=state, policy=policy) as started:
        yield started


@pytest.mark.parametrize(("url", "expected"), [
    ("https://blocked.test/", "403"), ("https://origin.test/", "200"), ("http://origin.test/", "200"),
    ("http://blocked.test/", "403"), ("https://six.test/", "200"),
])
def test_guests_are_inspected(lab, state, guest, captured, url, expected):
    assert status(guest, url) == expected
    event = wait_for(lambda: [event for event in lab.events(state) if "src_ip" in event], HOLDS)[-1]
    assert event["src_ip"] == (GUEST6 if "six" in url else GUEST)
    assert event["dest_ip"] in (ORIGIN, ORIGIN6, "198.51.100.3")
    assert "process" not in event, "it runs elsewhere"


def test_the_computer_itself_is_still_captured(lab, captured):
    assert lab.status("https://blocked.test/") == "403"


def test_a_bypassed_name_has_its_own_certificate(guest, captured):
    shown = subprocess.run(guest("curl", "-skvm", "5", "https://bank.test/"), capture_output=True, text=True).stderr
    assert "issuer: CN=lockgate" not in shown
    assert "200" in shown


@pytest.mark.parametrize("address", [GATEWAY, GATEWAY6, CLIENT])
def test_the_proxy_serves_nobody_who_was_not_diverted(guest, captured, address):
    port = captured.ready["listen"][0][1]
    host = f"[{address}]" if ":" in address else address
    assert status(guest, f"http://{host}:{port}/") == "refused"
    assert status(guest, "http://origin.test/", "--proxy", f"http://{host}:{port}") == "refused"


def test_quic_is_refused_at_once(guest, captured):
    script = f"exec 3<>/dev/udp/{ORIGIN}/443; echo hello >&3; read -t 1 -u 3 line; echo again >&3"
    done = subprocess.run(guest("bash", "-c", script), capture_output=True, text=True)
    assert "refused" in done.stderr


@pytest.mark.parametrize(("fail", "expected"), [("closed", "refused"), ("open", "200")])
def test_what_holds_when_all_is_killed(lab, state, guest, fail, expected):
    with lab.start("--forward", INTERFACE, state=state, policy=lab.policy(f"{fail}.yaml", fail=fail)) as started:
        assert status(guest, "https://blocked.test/") == "403"
        redirector = started.child("redirector")
        started.process.kill()
        os.kill(redirector, 9)
        assert wait_for(lambda: status(guest, "https://origin.test/") == expected, 10)
        assert status(guest, "http://origin.test/") == expected
    for note in (lab.folder / "run").glob("*.running"):     # one that is killed leaves it; a new start takes it over
        note.unlink()


def test_an_older_connection_goes_on_or_is_cut(lab, state, guest):
    holder = ("import socket,sys; s=socket.create_connection((sys.argv[1],80)); print(1,flush=True); "
              "sys.stdin.read(1); s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); print(s.recv(99)[:15])")
    for existing, answer in (("report", "b'HTTP/1.1 200 OK'\n"), ("cut", "")):
        text = lab.policy("older.yaml").read_text().replace("fail: closed", f"fail: closed, existing: {existing}")
        policy = lab.folder / "older.yaml"
        policy.write_text(text)
        with running(guest("python3", "-c", holder, ORIGIN), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                     stderr=subprocess.DEVNULL, text=True) as older:
            assert older.stdout.readline() == "1\n"
            with lab.start("--forward", INTERFACE, state=state, policy=policy):
                assert older.communicate("x", timeout=5)[0] == answer


@pytest.mark.parametrize(("words", "said"), [
    (("--forward", "dcoker0"), "no interface dcoker0 here"),
    (("--forward", "x" * 20), "no interface"),
    (("--forward", "a;b*"), "names of interfaces"),
    (("--capture", "explicit", "--forward", INTERFACE), "for --capture nftables"),
])
def test_bad_requests(lab, state, words, said):
    done = lab.call(*lab.lockgate("start", "--state", state, "--run-dir", lab.folder / "run", *words))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert lab.tables() == []


def test_it_says_that_this_computer_does_not_forward(lab, state):
    sh(f"nsenter --net=/run/netns/{lab.client} sysctl -qw net.ipv4.ip_forward=0")
    with lab.start("--forward", "lab0", state=state, policy=lab.policy("n.yaml")):
        assert "net.ipv4.ip_forward=1" in (lab.folder / "stderr").read_text()
