"""Programs that know an explicit proxy, each in its own way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.lab import missing, running
from tests.waiting import wait_for

pytestmark = pytest.mark.live
PROXY = "127.0.0.1:8080"
EXPLICIT = ("--capture", "explicit", "--listen", PROXY)
CHROMIUM = ("chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --ignore-certificate-errors "
            "--user-data-dir=$PWD/profile --dump-dom")
PYTHON = """\
import ssl, urllib.request
print(urllib.request.urlopen('https://origin.test/version', context=ssl.create_default_context(cafile='{ca}')).read())
"""
#: What is run, with `{ca}` for our root and `{proxy}`; and what it must print.
CLIENTS = {
    "curl, HTTP": ("curl -sS --cacert {ca} --proxy http://{proxy} https://origin.test/version", "HTTP/"),
    "curl, SOCKS 5": ("curl -sS --cacert {ca} --socks5 {proxy} https://origin.test/version", "HTTP/"),
    "curl, SOCKS 5 by name": ("curl -sS --cacert {ca} --socks5-hostname {proxy} https://origin.test/version", "HTTP/"),
    "curl, SOCKS 4a": ("curl -sS --cacert {ca} --socks4a {proxy} https://origin.test/version", "HTTP/"),
    "curl, IPv6 by SOCKS 5": ("curl -sSg --cacert {ca} --socks5 {proxy} https://[2001:db8:77::2]/version", "HTTP/"),
    "curl, plain": ("curl -sS --proxy http://{proxy} http://origin.test/version", "HTTP/1.1"),
    "git, HTTP": ("git -c http.sslCAInfo={ca} -c http.proxy=http://{proxy} ls-remote https://git.test/repo.git", "HEAD"),
    "git, SOCKS 5": ("git -c http.sslCAInfo={ca} -c http.proxy=socks5h://{proxy} ls-remote https://git.test/repo.git",
                     "HEAD"),
    "python, variables": ("https_proxy=http://{proxy} python3 -c \"$PYTHON\"", "HTTP/"),
    "wget, variables": ("https_proxy=http://{proxy} wget -qO- --ca-certificate={ca} https://origin.test/version",
                        "HTTP/"),
    "chromium, PAC": (CHROMIUM + " --proxy-pac-url=http://{proxy}/proxy.pac https://origin.test/", "hello from the origin"),
    "chromium, SOCKS 5": (CHROMIUM + " --proxy-server=socks5://{proxy} https://origin.test/", "hello from the origin"),
}


@pytest.fixture(scope="module")
def served(lab, tmp_path_factory):
    """An explicit proxy, and a repository at the origin."""
    subprocess.run(["git", "init", "-q", "--bare", lab.folder / "www/repo.git"], check=True)
    environment = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@a.test", "GIT_COMMITTER_NAME": "a",
                   "GIT_COMMITTER_EMAIL": "a@a.test", "PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    git = ["git", "-C", lab.folder / "www/repo.git"]
    tree = subprocess.run([*git, "mktree"], input="", capture_output=True, text=True, check=True).stdout.strip()
    commit = subprocess.run([*git, "commit-tree", tree, "-m", "x"], capture_output=True, text=True, check=True,
                            env=environment).stdout.strip()
    branch = subprocess.run([*git, "symbolic-ref", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run([*git, "update-ref", branch, commit], check=True)
    subprocess.run([*git, "update-server-info"], check=True)
    state = tmp_path_factory.mktemp("state") / "state"
    with lab.start(*EXPLICIT, state=state, policy=lab.policy()) as started:
        (lab.folder / "ours.pem").write_bytes(Path(started.ready["ca"]).read_bytes())
        yield state


def requests(lab, state):
    return [event for event in lab.events(state) if event["event_type"] == "http"]


@pytest.mark.parametrize("name", CLIENTS)
def test_client(lab, served, name, tmp_path):
    command, printed = CLIENTS[name]
    if absent := missing(program := next(word for word in command.split() if "=" not in word)):
        pytest.skip(f"not installed: {absent}")
    before = requests(lab, served)
    ca = lab.folder / "ours.pem"
    environment = lab.environment | {"PYTHON": PYTHON.format(ca=ca)}
    done = lab.call("sh", "-c", command.format(ca=ca, proxy=PROXY), cwd=tmp_path, env=environment, limit=60)
    assert printed in done.stdout, done.stderr
    new = wait_for(lambda: [event for event in requests(lab, served) if event not in before], 5)
    assert new, "it went round us"
    exes = {event.get("process", {}).get("exe", "") for event in new} - {""}
    assert all(program[:4] in exe for exe in exes), exes


def test_the_pac_keeps_this_computer_to_itself(lab, served, tmp_path):
    """By the browser's own reading of the file."""
    if absent := missing("chromium"):
        pytest.skip(f"not installed: {absent}")
    (tmp_path / "index.html").write_text("<p>local")
    server = (sys.executable, "-m", "http.server", "8123", "--bind", "127.0.0.1", "--directory", tmp_path)
    with running(lab.inside(*server), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        assert wait_for(lambda: lab.call("curl", "-s", "http://127.0.0.1:8123/").returncode == 0, 10)
        before = requests(lab, served)
        for host in ("127.0.0.1", "localhost"):
            command = f"{CHROMIUM} --proxy-pac-url=http://{PROXY}/proxy.pac http://{host}:8123/"
            assert "local" in lab.call("sh", "-c", command, cwd=tmp_path, limit=60).stdout
        assert not [event for event in requests(lab, served) if event not in before and event["dest_port"] == 8123]
