"""What the suite asks of a backend under test, and where it finds them: one module `rig_NAME.py` for each."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest

from redirector.plan import Declaration, Endpoint, Plan
from redirector.wire import Failed, Ready
from tests.contract.lab import Lab

#: Every backend that there is to be. One without a module, or whose module says why not, is not under test here.
NAMES = ("nftables", "divert", "hook", "explicit")
PROXY_PORT = 8080
#: Nobody's uids: the proxy's, an application's, and another's.
PROXY_UID, APP_UID, OTHER_UID = 61184, 61185, 61186
#: The whole computer. A rig puts its own name in.
EVERYTHING = Plan(ports=(80, 443), listen_port=PROXY_PORT, exempt_uid=PROXY_UID, fail="open")
CLOSED = replace(EVERYTHING, fail="closed")
#: A Python that every user may run: ours may be in a closed home.
PYTHON = next(filter(os.path.exists, ("/usr/bin/python3", sys.executable)))
#: Both fail modes, for a case's `plan`.
MODES = [pytest.param(EVERYTHING, id="open", marks=pytest.mark.offers("open")),
         pytest.param(CLOSED, id="closed", marks=pytest.mark.offers("closed"))]
#: Seconds for an application to be done; one that takes longer hangs.
PATIENCE = 20.0


@dataclass(frozen=True)
class Seen:
    """A connection that came to the proxy: where it was going, and whose the backend says it is (where asked)."""

    server: Endpoint
    pid: int | None = None
    uid: int | None = None
    exe: str = ""


class Rig(Protocol):
    """One backend on the client of a `Lab`, with a proxy behind it that passes all on as it comes.

    Made once for a test, in any state at its end: `close` must cope. Nothing of it may outlast `close`.
    """

    declaration: ClassVar[Declaration]
    lab: Lab
    #: Local ports that exempt the proxy's own connections, where ports do.
    exempt_ports: range

    def __init__(self, lab: Lab, folder: Path) -> None:
        """`folder` is for whatever the rig writes; only root may write to it, everyone may read it."""
        ...

    def start(self, plan: Plan, *, owners: bool = False, cwd: str = "/") -> Ready | Failed:
        """Start backend and proxy; when this returns, what is asked for holds. It may be called again after `close`.

        `owners`: look up whose each connection is. `cwd`: the folder that what runs with rights is started in.
        """
        ...

    def popen(self, command: Sequence[str], *, uid: int = 0, cgroup: Path | None = None,
              **more: Any) -> subprocess.Popen[str]:
        """Start an application on the client, as the backend wants applications to be started.

        For most this is `lab.popen`; one that captures a process tree starts it here.
        """
        ...

    def seen(self) -> list[Seen]:
        """All connections that came to the proxy since the start."""
        ...

    def processes(self) -> dict[str, int]:
        """The living ones: role (`proxy`, `redirector`, `guard` ...) and pid."""
        ...

    def mend(self) -> None:
        """What a launcher does, but for a new start: where one of proxy and redirector has ended, it ends the other."""
        ...

    def stop(self) -> None:
        """The orderly end; it has ended on return."""
        ...

    def left(self) -> list[str]:
        """What there still is of it, for people to read: tables, programs, files, processes. [] when all is gone."""
        ...

    def close(self) -> None:
        """End it, however it is, and undo all."""
        ...


class Running:
    """A rig that runs already, and what it saw since this was made."""

    def __init__(self, rig: Rig) -> None:
        self.lab, self.popen, self.declaration, self.processes = rig.lab, rig.popen, rig.declaration, rig.processes
        self._seen, self._before = rig.seen, len(rig.seen())

    def seen(self) -> list[Seen]:
        return self._seen()[self._before:]


def usual(rig: Rig, **changes: Any) -> Plan:
    """What most cases start with: everything, and the fail mode that shows more where both are offered."""
    return replace(EVERYTHING, **{"fail": "open" if rig.declaration.open else "closed", **changes})


def available() -> dict[str, Callable[[Lab, Path], Rig] | str]:
    """The rigs by name; a text instead says why that backend cannot be tested here.

    A module has a class `Rig`, and a function `missing()` that says what this computer lacks for it, or "".
    """
    found: dict[str, Callable[[Lab, Path], Rig] | str] = {}
    for name in NAMES:
        if importlib.util.find_spec(f"tests.contract.rig_{name}"):
            module = importlib.import_module(f"tests.contract.rig_{name}")
            found[name] = module.missing() or module.Rig
    return found


class Place(Protocol):
    """Where an application can be started: a Lab, a rig, a `Running`, a client of the real proxy."""

    @property
    def lab(self) -> Lab: ...

    @property
    def popen(self) -> Callable[..., "subprocess.Popen[str]"]: ...


class Application:
    """A run of application/: what it says is read line by line, so it can be stopped in the middle."""

    def __init__(self, where: Place, action: str, *, uid: int = 0,
                 cgroup: Path | None = None, python: str = PYTHON, cwd: str | None = None, **arguments: Any) -> None:
        command = [python, "-I", "-S", str(where.lab.application), action, json.dumps(arguments)]
        self.process = where.popen(command, uid=uid, cgroup=cgroup, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)

    def says(self) -> dict[str, Any]:
        """Its next line."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return dict(json.loads(line))

    def go_on(self) -> None:
        """It waits for a line between two steps."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self, patience: float = PATIENCE) -> dict[str, Any]:
        """What it says last."""
        try:
            out, err = self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            return {"error": "hangs"}
        assert self.process.returncode == 0, err
        return dict(json.loads(out.splitlines()[-1]))

    def lines(self) -> list[Any]:
        """End its input; all that it has said."""
        return [json.loads(line) for line in self.process.communicate(timeout=PATIENCE)[0].splitlines()]

    def close(self) -> None:
        self.process.kill()
        if self.process.stdin and not self.process.stdin.closed:
            self.process.communicate()


def ask(where: Place, action: str, patience: float = PATIENCE, **arguments: Any) -> dict[str, Any]:
    """Run an action of application/ under the rig; with a Lab, without any capture. Returns what it saw.

    `uid`, `cgroup`, `python`, `cwd` choose who runs it; the rest are the action's arguments.
    """
    return Application(where, action, **arguments).result(patience)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def root() -> bool:
    return os.geteuid() == 0
