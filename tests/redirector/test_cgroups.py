"""cgroup v2 is found wherever it is mounted."""
import os
from pathlib import Path

import pytest

from redirector import cgroups
from redirector.plan import BackendError

HYBRID = """\
40 31 0:37 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
"""
UNIFIED = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(("mountinfo", "folder"), [
    pytest.param(HYBRID, "/sys/fs/cgroup/unified", id="hybrid"), pytest.param(UNIFIED, "/sys/fs/cgroup", id="unified"),
])
def test_mount(mountinfo, folder):
    assert cgroups.mount(mountinfo) == folder


@pytest.mark.parametrize("first", [
    pytest.param(b"/home/eve/x\r1\x0b0:1\x1c/\xc2\x85/tmp/evil\xe2\x80\xa8", id="ends of lines"),
    pytest.param(b"/home/eve/\xff\xfe", id="no UTF-8"),
])
def test_a_users_mount_may_have_any_name(monkeypatch, first):
    mounts = b"50 30 0:50 / " + first + b" rw,nosuid - fuse.x eve rw,user_id=1000\n" + UNIFIED.encode()
    monkeypatch.setattr(Path, "read_bytes", lambda _: mounts)
    monkeypatch.setattr(Path, "read_text", lambda _: mounts.decode())
    assert cgroups.mount() == "/sys/fs/cgroup"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups here")
def test_groups_that_go_while_they_are_listed_are_no_obstacle(monkeypatch):
    outer = Path(cgroups.mount(), f"lockgate-test-{os.getpid()}")
    inner = outer / "inner"
    inner.mkdir(parents=True)
    walk = os.walk

    def and_go(folder):
        for entry in walk(folder):
            if entry[0] == str(inner):
                inner.rmdir()
            yield entry

    monkeypatch.setattr(os, "walk", and_go)
    try:
        assert cgroups.ids(f"/{outer.name}") == {outer.stat().st_ino}
    finally:
        outer.rmdir()


def test_not_mounted():
    with pytest.raises(BackendError, match="mount it"):
        cgroups.mount(HYBRID.splitlines()[0])


def test_a_group_that_is_not_there():
    with pytest.raises(BackendError, match="cgroup"):
        cgroups.ids("/none/such")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups here")
@pytest.mark.parametrize("name", [b"inner", b"\xff\xfe", "\u2028a b".encode()], ids=["plain", "no UTF-8", "odd"])
def test_the_path_of_an_id(name):
    outer = Path(cgroups.mount(), f"lockgate-test-{os.getpid()}")
    inner = outer / os.fsdecode(name)
    inner.mkdir(parents=True)
    number = inner.stat().st_ino
    try:
        assert cgroups.path(number) == f"/{outer.name}/{os.fsdecode(name)}"
    finally:
        inner.rmdir()
        outer.rmdir()
    assert cgroups.path(number) == ""
    assert cgroups.path(Path(cgroups.mount()).stat().st_ino) == "/"
    assert cgroups.path(2**64 - 1) == ""
