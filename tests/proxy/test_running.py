"""The note of a running launcher."""

import json
import os
import subprocess

import pytest

from proxy import running
from redirector import release


@pytest.fixture
def place(tmp_path):
    """State folder, run folder and the note's place."""
    (tmp_path / "run").mkdir(mode=0o755)
    (tmp_path / "state").mkdir()
    return tmp_path / "state", str(tmp_path / "run"), running.place(tmp_path / "state", str(tmp_path / "run"))


def test_a_note_of_this_process_is_read(place):
    state, run_dir, path = place
    assert running.read(state, run_dir) is None
    running.write(path, {"listen": [["::1", 1]]})
    assert running.read(state, run_dir) == {
        "pid": os.getpid(),
        "started": release.started(os.getpid()),
        "listen": [["::1", 1]],
    }
    assert running.read(state.parent, run_dir) is None  # another state folder
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"started": 1}, id="another process has the pid now"),
        pytest.param({"pid": 2**22 + 1}, id="no process has it"),
    ],
)
def test_a_note_of_one_that_ended_is_none(place, change):
    state, run_dir, path = place
    running.write(path, {})
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert running.read(state, run_dir) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="root's notes are in the run folder")
def test_root_reads_no_note_that_others_may_have_written(place):
    state, run_dir, path = place
    running.write(path, {})
    assert not path.is_relative_to(state)
    subprocess.run(["chmod", "777", run_dir], check=True)
    with pytest.raises(ValueError, match="root alone"):
        running.read(state, run_dir)
