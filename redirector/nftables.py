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
from redirector.forwarding import NEW, encrypted_dns, untouched
from redirector.nft import Tables
from redirector.plan import MAX_UID, BackendError, Connection, Declaration, Plan

#: The bit of the conntrack mark that exempt connections carry: what the kernel itself sends for a socket (the last ACK,
#: a RST) has no owner to match, but it has the mark. One bit, OR-ed in, since others route by the rest.
MARK = 0x40000000
#: The conntrack zone of the proxy's own connections, in their original direction.  The kernel remembers the connections
#: that it diverted, for days if an end was lost, and would lead a new one between the same ports the same way: to the
#: proxy itself, or to where it listened before.  Replies stay in the common zone, where firewalls look for them.
ZONE = 61184
#: Seconds that the ends of the proxy's connections are remembered behind their last packet with an owner: TIME_WAIT,
#: twice.  And how many: what is beyond it loses its last ACK, and its origin waits a little.
REMEMBERED, MAX_OWN = 120, 65536
#: nft looks control groups up below this folder, wherever cgroup v2 is mounted.
CGROUPS = "/sys/fs/cgroup"


def ruleset(plan: Plan, table: str, existing: Collection[Connection] = (), cgroups: str = CGROUPS,
            servers: Collection[str] = ()) -> str:
    """The redirector's table, for connections `existing` before it and cgroup v2 mounted on `cgroups`.

    `servers` are the control groups of the server that stands in the proxy's place.
    """
    exempt = _exempt(plan, cgroups, servers)
    forwarded = [_chain(*chain) for chain in (*forwarding.diverting(plan), *forwarding.refusing(plan))]
    return _table(table, *_apart(exempt), _divert(plan, exempt, cgroups), _refuse(plan, existing, exempt, cgroups),
                  *forwarded)


def guard_ruleset(plan: Plan, table: str, existing: Collection[Connection] = (), cgroups: str = CGROUPS,
                  servers: Collection[str] = ()) -> str:
    """The guard's table: what would be diverted is refused."""
    refuse = _refuse(plan, existing, _exempt(plan, cgroups, servers), cgroups)
    return _table(table, refuse, *(_chain(*chain) for chain in forwarding.refusing(plan)))


def _table(name: str, *chains: str) -> str:
    return f"table inet {name} {{\n  flags owner\n{''.join(chains)}}}\n"


def _chain(name: str, hook: str, rules: list[str]) -> str:
    body = "".join(f"    {rule}\n" for rule in rules)
    return f"  chain {name} {{\n    type {hook}; policy accept\n{body}  }}\n"


def _exempt(plan: Plan, cgroups: str, servers: Collection[str]) -> list[str]:
    """Matches of what is the proxy's own."""
    uid = [] if plan.exempt_uid is None else [f"meta skuid {plan.exempt_uid}"]
    return [*uid, *(_in_group(path, cgroups) for path in servers)]


def _apart(exempt: list[str]) -> Iterator[str]:
    """What the kernel sends for a socket that is closed, the last ACK or a RST, has no owner to match, but its ends."""
    if not exempt:
        return
    for version, address in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        yield (f"  set own{version} {{\n    type {address} . inet_service . {address} . inet_service\n"
               f"    flags dynamic, timeout; timeout {REMEMBERED}s; size {MAX_OWN}\n  }}\n")
    ends = {4: "ip saddr . tcp sport . ip daddr . tcp dport", 6: "ip6 saddr . tcp sport . ip6 daddr . tcp dport"}
    yield _chain("apart", "filter hook output priority -300", [
        *(f"{match} update @own{version} {{ {ends[version]} }}" for match in exempt for version in ends),
        *(f"{match} ct original zone set {ZONE} accept" for match in exempt),
        f"meta skuid 0-{MAX_UID} accept",
        *(f"{ends[version]} @own{version} ct original zone set {ZONE}" for version in ends)])


def _divert(plan: Plan, exempt: list[str], cgroups: str) -> str:
    new = f"{_scope(plan, cgroups)}{_family(plan)}tcp dport {_set(plan.ports)} {NEW}"
    counted = " counter" if plan.own_server else ""
    host = plan.listen_host
    where = (f"dnat ip6 to [{host}]:" if ":" in host else f"dnat ip to {host}:") if host else "redirect to :"
    return _chain("divert", "nat hook output priority -100", [
        *(f"{match} accept" for match in exempt), *untouched(plan), f"{new}{counted} {where}{plan.listen_port}"])


def _refuse(plan: Plan, existing: Collection[Connection], exempt: list[str], cgroups: str) -> str:
    scope = _scope(plan, cgroups) + (_family(plan) if plan.fail == "open" else "")
    exempt = [f"{match} ct mark set ct mark | {MARK:#x} accept" for match in exempt]
    exempt += [f"ct mark & {MARK:#x} == {MARK:#x} accept"] if exempt else []
    return _chain("refuse", "filter hook output priority 0", [
        *exempt, *untouched(plan), *_quic(plan, scope), *encrypted_dns(plan, scope), *_older(plan, existing),
        f"{scope}tcp dport {_set(plan.ports)} reject with tcp reset"])


def _quic(plan: Plan, scope: str) -> Iterator[str]:
    """Refused with an error that the sender's socket hears of, so that it falls back at once."""
    if plan.quic == "reject":
        if plan.quic_users:
            yield f"meta skuid {_set(plan.quic_users)} udp dport 443 accept"
        yield f"{scope}udp dport 443 reject with icmpx port-unreachable"


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
        return f"{_in_group(plan.scope.cgroup, cgroups)} "
    return ""


def _in_group(group: str, cgroups: str) -> str:
    return f'socket cgroupv2 level {group.count("/")} "{os.path.relpath(cgroups + group, CGROUPS)}"'


def _family(plan: Plan) -> str:
    """What is not led on, for want of a server there, goes on as before, unless nothing may pass."""
    return "" if plan.families == (4, 6) else f"meta nfproto ipv{plan.families[0]} "


def _set(items: Iterable[object]) -> str:
    return f"{{ {', '.join(map(str, items))} }}"


class Nftables:
    """The Linux backend. `table` is its own; cgroup v2 is mounted on `cgroups`."""

    declaration: ClassVar = Declaration(
        "nftables", rights="root (CAP_NET_ADMIN)", systems=("Linux 5.12",), ipv6=True, udp=True, everything=True,
        users=True, groups=True, trees=True, processes=True, existing=True, forwarded=True, closed=True, open=True,
        dns=True, servers=True, transparent=True, local=True, peername=True)

    def __init__(self, table: str, cgroups: str = CGROUPS, servers: Collection[str] = ()) -> None:
        self._table, self._cgroups, self._servers = table, cgroups, servers
        self._tables: Tables | None = None

    def install(self, plan: Plan, existing: Collection[Connection]) -> None:
        self._tables = Tables()
        if f"table inet {self._table}\n" in self._tables.run("list tables"):
            raise BackendError(f"{self._table} is already there: `lockgate status` says whose it is, "
                               "`lockgate stop` or `lockgate release` ends it")
        self._tables.run(ruleset(plan, self._table, existing, self._cgroups, self._servers))
        if plan.existing == "cut":
            for connection in existing:
                sockets.destroy(connection)

    def remove(self) -> None:
        if self._tables is not None:
            self._tables.close()
            self._tables = None
