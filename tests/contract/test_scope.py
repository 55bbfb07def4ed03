"""Whose connections are captured, and what is known of who they are."""

import os
import shutil
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from redirector.plan import Scope
from tests.contract.lab import ORIGIN4
from tests.contract.rig import APP_UID, MODES, OTHER_UID, PYTHON, Application, ask, usual
from tests.waiting import wait_for

pytestmark = pytest.mark.live
CAPTURED, DIRECT = ({"answer": f"{ORIGIN4} 443", "direct": direct} for direct in (False, True))
WHO = {"address": ORIGIN4, "port": 443}


@pytest.mark.offers("users")
@pytest.mark.parametrize("plan", MODES)
def test_one_user(rig, plan):
    rig.start(replace(plan, scope=Scope(uid=APP_UID)))
    assert [ask(rig, "who", uid=uid, **WHO) for uid in (APP_UID, OTHER_UID, 0)] == [CAPTURED, DIRECT, DIRECT]


@pytest.mark.offers("users")
def test_a_setuid_program_is_its_owners(rig, tmp_path):
    """Whose socket it is decides, not who started it."""
    program = Path(rig.lab.folder, "setuid-python")
    shutil.copy(PYTHON, program)
    os.chown(program, APP_UID, APP_UID)
    program.chmod(0o4755)
    rig.start(usual(rig, scope=Scope(uid=APP_UID)))
    assert ask(rig, "who", uid=OTHER_UID, python=str(program), **WHO) == CAPTURED


@pytest.mark.offers("groups")
@pytest.mark.parametrize("plan", MODES)
def test_one_control_group_and_those_below(rig, cgroup, plan):
    below = cgroup / "below"
    below.mkdir()
    rig.start(replace(plan, scope=Scope(cgroup=f"/{cgroup.name}")))
    answers = [ask(rig, "who", cgroup=group, uid=uid, **WHO) for group in (cgroup, below, None) for uid in (0, APP_UID)]
    below.rmdir()
    assert answers == [CAPTURED] * 4 + [DIRECT] * 2


@pytest.mark.offers("trees")
@pytest.mark.parametrize("detach", [False, True], ids=["children", "daemons"])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_process_and_its_descendants(rig, cgroup, depth, detach):
    """Nobody else is."""
    in_group = {"cgroup": cgroup} if rig.declaration.groups else {}
    rig.start(usual(rig, scope=Scope(cgroup=f"/{cgroup.name}") if in_group else Scope()))
    answer = ask(rig, "child", depth=depth, detach=detach, **in_group, **WHO)
    assert (answer["answer"], answer["direct"]) == (f"{ORIGIN4} 443", False)
    assert ask(rig.lab, "who", **WHO) == DIRECT


@pytest.mark.offers("transparent")
def test_another_program_started_by_a_shell(rig):
    rig.start(usual(rig))
    command = ["bash", "-c", f"exec 3<>/dev/tcp/{ORIGIN4}/443; echo who >&3; read -u 3 host port rest; echo $host $port"]
    assert ask(rig, "by_shell", command=command) == {"output": f"{ORIGIN4} 443", "code": 0}
    assert len(rig.seen()) == 1


# -- who it is

def named(rig, application):
    """What `application` says, and whose the backend says it is. A look-up may come too late on a busy computer."""
    for _ in range(5):
        said, seen = application(), rig.seen()[-1]
        if seen.pid:
            break
    return said, seen


@pytest.mark.parametrize("uid", [0, APP_UID])
def test_the_process_is_named(rig, uid):
    def application():
        with closing(Application(rig, "hold", uid=uid, **WHO)) as app:
            app.says()
            return app.process.pid

    rig.start(usual(rig), owners=True)
    pid, seen = named(rig, application)
    assert (seen.pid, seen.uid, seen.exe) == (pid, uid, str(Path(PYTHON).resolve()))


def test_a_child_is_named_itself(rig):
    rig.start(usual(rig), owners=True)
    answer, seen = named(rig, lambda: ask(rig, "child", depth=2, **WHO))
    assert seen.pid == answer["pid"]


@pytest.mark.offers("processes")
def test_processes_that_are_gone_at_once_are_named(rig):
    rig.start(usual(rig), owners=True)
    apps = [Application(rig, "flash", **WHO) for _ in range(30)]
    for app in apps:
        app.process.communicate(timeout=10)
    assert wait_for(lambda: len(rig.seen()) == len(apps), 5)
    assert sorted(seen.pid or 0 for seen in rig.seen()) == sorted(app.process.pid for app in apps)


def test_a_process_that_is_gone_is_not_another(rig):
    """Better no name than a wrong one."""
    rig.start(usual(rig), owners=True)
    apps = [Application(rig, "flash", **WHO) for _ in range(20)]
    for app in apps:
        app.process.communicate(timeout=10)
    with suppress(AssertionError):
        wait_for(lambda: len(rig.seen()) == len(apps), 5)
    assert {seen.pid for seen in rig.seen()} <= {None, *(app.process.pid for app in apps)}
