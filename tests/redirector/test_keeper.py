"""Looking into a process, and what a command leaves behind."""
import ctypes
import functools
import os
import signal
import socket
import subprocess
import traceback
import warnings
from pathlib import Path

import pytest

from redirector.keeper import Keeper, _children, group, look
from tests.redirector.hooked import Hooked, hooked
from tests.waiting import wait_for

__all__ = ["hooked"]        # a fixture


def alone(test):
    """In a process that has no other children: a keeper is handed those of all that ran before."""
    @functools.wraps(test)
    def run():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)     # threads of other tests: nothing here needs them
            pid = os.fork()
        if pid == 0:
            failed = 1
            try:
                test()
                failed = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(failed)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return run


def test_it_sees_a_threads_memory_and_descriptors():
    words = ctypes.create_string_buffer(b"an address", 10)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        seen, taken = look(os.getpid(), ours.fileno(), ctypes.addressof(words), 10)
        with socket.socket(fileno=taken) as same:
            same.send(b"through the duplicate")
            assert (seen, theirs.recv(30)) == (b"an address", b"through the duplicate")
    assert group(os.getpid()) == os.getpid()


@pytest.mark.parametrize(("words", "error"), [
    pytest.param((1 << 22, 0, 0, 0), FileNotFoundError, id="no such thread"),
    pytest.param((os.getpid(), 999, 0, 0), OSError, id="no such descriptor"),
    pytest.param((os.getpid(), 0, 8, 16), OSError, id="no such memory"),
    pytest.param((os.getpid(), 0, 1 << 63, 16), OSError, id="beyond all memory"),
    pytest.param((os.getpid(), 0, 0, 1 << 31), OSError, id="too long"),
])
def test_what_is_not_there(words, error):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(error):
        look(*words)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


LEAVES = "setsid sh -c 'sleep 60 & sleep 60' & exec true"


@alone
def test_what_a_command_leaves_ends_with_it():
    with Keeper() as keeper, subprocess.Popen(["sleep", "60"]) as own:
        before = _children()
        subprocess.run(["sh", "-c", LEAVES], check=True)
        assert wait_for(lambda: len(_children()) > len(before))
        keeper.end(before)
        assert _children() == before
        assert own.poll() is None
        own.kill()


@alone
def test_what_was_handed_to_us_is_buried_and_our_own_is_not():
    with Keeper() as keeper, subprocess.Popen(["sh", "-c", "exit 7"]) as own:
        subprocess.run(["sh", "-c", "(exec sleep 0.1) & exec true"], check=True)
        os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
        keeper.reap({own.pid})
        assert own.wait() == 7
        assert wait_for(lambda: keeper.reap(()) or not _children())


def test_several_commands_have_one_redirector(hooked: Hooked):
    hooked.start()
    code = "s = socket.create_connection(('127.0.0.1', origin)); say(s.getpeername()[1]); input()"
    programs = [hooked.python(code, stdin=subprocess.PIPE) for _ in range(3)]
    told = {hooked.told().process.pid for _ in programs}
    assert told == {each.pid for each in programs}
    programs[0].communicate("\n")
    assert hooked.run("say(tried(socket.create_connection, ('127.0.0.1', untouched)))") is None
    hooked.start()
    assert hooked.run("say(tried(socket.create_connection, ('127.0.0.1', untouched)))") is None


def test_a_stopped_redirector_can_be_replaced(hooked: Hooked):
    hooked.start()
    process = hooked.python("input(); say(tried(socket.create_connection, ('127.0.0.1', untouched)))", stdin=subprocess.PIPE)
    hooked.redirector.send_signal(signal.SIGSTOP)
    stopped = hooked.redirector
    hooked.start()
    stopped.kill()
    assert process.communicate("\n", timeout=5)[0] == "null\n"


def test_a_process_that_forbids_it_is_refused_not_let_past(hooked: Hooked):
    """PR_SET_DUMPABLE: only with rights we could see where it wants to go."""
    if os.geteuid() == 0:
        pytest.skip("root may look into any; tests/live/test_hook.py does it without rights")
    hooked.start()
    assert hooked.run("libc.prctl(4, 0); say(tried(socket.create_connection, ('127.0.0.1', origin)))") == "EACCES"


def test_a_program_may_end_in_the_middle_of_it(hooked: Hooked):
    hooked.start()
    for _ in range(5):
        process = hooked.python("say(0)\nwhile True: socket.create_connection(('127.0.0.1', untouched)).close()")
        process.stdout.readline()
        process.kill()
        process.wait()
    hooked.came(hooked.untouched)
    assert hooked.run("say(tried(socket.create_connection, ('127.0.0.1', untouched)))") is None
