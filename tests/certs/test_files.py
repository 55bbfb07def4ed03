"""A file is replaced whole, with the mode that was asked for."""

import os
from pathlib import Path

import pytest

from certs.files import look, replace, sweep


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_replace(tmp_path: Path, mode, umask):
    old = os.umask(umask)
    try:
        replace(tmp_path / "a", b"one", 0o600)
        replace(tmp_path / "a", b"two", mode)
    finally:
        os.umask(old)
    assert (look(tmp_path / "a"), (tmp_path / "a").stat().st_mode & 0o777) == (b"two", mode)
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_link_is_replaced_not_followed(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"theirs")
    (tmp_path / "b").symlink_to("a")
    replace(tmp_path / "b", b"ours", 0o600)
    assert (look(tmp_path / "a"), look(tmp_path / "b")) == (b"theirs", b"ours")


def test_what_a_killed_one_left(tmp_path: Path):
    (tmp_path / ".a.lockgate").write_bytes(b"half")
    replace(tmp_path / "a", b"whole", 0o600)
    (tmp_path / ".a.lockgate").write_bytes(b"half")
    sweep(tmp_path / "a")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_look_at_nothing(tmp_path: Path):
    assert look(tmp_path / "a") is None
