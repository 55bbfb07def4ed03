"""Whose browsers are meant, and with whose rights their files are touched."""

import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from certs.user import User, invoking
from tests.certs.conftest import needs_root

NOBODY = pwd.getpwnam("nobody")


@needs_root
@pytest.mark.parametrize(
    ("sudo_user", "uid", "home"),
    [
        pytest.param(None, 0, "/home/of/root", id="root itself"),
        pytest.param("root", 0, "/home/of/root", id="sudo by root"),
        pytest.param("nobody", NOBODY.pw_uid, NOBODY.pw_dir, id="sudo by a user"),
    ],
)
def test_invoking(monkeypatch: pytest.MonkeyPatch, sudo_user, uid, home):
    monkeypatch.setenv("HOME", "/home/of/root")
    monkeypatch.delenv("SUDO_USER", raising=False)
    if sudo_user:
        monkeypatch.setenv("SUDO_USER", sudo_user)
    user = invoking()
    assert (user.uid, user.home) == (uid, Path(home))


@needs_root
def test_a_user_who_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SUDO_USER", "no-such-user")
    with pytest.raises(ValueError, match="no-such-user"):
        invoking()


def test_acting_as_oneself(tmp_path: Path):
    with User(os.geteuid(), os.getegid(), tmp_path).acting():
        (tmp_path / "a").touch()
    assert (tmp_path / "a").exists()


@needs_root
def test_acting_as_another():
    """Files belong to the user, root's are closed to us, and afterwards all is as it was, also after an error."""
    identity = (os.geteuid(), os.getegid(), os.getgroups())
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
        user = User(NOBODY.pw_uid, NOBODY.pw_gid, Path(folder))
        with user.acting():
            (Path(folder) / "a").touch()
        with pytest.raises(PermissionError), user.acting():
            Path("/etc/shadow").read_bytes()
        status = (Path(folder) / "a").stat()
    assert (status.st_uid, stat.S_ISREG(status.st_mode)) == (NOBODY.pw_uid, True)
    assert (os.geteuid(), os.getegid(), os.getgroups()) == identity
