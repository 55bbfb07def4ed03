"""The backend `hook` under the contract: every application is started with the filter, by a keeper of the rig's."""

import sys
import threading
import time
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
    _end: int

    @property
    def keeper(self) -> Keeper:
        if self._keeper is None:
            self._keeper = Keeper()
        return self._keeper

    def start(self, plan: Plan, *, owners: bool = False, cwd: str = "/") -> Ready | Failed:
        self._owners = owners
        with self.keeper.attach() as end:
            self._end = end.fileno()
            answer = super().start(plan, owners=owners, cwd=cwd)
        threading.Thread(target=self._launch, args=(self.redirector,), daemon=True).start()
        return answer

    def _launch(self, redirector: "Popen[bytes]") -> None:
        """The launcher is part of it here: nobody else ends the connections of a proxy that hangs."""
        while self.redirector is redirector:
            time.sleep(0.1)
            if redirector.poll() is not None:
                self.mend()
                return

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

    def close(self) -> None:
        super().close()
        if self._keeper is not None:
            self._keeper.__exit__()
            self._keeper = None
