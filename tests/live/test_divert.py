"""`divert` on real packets: what the contract suite does not ask of the others.  Needs neither nft nor the proxy."""
import contextlib
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from redirector.divert import Divert
from redirector.existing import existing
from redirector.plan import BackendError, Scope
from redirector.wire import Start, encode
from tests.live.diverting import DIVERTED, OWN, PLAN, PORT, needs_divert, network, programs
from tests.redirector.namespaces import APP_UID, CLIENT4, ORIGIN4, ORIGIN6, PROXY_UID, echo, sh
from tests.waiting import wait_for

pytestmark = needs_divert
__all__ = ["network"]
#: With the guard of Windows: it acts on the whole computer, so on few ports, and briefly.
FEW = (64990, 64999)
GUARDED = replace(PLAN, exempt_ports=FEW, exempt_pid=os.getpid())


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
