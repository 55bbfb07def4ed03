"""Whether `hook` can be had is found by trying it."""
import errno

import pytest

from redirector import trial
from tests.redirector.hooked import Hooked, hooked, usable

__all__ = ["hooked"]        # a fixture


def test_it_is_tried():
    usable()
    assert trial.obstacle() is None


@pytest.mark.parametrize(("level", "expected"), [("0", None), ("1", None), ("2", "ptrace_scope"), ("3", "ptrace_scope")])
def test_yama_lets_us_look_into_our_own_or_nobody(tmp_path, monkeypatch, level, expected):
    usable()
    (tmp_path / "scope").write_text(f"{level}\n")
    monkeypatch.setattr(trial, "_YAMA", tmp_path / "scope")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert expected is None or expected in trial.obstacle()


def test_within_another_it_says_so(hooked: Hooked):
    assert "filter of that kind already" in hooked.run("from redirector import trial\nsay(trial.obstacle())")


def test_a_kernel_that_refuses_is_said(monkeypatch):
    def refuse():
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(trial.seccomp, "machine", refuse)
    assert trial.obstacle() == "the kernel refuses: Function not implemented"


def test_on_another_system(monkeypatch):
    monkeypatch.setattr(trial.platform, "system", lambda: "Darwin")
    assert trial.obstacle() == "seccomp is Linux's"
