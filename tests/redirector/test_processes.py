"""What is read of a process is of that process, and its program is what everybody sees at that path."""
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redirector import processes
from redirector.wire import MAX_ANCESTRY, MAX_PARENTS, Owner, Parent, encode
from tests.redirector.whose import started

PYTHON = os.path.realpath(sys.executable)
BASH, SLEEP = os.path.realpath("/bin/bash"), os.path.realpath("/bin/sleep")


@pytest.fixture
def copy(tmp_path):
    """A program of our own, and its process, waiting."""
    program = tmp_path / "tool"
    shutil.copy(BASH, program)
    with started([program, "-c", "echo; read"]) as process:
        yield program, process
        process.kill()


def read(pid, **more):
    return processes.read(pid, 0, **more)


def test_a_program_that_runs(copy):
    program, process = copy
    found = read(process.pid)
    assert (found.exe, found.name, found.ended, found.cmdline) == (str(program), "tool", False, (str(program), "-c", "echo; read"))
    assert found.parents[0] == Parent(os.getpid(), PYTHON)
    assert abs(found.started - time.time()) < 60


def test_a_program_that_is_deleted_keeps_its_path(copy):
    program, process = copy
    program.unlink()
    assert read(process.pid).exe == str(program)


def test_a_program_that_is_replaced_keeps_its_path(copy, tmp_path):
    """As an upgrade does. The path is the user's who ran it there, whatever it is now."""
    program, process = copy
    shutil.copy(SLEEP, tmp_path / "new")
    (tmp_path / "new").rename(program)
    assert read(process.pid).exe == str(program)


def test_a_program_that_is_renamed_has_its_new_path(copy, tmp_path):
    program, process = copy
    program.rename(tmp_path / "other")
    assert read(process.pid).exe == str(tmp_path / "other")


def test_a_program_without_a_file_is_nobodys():
    """Its maker may call it /usr/bin/backup."""
    script = ("import os, sys; fd = os.memfd_create('/usr/bin/backup', 0); os.write(fd, open(sys.argv[1], 'rb').read());"
              "os.execv(f'/proc/self/fd/{fd}', ['x', '-c', 'echo; read'])")
    with started([sys.executable, "-c", script, BASH]) as process:
        assert read(process.pid).exe == "elsewhere:/memfd:/usr/bin/backup (deleted)"
        process.kill()


def test_another_process_with_its_number_is_not_it(copy):
    """The number was given again, so the one who has it began after the call."""
    _, process = copy
    began = read(process.pid).started
    tick = 2_000_000_000 // os.sysconf("SC_CLK_TCK")
    boot = processes._boot_time()
    assert read(process.pid, by=int((began - boot) * 1e9) - tick) is None
    assert read(process.pid, by=time.clock_gettime_ns(time.CLOCK_BOOTTIME)).pid == process.pid


def test_nobody_has_that_number(copy):
    _, process = copy
    process.kill()
    process.wait()
    assert read(process.pid) is None


def test_one_that_has_exited_and_is_not_reaped(copy):
    _, process = copy
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    found = read(process.pid)
    assert (found.pid, found.exe, found.name, found.ended) == (process.pid, "", "tool", True)
    assert found.parents[0].pid == os.getpid()


def test_the_first_thread_may_have_ended():
    script = ("import ctypes, os, platform, threading, time;"
              "threading.Thread(target=lambda: (print(threading.get_native_id(), flush=True), time.sleep(60))).start();"
              "time.sleep(0.2); ctypes.CDLL(None).syscall({'x86_64': 60}.get(platform.machine(), 93), 0)")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        thread = int(process.stdout.readline())
        until = time.monotonic() + 10
        while processes._stat(process.pid).state != "Z" and time.monotonic() < until:
            time.sleep(0.01)
        found, unknown, strange = (read(process.pid, thread=thread), read(process.pid),
                                   read(process.pid, thread=os.getpid()))
        process.kill()
    assert (found.exe, found.ended) == (PYTHON, False)
    assert (unknown.exe, unknown.ended) == (strange.exe, strange.ended) == ("", True)


def test_ancestors_are_named():
    with started([BASH, "-c", f"{BASH} -c '{BASH} -c \"echo \\$\\$; read; :\"; :'; :"]) as shell:
        pid = max(int(p.name) for p in Path("/proc").glob("[0-9]*") if _descends(int(p.name), shell.pid))
        parents = read(pid).parents
        shell.stdin.close()
    assert [parent.exe for parent in parents[:3]] == [BASH, BASH, PYTHON]
    assert parents[1] == Parent(shell.pid, BASH)
    assert parents[2].pid == os.getpid()


def _descends(pid, ancestor):
    found = read(pid)
    return found is not None and ancestor in [parent.pid for parent in found.parents]


@pytest.mark.parametrize("length", [1, 200], ids=["short paths", "long paths"])
def test_a_deep_tree_is_bounded(tmp_path, length):
    """However deep, and however long the paths: the answer fits, the nearest are whole, all are counted."""
    folder = tmp_path / ("d" * length)
    folder.mkdir()
    program = folder / "bash"
    shutil.copy(BASH, program)
    script = 'if [ "$1" -gt 0 ]; then "$0" -c "$2" "$0" $(($1 - 1)) "$2"; :; else echo $$; read; fi'
    with subprocess.Popen([program, "-c", script, program, "20", script], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        found = read(int(process.stdout.readline()))
        process.stdin.close()
    assert len(found.parents) == MAX_PARENTS
    whole = min(MAX_PARENTS, MAX_ANCESTRY // len(str(program)))
    assert [parent.exe for parent in found.parents] == [str(program)] * whole + [""] * (MAX_PARENTS - whole)
    assert encode(Owner(1, found))


def test_one_whose_parent_ended_belongs_to_who_took_it_in():
    with subprocess.Popen([BASH, "-c", "( (echo $BASHPID; exec sleep 60) & )"], stdout=subprocess.PIPE) as shell:
        orphan = int(shell.stdout.readline())
        shell.wait()
        try:
            found = read(orphan)
        finally:
            os.kill(orphan, signal.SIGKILL)
    assert found.parents
    assert shell.pid not in [parent.pid for parent in found.parents]


def test_a_younger_process_is_nobodys_parent(copy, monkeypatch):
    """Between two looks the parent may end and its number be given again."""
    _, process = copy
    real = processes._stat
    monkeypatch.setattr(processes, "_stat", lambda pid: real(pid)._replace(start=2**60) if pid == os.getpid() else real(pid))
    assert read(process.pid).parents == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces")
@pytest.mark.parametrize(("flags", "expected"), [
    pytest.param(["--mount"], ("mnt",), id="mount"), pytest.param(["--pid", "--fork"], ("pid",), id="pid"),
    pytest.param(["--user", "--map-root-user"], ("user",), id="user"),
    pytest.param(["--mount", "--pid", "--fork"], ("mnt", "pid"), id="both"),
    pytest.param(["--net"], (), id="its view of the system is ours"),
])
def test_another_view_of_the_system_is_said(flags, expected):
    with started(["unshare", *flags, "--kill-child" if "--fork" in flags else "--", BASH, "-c", "echo; read; :"]) as process:
        pid = next((int(p.name) for p in Path("/proc").glob("[0-9]*")
                    if _descends(int(p.name), process.pid)), process.pid)
        found = read(pid)
        process.stdin.close()
    assert (found.exe, found.namespaces) == (BASH, expected)
