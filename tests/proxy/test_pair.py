"""The launcher hears its worker out, but believes no more than it must: a worker may be in strange hands."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from proxy.pair import MAX_LINE, LaunchError, Pair

PLACE = '"listen": [["127.0.0.1", 8080], ["::1", 8080]], "ca": "/var/lib/lockgate/ca/root.pem"'
LISTENING = f'{{"type": "listening", {PLACE}}}'
READY = f'{{"type": "ready", {PLACE}, "backend": "nftables", "existing": 3, "cut": false}}'
FAILED = '{"type": "failed", "errors": ["a", "b"]}'


@contextmanager
def worker(script):
    """The pair of a worker that is this script."""
    with subprocess.Popen([sys.executable, "-I", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        pair = Pair(process)
        yield pair
        pair.kill()


@contextmanager
def saying(data):
    """The pair of a worker that says this, and lives on."""
    with worker("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()); sys.stdout.flush()\n"
                "import time; time.sleep(60)") as pair:
        pair.worker.stdin.write(data)
        pair.worker.stdin.close()
        yield pair


@pytest.mark.parametrize("kind", ["listening", "ready"])
def test_what_it_should_say_is_heard(kind):
    with saying(f"{LISTENING}\n{READY}\n".encode()) as pair:
        message = pair.wait_for(kind, 5)
        assert message["listen"][0] == ["127.0.0.1", 8080]
        assert pair.ended() is None


def test_why_it_failed_is_raised():
    with saying(f"{FAILED}\n".encode()) as pair, pytest.raises(LaunchError) as raised:
        pair.wait_for("ready", 5)
    assert raised.value.errors == ("a", "b")


@pytest.mark.parametrize("line", [
    pytest.param(b"nonsense", id="no JSON"), pytest.param(b"\xff\xfe", id="no text"), pytest.param(b"", id="nothing"),
    pytest.param(b"[" * 100_000, id="deep"), pytest.param(b"1" * 10_000, id="a large number"),
    pytest.param(b"[]", id="no object"), pytest.param(b"{}", id="no type"), pytest.param(b'{"type": 1}', id="odd type"),
    pytest.param(b'{"type": "restarted"}', id="what only we say"),
    pytest.param(b'{"type": "listening"}', id="listening nowhere"),
    pytest.param(LISTENING.replace("8080]]", "0]]").encode(), id="port 0"),
    pytest.param(LISTENING.replace("8080]]", '"8080"]]').encode(), id="a port that is text"),
    pytest.param(LISTENING.replace("8080]]", "true]]").encode(), id="a port that is true"),
    pytest.param(LISTENING.replace('"::1", ', "").encode(), id="half a place"),
    pytest.param(LISTENING.replace('"/var/lib/lockgate/ca/root.pem"', "1").encode(), id="a path that is none"),
    pytest.param(READY.replace("}", ', "pid": 1}').encode(), id="a key for the note of who runs"),
    pytest.param(READY.replace("3", '"3"').encode(), id="a count that is text"),
    pytest.param(READY.replace(', "cut": false', "").encode(), id="less than Ready"),
    pytest.param(b'{"type": "failed"}', id="no errors"), pytest.param(b'{"type": "failed", "errors": 1}', id="odd errors"),
    pytest.param(b'{"type": "failed", "errors": [1]}', id="errors that are no texts"),
    pytest.param(b'{"type": "reloaded", "reason": "x"}', id="more than is known"),
    pytest.param(b'{"type": "' + b"x" * MAX_LINE + b'"}', id="a long line"),
])
def test_nonsense_makes_a_pair_count_as_dead(line):
    with saying(line + b"\n") as pair:
        with pytest.raises(LaunchError, match="nonsense"):
            pair.wait_for("ready", 5)
        assert "nonsense" in pair.ended()
        assert list(pair.messages(5)) == []


def test_a_line_without_end_is_not_gathered():
    with worker("import os\nwhile True: os.write(1, b'x' * 65536)") as pair:
        assert list(pair.messages(5)) == []
        assert "a line of more than" in pair.ended()
        assert len(pair._unread) < 2 * MAX_LINE


def test_one_without_a_voice_counts_as_dead_and_is_no_busy_loop():
    with worker("import os, time; os.close(1); time.sleep(60)") as pair:
        assert list(pair.messages(5)) == []
        assert pair.ended() == "the proxy closed its output"


@pytest.mark.parametrize(("end", "said"), [
    pytest.param("raise SystemExit(3)", "status 3", id="a status"),
    pytest.param(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", "signal SIGKILL", id="a signal"),
    pytest.param(f"import os; os.kill(os.getpid(), {signal.SIGRTMIN + 1})", f"signal {signal.SIGRTMIN + 1}",
                 id="a signal without a name"),
])
def test_how_it_ended_is_said(end, said):
    with worker(end) as pair:
        with pytest.raises(LaunchError, match=said):
            pair.wait_for("ready", 5)
        assert pair.ended() == f"the proxy ended ({said})"


def test_a_signal_is_heard_at_once():
    wake, write = os.pipe()
    with worker("import time; time.sleep(60)") as pair, os.fdopen(wake), os.fdopen(write):
        os.write(write, b"x")
        began = time.monotonic()
        assert list(pair.messages(5, wake)) == []
        assert time.monotonic() - began < 2
