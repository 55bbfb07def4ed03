"""What one Start puts in place, in the order that leaves no gap: new guard, capture, old guard away."""
import os
import secrets
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from redirector import backends, cgroups, conntrack, guard, release, sockets
from redirector.divert import Divert
from redirector.exempt import Exemption
from redirector.existing import existing
from redirector.nftables import CGROUPS, guard_ruleset
from redirector.plan import BackendError, Connection, Endpoint, Plan, beyond
from redirector.wire import Ready, Start

#: Seconds between two attempts to replace a guard that died: within the second that we promise, and no busy loop.
RETRY = 0.5


def note(text: str) -> None:
    """Say it on standard error; a terminal that has gone is no reason to end."""
    with suppress(OSError):
        os.write(2, f"redirector: {text}\n".encode(errors="replace"))


class Observation:
    """What a Start without a plan puts in place: nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def install(self) -> Ready:
        return Ready("none", existing=0, cut=False)

    def tend(self) -> None: ...

    def end_guard(self) -> None: ...

    def original(self, client: Endpoint, server: Endpoint) -> tuple[Endpoint, Endpoint] | None:
        return client, server


class Session:
    """The rules of one Start. Leaving it removes them all but the guard's, which `end_guard` ends."""

    def __init__(self, start: Start, plan: Plan) -> None:
        self.plan, self._instance, self._run_dir = plan, start.instance, start.run_dir
        self._mount = cgroups.mount() if self.plan.scope.cgroup or self.plan.own_server else CGROUPS
        self._server = Exemption(plan, start.instance)
        self._table = f"lockgate_{start.instance}"
        self.backend = backends.make(start, plan, self._table, self._mount, self._server.paths)
        self._existing: list[Connection] = []
        self._guard: subprocess.Popen[bytes] | None = None
        self._retry_at = 0.0
        self._record: Path | None = None
        self._diverting = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._diverting:
                self._end_diverted()
        finally:
            self.backend.remove()
            self._server.leave()
        if self._record is not None:
            self._record.unlink(missing_ok=True)

    def install(self) -> Ready:
        """Put all in place. Raises BackendError: all is as it was."""
        offered = self.backend.declaration
        if lacking := beyond(self.plan, offered):
            raise BackendError(f"--capture {offered.name} does not offer {', '.join(lacking)}: choose another")
        try:
            self._record = release.write(self._run_dir, "redirector", self._instance, self._table, self.plan.fail, [])
            if self.plan.own_server:
                self._server.enter()
            earlier = guard.standing(self._run_dir, self._instance)
            self._existing = self._older(earlier)
        except (OSError, ValueError) as error:
            raise BackendError(str(error)) from error
        with suppress(OSError):         # a kernel that cannot be asked, or that remembers nothing
            conntrack.forget(self.plan.ports, self.plan.exempt_uid)
        if self.plan.fail == "closed":
            self._start_guard()
        try:
            self.backend.install(self.plan, self._existing)
        except BackendError:
            self._end_guards(keep=earlier)
            raise
        self._diverting = True
        for record in earlier:
            release.end(self._run_dir, record)
        return Ready(self.backend.declaration.name, len(self._existing), self.plan.existing == "cut")

    def tend(self) -> None:
        """Replace a guard that died; a failure is told once an attempt, and capture goes on.

        Raises BackendError when the capture itself has ended.
        """
        if isinstance(self.backend, Divert):
            self.backend.tend()
        if self._guard is None or self._guard.poll() is None or time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + RETRY
        try:
            self._start_guard()
        except BackendError as error:
            note(str(error))

    def end_guard(self) -> None:
        """No more refusing: the orderly end."""
        self._end_guards(keep=[])

    def original(self, client: Endpoint, server: Endpoint) -> tuple[Endpoint, Endpoint] | None:
        """Both ends as the client made the connection that the proxy asks for; None: it has not been diverted."""
        return self.backend.original(client, server) if isinstance(self.backend, Divert) else (client, server)

    def _older(self, earlier: list[release.Record]) -> list[Connection]:
        """Behind an earlier guard, only those that it let go on: the others were diverted to a proxy now dead."""
        found = self._captured()
        for record in earlier:
            let_go_on = set(map(tuple, record.existing))        # any user can have made thousands
            found = [c for c in found if (*c.client, *c.server) in let_go_on]
        return found

    def _captured(self) -> list[Connection]:
        own = frozenset[int]().union(*map(cgroups.ids, self._server.paths))
        return [connection for connection in existing(self.plan) if connection.cgroup not in own]

    def _end_diverted(self) -> None:
        """Without the rules no answer would reach their clients, which would wait for long; now a reset does."""
        older = {(c.client, c.server) for c in self._existing}
        with suppress(OSError, BackendError):
            for connection in self._captured():
                if (connection.client, connection.server) not in older:
                    sockets.destroy(connection)

    def _start_guard(self) -> None:
        if isinstance(self.backend, Divert):
            self._guard = self.backend.start_guard(self.plan, self._existing)
            return
        table = f"lockgate_guard_{self._instance}_{secrets.token_hex(3)}"     # an earlier guard still holds another
        self._guard = guard.start(guard.Order(
            self._run_dir, self._instance, table,
            guard_ruleset(self.plan, table, self._existing, self._mount, self._server.paths),
            [[*c.client, *c.server] for c in self._existing]))

    def _end_guards(self, keep: list[release.Record]) -> None:
        for record in guard.standing(self._run_dir, self._instance):
            if record not in keep:
                release.end(self._run_dir, record)
        if self._guard is not None:
            self._guard.wait()
            self._guard = None
