"""The process and its exit codes, as far as they need no rights; the rest is in tests/live/."""
import signal
import socket
import subprocess
import sys

import pytest

from redirector.wire import Decoder, Failed, Heartbeat, Stop, encode


@pytest.fixture
def redirector():
    """The process, and our end of its channel."""
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen([sys.executable, "-I", "-m", "redirector"], stdin=theirs, stdout=theirs,
                                        stderr=subprocess.DEVNULL) as process:
        theirs.close()
        ours.settimeout(5)
        yield process, ours
        process.kill()


@pytest.mark.parametrize(("data", "exit_code", "reason"), [
    pytest.param(b"", 3, "closed", id="end of input"),
    pytest.param(encode(Stop())[:-1], 3, "closed", id="end of input in a line"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\n", 2, "not a message", id="garbage"),
    pytest.param(b"x" * 5000, 2, "more than 4096", id="a line without end"),
    pytest.param(encode(Heartbeat()), 2, "expected Start", id="another message than Start"),
])
def test_without_start_it_fails_and_says_why(redirector, data, exit_code, reason):
    process, ours = redirector
    ours.sendall(data)
    ours.shutdown(socket.SHUT_WR)
    failed, = Decoder().feed(ours.recv(4096))
    assert isinstance(failed, Failed)
    assert reason in failed.reason
    assert process.wait(5) == exit_code


def test_a_ctrl_c_is_not_for_it_but_sigterm_is(redirector):
    process, ours = redirector
    ours.settimeout(0.5)
    with pytest.raises(TimeoutError):       # by then it has begun to wait for Start
        ours.recv(1)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
