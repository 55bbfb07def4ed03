"""`lockgate demo` and the self-test of `doctor` are the main job in small."""

import subprocess
import sys

import pytest

from proxy import selftest


def test_the_demo_keeps_its_promises():
    done = subprocess.run([sys.executable, "-m", "lockgate", "demo"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\nok ") == 5
    assert "All as promised" in done.stdout
    assert len(done.stdout.splitlines()) <= 40  # one screen


@pytest.mark.parametrize(
    ("written", "instead", "check"),
    [
        pytest.param("with: {{hosts: [{blocked}]}}", "with: {{hosts: [other.test]}}", "block", id="nothing is blocked"),
        pytest.param("use: cards.Cards", "use: cards.Cards, mode: monitor", "leak", id="leaks pass"),
        pytest.param(
            "./broken.py:Broken", "./broken.py:Broken, on_error: allow", "fail mode", id="broken filters pass"
        ),
    ],
)
def test_the_self_test_sees_what_does_not_work(monkeypatch, tmp_path, written, instead, check):
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    assert written in selftest.POLICY
    monkeypatch.setattr(selftest, "POLICY", selftest.POLICY.replace(written, instead))
    assert [name for name, good, _ in selftest.run(tmp_path, captured=False) if not good] == [check]
