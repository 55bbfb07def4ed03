"""A filter that does not come back is cut, whatever it does; one that does is not."""

import re
import subprocess
import sys
import time

import pytest

from proxy import deadline
from proxy.deadline import GRACE, TICK, Missed, limited


@pytest.fixture(autouse=True, scope="module")
def _prepare():
    deadline.prepare()


def swallow():
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            sum(range(1000))
        except Exception:  # noqa: S112 what is tested: it must not be caught here
            continue


def swallow_once():
    try:
        time.sleep(5)
    except BaseException:  # as the interpreter does round a finalizer
        time.sleep(5)


@pytest.mark.parametrize(("call", "factor"), [
    pytest.param(lambda: time.sleep(5), GRACE, id="sleeps"),
    pytest.param(lambda: re.match(r"(a+)+b", "a" * 32), 1, id="backtracks"),
    pytest.param(lambda: [0 for _ in iter(int, 1)], 1, id="loops"),
    pytest.param(swallow, 1, id="swallows exceptions"),
    pytest.param(swallow_once, GRACE, id="swallows the first"),
])
def test_cut(call, factor):
    started, used = time.monotonic(), time.thread_time()
    with pytest.raises(Missed):
        limited(0.05, call)
    assert time.thread_time() - used < 0.05 + 10 * TICK
    if factor == GRACE:
        assert time.monotonic() - started < 1


def test_result_and_exception_pass():
    assert limited(1, lambda a, b: a + b, 1, b=2) == 3
    with pytest.raises(ZeroDivisionError):
        limited(1, lambda: 1 / 0)


def test_a_slow_loop_between_calls_is_nobodys_fault():
    limited(0.01, int)
    time.sleep(0.1)     # a tick comes here, and must not raise
    assert limited(0.01, int) == 0


STOPPED = """
import os, signal, subprocess, time
from proxy import deadline

def work():
    stop = f"kill -STOP {os.getpid()}; sleep 1; kill -CONT {os.getpid()}"
    process = subprocess.Popen(["sh", "-c", stop])
    began = time.monotonic()
    while time.monotonic() < began + 0.4:
        os.sched_yield()
    process.wait()
    sum(range(100_000))
    return "done"

deadline.prepare()
print(deadline.limited(0.15, work))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_process_that_was_stopped_is_not_late():
    """As it happens to all on a busy machine, and to virtual ones: a second in which nothing runs."""
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr
