"""The process and its exit codes, as far as they need no rights; the rest is in tests/live/."""
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from redirector import __main__ as module
from redirector.channel import MAX_PENDING, Channel, PeerGone
from redirector.session import Observation
from redirector.wire import (
    MAX_CMDLINE,
    MAX_EXE,
    MAX_LINE,
    Decoder,
    Failed,
    Heartbeat,
    Lookup,
    Owner,
    Process,
    Ready,
    Start,
    Stop,
    encode,
)
from tests.waiting import wait_for

#: Seconds of silence in the tests here.
LIMIT = 0.4


@contextmanager
def process(*arguments):
    """The process, and our end of its channel."""
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen([sys.executable, "-I", "-m", "redirector", *arguments], stdin=theirs,
                                        stdout=theirs, stderr=subprocess.DEVNULL) as process:
        theirs.close()
        ours.settimeout(5)
        yield process, ours
        process.kill()


@pytest.fixture
def redirector():
    with process() as both:
        yield both


@pytest.mark.parametrize(("data", "exit_code", "reason"), [
    pytest.param(b"", 3, "closed", id="end of input"),
    pytest.param(encode(Stop())[:-1], 3, "closed", id="end of input in a line"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\n", 2, "not a message", id="garbage"),
    pytest.param(b"x" * 2 * MAX_LINE, 2, f"more than {MAX_LINE}", id="a line without end"),
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


def caught(pid, number):
    """Has the process a handler for this signal (proc(5))?"""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["SigCgt"], 16) >> number - 1 & 1


def test_a_ctrl_c_is_not_for_it_but_sigterm_is(redirector):
    process, _ = redirector
    assert wait_for(lambda: caught(process.pid, signal.SIGTERM), 10)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0


def test_start_as_an_argument_is_the_only_one(tmp_path):
    """Who holds the channel's other end may speak first, but does not choose what root does."""
    start = encode(Start("t", str(tmp_path), None))
    with process(start.rstrip()) as (redirector, ours):
        assert receive(ours, 1) == [Ready("none", 0, False)]
        ours.sendall(start)
        assert redirector.wait(5) == 2


@pytest.mark.parametrize("arguments", [
    pytest.param([b"nonsense"], id="nonsense"), pytest.param([b"\xff"], id="no text"),
    pytest.param([encode(Stop()).rstrip()], id="no Start"),
])
def test_another_argument_is_refused(arguments):
    with process(*arguments) as (redirector, ours):
        failed, = receive(ours, 1)
        assert isinstance(failed, Failed)
        assert redirector.wait(5) == 2


def receive(peer, count):
    decoder, messages = Decoder(), []
    while len(messages) < count:
        data = peer.recv(1 << 16)
        assert data, f"closed after {messages}"
        messages += decoder.feed(data)
    return messages


@contextmanager
def serving(monkeypatch, look_up, limit=LIMIT):
    """Our end of a channel that is served in a thread with these answers; on leaving, how that ended."""
    monkeypatch.setattr(module, "look_up", look_up)
    ours, theirs = socket.socketpair()
    ended = []

    def serve():
        try:
            ended.append(module.serve(Channel(theirs.fileno(), theirs.fileno()), Observation(), limit))
        except Exception as error:
            ended.append(error)

    with ours, theirs:
        ours.settimeout(5)
        thread = threading.Thread(target=serve)
        thread.start()
        yield ours, ended
        ours.shutdown(socket.SHUT_RDWR)
        thread.join()


def lookup(number):
    return Lookup(number, ("127.0.0.1", 1), ("127.0.0.1", 2))


def slowly(question):
    time.sleep(LIMIT / 8)
    return Owner(question.id, None)


def test_many_slow_look_ups_are_no_silence(monkeypatch):
    """Any user can ask for them by connecting often; heartbeats that come with them are answered at once."""
    with serving(monkeypatch, slowly) as (peer, ended):
        peer.sendall(b"".join(encode(lookup(number)) for number in range(40)) + encode(Heartbeat()))
        began = time.monotonic()
        assert receive(peer, 1) == [Heartbeat()]
        assert time.monotonic() - began < LIMIT
        answers = []
        while len([each for each in answers if isinstance(each, Owner)]) < 40:
            peer.sendall(encode(Heartbeat()))
            answers += receive(peer, 1)
            assert not ended
        assert [each.id for each in answers if isinstance(each, Owner)] == list(range(40))


def test_what_nobody_waits_for_any_more_is_not_searched(monkeypatch):
    searched = []
    monkeypatch.setattr(module, "PATIENCE", LIMIT / 4)
    with serving(monkeypatch, lambda question: searched.append(question.id) or slowly(question)) as (peer, _):
        peer.sendall(b"".join(encode(lookup(number)) for number in range(40)))
        assert [each.id for each in receive(peer, 40)] == list(range(40))
    assert len(searched) <= 4


def test_look_ups_without_heartbeats_are_a_sign_of_life(monkeypatch):
    with serving(monkeypatch, lambda question: Owner(question.id, None)) as (peer, ended):
        until = time.monotonic() + 2 * LIMIT
        while time.monotonic() < until:
            peer.sendall(encode(lookup(1)))
            assert receive(peer, 1) == [Owner(1, None)]
            time.sleep(LIMIT / 8)
        assert not ended


@pytest.mark.parametrize("last", [b"", encode(Heartbeat())[:-1]], ids=["nothing", "less than a message"])
def test_silence_ends_it(monkeypatch, last):
    with serving(monkeypatch, slowly) as (peer, ended):
        peer.sendall(encode(Heartbeat()) + last)
        time.sleep(2.5 * LIMIT)
        assert [type(each) for each in ended] == [PeerGone]


def test_answers_wait_for_a_peer_that_is_busy(monkeypatch):
    """Long answers to many questions are not what makes a peer count as broken."""
    longest = Process(0, "", 1, "x" * MAX_EXE, ('"' * (MAX_CMDLINE - 1),))
    with serving(monkeypatch, lambda question: Owner(question.id, longest), 20 * LIMIT) as (peer, ended):
        count = 40 * MAX_PENDING // len(encode(Owner(0, longest)))
        for number in range(count):
            peer.sendall(encode(lookup(number)))
        time.sleep(LIMIT / 2)
        assert not ended
        assert [each.id for each in receive(peer, count)] == list(range(count))
