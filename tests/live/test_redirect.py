"""`lockgate redirect`: every request to port 80 is answered by a local page, while the page's server asks who it likes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from redirector import exempt, release
from redirector.cgroups import mount
from tests.live.lab import ORIGIN, running
from tests.waiting import wait_for

pytestmark = pytest.mark.live

PORT = 55555
#: A page for everything; below /ask what the origin says, asked for by the server or by a child of it.
SERVER = """
import http.server, socket, subprocess, sys, threading, urllib.request
ASK = "import urllib.request; print(urllib.request.urlopen('http://origin.test/', timeout=5).read().decode())"
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = "the local page"
        if "ask" in self.path:
            said = urllib.request.urlopen("http://origin.test/", timeout=5).read().decode()
        if "child" in self.path:
            said = subprocess.check_output([sys.executable, "-c", ASK], text=True).strip()
        body = f"{said} for {self.headers['host']}\\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    request_queue_size = 100
Server((sys.argv[1], int(sys.argv[2])), Page).serve_forever()
"""


def serving(lab, host="127.0.0.1", port=PORT, **more):
    return running(lab.inside(sys.executable, "-c", SERVER, host, port), **more)


class Redirect:
    def __init__(self, lab, process):
        self.lab, self.process = lab, process

    def message(self, kind):
        while line := self.process.stdout.readline():
            if (message := json.loads(line))["type"] == kind:
                return message
        raise AssertionError(f"ended with {self.process.wait()}: {self.process.stderr.read()}")


@contextlib.contextmanager
def redirect(lab, *words, to=f"127.0.0.1:{PORT}"):
    """A running `lockgate redirect --ports 80`; nothing may be left of it."""
    command = lab.lockgate("redirect", "--json", "--ports", "80", "--to", to, "--run-dir", lab.folder / "run", *words)
    with subprocess.Popen(lab.inside(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=lab.environment) as process:
        try:
            yield Redirect(lab, process)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()
    assert wait_for(lambda: not lab.tables(), 3)
    assert groups(lab) == []
    release.release(str(lab.folder / "run"))


def groups(lab):
    """Those of redirectors in the lab."""
    netns = Path(f"/run/netns/{lab.client}").stat().st_ino
    return [path for path, _, _ in os.walk(mount()) if release.EXEMPT in path and path.endswith(f"_{netns}")]


def page(lab, url="http://origin.test/", **more):
    done = lab.curl(url, **more)
    return done.stdout.strip() if done.returncode == 0 else {7: "refused", 56: "refused", 52: "refused"}.get(
        done.returncode, done.stderr)


FROM_THE_ORIGIN = "<title>origin</title>hello from the origin"


def test_every_request_to_port_80_gets_the_local_page(lab):
    assert page(lab) == FROM_THE_ORIGIN
    with serving(lab) as server, redirect(lab) as redirected:
        ready = redirected.message("ready")
        assert ready["pid"] == server.pid
        for name in ("origin.test", "blocked.test", "198.51.100.77"):
            assert page(lab, f"http://{name}/") == f"the local page for {name}"
        assert page(lab, "http://origin.test/ask") == f"{FROM_THE_ORIGIN} for origin.test"
        assert page(lab, "http://origin.test/child") == f"{FROM_THE_ORIGIN} for origin.test"
        assert lab.status("https://origin.test/") == "200"          # another port
        redirected.process.send_signal(signal.SIGTERM)
        assert redirected.message("stopped")["redirected"] == 5
        assert redirected.process.wait(10) == 0
        assert page(lab) == FROM_THE_ORIGIN
    assert server.returncode is not None


def test_the_example_knows_where_its_clients_wanted_to_go(lab):
    example = Path(__file__).parents[2] / "examples/local_page.py"
    with running(lab.inside(sys.executable, example, PORT), stderr=subprocess.DEVNULL), redirect(lab) as redirected:
        redirected.message("ready")
        assert page(lab) == f"You wanted origin.test, at {ORIGIN} port 80. This is another page."


def test_the_server_s_group_is_its_own_again(lab):
    with serving(lab) as server:
        group = Path(f"/proc/{server.pid}/cgroup")
        before = group.read_text()
        with redirect(lab) as redirected:
            redirected.message("ready")
            apart = group.read_text()
            assert apart.startswith(before.rstrip("/\n") + f"/{release.EXEMPT}redirect_{PORT}_")
            assert exempt.sweep(f"redirect_{PORT}") == [], "another network namespace, the same instance"
            assert group.read_text() == apart
        assert group.read_text() == before


@pytest.mark.parametrize(("fail", "meanwhile"), [("open", FROM_THE_ORIGIN), ("closed", "refused")])
def test_a_server_that_starts_later_stops_and_starts_again(lab, fail, meanwhile):
    with redirect(lab, "--fail", fail) as redirected:
        assert redirected.message("waiting")
        assert page(lab) == FROM_THE_ORIGIN
        for _ in range(2):
            with serving(lab) as server:
                assert redirected.message("ready")["pid"] == server.pid
                assert page(lab) == "the local page for origin.test"
                assert page(lab, "http://origin.test/ask").startswith(FROM_THE_ORIGIN)
            redirected.message("waiting")
            assert page(lab) == meanwhile


@pytest.mark.parametrize(("fail", "meanwhile"), [("open", FROM_THE_ORIGIN), ("closed", "refused")])
def test_the_command_killed(lab, fail, meanwhile):
    """The redirector outlives it, and tidies up; the guard stays, as it does for a proxy that was killed."""
    with serving(lab) as server:
        before = Path(f"/proc/{server.pid}/cgroup").read_text()
        with pytest.raises(AssertionError), redirect(lab, "--fail", fail) as redirected:        # it does not end in order
            redirected.message("ready")
            redirected.process.kill()
            assert wait_for(lambda: Path(f"/proc/{server.pid}/cgroup").read_text() == before, 3)
            assert groups(lab) == []
            assert page(lab) == meanwhile
            release.release(str(lab.folder / "run"))
            assert page(lab) == FROM_THE_ORIGIN
            raise AssertionError


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_the_redirector_killed(lab, fail):
    """The command finds it gone, and starts another."""
    with serving(lab), redirect(lab, "--fail", fail) as redirected:
        redirected.message("ready")
        record = next(each for each in release.status(str(lab.folder / "run")) if each.role == "redirector")
        os.kill(record.pid, signal.SIGKILL)
        assert redirected.message("ready")
        assert page(lab) == "the local page for origin.test"
        assert page(lab, "http://origin.test/ask") == f"{FROM_THE_ORIGIN} for origin.test"


@pytest.mark.parametrize(("host", "fail", "six", "families"), [
    ("127.0.0.1", "open", FROM_THE_ORIGIN, [4]), ("127.0.0.1", "closed", "refused", [4]),
    ("::", "open", "the local page for six.test", [4, 6]),
])
def test_ipv6_only_where_the_server_has_it(lab, host, fail, six, families):
    with serving(lab, host), redirect(lab, "--fail", fail) as redirected:
        assert redirected.message("ready")["families"] == families
        assert page(lab, "http://six.test/") == six
        assert page(lab) == "the local page for origin.test"


def test_a_server_at_another_address_of_the_computer_s(lab):
    with serving(lab, "198.51.100.1"), redirect(lab, to=f"198.51.100.1:{PORT}") as redirected:
        redirected.message("ready")
        assert page(lab) == "the local page for origin.test"
        assert page(lab, "http://origin.test/ask") == f"{FROM_THE_ORIGIN} for origin.test"


def test_one_user_s_connections_alone(lab):
    with serving(lab), redirect(lab, "--only-user", "61998") as redirected:
        redirected.message("ready")
        assert page(lab, user=61998) == "the local page for origin.test"
        assert page(lab) == FROM_THE_ORIGIN


@pytest.mark.parametrize(("words", "message"), [
    (("--ports", "80", "--to", "198.51.100.2:80"), "no address of this computer"),
    (("--ports", "80", "--to", "127.0.0.1:80"), "itself captured"),
    (("--ports", "80;81", "--to", "127.0.0.1:8080"), "write ports as"),
    (("--ports", "0", "--to", "127.0.0.1:8080"), "write ports as"),
    (("--ports", "80", "--to", "localhost"), "write it as"),
    (("--ports", "80", "--to", "example.org:8080"), "does not appear to be"),
    (("--ports", "80", "--to", "127.0.0.1:8080", "--only-user", "nosuch"), "no user"),
])
def test_what_cannot_be(lab, words, message):
    done = lab.call(*lab.lockgate("redirect", "--run-dir", lab.folder / "run", *words))
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def test_what_it_says_to_people(lab):
    words = lab.lockgate("redirect", "--ports", "80", "--to", f"127.0.0.1:{PORT}", "--run-dir", lab.folder / "run")
    with serving(lab) as server, subprocess.Popen(lab.inside(*words), stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(2)]
        if "waiting" in lines[0]:       # it was quicker than the server
            lines = [lines[1], process.stdout.readline()]
        assert f"(pid {server.pid})" in lines[0]
        assert "IPv6 is not led there" in lines[1]
        page(lab)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().endswith("stopped: 1 connections redirected\n")
