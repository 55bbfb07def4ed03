"""`lockgate run -- CMD` as root: programs that know nothing of it are captured, each in its own way of trusting."""

import os
import pty
import shutil
import signal
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from redirector import release
from redirector.cgroups import mount
from tests.live.lab import Lab, missing, running
from tests.waiting import HOLDS, wait_for

pytestmark = pytest.mark.live

URLLIB = "import urllib.request as r; print(r.urlopen('https://origin.test/python/').read())"
NODE = """
const https = require('https')
https.get('https://origin.test/node/', answer => answer.on('data', piece => process.stdout.write(piece)))
"""
#: program -> command and what it prints; each asks for a path of its own.
PROGRAMS = {
    "curl": ("curl -sS --http2 https://origin.test/version", "HTTP/2.0"),
    "curl with HTTP/1.1": ("curl -sS --http1.1 https://origin.test/version", "HTTP/1.1"),
    "curl over IPv6": ("curl -sS https://six.test/version", "HTTP/2.0"),
    "curl without TLS": ("curl -sS http://origin.test/version", "HTTP/1.1"),
    "python": (f'/usr/bin/python3 -c "{URLLIB}"', "hello from the origin"),
    "git": ("git clone -q https://git.test/repo.git cloned && git -C cloned log --format=%s", "first"),
    "node": (f'node -e "{NODE}"', "hello from the origin"),
    "chromium": (
        "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --dump-dom "
        "https://origin.test/chromium/",
        "hello from the origin",
    ),
}


@pytest.fixture(scope="module")
def ran(lab: Lab, tmp_path_factory):
    """One run that starts them all; the output of each, and the events."""
    for name in ("python", "node", "chromium"):
        (lab.folder / "www" / name).mkdir()
        (lab.folder / "www" / name / "index.html").write_text("hello from the origin")
    make_repository(lab)
    folder, state = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("state") / "state"
    lines = [f"cd {folder}"]
    for number, (command, _) in enumerate(PROGRAMS.values()):
        lines.append(f"({command}) > {number} 2> {number}.err")
    (folder / "script").write_text("\n".join(lines))
    done = lab.run("sh", folder / "script", state=state, policy=lab.policy(), limit=90)
    assert nothing_is_left(lab)
    outputs = {
        name: (folder / str(n)).read_text() + (folder / f"{n}.err").read_text() for n, name in enumerate(PROGRAMS)
    }
    return outputs, lab.events(state), done.stderr


def make_repository(lab: Lab) -> None:
    """One that git's dumb protocol can read from files."""
    git = "git -c user.name=a -c user.email=a@example.org"
    script = (
        f"cd {lab.folder} && git init -q work && cd work && {git} commit -q --allow-empty -m first && cd .. "
        "&& git clone -q --bare work www/repo.git && git -C www/repo.git update-server-info"
    )
    subprocess.run(["sh", "-c", script], check=True, env=lab.environment)


def nothing_is_left(lab: Lab) -> bool:
    groups = [each for each in Path(mount()).glob("lockgate-[0-9]*") if release.started(int(each.name[9:])) is None]
    folders = [*(lab.folder / "run").iterdir(), *(lab.folder / "tmp").iterdir(), *(lab.folder / "home").glob(".pki")]
    return (lab.tables(), groups, folders) == ([], [], [])


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_are_captured_and_trust_us(ran, program):
    if absent := missing(program.split()[0] if program != "python" else "python3"):
        pytest.skip(f"not installed: {absent}")
    assert PROGRAMS[program][1] in ran[0][program]


@pytest.mark.parametrize(
    ("program", "url", "protocol"),
    [
        pytest.param("curl", "/version", "h2", id="curl"),
        pytest.param("python", "/python", "http/1.1", id="python"),
        pytest.param("git", "/repo.git/info/refs", None, id="git"),
        pytest.param("node", "/node", "http/1.1", id="node"),
        pytest.param("chromium", "/chromium", "h2", id="chromium"),
    ],
)
def test_each_request_is_an_event_with_its_process(ran, program, url, protocol):
    events = [event for event in ran[1] if event.get("http", {}).get("url", "").startswith(url)]
    if missing(program if program != "python" else "python3"):
        pytest.skip(f"{program} is not installed")
    wanted = {"git": "git-remote-http", "python": "python3"}.get(program, program)
    event = next(event for event in events if wanted in event["process"]["exe"])
    assert event["lockgate"]["verdict"] == "pass"
    assert any(label.startswith("protocol:") for label in event["labels"])
    assert event["process"]["user"] == "root"


def test_the_launchers_own_connections_are_not_the_commands(ran):
    assert not [event for event in ran[1] if "lockgate" in " ".join(event.get("process", {}).get("cmdline", ()))]


@pytest.mark.parametrize(
    ("command", "given", "output", "code"),
    [
        pytest.param(["true"], "", "", 0, id="success"),
        pytest.param(["sh", "-c", "exit 7"], "", "", 7, id="exit code"),
        pytest.param(["sh", "-c", "kill -TERM $$"], "", "", 143, id="ended by a signal"),
        pytest.param(["cat"], "hello", "hello", 0, id="standard input"),
        pytest.param(["sh", "-c", "sleep 60 & echo done"], "", "done\n", 0, id="leaves a process behind"),
        pytest.param(["nosuch"], "", "", 2, id="no such program"),
    ],
)
def test_it_is_the_command_to_its_caller(lab, state, command, given, output, code):
    began = time.monotonic()
    done = lab.run(*command, state=state, policy=lab.policy(), input=given)
    assert (done.returncode, done.stdout) == (code, output)
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 15
    assert nothing_is_left(lab)


def test_under_sudo_it_runs_as_who_called(lab, state):
    sudo = lab.environment | {"SUDO_USER": "nobody", "SUDO_UID": "65534", "SUDO_GID": "65534"}
    done = lab.run(
        "sh",
        "-c",
        "id -un; echo $HOME; curl -sS https://origin.test/version",
        state=state,
        policy=lab.policy(),
        env=sudo,
    )
    assert done.stdout == "nobody\n/nonexistent\nHTTP/2.0", done.stderr
    assert lab.events(state, "--host", "origin.test")[0]["process"]["user"] == "nobody"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_goes_on_to_the_command(lab, state, number):
    script = f"trap 'echo heard; exit 5' {signal.Signals(number).name[3:]}; echo ready; while :; do sleep 0.05; done"
    with run(lab, state, "sh", "-c", script) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "heard\n"
        assert process.wait(10) == 5
    assert nothing_is_left(lab)


def test_ctrl_c_at_the_terminal_is_the_commands(lab, state):
    ours, theirs = pty.openpty()
    try:

        def terminal() -> None:
            os.setsid()
            os.close(os.open(os.ttyname(theirs), os.O_RDWR))  # becomes the controlling terminal

        command = lab.lockgate(
            "run",
            "--state",
            state,
            "--policy",
            lab.policy(),
            "--run-dir",
            lab.folder / "run",
            "--",
            "sh",
            "-c",
            "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done",
        )
        with running(
            lab.inside(*command), stdin=theirs, stdout=theirs, stderr=theirs, env=lab.environment, preexec_fn=terminal
        ) as process:
            assert wait_for(lambda: b"ready" in os.read(ours, 4096), 20)
            os.write(ours, b"\x03")
            assert process.wait(15) == 9
    finally:
        os.close(ours)
        os.close(theirs)
    assert nothing_is_left(lab)


def test_a_killed_run_leaves_nothing_open_and_release_ends_the_rest(lab, state):
    with run(lab, state, "sh", "-c", "echo $$; exec sleep 60") as process:
        command = int(process.stdout.readline())
        process.kill()
        process.wait()
        assert wait_for(lambda: [name for name in lab.tables() if "guard" in name] == lab.tables() != [], HOLDS)
        os.kill(command, signal.SIGKILL)
        done = lab.call(*lab.lockgate("release", "--run-dir", lab.folder / "run"))
        assert (done.returncode, lab.tables()) == (0, [])
    assert lab.run("true", state=state, policy=lab.policy()).returncode == 0  # sweeps its control group
    for left in (*(lab.folder / "tmp").iterdir(), lab.folder / "home/.pki"):
        shutil.rmtree(left)
    assert nothing_is_left(lab)


def run(lab: Lab, state: Path, *command: str) -> AbstractContextManager[subprocess.Popen[str]]:
    words = lab.lockgate(
        "run", "--state", state, "--policy", lab.policy(), "--run-dir", lab.folder / "run", "--", *command
    )
    return running(
        lab.inside(*words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=lab.environment
    )


def test_a_browser_that_runs_already_takes_no_window_over(lab, state):
    if absent := missing("chromium"):
        pytest.skip(f"not installed: {absent}")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
    with running(
        lab.inside("chromium", *options, "--remote-debugging-port=0", "about:blank"),
        env=lab.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as browser:
        try:
            assert any("DevTools listening" in line for line in browser.stderr)
            done = lab.run(
                "chromium", *options, "--dump-dom", "https://blocked.test/", state=state, policy=lab.policy()
            )
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
    assert "no-go" in done.stdout
    assert "profile of its own" in done.stderr
