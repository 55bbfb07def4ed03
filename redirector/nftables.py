"""Capture by nftables: NAT to the proxy for new connections, refusal for whatever would get past it.

Three chains in a table of our own. `apart` keeps the proxy's connections from those that the kernel remembers. `divert`
(NAT, output) sends new connections to the proxy. `refuse` comes after it: what still has a captured port there is
neither diverted, nor exempt, nor older than the rules, so it must not leave. The guard's table is `refuse` alone, which
decides the same when `divert` has gone. Syntax: nft(8), 1.0 or later.
"""
import os
from collections.abc import Collection, Iterable, Iterator
from typing import ClassVar

from redirector import forwarding, sockets
from redirector.forwarding import NEW, untouched
from redirector.nft import Tables
from redirector.plan import BackendError, Connection, Declaration, Plan

#: The bit of the conntrack mark that exempt connections carry: what the kernel itself sends for a socket (the last ACK,
#: a RST) has no owner to match, but it has the mark. One bit, OR-ed in, since others route by the rest.
MARK = 0x40000000
#: The conntrack zone of the proxy's own connections, in their original direction.  The kernel remembers the connections
#: that it diverted, for days if an end was lost, and would lead a new one between the same ports the same way: to the
#: proxy itself, or to where it listened before.  Replies stay in the common zone, where firewalls look for them.
ZONE = 61184
#: nft looks control groups up below this folder, wherever cgroup v2 is mounted.
CGROUPS = "/sys/fs/cgroup"


def ruleset(plan: Plan, table: str, existing: Collection[Connection] = (), cgroups: str = CGROUPS) -> str:
    """The redirector's table, for connections `existing` before it and cgroup v2 mounted on `cgroups`."""
    forwarded = [_chain(*chain) for chain in (*forwarding.diverting(plan), *forwarding.refusing(plan))]
    return _table(table, *_apart(plan), _divert(plan, cgroups), _refuse(plan, existing, cgroups), *forwarded)


def guard_ruleset(plan: Plan, table: str, existing: Collection[Connection] = (), cgroups: str = CGROUPS) -> str:
    """The guard's table: what would be diverted is refused."""
    return _table(table, _refuse(plan, existing, cgroups), *(_chain(*chain) for chain in forwarding.refusing(plan)))


def _table(name: str, *chains: str) -> str:
    return f"table inet {name} {{\n  flags owner\n{''.join(chains)}}}\n"


def _chain(name: str, hook: str, rules: list[str]) -> str:
    body = "".join(f"    {rule}\n" for rule in rules)
    return f"  chain {name} {{\n    type {hook}; policy accept\n{body}  }}\n"


def _apart(plan: Plan) -> Iterator[str]:
    if plan.exempt_uid is not None:
        yield _chain("apart", "filter hook output priority -300", [
            f"meta skuid {plan.exempt_uid} ct original zone set {ZONE}"])


def _divert(plan: Plan, cgroups: str) -> str:
    exempt = [] if plan.exempt_uid is None else [f"meta skuid {plan.exempt_uid} accept"]
    new = f"tcp dport {_set(plan.ports)} {NEW}"
    return _chain("divert", "nat hook output priority -100", [
        *exempt, *untouched(plan), f"{_scope(plan, cgroups)}{new} redirect to :{plan.listen_port}"])


def _refuse(plan: Plan, existing: Collection[Connection], cgroups: str) -> str:
    scope = _scope(plan, cgroups)
    exempt = [] if plan.exempt_uid is None else [
        f"meta skuid {plan.exempt_uid} ct mark set ct mark | {MARK:#x} accept",
        f"ct mark & {MARK:#x} == {MARK:#x} accept"]
    quic = [f"{scope}udp dport 443 reject with icmpx port-unreachable"] if plan.quic == "reject" else []
    return _chain("refuse", "filter hook output priority 0", [
        *exempt, *untouched(plan), *quic, *_older(plan, existing),
        f"{scope}tcp dport {_set(plan.ports)} reject with tcp reset"])


def _older(plan: Plan, existing: Collection[Connection]) -> Iterator[str]:
    """Those from before go on, but their ports are not free for new ones; a cut one may still tell its peer."""
    what = "tcp flags & rst == rst" if plan.existing == "cut" else "tcp flags & syn == 0"
    for family, version in (("ip", 4), ("ip6", 6)):
        ends = sorted({f"{c.client[0]} . {c.client[1]} . {c.server[0]} . {c.server[1]}"
                       for c in existing if sockets.plain(c.server[0]).version == version})
        if ends:
            yield f"{what} {family} saddr . tcp sport . {family} daddr . tcp dport {_set(ends)} accept"


def _scope(plan: Plan, cgroups: str) -> str:
    """The match that every in-scope packet passes; it ends in a space, or is empty for everything."""
    if plan.scope.uid is not None:
        return f"meta skuid {plan.scope.uid} "
    if plan.scope.cgroup is not None:
        path = os.path.relpath(cgroups + plan.scope.cgroup, CGROUPS)
        return f'socket cgroupv2 level {plan.scope.cgroup.count("/")} "{path}" '
    return ""


def _set(items: Iterable[object]) -> str:
    return f"{{ {', '.join(map(str, items))} }}"


class Nftables:
    """The Linux backend. `table` is its own; cgroup v2 is mounted on `cgroups`."""

    declaration: ClassVar = Declaration(
        "nftables", rights="root (CAP_NET_ADMIN)", systems=("Linux 5.12",), ipv6=True, udp=True, everything=True,
        users=True, groups=True, trees=True, existing=True, forwarded=True, closed=True, open=True, transparent=True,
        local=True, peername=True)

    def __init__(self, table: str, cgroups: str = CGROUPS) -> None:
        self._table, self._cgroups = table, cgroups
        self._tables: Tables | None = None

    def install(self, plan: Plan, existing: Collection[Connection]) -> None:
        self._tables = Tables()
        if f"table inet {self._table}\n" in self._tables.run("list tables"):
            raise BackendError(f"{self._table} is already there: `lockgate status` says whose it is, "
                               "`lockgate stop` or `lockgate release` ends it")
        self._tables.run(ruleset(plan, self._table, existing, self._cgroups))
        if plan.existing == "cut":
            for connection in existing:
                sockets.destroy(connection)

    def remove(self) -> None:
        if self._tables is not None:
            self._tables.close()
            self._tables = None
