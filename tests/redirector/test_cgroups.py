"""cgroup v2 is found wherever it is mounted."""
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


def test_not_mounted():
    with pytest.raises(BackendError, match="mount it"):
        cgroups.mount(HYBRID.splitlines()[0])


def test_a_group_that_is_not_there():
    with pytest.raises(BackendError, match="cgroup"):
        cgroups.ids("/none/such")
