"""The command `redirect`: what it asks for, and what it says."""

import argparse
import os
import socket

import pytest

from proxy import options, redirecting
from proxy.options import UsageError
from proxy.redirecting import families, redirect, said
from redirector.plan import Plan


def asked(**more):
    given = {"ports": (80,), "to": ("127.0.0.1", 55555), "fail": "open", "lan": False, "only_user": None,
             "only_cgroup": None, "json": False, "run_dir": "/nonexistent"}
    return argparse.Namespace(**(given | more))


def test_it_needs_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 61998)
    with pytest.raises(UsageError, match="needs root"):
        redirect(asked())


@pytest.mark.parametrize(("given", "expected"), [
    pytest.param({}, {"ports": (80,), "listen_port": 55555, "own_server": True, "exempt_uid": None, "fail": "open",
                      "quic": "allow", "families": (4, 6), "listen_host": ""}, id="the usual"),
    pytest.param({"to": ("localhost", 1)}, {"listen_host": "", "families": (4, 6)}, id="by name"),
    pytest.param({"to": ("::1", 1)}, {"listen_host": "", "families": (4, 6)}, id="IPv6's loopback"),
    pytest.param({"to": ("127.0.0.53", 1)}, {"listen_host": "127.0.0.53", "families": (4,)}, id="another address"),
    pytest.param({"ports": (80, 443)}, {"quic": "reject"}, id="HTTP/3 must not get past"),
    pytest.param({"lan": True, "fail": "closed"}, {"lan": True, "fail": "closed"}, id="as asked"),
])
def test_the_plan(given, expected):
    plan = redirecting._plan(asked(**given))
    assert {name: getattr(plan, name) for name in expected} == expected


@pytest.mark.parametrize(("to", "message"), [
    (("192.0.2.1", 80), "no address of this computer"), (("0.0.0.0", 8080), "no address of this computer"),
    (("example.org", 8080), "does not appear"), (("127.0.0.1", 80), "a loop"), (("127.0.0.1", 0), "listen_port"),
])
def test_what_cannot_be_led_to(to, message):
    with pytest.raises((ValueError, UsageError), match=message):
        redirecting._plan(asked(to=to))


@pytest.mark.parametrize(("hosts", "host", "expected"), [
    ({"127.0.0.1"}, "", (4,)), ({"0.0.0.0"}, "", (4,)), ({"::1"}, "", (6,)), ({"127.0.0.1", "::1"}, "", (4, 6)),
    ({"198.51.100.1"}, "198.51.100.1", (4,)), ({"::"}, "2001:db8::1", (6,)),
])
def test_families(hosts, host, expected):
    assert families(hosts, (host, 1)) == expected


@pytest.mark.parametrize(("both", "expected"), [(True, (4, 6)), (False, (6,))])
def test_a_listener_on_every_address_may_take_ipv4_too(both, expected):
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=both) as listener:
        assert families({"::"}, ("", listener.getsockname()[1])) == expected


@pytest.mark.parametrize(("kind", "more", "words"), [
    ("ready", {"server": "loopback:5", "exe": "/bin/x", "pid": 7, "families": [4], "existing": 2},
     ["/bin/x (pid 7)", "IPv6 is not led there", "go on as before", "2 connections were open"]),
    ("waiting", {"server": "loopback:5", "fail": ""}, ["waiting for it"]),
    ("waiting", {"server": "loopback:5", "fail": "closed"}, ["connections are refused"]),
    ("interrupted", {"reason": "why", "redirected": 3}, ["interrupted: why"]),
    ("count", {"redirected": 3}, ["3 connections redirected"]), ("stopped", {"redirected": 3}, ["stopped: 3"]),
])
def test_what_it_says(kind, more, words):
    lines = "\n".join(said(kind, Plan((80,), 5, own_server=True, fail="open"), more))
    assert all(word in lines for word in words), lines


@pytest.mark.parametrize(("text", "expected"), [("80", (80,)), ("80,443", (80, 443)), ("80,80", (80,))])
def test_ports(text, expected):
    assert options.ports(text) == expected


@pytest.mark.parametrize("text", ["", "80,", "0", "65536", "http", "-1", "80 443"])
def test_bad_ports(text):
    with pytest.raises(argparse.ArgumentTypeError, match="write ports"):
        options.ports(text)
