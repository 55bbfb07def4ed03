"""What becomes of a packet of no known flow: whose socket is it?  (Linux: the kernel is asked, by sock_diag.)

The filter lets the packets of the proxy's own ports pass, all but a SYN: that comes here, so that only the proxy's
user may use them, however a program came by one of them.
"""
import ipaddress
import sys
from collections.abc import Collection

from redirector import cgroups, sockets
from redirector.existing import captures
from redirector.flows import Action, Ends
from redirector.plan import Connection, Endpoint, Plan

#: Control groups remembered as outside of the scope. Beyond it all are forgotten, and looked for again.
MAX_OUTSIDE = 4096


class Decider:
    """`older` are the connections that go on though `plan` would capture them, None where nobody could list them.

    `guard`: nothing is diverted, what would be is refused.
    """

    def __init__(self, plan: Plan, older: Collection[tuple[Endpoint, Endpoint]] | None, *, guard: bool) -> None:
        self._plan, self._older = plan, older
        self._captured = Action.REFUSE if guard else Action.REFLECT
        self._inside: frozenset[int] = frozenset()
        self._outside: set[int] = set()

    def tcp(self, ends: Ends) -> Action:
        """PASS, DROP, REFUSE, or REFLECT for a new flow."""
        if not ends.syn and (self._older is None or (ends.client, ends.server) in self._older):
            return Action.PASS
        if not sys.platform.startswith("linux"):
            return self._captured if ends.syn else Action.PASS
        try:
            found = sockets.find(ends.client, ends.server)
        except OSError:
            return Action.DROP          # it is sent again
        if found is None:
            return Action.DROP          # the kernel's last words for a socket that has gone
        if not self._takes(found):
            return Action.PASS
        return self._captured if ends.syn and not self._is_exempt(ends.client[1]) else Action.REFUSE

    def udp(self, ends: Ends) -> Action:
        """PASS or REFUSE, for what looks like QUIC."""
        if self._plan.scope.everything:
            return Action.REFUSE
        found = sockets.find_udp(ends.client, ends.server)
        if found is None:
            return Action.REFUSE        # a socket that cannot be found cannot be out of scope either
        as_tcp = Connection(ends.client, (ends.server[0], self._plan.ports[0]), found.uid, 0, found.cgroup, found.ident)
        return Action.REFUSE if self._takes(as_tcp) else Action.PASS

    def _takes(self, connection: Connection) -> bool:
        group = self._plan.scope.cgroup
        if group is not None and connection.cgroup not in self._inside | self._outside:
            self._inside = cgroups.ids(group)       # groups are made all the time; their ids do not come back
            if connection.cgroup not in self._inside:
                self._outside = (self._outside if len(self._outside) < MAX_OUTSIDE else set()) | {connection.cgroup}
        return captures(self._plan, connection, self._inside)

    def _is_exempt(self, port: int) -> bool:
        first, last = self._plan.exempt_ports or (0, 0)
        return first <= port <= last


def older(connections: Collection[Connection]) -> frozenset[tuple[Endpoint, Endpoint]]:
    """In the words of packets: addresses in their shortest form."""
    return frozenset((_short(c.client), _short(c.server)) for c in connections)


def _short(end: Endpoint) -> Endpoint:
    return str(ipaddress.ip_address(end[0])), end[1]

