"""Who the proxy runs as, what it gets to see, and whose the state folder is."""

import fcntl
import contextlib
import os
import pwd
import socket
import stat
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from proxy import confine
from proxy.confine import TRANSIENT_UIDS, ConfineError, Identity, claim, code_paths, drop, identity

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
SOMEBODY = Identity(61996, 61996, "somebody")


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        pytest.param("nobody", 65534, id="by name"),
        pytest.param("65534", 65534, id="by number"),
    ],
)
def test_a_named_user(name, uid):
    assert identity(name).uid == uid


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("root", "must not run as root", id="root"),
        pytest.param("0", "must not run as root", id="root by number"),
        pytest.param("nosuch", "useradd --system nosuch", id="nobody there is"),
        pytest.param("4294967294", "there is no user", id="no such number"),
    ],
)
def test_a_user_that_is_refused(name, said):
    with pytest.raises(ConfineError, match=said):
        identity(name)


def test_without_an_account_the_uid_belongs_to_nobody_and_stays_with_the_state(monkeypatch):
    monkeypatch.setattr(confine, "ACCOUNT", "nosuch")
    uid = identity(None).uid
    assert uid in TRANSIENT_UIDS
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)
    assert identity(None, owner=61500).uid == 61500
    assert identity(None, owner=1000).uid in TRANSIENT_UIDS
    monkeypatch.setattr(confine, "ACCOUNT", "nobody")
    assert identity(None, owner=61500).uid == 65534


def inside(act) -> str:
    """Run this in a child; returns what it printed, or its traceback."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.dup2(write, 1)
        os.dup2(write, 2)
        try:
            act()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as output:
        said = output.read()
    os.waitpid(pid, 0)
    return said


@pytest.fixture
def home(tmp_path):
    """A folder that only root may enter, with what the proxy needs and what it must not see."""
    home = tmp_path / "closed"
    home.mkdir(mode=0o700)
    for folder in ("etc", "private", "state"):
        (home / folder).mkdir()
    for file in ("etc/policy.yaml", "policy.yaml", "private/diary"):
        (home / file).write_text(file)
    os.chown(home / "state", SOMEBODY.uid, SOMEBODY.gid)
    return home


@needs_root
def test_the_proxy_sees_what_it_needs_and_nothing_else(home):
    become = drop(SOMEBODY, readable=[home / "etc/policy.yaml", home / "policy.yaml"], writable=[home / "state"])

    def act() -> None:
        become()
        subprocess.run(
            [
                sys.executable,
                "-I",
                "-c",
                f"""if True:
            import os, pathlib, proxy
            home = pathlib.Path({str(home)!r})
            print(os.getresuid(), os.getresgid(), os.getgroups())
            print(sorted(p.name for p in home.iterdir()), (home / 'policy.yaml').read_text())
            (home / 'state/new').write_text('x')
            for path in ('etc/policy.yaml', 'etc/new', 'policy.yaml'):
                try: (home / path).write_text('x')
                except OSError as error: print(error.strerror)
            print(open('/proc/self/status').read().partition('NoNewPrivs:')[2][:2].strip())""",
            ],
            check=True,
        )

    uid = SOMEBODY.uid
    denied = {"Read-only file system", "Permission denied"}
    lines = inside(act).splitlines()
    assert lines[:2] == [f"{(uid, uid, uid)} {(uid, uid, uid)} []", "['etc', 'policy.yaml', 'state'] policy.yaml"], (
        lines
    )
    assert set(lines[2:5]) <= denied
    assert lines[5] == "1"
    assert sorted(path.name for path in home.iterdir()) == [
        "etc",
        "policy.yaml",
        "private",
        "state",
    ]  # here all is as it was
    assert (home / "state/new").exists()


@needs_root
@pytest.mark.parametrize(
    ("file", "shown"),
    [
        pytest.param("etc/policy.yaml", "etc", id="its folder: a file that replaces it is seen"),
        pytest.param("policy.yaml", "policy.yaml", id="it alone: its folder has what is nobody's business"),
    ],
)
def test_what_is_shown_of_a_file(home, file, shown):
    assert confine._view(home / file, SOMEBODY) == home / shown


@needs_root
def test_a_file_that_the_user_may_not_read_is_named(home):
    (home / "etc/policy.yaml").chmod(0o600)
    with pytest.raises(ConfineError, match=r"policy\.yaml: chmod o\+r"):
        drop(SOMEBODY, readable=[home / "etc/policy.yaml"], writable=[])


def test_code_paths_are_ours_and_the_interpreters():
    paths = code_paths()
    assert Path(confine.__file__).parent in paths
    assert Path(sys.base_prefix).resolve() in paths
    assert Path(confine.__file__).parents[1] not in paths


@needs_root
def test_the_state_folder_is_handed_over_by_descriptors(tmp_path):
    state, precious = tmp_path / "state", tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (state / "ca").mkdir(parents=True)
    (state / "ca/key").touch(0o600)
    (state / "link").symlink_to(precious)
    os.link(precious / "file", state / "hard")
    who, lock = claim(state, "nobody")
    try:
        owners = {
            path.name: path.lstat().st_uid
            for path in (state, state / "ca", state / "ca/key", precious, precious / "file")
        }
        assert owners == {"state": who.uid, "ca": who.uid, "key": who.uid, "precious": 0, "file": 0}
        assert stat.S_IMODE((state / "ca/key").stat().st_mode) == 0o600
    finally:
        os.close(lock)


@needs_root
def test_what_changes_under_the_hand_is_not_given_away(tmp_path, monkeypatch):
    """Who had the folder may put a link in a file's place between the look and the gift."""
    state, precious = tmp_path / "state", tmp_path / "precious"
    state.mkdir()
    precious.touch()
    for name in confine.OURS:
        (state / name).touch()
    look = os.fstat, os.stat

    def after(look):
        def looked(*args, **kwargs):
            info = look(*args, **kwargs)
            if stat.S_ISREG(info.st_mode):
                for name in confine.OURS:
                    (state / name).unlink(missing_ok=True)
                    os.link(precious, state / name)
            return info
        return looked

    monkeypatch.setattr(os, "fstat", after(look[0]))
    monkeypatch.setattr(os, "stat", after(look[1]))
    _, lock = claim(state, "nobody")
    monkeypatch.undo()
    os.close(lock)
    assert precious.stat().st_uid == 0


@needs_root
@pytest.mark.parametrize("kind", ["file", "pipe", "terminal", "socket"])
def test_what_is_handed_on_for_writing_cannot_be_read(tmp_path, kind):
    opened = []
    if kind == "file":
        opened = [os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)]
    elif kind == "pipe":
        opened = list(reversed(os.pipe()))
    elif kind == "terminal":
        opened = list(reversed(os.openpty()))
    else:
        opened = [each.detach() for each in socket.socketpair()]
    given = confine.write_only(opened[0])
    try:
        os.write(given, b"x")
        if kind == "socket":
            assert given == opened[0]
        else:
            assert fcntl.fcntl(given, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    finally:
        for each in {given, *opened}:
            os.close(each)


@needs_root
def test_a_state_folder_in_use_stays_its_users(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    _, first = claim(state, "nobody")
    with pytest.raises(ConfineError, match="in use"):
        claim(state, "daemon")
    _, second = claim(state, "nobody")
    os.close(first)
    os.close(second)
    who, third = claim(state, "daemon")
    assert state.stat().st_uid == who.uid
    fcntl.flock(third, fcntl.LOCK_UN)
    os.close(third)


@needs_root
def test_a_folder_of_someone_elses_is_not_given_away(tmp_path):
    (tmp_path / "thesis.odt").touch()
    with pytest.raises(ConfineError, match="files of others"):
        claim(tmp_path, "nobody")
    assert (tmp_path / "thesis.odt").stat().st_uid == 0


@needs_root
def test_a_state_folder_below_the_policys_can_be_written(home):
    (home / "etc/state").mkdir()
    os.chown(home / "etc/state", SOMEBODY.uid, SOMEBODY.gid)
    become = drop(SOMEBODY, readable=[home / "etc/policy.yaml"], writable=[home / "etc/state"])

    def act() -> None:
        become()
        (home / "etc/state/new").write_text("x")
        with contextlib.suppress(OSError):
            (home / "etc/new").write_text("x")

    inside(act)
    assert (home / "etc/state/new").exists()
    assert not (home / "etc/new").exists()
