"""The system's bundle of roots: the first that is really there."""

import pytest

from certs.bundles import system_bundle


@pytest.mark.parametrize(("there", "expected"), [
    pytest.param((), None, id="none"),
    pytest.param(("b.pem",), "b.pem", id="one"),
    pytest.param(("b.pem", "c.pem"), "b.pem", id="the first of several"),
])
def test_system_bundle(tmp_path, there, expected):
    (tmp_path / "a.pem").mkdir()        # not a file
    for name in there:
        (tmp_path / name).touch()
    found = system_bundle(tmp_path / name for name in ("a.pem", "b.pem", "c.pem"))
    assert found == (expected and tmp_path / expected)
