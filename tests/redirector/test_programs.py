"""Programs in the kernel, found and removed without pydivert; with pydivert they are in tests/live/test_divert.py."""
import subprocess
import sys

import pytest

from redirector import programs
from tests.redirector.namespaces import Namespace, needs_root
from tests.waiting import wait_for


@pytest.fixture
def namespace():
    made = Namespace("lgtprog")
    yield made
    subprocess.run(["ip", "netns", "delete", made.name], check=True)


@pytest.mark.parametrize("prepare", [
    pytest.param("true", id="no qdisc"),
    pytest.param("tc qdisc add dev lo clsact", id="no filter"),
    pytest.param("tc qdisc add dev lo clsact; tc filter add dev lo egress pref 28801 bpf bytecode '1,6 0 0 0'",
                 id="somebody's filter with our preference"),
])
@needs_root[0]
@needs_root[1]
def test_what_is_not_ours_is_not_found(namespace, prepare):
    namespace.sh(prepare)
    assert namespace.call(lambda: (list(programs.attached()), programs.detach())) == ([], [])


@needs_root[0]
@needs_root[1]
def test_living_are_the_roles_of_processes_in_this_network(namespace):
    command = [sys.executable, "-c", "import time; time.sleep(30)", programs.MODULE, "guard"]
    with namespace.call(subprocess.Popen, command) as process:
        try:
            assert wait_for(lambda: namespace.call(programs.living) == {"guard"})
            assert "guard" not in programs.living()
        finally:
            process.kill()
