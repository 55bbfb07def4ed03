"""The explicit proxy, as root and not, and the proxy as a user of its own, wherever the code lies."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.lab import running
from tests.live.test_deaths import RECOVERS, alive
from tests.waiting import wait_for

pytestmark = pytest.mark.live
PROJECT = Path(__file__).parents[2]
#: Nobody's uids: an application, and who runs lockgate without being root.
APP, USER = 61998, 61997
PROXY = ("-x", "http://127.0.0.1:8080")
EXPLICIT = ("--capture", "explicit", "--listen", "127.0.0.1:8080")


def test_root_knows_whose_connection_it_is(lab, state):
    with lab.start(*EXPLICIT, state=state, policy=lab.policy()) as started:
        assert set(started.ready) >= {"type", "listen", "ca"}
        assert started.ready["listen"] == [["127.0.0.1", 8080]]
        assert b"BEGIN CERTIFICATE" in Path(started.ready["ca"]).read_bytes()
        assert lab.status("https://origin.test/", *PROXY, user=APP) == "200"
        (event,) = lab.events(state, "--host", "origin.test")
        assert event["process"]["exe"].endswith("/curl")
        assert event["process"]["uid"] == APP
        assert lab.status("https://blocked.test/", *PROXY) == "403"
        assert lab.tables() == []
        started.stop()
        assert started.process.stdout.read() == ""


@pytest.mark.parametrize("module", ["proxy.worker", "redirector"])
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSTOP])
def test_what_dies_or_hangs_is_replaced_at_the_same_port(lab, state, module, death):
    with lab.start(*EXPLICIT, state=state, policy=lab.policy()) as started:
        pid = started.child(module)
        os.kill(pid, death)
        assert wait_for(lambda: not alive(pid), RECOVERS)
        assert started.message("restarted")["listen"] == [["127.0.0.1", 8080]]
        assert lab.status("https://blocked.test/", *PROXY) == "403"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("--listen", "127.0.0.1:8081"), "Address already in use", id="port in use"),
        pytest.param(("--policy", "{folder}/bad.yaml"), "version", id="bad policy"),
        pytest.param(("--state", "/proc/lockgate"), "/proc/lockgate", id="unwritable state"),
        pytest.param(("--state", "{folder}"), "files of others", id="a folder of someone else's"),
        pytest.param(("--user", "root"), "must not run as root", id="the proxy as root"),
        pytest.param(("--user", "nosuch"), "useradd", id="the proxy as nobody there is"),
        pytest.param(("--only-user", "root"), "--capture nftables", id="a scope for those who choose"),
    ],
)
def test_what_stands_in_the_way_is_said(lab, state, words, said):
    lab.policy("bad.yaml", "version: 2\n")
    words = [word.format(folder=lab.folder) for word in words]
    with running(
        lab.inside(
            "python3",
            "-c",
            "import socket,sys; s=socket.create_server(('127.0.0.1',8081)); print(1,flush=True);sys.stdin.read()",
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        other.stdout.readline()
        done = lab.call(
            *lab.lockgate("start", "--capture", "explicit", "--run-dir", lab.folder / "run", "--state", state, *words)
        )
        other.communicate()
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)
    assert said in done.stderr


def test_the_state_folder_follows_the_proxys_user(lab, state):
    state.mkdir()
    (state / "ca").mkdir(mode=0o700)
    for user in ("nobody", "daemon"):
        with lab.start(*EXPLICIT, "--user", user, state=state, policy=lab.policy()) as started:
            uid = Path(f"/proc/{started.child('proxy.worker')}").stat().st_uid
            assert uid == Path(state, "ca/ca-key.pem").stat().st_uid == Path(state).stat().st_uid
            other = lab.call(
                *lab.lockgate("run", "--user", "bin", "--state", state, "--run-dir", lab.folder / "run", "--", "true")
            )
            assert (other.returncode, "in use" in other.stderr) == (2, True)
    assert stat.S_IMODE((state / "ca/ca-key.pem").stat().st_mode) == 0o600


def test_a_link_in_the_state_folder_leads_root_nowhere(lab, state, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("root's")
    state.mkdir()
    (state / "ca").mkdir(mode=0o700)
    (state / "link").symlink_to(precious)
    os.link(precious, state / "hard")
    with lab.start(*EXPLICIT, state=state):
        assert precious.stat().st_uid == 0


@pytest.fixture
def closed_home(tmp_path):
    """A clone and an environment that only root can enter, as below /root."""
    home = tmp_path / "closed"
    home.mkdir(mode=0o700)
    for name in ("addons", "certs", "proxy", "redirector", "lockgate.py"):
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, home / name)
    return home, environment(home, home, Path(sys.executable))


def environment(folder: Path, project: Path, python: Path) -> Path:
    """A virtual environment of this Python with our packages and this clone; returns its interpreter."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    packages = next((folder / "venv/lib").glob("python3*")) / "site-packages"
    (packages / "ours.pth").write_text("\n".join([str(project), *(path for path in sys.path if "site-packages" in path)]))
    return folder / "venv/bin/python"


def test_code_below_a_home_that_is_closed_to_others(lab, state, closed_home):
    home, python = closed_home
    policy = home / "policy.yaml"
    policy.write_text(lab.policy().read_text() + "  - {id: mine, use: ./mine.py:Mine}\n")
    (home / "mine.py").write_text(
        "class Mine:\n    def requestheaders(self, flow):\n        if 'no' in flow.request.path: raise ValueError\n"
    )
    command = lab.lockgate(
        "run",
        "--state",
        home / "state",
        "--policy",
        policy,
        "--run-dir",
        lab.folder / "run",
        "--",
        "sh",
        "-c",
        "curl -sko /dev/null -w '%{http_code}' https://origin.test/{yes,no}",
        python=str(python),
    )
    done = lab.call(*command)
    assert done.stdout == "404403", done.stderr
    assert Path(home, "state").stat().st_uid != 0


@pytest.fixture(scope="module")
def user(lab):
    """Who is not root: the interpreter, the environment variables, and a home."""
    home = lab.folder / "user"
    home.mkdir()
    os.chown(home, USER, USER)
    interpreter = environment(lab.folder, PROJECT, readable_python())
    return str(interpreter), lab.environment | {"HOME": str(home), "TMPDIR": str(home)}, home


def test_without_root_variables_lead_to_the_proxy(lab, user):
    python, variables, home = user
    ask = "curl -sS -o /dev/null -w '%{http_code} ' https://{origin,blocked}.test/; exit 3"
    words = ("run", "--capture", "explicit", "--state", home / "run", "--policy", lab.policy(), "--", "sh", "-c", ask)
    done = lab.call(*lab.lockgate(*words, python=python), user=USER, env=variables)
    assert (done.returncode, done.stdout) == (3, "200 403 "), done.stderr
    event = lab.events(home / "run", "--host", "blocked.test")[0]
    assert event["process"]["exe"].endswith("/curl")


def test_without_root_the_explicit_proxy_starts_says_one_line_and_ends(lab, user):
    python, variables, home = user
    words = ("start", "--json", *EXPLICIT, "--state", home / "start", "--policy", lab.policy())
    command = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *lab.lockgate(*words, python=python))
    with running(lab.inside(*command), stdout=subprocess.PIPE, text=True, env=variables) as process:
        ready = json.loads(process.stdout.readline())
        assert (ready["type"], ready["listen"]) == ("ready", [["127.0.0.1", 8080]])
        assert "BEGIN CERTIFICATE" in Path(ready["ca"]).read_text()
        assert lab.status("https://blocked.test/", *PROXY) == "403"
        process.terminate()
        assert (process.wait(10), process.stdout.read()) == (0, "")


def test_without_root_nothing_else_can_be_captured(lab, user):
    python, variables, _ = user
    for words in (("start", "--capture", "nftables"), ("start", "--user", "nobody"), ("release",)):
        done = lab.call(*lab.lockgate(*words, python=python), user=USER, env=variables)
        assert (done.returncode, "root" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def readable_python() -> Path:
    """A Python of our version that any user may run; ours may lie in root's home."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, f"/opt/{name}/bin/{name}", f"/usr/local/bin/{name}", f"/usr/bin/{name}"):
        done = subprocess.run(
            ["setpriv", f"--reuid={USER}", "--clear-groups", path, "-c", ""], check=False, capture_output=True
        )
        if done.returncode == 0:
            return Path(path)
    pytest.skip(f"no {name} here that an ordinary user may run")


def test_a_hostile_folder_is_not_imported_by_root(lab, state, tmp_path):
    for name in ("json", "proxy", "redirector", "socket"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    done = lab.call(*lab.lockgate("run", "--state", state, "--run-dir", lab.folder / "run", "--", "true"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
