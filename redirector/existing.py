"""The connections that were open before the rules: those that the rules would have diverted."""
from collections.abc import Collection

from redirector import cgroups, sockets
from redirector.plan import LAN, Connection, Plan
from redirector.sockets import plain


def existing(plan: Plan) -> list[Connection]:
    """What `plan` would have captured, had it been in force. Raises OSError; BackendError if the cgroup is missing.

    One that begins between this list and the rules is reset, so its program tries again and is captured.
    """
    ids = cgroups.ids(plan.scope.cgroup) if plan.scope.cgroup else ()
    return [connection for connection in sockets.connections() if captures(plan, connection, ids)]


def captures(plan: Plan, connection: Connection, cgroup_ids: Collection[int] = ()) -> bool:
    """Is this connection what `plan` captures? `cgroup_ids` are those of the scope's control group and all below it."""
    if connection.server[1] not in plan.ports or connection.uid == plan.exempt_uid:
        return False
    if plan.scope.uid not in (None, connection.uid) or (plan.scope.cgroup and connection.cgroup not in cgroup_ids):
        return False
    server = plain(connection.server[0])
    local = server.is_loopback or connection.server[0] == connection.client[0]
    return plan.loopback if local else plan.lan or not any(server in network for network in LAN)
