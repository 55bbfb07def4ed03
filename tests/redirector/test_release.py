"""Records lead to processes, never to the wrong one."""
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from redirector import release


@pytest.fixture
def sleeper():
    """A process to be ended."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.fixture
def record(tmp_path, sleeper):
    """What that process would have written of itself."""
    record = release.Record("guard", "t", sleeper.pid, release.started(sleeper.pid), "lockgate_guard_t", "closed", 1)
    put(tmp_path, record)
    return record


def put(folder, record):
    (folder / record.file).write_text(json.dumps(asdict(record)))


def test_release_ends_the_recorded_process(tmp_path, record, sleeper):
    assert release.status(str(tmp_path)) == [record]
    assert release.release(str(tmp_path)) == [record]
    assert sleeper.wait(1) == -9
    assert (release.status(str(tmp_path)), list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("change", [
    pytest.param({"started": 1}, id="the pid is another process's now"),
    pytest.param({"pid": 2**22 + 1}, id="no such process"),
])
def test_a_stale_record_is_removed_and_nobody_harmed(tmp_path, record, sleeper, change):
    (tmp_path / record.file).unlink()
    put(tmp_path, replace(record, **change))
    assert release.release(str(tmp_path)) == []
    assert sleeper.poll() is None
    assert list(tmp_path.iterdir()) == []


NAMELESS = """import ctypes
ctypes.CDLL(None).prctl(15, bytes([0xff, 0xfe, 0x29, 0x20, 0x5a]))      # PR_SET_NAME
print(flush=True)
input()"""


def test_a_process_may_have_any_name(tmp_path, record):
    """Its pid may once have been one of ours: no user can keep records from being read, and rules from being lifted."""
    with subprocess.Popen([sys.executable, "-c", NAMELESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        put(tmp_path, replace(record, pid=process.pid, started=1))
        assert release.started(process.pid) > 1
        assert release.release(str(tmp_path)) == [record]
        assert process.poll() is None
        process.kill()


def test_who_holds_a_table_is_shown_as_plain_text(tmp_path):
    (tmp_path / "cmdline").write_bytes(b"a\0\xff\x1b[2J\n\0")
    assert release._shown(tmp_path / "cmdline") == "a \ufffd?[2J? "


def test_other_instances_are_left_alone(tmp_path, record, sleeper):
    assert release.release(str(tmp_path), "other") == []
    assert sleeper.poll() is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 1}', "\x00"])
def test_what_is_no_record_is_passed_over(tmp_path, record, text):
    (tmp_path / "x.json").write_text(text)
    assert release.status(str(tmp_path)) == [record]


def test_a_folder_that_others_may_write_to_is_refused(tmp_path, record, sleeper):
    tmp_path.chmod(0o777)
    with pytest.raises(ValueError, match="root alone may write"):
        release.release(str(tmp_path))
    assert sleeper.poll() is None


def test_no_folder_no_records(tmp_path):
    assert release.status(str(tmp_path / "none")) == []


def test_write_records_ourselves_and_forgets_the_dead(tmp_path, record, sleeper):
    sleeper.kill()
    sleeper.wait()
    path = release.write(str(tmp_path), "redirector", "t", "lockgate_t", "open", [["10.0.0.1", 1, "10.0.0.2", 2]])
    assert list(tmp_path.iterdir()) == [path]
    found, = release.status(str(tmp_path))
    assert (found.role, found.pid, found.netns) == ("redirector", os.getpid(), release.netns())
    assert str(found) == f"redirector of t (pid {os.getpid()}, table lockgate_t)"


@pytest.mark.parametrize("arguments", [["--help"], ["a", "b"]])
@pytest.mark.parametrize("python", [sys.executable, shutil.which("python3", path="/usr/bin") or sys.executable])
def test_it_runs_alone_and_explains_itself(tmp_path, python, arguments):
    script = shutil.copy(release.__file__, tmp_path)
    done = subprocess.run([python, script, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "release.py [RUN_DIR]" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="as root it would have to become somebody else first")
def test_others_are_told_to_use_sudo(tmp_path):
    with open(release.__file__, encoding="utf-8") as source:  # noqa: PTH123
        done = subprocess.run([shutil.which("python3", path="/usr/bin") or sys.executable, "-"], stdin=source, cwd="/",
                              capture_output=True, text=True, user=65534)
    assert (done.returncode, done.stdout) == (2, "")
    assert "sudo" in done.stderr
