"""Capture of what others send through this computer: computers behind a gateway, containers and virtual machines.

Chains for the tables of `nftables.py`. `arrive` sends new connections to the proxy, which answers on the address of the
interface that they came by, so it listens on every address; `door` keeps everybody away from that port who was not
diverted to it. `pass` refuses what still has a captured port on its way through: neither diverted nor older than the
rules.  Whether this computer forwards at all (net.ipv4.ip_forward) is not ours to change.
"""
from collections.abc import Iterator

from redirector.plan import LAN, Plan

#: A connection's first packet; conntrack takes the middle of an old one for a new one, and NAT would break it.
NEW = "tcp flags & (fin | syn | rst | ack) == syn"


def diverting(plan: Plan) -> Iterator[tuple[str, str, list[str]]]:
    """Name, hook and rules of each chain that diverts; none without interfaces to watch."""
    if plan.forward:
        yield "arrive", "nat hook prerouting priority -100", [
            *untouched(plan), f"{_from(plan)}{_ports(plan)} {NEW} redirect to :{plan.listen_port}"]
        yield "door", "filter hook input priority 0", [
            f'iifname != "lo" tcp dport {plan.listen_port} ct original proto-dst {plan.listen_port} '
            "reject with tcp reset"]


def refusing(plan: Plan) -> Iterator[tuple[str, str, list[str]]]:
    """The chain that lets nothing through which should have been diverted.

    Without its NAT, the middle of a diverted connection would go to an origin that knows nothing of it.
    """
    if plan.forward:
        source, ports = _from(plan), _ports(plan)
        quic = [f"{source}udp dport 443 reject with icmpx port-unreachable"] if plan.quic == "reject" else []
        older = f"{ports} tcp flags & rst != rst" if plan.existing == "cut" else f"{ports} {NEW}"
        yield "pass", "filter hook forward priority 0", [
            *untouched(plan), *quic, f"{source}{ports} ct status dnat reject with tcp reset",
            f"{source}{older} reject with tcp reset"]


def untouched(plan: Plan) -> Iterator[str]:
    """Destinations that are left alone."""
    if not plan.loopback:
        yield "fib daddr type local accept"
    if not plan.lan:
        for family, version in (("ip", 4), ("ip6", 6)):
            yield f"{family} daddr {{ {', '.join(str(net) for net in LAN if net.version == version)} }} accept"


def _from(plan: Plan) -> str:
    return f"iifname {{ {', '.join(f'"{name}"' for name in plan.forward)} }} "


def _ports(plan: Plan) -> str:
    return f"tcp dport {{ {', '.join(map(str, plan.ports))} }}"
