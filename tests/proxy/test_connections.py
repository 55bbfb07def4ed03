"""`lockgate connections`: what it makes of its arguments; traffic is in tests/live/test_connections.py."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy import cli
from proxy.history import History, folder_of
from proxy.rows import Row


def lockgate(*words, **more):
    return subprocess.run([sys.executable, "-m", "proxy.cli", "connections", *map(str, words)], capture_output=True,
                          text=True, timeout=60, check=False, **more)


@pytest.mark.parametrize(("words", "complaint"), [
    (["--watch", "--history"], "--watch"),
    (["--watch", "--limit", "3"], "--watch"),
    (["--since", "1h"], "--since is for --history"),
    (["--history", "--listening"], "--listening"),
    (["--history", "--since", "yesterday"], "is no time"),
    (["--history"], "no history here"),
    (["--port", "0"], "not a port"),
    (["--port", "http"], "not a port"),
    (["--sort", "colour"], "invalid choice"),
    (["--verdict", "fine"], "invalid choice"),
    (["--limit", "0"], "not a number"),
])
def test_a_mistake_is_said(tmp_path, words, complaint):
    done = lockgate("--state", tmp_path / "state", *words)
    assert (done.returncode, complaint in done.stderr, "Traceback" in done.stderr) == (2, True, False)


@pytest.fixture
def pair():
    with (socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client,
          server.accept()[0]):
        client.sendall(b"x" * 42)
        yield client


def test_what_there_is(tmp_path, pair):
    port = pair.getsockname()[1]
    done = lockgate("--state", tmp_path, "--port", port, "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(each["local_port"] == port, each["pid"], each["captured"]) for each in found} == {
        (True, os.getpid(), False), (False, os.getpid(), False)}
    assert next(each["sent"] for each in found if each["local_port"] == port) == 42
    text = lockgate("--state", tmp_path, "--port", port, "--limit", 1, "--sort", "sent").stdout.splitlines()
    assert [line.split()[0] for line in text] == ["APP", Path(sys.executable).resolve().name]


def test_nothing_there_is_no_failure(tmp_path):
    done = lockgate("--state", tmp_path, "--app", "no such program", "--json")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_without_root_it_says_what_is_missing(tmp_path):
    code = "import os, sys\nfrom proxy import cli, connections\nos.setresuid(65534, 65534, 65534)\nsys.exit(cli.main(['connections', '--state', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "without root" in done.stderr
    assert done.stdout.startswith("APP")


def test_the_history_is_shown_and_sorted(tmp_path, capsys):
    database, now = History(folder_of(tmp_path / "state"), 10, 30), time.time()
    database.write([Row("tcp", ("192.0.2.1", n), ("192.0.2.9", 443), "CLOSED", n, now - 100 + n, True, now, sent=n % 3,
                        exe=f"/bin/app{n}") for n in range(1, 6)])
    database.close()

    def shown(*words):
        assert cli.main(["connections", "--state", str(tmp_path / "state"), "--history", *words]) == 0
        return capsys.readouterr().out.splitlines()

    assert [json.loads(line)["exe"] for line in shown("--json", "--limit", "2")] == ["/bin/app5", "/bin/app4"]
    assert [line.split()[2] for line in shown("--sort", "sent")[1:]] == ["app2", "app5", "app1", "app4", "app3"]
    assert [line.split()[2] for line in shown("--app", "app3")[1:]] == ["app3"]
    assert shown("--since", "1m", "--json")
    assert shown("--port", "9") == shown("--app", "none")


def test_a_reader_that_leaves_is_no_failure(tmp_path, pair):
    with subprocess.Popen([sys.executable, "-m", "proxy.cli", "connections", "--state", tmp_path, "--watch", "--json"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        assert json.loads(watch.stdout.readline())["event"] == "new"
        watch.stdout.close()
        with socket.create_server(("127.0.0.1", 0)) as server:
            until = time.monotonic() + 20
            while watch.poll() is None and time.monotonic() < until:
                socket.create_connection(server.getsockname()).close()
                time.sleep(0.2)
        assert watch.wait(5) == 0
        assert watch.stderr.read() == "" if os.geteuid() == 0 else True
