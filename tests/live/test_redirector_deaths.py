"""What holds when the proxy, the redirector or the guard dies or hangs: the chosen fail mode, within HOLDS seconds."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from redirector import release
from redirector.wire import HEARTBEAT_LIMIT, Failed, Heartbeat, Ready, Start, Stop, encode
from tests.redirector.namespaces import (
    CLOSED,
    DIVERTED,
    EVERYTHING,
    ORIGIN_LAN,
    PROXY_UID,
    Launcher,
    echo,
    launch,
    needs_root,
    network,
)
from tests.waiting import BUSY, HOLDS, wait_for

pytestmark = needs_root
__all__ = ["launch", "network"]


def kill(launcher: Launcher) -> None:
    os.kill(launcher.process.pid, signal.SIGKILL)


def terminate(launcher: Launcher) -> None:
    os.kill(launcher.process.pid, signal.SIGTERM)


def hang(launcher: Launcher) -> None:
    launcher.beating = False


def close(launcher: Launcher) -> None:
    launcher.socket.shutdown(socket.SHUT_RDWR)


def talk_nonsense(launcher: Launcher) -> None:
    launcher.socket.sendall(b'{"type":"install"}\n')


def start_again(launcher: Launcher) -> None:
    launcher.send(Start("t", str(launcher.run_dir), EVERYTHING))


@pytest.mark.parametrize(("death", "exit_code"), [
    pytest.param(kill, -9, id="redirector killed"),
    pytest.param(terminate, 0, id="redirector terminated"),
    pytest.param(hang, 3, id="proxy hung"),
    pytest.param(close, 3, id="proxy gone"),
    pytest.param(talk_nonsense, 2, id="nonsense"),
    pytest.param(start_again, 2, id="a second Start"),
])
@pytest.mark.parametrize(("plan", "tables", "answer"), [
    pytest.param(EVERYTHING, 0, "origin", id="open"),
    pytest.param(CLOSED, 1, "refused", id="closed"),
])
def test_fail_mode_holds(network, launch, plan, tables, answer, death, exit_code):
    launcher = launch()
    launcher.start(plan)
    death(launcher)
    assert launcher.process.wait(HOLDS + BUSY) == exit_code
    assert wait_for(lambda: network.ask() == answer, HOLDS)
    assert len(network.client.tables()) == tables
    assert network.ask(uid=PROXY_UID) == network.ask(ORIGIN_LAN) == "origin"


def test_a_hung_redirector_is_noticed_by_its_silence(network, launch):
    launcher = launch()
    launcher.start(CLOSED)
    launcher.socket.settimeout(HEARTBEAT_LIMIT)
    assert launcher.socket.recv(4096) == encode(Heartbeat())
    launcher.process.send_signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        launcher.receive()
    assert network.ask() == DIVERTED
    launcher.kill()
    assert network.ask() == "refused"


def test_stop_lifts_the_guard(network, launch, tmp_path):
    launcher = launch()
    launcher.start(CLOSED)
    launcher.send(Stop())
    assert launcher.process.wait(HOLDS + BUSY) == 0
    assert (network.client.tables(), network.ask(), list(tmp_path.iterdir())) == ([], "origin", [])


def test_a_killed_guard_is_replaced(network, launch, tmp_path):
    launch().start(CLOSED)
    for _ in range(3):
        guard, = guards(tmp_path)
        os.kill(guard.pid, signal.SIGKILL)
        assert wait_for(lambda guard=guard: [new for new in guards(tmp_path) if new != guard], 1.0)
        assert wait_for(lambda: len(network.client.tables()) == 2)
        assert network.ask() == DIVERTED


def guards(run_dir: Path) -> list[release.Record]:
    return [record for record in release.status(str(run_dir)) if record.role == "guard"]


def test_a_new_start_takes_over_from_the_old_guard_without_a_gap(network, launch, tmp_path):
    first, second = launch(), launch()
    first.start(CLOSED)
    first.kill()
    assert network.ask() == "refused"
    old, = guards(tmp_path)
    answers = set()
    asker = threading.Thread(target=lambda: [answers.add(network.ask()) for _ in range(40)])
    asker.start()
    assert isinstance(second.start(CLOSED), Ready)
    asker.join()
    assert answers == {"refused", DIVERTED}
    new, = guards(tmp_path)
    assert new != old
    assert sorted(network.client.tables()) == sorted(["lockgate_t", new.table])


def test_a_failed_start_leaves_the_old_guard(network, launch, tmp_path):
    first, second = launch(), launch()
    first.start(CLOSED)
    answer = second.start(CLOSED)
    assert isinstance(answer, Failed)
    assert "already there" in answer.reason
    assert second.process.wait(HOLDS + BUSY) == 1
    assert len(guards(tmp_path)) == 1
    assert network.ask() == DIVERTED


def test_a_foreign_flush_does_not_remove_our_tables(network, launch):
    launch().start(CLOSED)
    network.client.sh("nft flush ruleset")
    assert len(network.client.tables()) == 2
    assert network.ask() == DIVERTED


def test_diverted_connections_die_with_the_redirector_instead_of_going_direct(network, launch):
    launcher = launch()
    launcher.start(CLOSED)
    with network.connect(port=80) as diverted:
        assert echo(diverted) == b"ping"
        launcher.kill()
        before = network.heard()
        with pytest.raises(ConnectionError):
            assert not echo(diverted)
        assert network.heard() == before


@pytest.mark.parametrize("plan", [EVERYTHING, CLOSED], ids=["open", "closed"])
def test_a_client_that_waits_for_an_answer_is_told_of_the_end(network, launch, plan):
    launcher = launch()
    launcher.start(plan)
    with network.connect() as diverted:
        launcher.socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionError):
            diverted.recv(100)


def test_release_ends_everything_by_the_systems_python(network, launch, tmp_path):
    launcher = launch()
    launcher.start(CLOSED)
    command = [shutil.which("python3", path="/usr/bin") or sys.executable, release.__file__, str(tmp_path)]
    done = network.client.call(subprocess.run, command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("ended "), done.stderr) == (0, 2, "")
    assert (network.client.tables(), network.ask()) == ([], "origin")


def test_release_names_who_holds_what_it_cannot_find(network, launch, tmp_path):
    launch().start(EVERYTHING)
    command = [sys.executable, release.__file__, str(tmp_path / "elsewhere")]
    done = network.client.call(subprocess.run, command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "lockgate_t" in done.stdout
    assert "-m redirector" in done.stdout
