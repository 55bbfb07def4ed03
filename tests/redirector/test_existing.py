"""An older connection counts when the rules would have captured it, and only then."""
from dataclasses import replace

import pytest

from redirector.existing import captures, existing
from redirector.plan import Connection, Plan, Scope

PLAN = Plan(ports=(80, 443), listen_port=8080, exempt_uid=997)


def connection(server="198.51.100.2", port=443, uid=1000, cgroup=5, client="192.0.2.1"):
    return Connection((client, 40000), (server, port), uid, 1, cgroup, (2, b""))


@pytest.mark.parametrize(("plan", "older", "counts"), [
    pytest.param(PLAN, connection(), True, id="plain"),
    pytest.param(PLAN, connection("2001:db8::1"), True, id="IPv6"),
    pytest.param(PLAN, connection(port=22), False, id="another port"),
    pytest.param(PLAN, connection(uid=997), False, id="the proxy's"),
    pytest.param(PLAN, connection("127.0.0.2"), False, id="loopback"),
    pytest.param(PLAN, connection("192.0.2.1"), False, id="own address"),
    pytest.param(PLAN, connection("192.168.1.1"), False, id="LAN"),
    pytest.param(PLAN, connection("fe80::1"), False, id="LAN, IPv6"),
    pytest.param(replace(PLAN, lan=True), connection("192.168.1.1"), True, id="LAN asked for"),
    pytest.param(replace(PLAN, lan=True), connection("127.0.0.2"), False, id="loopback is no LAN"),
    pytest.param(replace(PLAN, loopback=True), connection("::1"), True, id="loopback asked for"),
    pytest.param(replace(PLAN, scope=Scope(uid=1000)), connection(), True, id="the user's"),
    pytest.param(replace(PLAN, scope=Scope(uid=1001)), connection(), False, id="another user's"),
    pytest.param(replace(PLAN, scope=Scope(cgroup="/a")), connection(), True, id="the group's"),
    pytest.param(replace(PLAN, scope=Scope(cgroup="/a")), connection(cgroup=7), False, id="another group's"),
])
def test_captures(plan, older, counts):
    assert captures(plan, older, cgroup_ids={5, 6}) == counts


def test_existing_asks_the_kernel():
    assert existing(replace(PLAN, ports=(1,))) == []
