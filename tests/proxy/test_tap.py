"""`lockgate tap`: what real programs give their TLS libraries, by frida; and the process that reads it."""

import base64
import hashlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.live.lab import missing
from tests.proxy.origin import Origin

frida = pytest.importorskip("frida", reason="frida is not installed: pip install 'lockgate[tap]'")
CARD = b"card=4111111111111111"
POLICY = """\
version: 1
tls: {bypass: [private.test]}
filters:
  - {id: cards, use: cards.Cards}
  - {id: whole, use: ./whole.py:Whole}
"""
WHOLE = """\
from lockgate import block
class Whole:
    def request(self, flow):
        return block("a whole body") if flow.request.content == b"whole" else None
"""


@pytest.fixture
def origin(tmp_path):
    with Origin(tmp_path / "origin", alpn=("h2", "http/1.1")).serve() as serving:
        yield serving


@pytest.fixture
def run(tmp_path, origin):
    """`run(words)` taps a program; returns what it did, and the events."""
    tmp_path.chmod(0o755)
    (tmp_path / "whole.py").write_text(WHOLE)
    policy, state = tmp_path / "policy.yaml", tmp_path / "state"
    policy.write_text(POLICY)
    lockgate = [sys.executable, "-I", "-m", "proxy.cli"]

    def call(*words):
        done = subprocess.run([*lockgate, "tap", "--state", state, "--policy", policy, *map(str, words)],
                              capture_output=True, text=True, timeout=60, env=os.environ | {"SUDO_USER": "root"})
        shown = subprocess.run([*lockgate, "events", "--state", state, "--json"], capture_output=True, text=True)
        return done, [json.loads(line) for line in shown.stdout.splitlines()]

    call.command = [*lockgate, "tap", "--state", state, "--policy", policy]
    return call


def url(origin, host="localhost"):
    return f"https://{host}:{origin.port}/upload"


def pin(origin):
    shown = ssl.get_server_certificate(("localhost", origin.port))
    certificate = x509.load_pem_x509_certificate(shown.encode())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256//" + base64.b64encode(hashlib.sha256(key).digest()).decode()


PYTHON = """
import ssl, sys, urllib.request
context = ssl._create_unverified_context()
print(urllib.request.urlopen(sys.argv[1], data=sys.argv[2].encode(), context=context).read().decode())
"""
NODE = """
fetch(process.argv[1], {method: 'POST', body: process.argv[2]}).then(a => a.text()).then(console.log)
"""


@pytest.mark.parametrize("words", [
    pytest.param(("curl", "-sk", "--http1.1", "-d", CARD.decode(), "URL"), id="curl, HTTP/1.1"),
    pytest.param(("curl", "-sk", "--http2", "-d", CARD.decode(), "URL"), id="curl, HTTP/2"),
    pytest.param(("sh", "-c", 'curl -sk -d "$1" "$0"; true', "URL", CARD.decode()), id="a child of a shell"),
    pytest.param((sys.executable, "-c", PYTHON, "URL", CARD.decode()), id="Python"),
    pytest.param(("env", "NODE_TLS_REJECT_UNAUTHORIZED=0", "node", "-e", NODE, "URL", CARD.decode()), id="Node"),
])
def test_programs(run, origin, words):
    if why := missing(*{"curl", "node"} & set(words)):
        pytest.skip(f"{why} is not here")
    done, events = run("--", *(url(origin) if word == "URL" else word for word in words))
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr
    assert bytes(origin.record).endswith(CARD), "nothing is stopped"
    alert, final = events
    assert (alert["event_type"], alert["lockgate"]["filter"], alert["lockgate"]["monitored"]) == ("alert", "cards", "block")
    assert final["lockgate"]["verdict"] == "pass"
    for event in events:
        assert "capture:tap" in event["labels"]
        assert (event["http"]["http_method"], event["http"]["status"]) == ("POST", 200)
        assert event["process"]["exe"].rpartition("/")[2].startswith(("curl", "python", "node"))
    assert "localhost: cards: would block" in done.stderr
    assert "4111111111111111" not in done.stderr


@pytest.mark.skipif(missing("curl") != "", reason="curl is not here")
@pytest.mark.parametrize(("words", "filters"), [
    pytest.param(("--data", "whole"), ["whole"], id="a filter of whole messages"),
    pytest.param(("--data", "nothing"), [], id="nothing found"),
    pytest.param(("--resolve", "private.test:PORT:127.0.0.1", "--data", CARD.decode(), "HOST"), None, id="bypassed"),
])
def test_rules(run, origin, words, filters):
    host = "private.test" if "HOST" in words else "localhost"
    words = [word.replace("PORT", str(origin.port)) for word in words if word != "HOST"]
    done, events = run("--", "curl", "-sk", *words, url(origin, host))
    assert done.returncode == 0
    if filters is None:
        assert events == [], "the policy would not have looked"
    else:
        assert [e["lockgate"]["filter"] for e in events if e["event_type"] == "alert"] == filters


@pytest.mark.skipif(missing("curl") != "", reason="curl is not here")
def test_a_program_that_pins(run, origin):
    """Which is what it is for: interception would only get an alert."""
    done, events = run("--", "curl", "-sk", "--pinnedpubkey", pin(origin), "-d", CARD.decode(), url(origin))
    assert (done.returncode, done.stdout) == (0, "ok")
    assert [e["lockgate"].get("filter") for e in events] == ["cards", None]
    refused, _ = run("--", "curl", "-sk", "--pinnedpubkey", "sha256//" + "A" * 43 + "=", url(origin))
    assert refused.returncode == 90


def test_the_exit_code_is_the_commands(run):
    done, events = run("--", "sh", "-c", "exit 7")
    assert (done.returncode, events) == (7, [])
    assert "nothing was seen" in done.stderr
    assert run("--", "sh", "-c", "kill -TERM $$")[0].returncode == 128 + signal.SIGTERM


def test_a_process_that_runs_already(run, origin):
    """It goes on when the look at it has ended."""
    program = "import sys; " + PYTHON.replace("\nprint", "\nfor line in sys.stdin:\n    print")
    program = program.replace("read().decode())", "read().decode(), flush=True)")
    with subprocess.Popen([sys.executable, "-c", program, url(origin), CARD.decode()], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        try:
            ask(process)
            with subprocess.Popen([*run.command, "--pid", str(process.pid)], stderr=subprocess.PIPE, text=True) as tap:
                timer = threading.Timer(30, tap.kill)
                timer.start()
                assert "looking on" in tap.stderr.readline()
                ask(process)
                assert "cards: would block" in tap.stderr.readline()
                tap.send_signal(signal.SIGINT)
                assert tap.wait(20) == 0
                timer.cancel()
            ask(process)
        finally:
            process.kill()


def ask(process):
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ok\n"


@pytest.mark.parametrize(("words", "said"), [
    ((), "what shall be looked at"), (("--pid", "1", "--", "true"), "what shall be looked at"),
    (("--", "no-such-program"), "no such program"), (("--pid", "4194304"), "lockgate tap: "),
    (("--policy", "/none.yaml", "--", "true"), "/none.yaml"),
])
def test_bad_requests(run, words, said):
    done, _ = run(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
