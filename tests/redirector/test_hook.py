"""Addresses: what the Plan captures, and how an address becomes the proxy's; destinations until they are asked for."""
import socket
import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest

from redirector import hook
from redirector.hook import Hook, Kept, destination, rewritten, wanted
from redirector.plan import BackendError, Plan, Scope
from redirector.wire import Lookup, Owner, Process

PLAN = Plan((80, 443), 8080, backend="hook")
SELF = Process(0, "root", 1)


def v4(address: str, port: int) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(address))


def v6(address: str, port: int, scope: int = 0) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6, address)
    return struct.pack("=H", socket.AF_INET6) + struct.pack("!H4x16s", port, packed) + struct.pack("=I", scope)


@pytest.mark.parametrize(("sockaddr", "expected", "proxy"), [
    pytest.param(v4("192.0.2.1", 443), ("192.0.2.1", 443), v4("127.0.0.1", 8080), id="IPv4"),
    pytest.param(v6("2001:db8::1", 80), ("2001:db8::1", 80), v6("::1", 8080), id="IPv6"),
    pytest.param(v6("fe80::1", 80, 3), ("fe80::1", 80), v6("::1", 8080), id="with a scope"),
    pytest.param(v6("::ffff:192.0.2.1", 80), ("192.0.2.1", 80), v6("::ffff:127.0.0.1", 8080), id="mapped"),
    pytest.param(v6("2001:db8::1", 80)[:24], ("2001:db8::1", 80), v6("::1", 8080), id="as RFC 2133 has it"),
])
def test_addresses(sockaddr, expected, proxy):
    found = destination(sockaddr)
    assert found is not None
    assert (str(found[0]), found[1]) == expected
    assert rewritten(sockaddr, 8080) == proxy


@pytest.mark.parametrize("sockaddr", [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\x02", id="half a family"),
    pytest.param(bytes(16), id="AF_UNSPEC"),
    pytest.param(v4("192.0.2.1", 443)[:7], id="IPv4, cut"),
    pytest.param(v6("2001:db8::1", 443)[:23], id="IPv6, cut"),
    pytest.param(struct.pack("=H", socket.AF_UNIX) + b"/run/x", id="a path"),
])
def test_what_is_no_address(sockaddr):
    assert destination(sockaddr) is None


@pytest.mark.parametrize(("address", "changes", "expected"), [
    pytest.param("192.0.2.1", {}, True, id="the internet"),
    pytest.param("2001:db8::1", {}, True, id="the internet, IPv6"),
    pytest.param("127.0.0.1", {}, False, id="loopback"),
    pytest.param("127.9.9.9", {"loopback": True}, True, id="loopback, asked for"),
    pytest.param("::1", {}, False, id="loopback, IPv6"),
    pytest.param("0.0.0.0", {}, False, id="this computer"),
    pytest.param("::", {"loopback": True}, True, id="this computer, asked for"),
    pytest.param("10.1.2.3", {}, False, id="a private network"),
    pytest.param("10.1.2.3", {"lan": True}, True, id="a private network, asked for"),
    pytest.param("fd00::1", {}, False, id="a private network, IPv6"),
    pytest.param("224.0.0.1", {}, False, id="multicast"),
])
def test_which_addresses_are_captured(address, changes, expected):
    assert wanted(replace(PLAN, **changes), ip_address(address)) is expected


@pytest.mark.parametrize("changes", [
    pytest.param({"fail": "open"}, id="fail open"),
    pytest.param({"existing": "cut"}, id="cutting"),
    pytest.param({"scope": Scope(uid=5)}, id="a user"),
    pytest.param({"scope": Scope(cgroup="/a")}, id="a control group"),
])
def test_what_it_cannot_do_it_refuses(changes):
    with pytest.raises(BackendError, match="hook"):
        Hook(None).install(replace(PLAN, **changes), ())


def kept(*clients: int) -> Kept:
    found = Kept()
    for port in clients:
        found.add(("127.0.0.1", port), ("192.0.2.1", port), SELF)
    return found


def lookup(port: int) -> Lookup:
    return Lookup(5, ("127.0.0.1", port), ("127.0.0.1", 8080))


def test_each_destination_is_told_once():
    found = kept(1, 2)
    assert found.take(lookup(2)) == Owner(5, SELF, ("192.0.2.1", 2))
    assert found.take(lookup(2)) == Owner(5, None) == found.take(lookup(3))


def test_the_newest_connection_from_a_port_counts():
    found = kept(1, 1)
    found.add(("127.0.0.1", 1), ("192.0.2.9", 9), SELF)
    assert found.take(lookup(1)).server == ("192.0.2.9", 9)


def test_what_nobody_asks_for_is_forgotten(monkeypatch):
    monkeypatch.setattr(hook, "MAX_KEPT", 2)
    found = kept(1, 2, 3)
    assert [found.take(lookup(port)).server is None for port in (1, 2, 3)] == [True, False, False]
    monkeypatch.setattr(hook, "KEPT", -1.0)
    assert kept(1).take(lookup(1)).server is None
