"""What the service manager hears, on a real datagram socket."""

import os
import socket
import time

import pytest

from proxy.notify import MAX_MESSAGE, Notify


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A manager's socket, and its address as `$NOTIFY_SOCKET` has it."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@lockgate-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + address[1:] if address.startswith("@") else address)
        sock.settimeout(2)
        yield sock, address


def test_each_state_is_one_datagram(manager):
    sock, address = manager
    notify = Notify(address)
    notify.ready("inspecting")
    notify.status("restarting: the proxy ended")
    notify.stopping()
    assert [sock.recv(9000) for _ in range(3)] == [
        b"READY=1\nSTATUS=inspecting", b"STATUS=restarting: the proxy ended", b"STOPPING=1\nSTATUS=stopping"]


def test_reloading_tells_the_time_as_notify_reload_wants_it(manager):
    sock, address = manager
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notify(address).reloading()
    lines = dict(line.split("=", 1) for line in sock.recv(9000).decode().splitlines())
    assert lines["RELOADING"] == "1"
    assert before <= int(lines["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_text_adds_no_line_and_no_more_than_fits(manager):
    sock, address = manager
    Notify(address).status("a\nREADY=1\r" + "x" * 9000)
    said = sock.recv(9000)
    assert said.startswith(b"STATUS=a READY=1 xxx")
    assert len(said) == MAX_MESSAGE


def test_signs_of_life_come_as_often_as_asked_for(manager):
    sock, address = manager
    notify = Notify(address, watchdog=0.2)
    for _ in range(5):
        notify.alive()
    assert sock.recv(9000) == b"WATCHDOG=1"
    time.sleep(0.25)
    notify.alive()
    assert sock.recv(9000) == b"WATCHDOG=1"
    sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        sock.recv(9000)


@pytest.mark.parametrize(("environment", "watchdog"), [
    pytest.param({"WATCHDOG_USEC": "30000000"}, 15, id="half of its patience"),
    pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15, id="meant for us"),
    pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0, id="meant for another"),
    pytest.param({"WATCHDOG_USEC": "soon"}, 0, id="no number"),
    pytest.param({}, 0, id="no wish"),
])
def test_what_the_environment_says_is_taken_out_of_it(manager, environment, watchdog):
    sock, address = manager
    environment = environment | {"NOTIFY_SOCKET": address, "PATH": "/bin"}
    notify = Notify.take(environment)
    assert (notify.watchdog, environment) == (watchdog, {"PATH": "/bin"})
    notify.ready("on")
    assert sock.recv(9000).startswith(b"READY=1")


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234", "/no/such/socket", "/" + "x" * 200])
def test_without_a_manager_nothing_happens(address):
    notify = Notify.take({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    notify.ready("on")
    notify.alive()
    notify.stopping()


def test_a_manager_that_does_not_read_does_not_hold_us_up(manager):
    _, address = manager
    notify = Notify(address)
    began = time.monotonic()
    for _ in range(500):
        notify.status("x" * 1000)
    assert time.monotonic() - began < 5
