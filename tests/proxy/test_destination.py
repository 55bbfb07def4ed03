"""Addresses that no connection is led to."""

import pytest

from proxy.destination import forbidden, numeric, plain

OWN = {("127.0.0.1", 8080), ("192.0.2.1", 8081)}


@pytest.mark.parametrize(("address", "expected"), [
    ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::1"),
    ("2001:db8:0:0::1", "2001:db8::1"),
])
def test_plain(address, expected):
    assert plain(address) == expected


@pytest.mark.parametrize(("address", "port", "refused"), [
    pytest.param("192.0.2.9", 443, False, id="anywhere"),
    pytest.param("127.0.0.1", 443, False, id="this computer"),
    pytest.param("127.0.0.1", 8080, True, id="ourselves"),
    pytest.param("127.0.0.2", 8080, True, id="ourselves, another loopback address"),
    pytest.param("::1", 8080, True, id="ourselves, IPv6"),
    pytest.param("::ffff:127.0.0.1", 8080, True, id="ourselves, mapped"),
    pytest.param("192.0.2.1", 8081, True, id="ourselves, not loopback"),
    pytest.param("192.0.2.2", 8081, False, id="our port elsewhere"),
    pytest.param("169.254.169.254", 80, True, id="metadata"),
    pytest.param("::ffff:169.254.169.254", 80, True, id="metadata, mapped"),
    pytest.param("fe80::1", 80, True, id="link-local"),
    pytest.param("0.0.0.0", 80, True, id="no address"),
    pytest.param("::", 80, True, id="no address, IPv6"),
    pytest.param("224.0.0.1", 80, True, id="multicast"),
])
def test_forbidden(address, port, refused):
    assert (forbidden(address, port, OWN) is not None) == refused


@pytest.mark.parametrize(("host", "expected"), [("192.0.2.1", True), ("::1", True), ("a.test", False), ("1", False)])
def test_numeric(host, expected):
    assert numeric(host) == expected
