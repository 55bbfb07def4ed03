"""The filters in WinDivert's language, compiled and tried by the library itself: what the kernel would give us."""
import ctypes
from dataclasses import replace
from importlib import import_module

import pytest

from redirector import handles
from redirector.divert import bind_filter, capture_filter, guard_filter
from redirector.flows import ACK, SYN
from redirector.plan import MAX_PORTS, Plan
from tests.redirector.segments import tcp, udp

pytestmark = pytest.mark.skipif(bool(handles.usable()), reason=str(handles.usable()))
OWN = (61440, 65535)
PLAN = Plan(ports=(80, 443), listen_port=8080, exempt_uid=997, backend="divert", exempt_ports=OWN)
HERE, THERE, HERE6, THERE6 = "198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2"


def taken(rule, packet, *, outbound=True, loopback=False):
    address = import_module("pydivert.windivert_dll").WinDivertAddress()
    address.Outbound, address.Loopback, address.IPv6 = outbound, loopback, packet[0] >> 4 == 6
    buffer = (ctypes.c_char * len(packet)).from_buffer_copy(bytes(packet))
    evaluate = import_module("pydivert.bpf").libebpfdivert.ebpfdivert_helper_eval_filter
    return bool(evaluate(rule.encode(), buffer, len(packet), ctypes.byref(address)))


@pytest.mark.parametrize(("client", "server", "flags", "expected"), [
    pytest.param((HERE, 40000), (THERE, 443), SYN, True, id="a new connection"),
    pytest.param((HERE, 40000), (THERE, 443), ACK, True, id="its middle"),
    pytest.param((HERE6, 40000), (THERE6, 80), SYN, True, id="IPv6"),
    pytest.param((HERE, 40000), (THERE, 8443), SYN, False, id="another port"),
    pytest.param((HERE, OWN[0]), (THERE, 443), ACK, False, id="the proxy's own, lowest port"),
    pytest.param((HERE, OWN[1]), (THERE, 443), ACK, False, id="the proxy's own, highest port"),
    pytest.param((HERE, OWN[0]), (THERE, 443), SYN, True, id="the proxy's own begins: whose is it?"),
    pytest.param((HERE, OWN[0]), (THERE, 443), SYN | ACK, False, id="no SYN"),
    pytest.param((HERE, OWN[0] - 1), (THERE, 443), ACK, True, id="a port below"),
    pytest.param((HERE, 8080), (THERE, 40000), ACK, True, id="the proxy answers"),
    pytest.param((HERE, 8080), ("10.0.0.9", 40000), ACK, True, id="the proxy answers the LAN: a stranger"),
    pytest.param((HERE, 40000), ("10.0.0.9", 443), SYN, False, id="LAN"),
    pytest.param((HERE, 40000), ("9.255.255.255", 443), SYN, True, id="just below a LAN"),
    pytest.param((HERE, 40000), ("11.0.0.0", 443), SYN, True, id="just above a LAN"),
    pytest.param((HERE, 40000), ("169.254.1.1", 443), SYN, False, id="link-local"),
    pytest.param((HERE6, 40000), ("fe80::1", 443), SYN, False, id="link-local, IPv6"),
    pytest.param((HERE6, 40000), ("fd12::1", 443), SYN, False, id="unique local, IPv6"),
])
def test_what_is_taken(client, server, flags, expected):
    assert taken(capture_filter(PLAN), tcp(client, server, flags)) == expected


@pytest.mark.parametrize(("where", "expected"), [
    ({}, True), ({"outbound": False}, False), ({"loopback": True}, False),
])
def test_only_what_leaves(where, expected):
    assert taken(capture_filter(PLAN), tcp((HERE, 40000), (THERE, 443), SYN), **where) == expected


def test_the_lan_when_asked():
    packet = tcp((HERE, 40000), ("10.0.0.9", 443), SYN)
    assert taken(capture_filter(replace(PLAN, lan=True)), packet)


@pytest.mark.parametrize(("quic", "port", "expected"), [("reject", 443, True), ("reject", 53, False), ("allow", 443, False)])
def test_quic(quic, port, expected):
    assert taken(capture_filter(replace(PLAN, quic=quic)), udp((HERE, 40000), (THERE, port))) == expected


def test_the_guard_takes_the_same_but_for_the_proxy_s_answers():
    assert taken(guard_filter(PLAN), tcp((HERE, 40000), (THERE, 443), ACK))
    assert not taken(guard_filter(PLAN), tcp((HERE, 8080), (THERE, 40000), ACK))


@pytest.mark.parametrize("rule", [
    pytest.param(capture_filter(replace(PLAN, ports=tuple(range(1000, 1000 + MAX_PORTS)))), id="as many ports as may be"),
    pytest.param(capture_filter(replace(PLAN, ports=(443,), lan=True, quic="allow")), id="as few words as may be"),
])
def test_the_library_takes_it(rule):
    good, position, message = import_module("pydivert").Divert.check_filter(rule)
    assert good, f"{message} at {rule[position:]}"


def test_the_library_takes_the_rule_for_binding():
    pydivert = import_module("pydivert")
    assert pydivert.Divert.check_filter(bind_filter(OWN, 1), pydivert.Layer.SOCKET)[0]
