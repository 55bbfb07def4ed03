"""The rules as text; that they do what they say is proved in tests/live/."""
import os
import shutil
import subprocess
from dataclasses import replace

import pytest

from redirector.nftables import guard_ruleset, ruleset
from redirector.plan import Connection, Plan, Scope

PLAN = Plan(ports=(80, 443), listen_port=8080, exempt_uid=997)
OLD4 = Connection(("192.0.2.1", 40000), ("198.51.100.2", 443), 1000, 7, 0, (2, b""))
OLD6 = Connection(("2001:db8::1", 40001), ("2001:db8::2", 80), 1000, 8, 0, (10, b""))
NEW = "tcp flags & (fin | syn | rst | ack) == syn"
LAN4 = "0.0.0.0/8, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 169.254.0.0/16, 224.0.0.0/4"
REFUSE = f"""\
  chain refuse {{
    type filter hook output priority 0; policy accept
    meta skuid 997 ct mark set ct mark | 0x40000000 accept
    ct mark & 0x40000000 == 0x40000000 accept
    fib daddr type local accept
    ip daddr {{ {LAN4} }} accept
    ip6 daddr {{ fc00::/7, fe80::/10, ff00::/8 }} accept
    udp dport 443 reject with icmpx port-unreachable
    tcp dport {{ 80, 443 }} reject with tcp reset
  }}
"""


def test_the_whole_computer():
    assert ruleset(PLAN, "lockgate_x") == f"""\
table inet lockgate_x {{
  flags owner
  set own4 {{
    type ipv4_addr . inet_service . ipv4_addr . inet_service
    flags dynamic, timeout; timeout 120s; size 65536
  }}
  set own6 {{
    type ipv6_addr . inet_service . ipv6_addr . inet_service
    flags dynamic, timeout; timeout 120s; size 65536
  }}
  chain apart {{
    type filter hook output priority -300; policy accept
    meta skuid 997 update @own4 {{ ip saddr . tcp sport . ip daddr . tcp dport }}
    meta skuid 997 update @own6 {{ ip6 saddr . tcp sport . ip6 daddr . tcp dport }}
    meta skuid 997 ct original zone set 61184 accept
    meta skuid 0-4294967294 accept
    ip saddr . tcp sport . ip daddr . tcp dport @own4 ct original zone set 61184
    ip6 saddr . tcp sport . ip6 daddr . tcp dport @own6 ct original zone set 61184
  }}
  chain divert {{
    type nat hook output priority -100; policy accept
    meta skuid 997 accept
    fib daddr type local accept
    ip daddr {{ {LAN4} }} accept
    ip6 daddr {{ fc00::/7, fe80::/10, ff00::/8 }} accept
    tcp dport {{ 80, 443 }} {NEW} redirect to :8080
  }}
{REFUSE}}}
"""  # noqa: S608 no SQL


def test_two_sockets_with_the_same_ends_are_one_exception():
    """As two interfaces may have the same addresses."""
    ends = "192.0.2.1 . 40000 . 198.51.100.2 . 443"
    assert ruleset(PLAN, "x", [OLD4, OLD4]).count(ends) == ruleset(PLAN, "x", [OLD4]).count(ends) == 1


def test_the_guard_refuses_and_diverts_nothing():
    assert guard_ruleset(PLAN, "lockgate_guard_x") == f"table inet lockgate_guard_x {{\n  flags owner\n{REFUSE}}}\n"


@pytest.mark.parametrize(("plan", "existing", "there", "absent"), [
    pytest.param(replace(PLAN, quic="allow"), (), "tcp dport", "udp", id="QUIC allowed"),
    pytest.param(replace(PLAN, loopback=True), (), "ip daddr", "fib", id="loopback"),
    pytest.param(replace(PLAN, lan=True), (), "fib daddr type local", "10.0.0.0/8", id="LAN"),
    pytest.param(replace(PLAN, scope=Scope(uid=1000), exempt_uid=None), (),
                 f"    meta skuid 1000 tcp dport {{ 80, 443 }} {NEW} redirect to :8080\n", "ct mark", id="one user"),
    pytest.param(replace(PLAN, scope=Scope(uid=1000)), (), "    meta skuid 1000 udp dport 443 reject", "    udp",
                 id="QUIC of one user"),
    pytest.param(replace(PLAN, quic_users=(1000, 1001)), (),
                 "    meta skuid { 1000, 1001 } udp dport 443 accept\n    udp dport 443 reject", "853", id="QUIC for two"),
    pytest.param(replace(PLAN, quic="allow", quic_users=(1000,)), (), "tcp dport", "udp", id="QUIC for all and one"),
    pytest.param(replace(PLAN, encrypted_dns="refuse"), (), "    tcp dport 853 reject with tcp reset\n"
                 "    udp dport 853 reject with icmpx port-unreachable\n", "skuid 1000", id="encrypted DNS"),
    pytest.param(replace(PLAN, scope=Scope(uid=1000), encrypted_dns="refuse"), (),
                 "    meta skuid 1000 tcp dport 853 reject", "    tcp dport", id="encrypted DNS of one user"),
    pytest.param(replace(PLAN, scope=Scope(cgroup="/a/b c")), (),
                 '    socket cgroupv2 level 2 "unified/a/b c" tcp dport { 80, 443 } reject', "    tcp", id="cgroup"),
    pytest.param(PLAN, (OLD4,), "    tcp flags & syn == 0 ip saddr . tcp sport . ip daddr . tcp dport "
                 "{ 192.0.2.1 . 40000 . 198.51.100.2 . 443 } accept\n", "syn == 0 ip6 saddr", id="an older connection goes on"),
    pytest.param(PLAN, (OLD6, OLD4), "{ 2001:db8::1 . 40001 . 2001:db8::2 . 80 } accept\n", "rst == rst", id="IPv6"),
    pytest.param(replace(PLAN, existing="cut"), (OLD4,), "    tcp flags & rst == rst ip saddr", "syn == 0", id="cut"),
])
def test_variants(plan, existing, there, absent):
    text = ruleset(plan, "t", existing, "/sys/fs/cgroup/unified")
    assert there in text
    assert absent not in text


def test_a_cgroup_mount_elsewhere_is_reached_from_where_nft_looks():
    text = ruleset(replace(PLAN, scope=Scope(cgroup="/a")), "t", (), "/run/cgroup2")
    assert '"../../../run/cgroup2/a"' in text


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="nft must be there, and needs root")
@pytest.mark.parametrize("make", [ruleset, guard_ruleset])
@pytest.mark.parametrize("plan", [
    PLAN,
    replace(PLAN, ports=(443,), existing="cut", lan=True, loopback=True),
    replace(PLAN, scope=Scope(uid=1000), exempt_uid=None, quic="allow"),
    replace(PLAN, encrypted_dns="refuse", quic_users=(1000, 1001)),
])
def test_nft_takes_it(make, plan):
    command = ["unshare", "-n", "nft", "-c", "-f", "-"]
    done = subprocess.run(command, input=make(plan, "t", (OLD4, OLD6)), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_others_send_through():
    """Diverted as they arrive, and refused where that failed; the guard refuses only."""
    plan = replace(PLAN, forward=("docker0", "br-*"))
    text, guard = ruleset(plan, "t"), guard_ruleset(plan, "t")
    source = 'iifname { "docker0", "br-*" }'
    assert f"    {source} tcp dport {{ 80, 443 }} {NEW} redirect to :8080\n" in text
    assert '    iifname != "lo" tcp dport 8080 ct original proto-dst 8080 reject with tcp reset\n' in text
    assert "redirect" not in guard
    for each in text, guard:
        assert f"    {source} udp dport 443 reject with icmpx port-unreachable\n" in each
        assert f"    {source} tcp dport {{ 80, 443 }} {NEW} reject with tcp reset\n" in each


@pytest.mark.parametrize(("changes", "rules"), [
    pytest.param({}, ["tcp dport { 80, 443 } " + NEW + " counter redirect to :8080"], id="both families"),
    pytest.param({"families": (4,), "fail": "open"}, [
        "meta nfproto ipv4 tcp dport { 80, 443 } " + NEW + " counter redirect to :8080",
        "    meta nfproto ipv4 tcp dport { 80, 443 } reject with tcp reset"], id="open: the other family goes on"),
    pytest.param({"families": (6,)}, ["meta nfproto ipv6 tcp dport { 80, 443 } " + NEW,
                                      "    tcp dport { 80, 443 } reject with tcp reset"], id="closed: it is refused"),
    pytest.param({"families": (4,), "listen_host": "192.0.2.1"}, ["counter dnat ip to 192.0.2.1:8080"], id="an address"),
    pytest.param({"families": (6,), "listen_host": "2001:db8::1"}, ["dnat ip6 to [2001:db8::1]:8080"], id="IPv6"),
])
def test_a_server_in_the_proxy_s_place(changes, rules):
    plan = replace(PLAN, exempt_uid=None, own_server=True, **changes)
    text = ruleset(plan, "lockgate_x", servers=["/a/lockgate_exempt_x", "/lockgate_exempt_x"])
    match = 'socket cgroupv2 level 2 "a/lockgate_exempt_x"'
    for rule in (*rules, f"{match} accept", f"{match} ct original zone set", f"{match} ct mark set",
                 'level 1 "lockgate_exempt_x" accept', "skuid 997"):
        assert (rule in text) is (rule != "skuid 997"), rule
    assert match in guard_ruleset(plan, "lockgate_y", servers=["/a/lockgate_exempt_x"])


@pytest.mark.parametrize("make", [ruleset, guard_ruleset])
def test_encrypted_dns_of_others_is_refused_as_our_own(make):
    text = make(replace(PLAN, forward=("docker0",), encrypted_dns="refuse"), "t").partition("chain pass")[2]
    assert '    iifname { "docker0" } tcp dport 853 reject with tcp reset\n' in text
    assert '    iifname { "docker0" } udp dport 853 reject with icmpx port-unreachable\n' in text
