"""Files with secrets: only what is fit to hold one is read."""

import os

import pytest

from proxy.policy import parse
from proxy.secretfile import MAX_SECRET, read_secret, read_secrets, secret, secret_files


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "secret"
    found.write_text("s3cret\n")
    found.chmod(0o600)
    return found


@pytest.mark.parametrize(("mode", "private", "fit"), [
    (0o600, True, True), (0o400, True, True), (0o640, True, False), (0o604, True, False), (0o602, True, False),
    (0o644, False, True), (0o640, False, True), (0o646, False, False),
])
def test_who_may_read_it(path, mode, private, fit):
    path.chmod(mode)
    if fit:
        assert read_secret(path, private=private) == "s3cret\n"
        return
    with pytest.raises(ValueError, match="chmod"):
        read_secret(path, private=private)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_trusts_no_file_of_another_user(path, monkeypatch):
    os.chown(path, 1234, -1)
    with pytest.raises(ValueError, match="belongs to user 1234"):
        read_secret(path)
    monkeypatch.setenv("SUDO_UID", "1234")
    assert read_secret(path) == "s3cret\n"


def test_what_is_no_file(tmp_path, path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "large").write_bytes(b"x" * (MAX_SECRET + 1))
    (tmp_path / "large").chmod(0o600)
    path.write_bytes(b"\xff")
    for name, words in (("pipe", "regular"), ("large", "larger"), ("secret", "UTF-8")):
        with pytest.raises(ValueError, match=words):
            read_secret(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_secret(tmp_path / "none")


def test_the_worker_reads_itself_what_it_may(path, tmp_path):
    given = read_secrets([(path, True)])
    path.write_text("newer")
    assert secret(path, given) == "newer"
    path.unlink()
    assert secret(path, given) == "s3cret\n"
    path.touch(0o644)
    path.chmod(0o644)
    with pytest.raises(ValueError, match="chmod"):
        secret(path, given)
    with pytest.raises(FileNotFoundError):
        secret(tmp_path / "other", given)


def test_which_a_policy_names(tmp_path):
    text = b"version: 1\ncapture: {proxy_users: users, upstream_proxy: 'http://a.test:1', " \
           b"upstream_proxy_username: me, upstream_proxy_password_file: secret}\n"
    policy = parse(text, tmp_path / "policy.yaml")
    assert secret_files(policy.capture) == [(tmp_path / "users", False), (tmp_path / "secret", True)]
