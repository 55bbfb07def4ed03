"""`lockgate run` without root: connect() is redirected, whatever the program knows of proxies.

As in test_run.py, but nothing here has rights: the namespaces are only there to have an origin.
"""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.live.lab import Lab, missing, running
from tests.live.test_deaths import RECOVERS
from tests.live.test_explicit import USER, user
from tests.live.test_run import NODE, URLLIB, make_repository
from tests.waiting import wait_for

pytestmark = pytest.mark.live
__all__ = ["user"]  # a fixture

GO = r"""package main
import ("crypto/tls"; "fmt"; "net/http"; "crypto/x509"; "os"; "io")
func main() {
  pem, _ := os.ReadFile(os.Getenv("SSL_CERT_FILE"))
  pool := x509.NewCertPool(); pool.AppendCertsFromPEM(pem)
  client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
  answer, err := client.Get("https://origin.test/go/")
  if err != nil { fmt.Println(err); os.Exit(1) }
  body, _ := io.ReadAll(answer.Body); fmt.Print(string(body))
}
"""
JAVA = r"""
public class Plain { public static void main(String[] words) throws Exception {
  var url = new java.net.URL("http://origin.test/java/");
  System.out.print(new String(url.openStream().readAllBytes())); } }
"""
HELLO = "hello from the origin"
#: program -> command and what it prints; each asks for a path of its own.
PROGRAMS = {
    "curl": ("curl -sS --noproxy '*' --http2 https://origin.test/version", "HTTP/2.0"),
    "curl over IPv6": ("curl -sS https://six.test/version", "HTTP/2.0"),
    "curl without TLS": ("curl -sS http://origin.test/version", "HTTP/1.1"),
    "wget": ("wget --no-proxy -qO- http://origin.test/version", "HTTP/1.1"),
    "python": (f'/usr/bin/python3 -c "{URLLIB}"', HELLO),
    "git": ("git clone -q https://git.test/repo.git cloned && git -C cloned log --format=%s", "first"),
    "node": (f'node -e "{NODE}"', HELLO),
    "go": ("./program", HELLO),
    "java": ("java Plain.java", HELLO),
    "a chain": ("sh -c 'sh -c \"setsid sh -c \\\"exec curl -sS https://origin.test/version\\\"\"'", "HTTP/2.0"),
}


@pytest.fixture(scope="module")
def ran(lab: Lab, user):
    """One run that starts them all; the output of each, and the events."""
    home = user[2]
    for name in ("python", "node", "go", "java"):
        (lab.folder / "www" / name).mkdir()
        (lab.folder / "www" / name / "index.html").write_text(HELLO)
    make_repository(lab)
    build(home)
    lines = [f"cd {home}"]
    for number, (command, _) in enumerate(PROGRAMS.values()):
        lines.append(f"({command}) > {number} 2> {number}.err")
    (home / "script").write_text("\n".join(lines))
    shutil.chown(home / "script", USER, USER)
    done = hooked(lab, user, "sh", home / "script", limit=90)
    assert (home / "0").exists(), done.stderr
    outputs = {
        name: (home / str(n)).read_text() + (home / f"{n}.err").read_text() for n, name in enumerate(PROGRAMS)
    }
    return outputs, lab.events(home / "state"), done.stderr


def build(home: Path) -> None:
    (home / "Plain.java").write_text(JAVA)
    (home / "program.go").write_text(GO)
    if shutil.which("go"):
        settings = {"CGO_ENABLED": "0", "GOCACHE": str(home / "go"), "HOME": str(home), "PATH": "/usr/bin:/bin"}
        subprocess.run(["go", "build", "-o", "program", "program.go"], cwd=home, env=settings, check=True)


def words(lab: Lab, user, *command: object, more: tuple[object, ...] = ()) -> list[str]:
    python, _, home = user
    return lab.lockgate(
        "run", "--state", home / "state", "--policy", lab.policy(), *more, "--", *command, python=python
    )


def hooked(lab: Lab, user, *command: object, more: tuple[object, ...] = (), **options) -> subprocess.CompletedProcess:
    """`lockgate run` of a command, as an ordinary user."""
    return lab.call(*words(lab, user, *command, more=more), user=USER, env=user[1], **options)


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_are_captured(ran, program):
    needed = {"python": "python3", "a chain": "curl"}.get(program, program.split()[0])
    if absent := missing(needed):
        pytest.skip(f"not installed: {absent}")
    assert PROGRAMS[program][1] in ran[0][program]


@pytest.mark.parametrize(
    ("program", "url", "exe"),
    [
        pytest.param("curl", "/version", "curl", id="curl"),
        pytest.param("python3", "/python", "python3", id="python"),
        pytest.param("git", "/repo.git/info/refs", "git-remote-http", id="git"),
        pytest.param("node", "/node", "node", id="node"),
        pytest.param("go", "/go", "program", id="a static program"),
        pytest.param("java", "/java", "java", id="java"),
    ],
)
def test_each_request_is_an_event_with_its_process(ran, program, url, exe):
    if absent := missing(program):
        pytest.skip(f"not installed: {absent}")
    events = [event for event in ran[1] if event.get("http", {}).get("url", "").startswith(url)]
    event = next(event for event in events if exe in event["process"]["exe"])
    assert (event["process"]["uid"], event["lockgate"]["verdict"]) == (USER, "pass")


def test_what_is_chosen_is_said(ran):
    assert "capture by hook" in ran[2]


def test_the_choice_can_be_made(lab, user):
    done = hooked(lab, user, "sh", "-c", "env | grep -ic ^https_proxy", more=("--capture", "explicit"))
    assert (done.stdout, done.stderr) == ("2\n", ""), done.stderr
    done = hooked(lab, user, "sh", "-c", "env | grep -i _proxy", more=("--capture", "hook"))
    assert (done.stdout, done.stderr) == ("", "")
    done = hooked(lab, user, "true", more=("--capture", "nftables"))
    assert (done.returncode, "needs root" in done.stderr) == (2, True)


def test_within_another_variables_do(lab, user):
    """One process can have one such filter: the outer one catches it all the same."""
    python, _, home = user
    inner = lab.lockgate("run", "--state", home / "inner", "--policy", lab.policy(), "--", "true", python=python)
    done = hooked(lab, user, *inner)
    assert done.returncode == 0, done.stderr
    assert "capture by proxy variables alone: this process is under a filter of that kind already" in done.stderr


def test_blocked_is_blocked_whatever_the_program(lab, user):
    done = hooked(lab, user, "sh", "-c", "curl -sko /dev/null -w '%{http_code} ' https://{origin,blocked,bank}.test/; exit 3")
    assert (done.returncode, done.stdout) == (3, "200 403 200 "), done.stderr


def test_as_root_it_runs_as_who_called(lab, state):
    sudo = lab.environment | {"SUDO_USER": "nobody", "SUDO_UID": "65534", "SUDO_GID": "65534"}
    command = ("sh", "-c", "id -un; curl -sS https://origin.test/version")
    done = lab.call(*lab.lockgate("run", "--capture", "hook", "--state", state, "--policy", lab.policy(), "--run-dir",
                                  lab.folder / "run", "--", *command), env=sudo)
    assert done.stdout == "nobody\nHTTP/2.0", done.stderr
    assert lab.events(state, "--host", "origin.test")[0]["process"]["user"] == "nobody"


def test_a_process_that_nobody_may_look_into_cannot_connect(lab, user):
    """PR_SET_DUMPABLE (prctl(2)): we cannot see where it wants to go."""
    code = "import ctypes, socket; ctypes.CDLL(None).prctl(4, 0); print(socket.socket().connect_ex(('127.0.0.1', 1)))"
    done = hooked(lab, user, "/usr/bin/python3", "-c", code)
    assert done.stdout == f"{errno.EACCES}\n", done.stderr


def test_setuid_programs_have_no_more_rights(lab, user):
    done = hooked(lab, user, "sh", "-c", "grep NoNewPrivs /proc/self/status; su -c id root </dev/null")
    assert "NoNewPrivs:\t1" in done.stdout
    assert "uid=0" not in done.stdout


@pytest.mark.parametrize("sandbox", [pytest.param((), id="with its sandbox"), pytest.param(("--no-sandbox",), id="without")])
def test_a_browser(lab, user, sandbox):
    """Its sandbox has filters and user namespaces of its own. Trust needs `ca install` here, or root."""
    if absent := missing("chromium"):
        pytest.skip(f"not installed: {absent}")
    options = ("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--ignore-certificate-errors")
    done = hooked(lab, user, "chromium", *sandbox, *options, "--dump-dom", "https://blocked.test/", limit=60)
    if not sandbox and "No usable sandbox" in done.stderr:
        pytest.skip("no user namespaces for ordinary users here")
    assert "no-go" in done.stdout, done.stderr


def test_nothing_gets_past_while_processes_die_and_all_goes_on_after(lab, user):
    """Rounds of deaths under load: a connection waits, fails, or ends at the proxy; none gets to the origin."""
    before = lab.packets("blocked")
    script = "echo $PPID; while :; do curl -sk -m 5 -o /dev/null -w '%{http_code}\\n' https://blocked.test/; done"
    with run(lab, user, "sh", "-c", script) as process:
        launcher = int(process.stdout.readline())
        for number in range(int(os.environ.get("ROUNDS", "4"))):
            assert next(line for line in process.stdout if line in ("403\n", "200\n")) == "403\n"
            module, death = ("proxy.worker", "redirector")[number % 2], (signal.SIGKILL, signal.SIGSTOP)[number // 2 % 2]
            os.kill(pid := child(launcher, module), death)
            assert wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists(), RECOVERS)
        assert next(line for line in process.stdout if line in ("403\n", "200\n")) == "403\n"
        os.kill(launcher, signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert lab.packets("blocked") == before


def test_without_the_launcher_there_is_no_connection(lab, user):
    before = lab.packets("blocked")
    script = "echo $PPID; read x; curl -sk -m 5 -o /dev/null https://blocked.test/; echo $?"
    with run(lab, user, "sh", "-c", script) as process:
        os.kill(int(process.stdout.readline()), signal.SIGKILL)
        assert wait_for(lambda: process.poll() is not None, 10)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.read() == "7\n"       # curl could not connect
    assert lab.packets("blocked") == before


def test_what_it_leaves_running_ends_with_it(lab, user):
    before = set(user[2].iterdir())
    done = hooked(lab, user, "sh", "-c", "setsid sleep 4711 & exec true")
    assert done.returncode == 0
    assert not [each for each in Path("/proc").glob("[0-9]*/cmdline") if b"sleep\x004711" in content(each)]
    assert set(user[2].iterdir()) == before


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def child(launcher: int, module: str) -> int:
    """The launcher's process that runs this module, or 0 while there is none."""
    for folder in Path("/proc").glob("[0-9]*"):
        if module.encode() in content(folder / "cmdline").split(b"\0") and f"PPid:\t{launcher}\n".encode() in content(folder / "status"):
            return int(folder.name)
    return 0


def run(lab: Lab, user, *command: object):
    started = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *words(lab, user, *command))
    return running(lab.inside(*started), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                   text=True, env=user[1])


def test_a_stranger_gets_no_relay(lab, user):
    """Nobody knows where a connection wanted to go that was not captured."""
    def ports():
        return re.findall(r"'127\.0\.0\.1', (\d+)\]", json.dumps(lab.events(user[2] / "state")))

    earlier = len(ports()) if (user[2] / "state/events.db").exists() else 0
    with run(lab, user, "sh", "-c", "echo ready; read x") as process:
        assert process.stdout.readline() == "ready\n"
        port = wait_for(lambda: ports()[earlier:], 10)[-1]
        done = lab.call("curl", "-sS", "-m", "5", f"http://127.0.0.1:{port}/", "-H", "Host: origin.test")
        assert (done.returncode in (52, 56), done.stdout) == (True, ""), done.stderr
        process.stdin.close()
        assert process.wait(20) == 1
