"""The backend `divert` under the contract."""

from dataclasses import replace
from typing import Any, ClassVar

from redirector import handles, programs, wire
from redirector.divert import Divert
from redirector.plan import Plan
from tests.contract.driven import Driven, root_and
from tests.contract.rig import Seen


def missing() -> str:
    return root_and("nft", "ip", "tc", "setpriv") or handles.usable() or ""


class Rig(Driven):
    declaration = Divert.declaration
    exempt_ports = range(61440, 65536)
    listen: ClassVar = ("::",)
    original = "lookup"

    def start(self, plan: Plan, *, owners: bool = False, **more: Any) -> wire.Ready | wire.Failed:
        self._owners = owners
        return super().start(replace(plan, exempt_ports=(self.exempt_ports[0], self.exempt_ports[-1])), owners=owners, **more)

    def seen(self) -> list[Seen]:
        """The destination comes with the owner, so both are known, asked for or not."""
        return super().seen() if self._owners else [Seen(each.server) for each in super().seen()]

    def left_of_backend(self) -> list[str]:
        """A program whose process is dead lets all pass. When nobody was left alive to detach it, it is no more of a trace
        than a record of the dead: the next start, or `release`, removes it (tests/live/test_divert.py)."""
        attached = self.lab.client.call(lambda: list(programs.attached()))
        alone = not self.lab.client.call(programs.living) and not self.processes()
        return [*super().left_of_backend(), *([] if alone else map(str, attached))]
