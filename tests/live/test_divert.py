"""`divert` on real packets: what the contract suite does not ask of the others.  Needs neither nft nor the proxy."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from redirector import handles, release
from redirector.divert import DIVERT_PRIORITY, GUARD_PRIORITY, SILENCE_LIMIT, Divert
from redirector.existing import existing
from redirector.plan import BackendError, Scope
from redirector.wire import Failed, Ready, Start, Stop, encode
from tests.redirector.namespaces import (
    APP_UID,
    CLIENT4,
    EVERYTHING,
    ORIGIN4,
    ORIGIN6,
    PROXY_UID,
    Launcher,
    Network,
    echo,
    sh,
    wait_for,
)

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and packets need root"),
    pytest.mark.skipif(not shutil.which("tc"), reason="tc is not installed: apt install iproute2"),
    pytest.mark.skipif(bool(handles.usable()), reason=str(handles.usable())),
]
OWN = (61440, 65535)
PORT = 8081
PLAN = replace(EVERYTHING, backend="divert", listen_port=PORT, exempt_ports=OWN)
#: With the guard of Windows: it acts on the whole computer, so on few ports, and briefly.
FEW = (64990, 64999)
GUARDED = replace(PLAN, exempt_ports=FEW, exempt_pid=os.getpid())
SHUT = replace(PLAN, fail="closed")
DIVERTED = f"proxy for ::ffff:{ORIGIN4}"
#: Seconds within which the chosen fail mode holds after any death, and what a busy machine adds.
HOLDS, BUSY = 2.0, 4.0


@pytest.fixture(scope="module")
def network():
    network = Network()
    network._serve(network.client, "::", PORT, lambda peer: f"proxy for {peer.getpeername()[0]}")
    network.connect(), network.connect(ORIGIN6)     # neighbours are found: no case waits for that
    yield network
    network.close()


def programs(network):
    """The priorities of pydivert's programs on the client: it numbers its TC filters 30001 less the priority."""
    listing = network.client.sh("for dev in $(ip -o link | cut -d: -f2 | cut -d@ -f1); do "
                                "tc filter show dev $dev egress; tc filter show dev $dev ingress; done")
    found = (line.split() for line in listing.splitlines() if "tc_divert" in line)
    return {30001 - int(words[words.index("pref") + 1]) for words in found}


@pytest.fixture
def install(network, tmp_path):
    """Installs the backend alone; in the end nothing of it may be left."""
    made = []

    def make(plan=PLAN, **more):
        backend = Divert(Start("t", str(tmp_path), plan), **more)
        made.append(backend)
        network.client.call(backend.install, plan, network.client.call(existing, plan))
        return backend

    yield make
    for backend in made:
        network.client.call(backend.remove)
    assert (programs(network), list(tmp_path.iterdir())) == (set(), [])


def python(network, script, *words):
    """What a program on the client says."""
    done = network.client.call(subprocess.run, [sys.executable, "-c", script, *map(str, words)], capture_output=True,
                               text=True, timeout=20)
    return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]


# -- the way of packets


@pytest.mark.parametrize("portable", [False, True], ids=["native", "portable: as on Windows"])
@pytest.mark.parametrize(("address", "port", "uid", "answer"), [
    pytest.param(ORIGIN4, 443, 0, DIVERTED, id="IPv4"),
    pytest.param(ORIGIN6, 80, APP_UID, f"proxy for {ORIGIN6}", id="IPv6"),
    pytest.param(ORIGIN4, 443, PROXY_UID, "origin", id="the proxy's user, from a port that is not its own"),
    pytest.param(CLIENT4, 443, 0, "local", id="an address of our own"),
])
def test_what_is_diverted(network, install, portable, address, port, uid, answer):
    install(portable=portable)
    assert network.ask(address, port, uid) == answer


@pytest.mark.parametrize("portable", [False, True], ids=["native", "portable"])
def test_bytes_arrive_as_they_were_sent(network, install, portable):
    """The stand-in echoes; a whole segment is longer than a packet on the cable."""
    install(portable=portable)
    with network.connect() as connection:
        sent, received = os.urandom(300_000), b""
        for at in range(0, len(sent), 100_000):
            connection.sendall(sent[at:at + 100_000])
            while len(received) < at + 100_000:
                received += connection.recv(1 << 16)
        assert received == sent


def test_one_local_port_to_two_ports_of_an_origin(network, install):
    backend = install()

    def connect(port):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((CLIENT4, 20_000))
        sock.settimeout(5)
        sock.connect((ORIGIN4, port))
        return sock

    with network.client.call(connect, 443) as one, network.client.call(connect, 80) as two:
        assert one.recv(100) == two.recv(100) == f"{DIVERTED}\n".encode()
        assert echo(one) == echo(two) == b"ping"
        backend.tend()
        assert {ends[1] for ends in backend._origins.values() if ends[0] == (CLIENT4, 20_000)} == {
            (ORIGIN4, 443), (ORIGIN4, 80)}


@pytest.mark.parametrize("address", [ORIGIN4, ORIGIN6], ids=["IPv4", "IPv6"])
def test_quic_is_refused_at_once(network, install, address):
    install()
    script = ("import socket, sys, time; s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, "
              "socket.SOCK_DGRAM); s.settimeout(5); s.connect((sys.argv[1], 443)); began = time.time()\n"
              "try: s.send(b'initial'); s.recv(1)\n"
              "except OSError as error: print(type(error).__name__, time.time() - began < 0.1)")
    assert python(network, script, address) == "ConnectionRefusedError True"


def test_an_interface_that_comes_later(network, install):
    install()
    with contextlib.ExitStack() as stack:
        sh(f"ip link add e9 netns {network.client.name} type veth peer name e9 netns {network.origin.name}")
        stack.callback(network.client.sh, "ip link delete e9")
        for here, host in ((network.client, 1), (network.origin, 2)):
            here.sh(f"ip address add 203.0.113.{host}/24 dev e9; ip link set e9 up")
        assert wait_for(lambda: network.ask("203.0.113.2") == "proxy for ::ffff:203.0.113.2", 5)
        assert network.ask() == DIVERTED


@pytest.mark.parametrize("address", [ORIGIN4, ORIGIN6], ids=["IPv4", "IPv6"])
def test_older_connections_go_on(network, install, address):
    with network.connect(address) as older:
        backend = install()
        assert echo(older) == b"ping"
        network.client.call(backend.remove)
        assert echo(older) == b"ping"


def test_older_connections_are_cut(network, install):
    with network.connect() as older:
        install(replace(PLAN, existing="cut"))
        with pytest.raises(ConnectionError):
            older.recv(100)


def test_programs_that_somebody_removes_are_attached_again(network, install):
    install()
    for _ in range(3):
        network.client.sh("tc qdisc delete dev e0 clsact")
        assert wait_for(lambda: network.ask() == DIVERTED, 5)


# -- who is exempt, and who is known


BORROW = ("import socket, sys; s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)\n"
          "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
          "try: s.bind((sys.argv[1], int(sys.argv[2])))\n"
          "except OSError as error: print(type(error).__name__)\n"
          "else: print('bound')")


@pytest.mark.parametrize(("address", "port", "answer"), [
    pytest.param("0.0.0.0", FEW[0], "PermissionError", id="lowest"),
    pytest.param("::", FEW[1], "PermissionError", id="highest, IPv6"),
    pytest.param("0.0.0.0", FEW[0] - 1, "bound", id="below"),
])
def test_others_cannot_bind_the_proxy_s_ports_where_that_is_the_only_lock(network, install, address, port, answer):
    install(GUARDED)
    assert python(network, BORROW, address, port) == answer


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_has_one_all_the_same_is_refused(network, install, when):
    """Bound before the start, or after it: it is not the proxy's user who connects."""
    if when == "after":
        install()
    sock = network.client.call(socket.socket)
    sock.bind((CLIENT4, OWN[0] + 7))
    if when == "before":
        install()
    with sock:
        sock.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            network.client.call(sock.connect, (ORIGIN4, 443))


def test_a_stranger_is_not_known_and_one_on_the_lan_not_even_heard(network, install):
    backend = install()
    with pytest.raises(TimeoutError):
        network.origin.call(socket.create_connection, (CLIENT4, PORT), timeout=1)
    with network.client.call(socket.create_connection, ("127.0.0.1", PORT), timeout=5) as local:
        assert backend.original(local.getsockname(), ("127.0.0.1", PORT)) is None
    with network.connect() as diverted:
        client = diverted.getsockname()
        assert backend.original((f"::ffff:{ORIGIN4}", client[1]), (f"::ffff:{CLIENT4}", PORT)) == (
            client, (ORIGIN4, 443))


def test_only_one_user_and_not_even_the_quic_of_others(network, install):
    install(replace(PLAN, scope=Scope(uid=APP_UID), exempt_uid=None))
    assert [network.ask(uid=uid) for uid in (APP_UID, 0)] == [DIVERTED, "origin"]
    script = f"exec 3<>/dev/udp/{ORIGIN4}/443; echo a >&3; read -t 0.3 -u 3 x; echo b >&3"
    refused = {uid: "refused" in network.client.call(subprocess.run, ["bash", "-c", script], capture_output=True,
                                                    text=True, user=uid).stderr for uid in (APP_UID, 0)}
    assert refused == {APP_UID: True, 0: False}


# -- what cannot be


def test_loopback_is_refused_with_the_way_out(network, install):
    with pytest.raises(BackendError, match="--capture nftables"):
        install(replace(PLAN, loopback=True))


def test_without_the_right_it_says_so(network, tmp_path):
    command = ["setpriv", "--bounding-set", "-net_admin,-bpf,-sys_admin", "--inh-caps", "-net_admin,-bpf,-sys_admin",
               sys.executable, "-I", "-m", "redirector.diverter", "divert"]
    order = encode(Start("t", str(tmp_path), PLAN)) + b'{"existing": [], "portable": false}\n'
    done = network.client.call(subprocess.run, command, input=order, capture_output=True, timeout=20)
    assert (done.returncode, b"run as root" in done.stdout, b"Traceback" in done.stderr) == (1, True, False)


# -- deaths


@pytest.fixture
def launch(network, tmp_path):
    made = []

    def make():
        made.append(Launcher(network.client, tmp_path))
        return made[-1]

    yield make
    for launcher in made:
        launcher.close()
    network.client.call(release.release, str(tmp_path))
    assert wait_for(lambda: not programs(network), BUSY), programs(network)
    assert [record for record in release.read(str(tmp_path)) if record.alive()] == []


def pid_of(launcher, role):
    if role == "redirector":
        return launcher.process.pid
    return next(record.pid for record in release.status(str(launcher.run_dir)) if record.role == role)


@pytest.mark.parametrize("role", ["redirector", "diverter"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
@pytest.mark.parametrize(("plan", "answer"), [(PLAN, "origin"), (SHUT, "refused")], ids=["open", "closed"])
def test_fail_mode_holds(network, launch, plan, answer, role, number):
    launcher = launch()
    assert isinstance(launcher.start(plan), Ready)
    assert network.ask() == DIVERTED
    os.kill(pid_of(launcher, role), number)
    if (role, number) == ("redirector", signal.SIGSTOP):
        time.sleep(SILENCE_LIMIT)
        assert network.ask() == DIVERTED, "who hangs has its launcher to end it"
        launcher.process.kill()
    assert wait_for(lambda: network.ask() == answer, HOLDS + BUSY), network.ask()
    assert launcher.process.wait(BUSY) == (-9 if role == "redirector" else 1)
    assert network.ask(uid=PROXY_UID) == "origin"
    assert programs(network) == (set() if plan is PLAN else {GUARD_PRIORITY})


def test_nothing_goes_direct_between_a_death_and_the_guard(network, launch):
    """Each attempt is refused, or waits; none reaches the origin."""
    launcher = launch()
    launcher.start(SHUT)
    os.kill(pid_of(launcher, "diverter"), signal.SIGKILL)
    until = time.monotonic() + 4
    while time.monotonic() < until:
        assert network.ask() in ("refused", "silence")


def test_what_was_diverted_does_not_go_on_to_the_origin(network, launch):
    launcher = launch()
    launcher.start(SHUT)
    with network.connect() as connection:
        os.kill(pid_of(launcher, "diverter"), signal.SIGKILL)
        assert launcher.process.wait(BUSY) == 1
        with pytest.raises(OSError):  # noqa: PT011  # aborted, or refused by the guard
            echo(connection)
            echo(connection)
    assert "ESTAB" not in network.origin.sh(f"ss -Htn 'sport = 443 and dst = {CLIENT4}' | grep {connection.fileno()} || true")


def test_a_guard_that_dies_is_replaced(network, launch):
    launcher = launch()
    launcher.start(SHUT)
    first = pid_of(launcher, "guard")
    os.kill(first, signal.SIGKILL)
    assert wait_for(lambda: any(record.role == "guard" and record.pid != first
                                for record in release.status(str(launcher.run_dir))), BUSY)
    os.kill(pid_of(launcher, "diverter"), signal.SIGKILL)
    launcher.process.wait(BUSY)
    assert network.ask() == "refused"


def test_the_next_start_takes_over_from_the_guard(network, launch):
    one = launch()
    one.start(SHUT)
    os.kill(one.process.pid, signal.SIGKILL)
    one.process.wait()
    assert wait_for(lambda: network.ask() == "refused", HOLDS + BUSY)
    two = launch()
    assert isinstance(two.start(SHUT), Ready)
    assert network.ask() == DIVERTED
    assert len([each for each in release.status(str(two.run_dir)) if each.role == "guard"]) == 1


def kill_all(launcher):
    for pid in [launcher.process.pid, *(record.pid for record in release.status(str(launcher.run_dir)))]:
        os.kill(pid, signal.SIGKILL)
    launcher.process.wait()


@pytest.mark.parametrize("cleaner", ["the next start", "release"])
def test_what_nobody_was_left_to_detach_lets_pass_and_is_detached_later(network, launch, cleaner):
    launcher = launch()
    launcher.start(SHUT)
    kill_all(launcher)
    assert wait_for(lambda: network.ask() == "origin", HOLDS + BUSY)
    assert programs(network) == {DIVERT_PRIORITY, GUARD_PRIORITY}
    if cleaner == "release":
        script = str(Path(release.__file__))
        network.client.call(subprocess.run, ["python3", script, str(launcher.run_dir)], check=True, capture_output=True)
    else:
        launcher = launch()
        launcher.start(PLAN)
        assert programs(network) == {DIVERT_PRIORITY}
        assert len(network.client.sh("tc filter show dev e0 egress | grep tc_divert").splitlines()) == 1
        launcher.send(Stop())
        launcher.process.wait(BUSY)
    assert programs(network) == set()


def test_those_of_another_that_lives_are_left_alone(network, launch):
    one, two = launch(), launch()
    one.start(replace(PLAN, scope=Scope(uid=APP_UID), exempt_uid=None), "one")
    two.start(replace(PLAN, scope=Scope(uid=APP_UID + 1), exempt_uid=None), "two")
    two.process.kill()
    two.process.wait()
    assert wait_for(lambda: len(release.status(str(one.run_dir))) == 2, BUSY)
    assert [network.ask(uid=uid) for uid in (APP_UID, APP_UID + 1)] == [DIVERTED, "origin"]


@pytest.mark.parametrize("plan", [PLAN, SHUT], ids=["open", "closed"])
def test_an_orderly_end_leaves_nothing(network, launch, plan):
    launcher = launch()
    launcher.start(plan)
    launcher.send(Stop())
    assert launcher.process.wait(BUSY) == 0
    assert (programs(network), network.ask(), list(Path(launcher.run_dir).iterdir())) == (set(), "origin", [])


def test_a_start_that_cannot_be_leaves_nothing(network, launch):
    """The guard was there first; it goes with the start."""
    answer = launch().start(replace(SHUT, loopback=True))
    assert isinstance(answer, Failed)
    assert "--capture divert does not offer loopback" in answer.reason
    assert wait_for(lambda: not programs(network), BUSY)
    assert network.ask() == "origin"
