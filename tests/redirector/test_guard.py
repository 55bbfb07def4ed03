"""A guard that cannot hold its rules says so, and is not left behind; what it holds is proved in tests/live/."""
import os

import pytest

from redirector import guard, release
from redirector.plan import BackendError


@pytest.mark.parametrize(("mode", "rules", "reason"), [
    pytest.param(0o755, "table inet lockgate_guard_t {", "syntax error|root", id="rules that nft refuses"),
    pytest.param(0o777, "", "root alone may write", id="a run folder that others may write to"),
])
def test_it_says_why_it_did_not_start(tmp_path, mode, rules, reason):
    tmp_path.chmod(mode)
    with pytest.raises(BackendError, match=reason):
        guard.start(guard.Order(str(tmp_path), "t", "lockgate_guard_t", rules, []))
    assert list(tmp_path.iterdir()) == []


def test_standing_guards_are_those_of_the_instance(tmp_path):
    for role, instance in (("guard", "a"), ("guard", "b"), ("redirector", "a")):
        release.write(str(tmp_path), role, instance, f"lockgate_{role}_{instance}", "closed", [])
    found, = guard.standing(str(tmp_path), "a")
    assert (found.role, found.instance, found.pid) == ("guard", "a", os.getpid())
