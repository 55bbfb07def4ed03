"""The backend `hook` under the contract: every application is started with the filter, by a keeper of the rig's."""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

from redirector import trial
from redirector.hook import Hook
from redirector.keeper import Keeper
from redirector.plan import Plan
from redirector.wire import Failed, Ready
from tests.contract.driven import Driven, root_and
from tests.contract.rig import Seen
from tests.redirector.hooked import ENTRANCE


def missing() -> str:
    return root_and("ip", "setpriv") or trial.obstacle() or ""


class Rig(Driven):
    declaration = Hook.declaration
    original = "lookup"
    _keeper: Keeper | None = None
    _launcher: threading.Thread | None = None
    _end: int

    @property
    def keeper(self) -> Keeper:
        if self._keeper is None:
            self._keeper = Keeper()
        return self._keeper

    def start(self, plan: Plan, *, owners: bool = False, cwd: str = "/") -> Ready | Failed:
        self._alone()
        self._owners = owners
        with self.keeper.attach() as end:
            self._end = end.fileno()
            answer = super().start(plan, owners=owners, cwd=cwd)
        self._ended = threading.Event()
        self._launcher = threading.Thread(target=self._attend, args=(self._ended,), daemon=True)
        self._launcher.start()
        return answer

    def _attend(self, ended: threading.Event) -> None:
        """The launcher is part of it here: nobody else ends the connections of a proxy that hangs."""
        while not ended.wait(0.1):
            self.mend()

    def _alone(self) -> None:
        if self._launcher is not None:
            self._ended.set()
            self._launcher.join()
            self._launcher = None

    def redirector_command(self, start: bytes) -> list[str]:
        return [*super().redirector_command(start), str(self._end)]

    def redirector_options(self) -> dict[str, Any]:
        return {"pass_fds": [self._end]}

    def popen(self, command: Sequence[str], *, uid: int = 0, cgroup: Path | None = None, **more: Any) -> "Popen[str]":
        if uid:     # after the filter, whose code only root may reach here
            command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command]
        number = self.keeper.inside.fileno()
        entrance = [sys.executable, "-I", "-c", ENTRANCE, str(number)]
        process = self.lab.popen([*entrance, *command], cgroup=cgroup, pass_fds=[number], **more)
        self.keeper.serve()
        return process

    def seen(self) -> list[Seen]:
        return [each if self._owners else Seen(each.server) for each in super().seen()]     # it knows them anyway

    def stop(self) -> None:
        self._alone()
        super().stop()

    def close(self) -> None:
        self._alone()
        super().close()
        if self._keeper is not None:
            self._keeper.__exit__()
            self._keeper = None
