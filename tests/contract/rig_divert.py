"""The backend `divert` under the contract."""

from dataclasses import replace
from typing import Any, ClassVar

from redirector import handles, wire
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

    def redirector_command(self, start: bytes) -> list[str]:
        """As the launcher does, which knows the proxy's pid when it makes the plan."""
        message = wire.decode(start)
        assert isinstance(message, wire.Start)
        assert message.plan is not None
        assert self.proxy is not None
        plan = replace(message.plan, exempt_pid=self.proxy.pid)
        return super().redirector_command(wire.encode(replace(message, plan=plan)).rstrip())

    def left_of_backend(self) -> list[str]:
        listing = self.lab.client.sh("tc filter show dev e0 egress; tc filter show dev e0 ingress")
        return [*super().left_of_backend(), *(line for line in listing.splitlines() if "tc_divert" in line)]
