"""The connection verdict as a table, and the published JSON Schema."""

import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from addons.connection import Connection, Parent, Process
from proxy.patterns import host_or_label, host_pattern
from proxy.schema import Capture, ConnectionRule, Policy, main
from proxy.tlspolicy import Tls

PUBLISHED = Path(__file__).parents[2] / "docs" / "policy.schema.json"


def connection(host="www.host.example", address="192.0.2.7", port=443, exe="/usr/bin/curl", **more):
    process = Process(7, exe, user="ann", uid=1000, parents=(Parent(6, "/bin/sh"), Parent(5), Parent(1, "/opt/agent")),
                      service="user@1000.service/ci.service", container="docker:3f4e") if exe is not None else None
    return Connection(host, (address, port), ("198.51.100.1", 50_000), process, ja4="t13d1516h2_a_b", **more)


@pytest.mark.parametrize(("conditions", "conn", "holds"), [
    pytest.param({}, connection(), True, id="no condition matches everything"),
    pytest.param({"hosts": ("www.host.example",)}, connection(), True, id="exact host"),
    pytest.param({"hosts": ("host.example",)}, connection(), False, id="an exact name has no subdomains"),
    pytest.param({"hosts": ("*.host.example",)}, connection(), True, id="suffix"),
    pytest.param({"hosts": ("*.host.example",)}, connection("host.example"), False, id="suffix: not the name itself"),
    pytest.param({"hosts": ("*.host.example",)}, connection("evilhost.example"), False, id="suffix: at a dot only"),
    pytest.param({"hosts": ("*.host.example",)}, connection(None), False, id="no host"),
    pytest.param({"addresses": (ip_network("192.0.2.0/24"),)}, connection(), True, id="address"),
    pytest.param({"addresses": (ip_network("192.0.2.0/24"),)}, connection(address="2001:db8::1"), False, id="IPv6"),
    pytest.param({"addresses": (ip_network("fe80::/10"),)}, connection(address="fe80::1%eth0"), True, id="scope"),
    pytest.param({"addresses": (ip_network("192.0.2.0/24"),)}, connection(address="::ffff:192.0.2.7"), True,
                 id="IPv4 on a dual-stack listener"),
    pytest.param({"addresses": (ip_network("0.0.0.0/0"),)}, connection(address="a.example"), False, id="a name yet"),
    pytest.param({"ports": (80, 443)}, connection(), True, id="port"),
    pytest.param({"ports": (80,)}, connection(), False, id="other port"),
    pytest.param({"apps": ("/usr/*/c?rl",)}, connection(), True, id="app"),
    pytest.param({"apps": ("*",)}, connection(exe=None), False, id="unknown process"),
    pytest.param({"apps": ("*",)}, connection(exe=""), False, id="ended process"),
    pytest.param({"trees": ("/opt/*",)}, connection(), True, id="an ancestor"),
    pytest.param({"trees": ("/usr/bin/curl",)}, connection(), True, id="a tree has the program itself"),
    pytest.param({"trees": ("",)}, connection(), False, id="an ancestor that is not known"),
    pytest.param({"trees": ("/usr/bin/python*",)}, connection(), False, id="another tree"),
    pytest.param({"apps": ("/opt/*",)}, connection(), False, id="an app is not its ancestors"),
    pytest.param({"services": ("user@*/ci.service",)}, connection(), True, id="service"),
    pytest.param({"services": ("ci.service",)}, connection(), False, id="a user's service is not the system's"),
    pytest.param({"containers": ("docker:3f*",)}, connection(), True, id="container"),
    pytest.param({"containers": ("podman:*",)}, connection(), False, id="another container"),
    pytest.param({"services": ("*",), "containers": ("*",)}, connection(exe=None), False, id="of nobody known"),
    pytest.param({"users": ("ann",)}, connection(), True, id="user name"),
    pytest.param({"users": ("1000",)}, connection(), True, id="uid"),
    pytest.param({"users": ("None", "")}, connection(exe=None), False, id="unknown user"),
    pytest.param({"ja4": ("t13d*",)}, connection(), True, id="JA4"),
    pytest.param({"sni": "absent"}, connection(None, unnamed=True), True, id="no name"),
    pytest.param({"sni": "absent"}, connection(), False, id="a name"),
    pytest.param({"sni": "present"}, connection(), True, id="a name, as asked"),
    pytest.param({"sni": "absent"}, connection("192.0.2.7", unnamed=True), True, id="named by the tunnel alone"),
    pytest.param({"sni": "absent"}, connection(None, tls=False), False, id="no TLS, so no hello without a name"),
    pytest.param({"ech": "present"}, connection(ech=True), True, id="ECH"),
    pytest.param({"ech": "present"}, connection(), False, id="no ECH"),
    pytest.param({"ech": "absent"}, connection(), True, id="no ECH, as asked"),
    pytest.param({"ech": "absent"}, connection(tls=False), False, id="no TLS"),
    pytest.param({"ports": (443,), "users": ("bob",)}, connection(), False, id="all must hold"),
    pytest.param({"ports": ()}, connection(), False, id="an empty list matches nothing"),
])
def test_rule(conditions, conn, holds):
    policy = Policy(version=1, connections=(ConnectionRule("r", "block", **conditions),))
    expected = ("block", "r", "connection rule r") if holds else ("inspect", "", "no rule says otherwise")
    assert policy.connection_verdict(conn) == expected


@pytest.mark.parametrize(("bypass", "conn", "verdict"), [
    pytest.param("*.host.example", connection(), "bypass", id="host"),
    pytest.param("*.host.example", connection(tls=False), "inspect", id="plain HTTP has nothing to leave encrypted"),
    pytest.param("label:bank", connection(labels={"bank"}), "bypass", id="label"),
    pytest.param("bank", connection(labels={"bank"}), "inspect", id="a host that is called as a label"),
])
def test_bypass(bypass, conn, verdict):
    assert Policy(version=1, tls=Tls(bypass=(bypass,))).connection_verdict(conn).verdict == verdict


def test_first_rule_wins_and_rules_go_before_bypass():
    rules = (ConnectionRule("a", "inspect", ports=(443,)), ConnectionRule("b", "block"))
    policy = Policy(version=1, tls=Tls(bypass=("www.host.example",)), connections=rules)
    assert policy.connection_verdict(connection()).rule == "a"
    assert policy.connection_verdict(connection(port=80)).rule == "b"


@pytest.mark.parametrize(("text", "pattern"), [
    ("Host.Example.", "host.example"), ("*.BÜCHER.example", "*.xn--bcher-kva.example"), ("localhost", "localhost"),
])
def test_host_pattern(text, pattern):
    assert host_pattern(text) == pattern


@pytest.mark.parametrize("text", ["", "*", "*.", "a b", "a/b", "a.*.b", "**.a", "a..b", "192.0.2.1", "::1", "label:x"])
def test_no_host_pattern(text):
    with pytest.raises(ValueError, match="write"):
        host_pattern(text)


def test_label_pattern():
    assert host_or_label("label:health") == "label:health"
    with pytest.raises(ValueError, match="host pattern"):
        host_or_label("label:")


def test_published_schema_is_current(capsys):
    assert main(["--check", str(PUBLISHED)]) == 0, capsys.readouterr().err


def test_check_notices_an_old_schema(tmp_path, capsys):
    (tmp_path / "old.json").write_text("{}")
    assert main(["--check", str(tmp_path / "old.json")]) == 1
    assert "out of date" in capsys.readouterr().err


def test_every_key_is_documented():
    def undocumented(schema, path=""):
        for name, value in schema.get("properties", {}).items():
            if not value["description"]:
                yield f"{path}.{name}"
            yield from undocumented(value.get("items", value), f"{path}.{name}")
    assert list(undocumented(json.loads(PUBLISHED.read_text()))) == []


@pytest.mark.parametrize(("capture", "tls", "conn", "rule"), [
    pytest.param({}, {}, connection("dns.google", ech=True), "", id="by default neither is asked"),
    pytest.param({"encrypted_dns": "refuse"}, {}, connection("dns.google"), "capture.encrypted_dns", id="a resolver"),
    pytest.param({"encrypted_dns": "refuse"}, {"bypass": ("dns.google",)}, connection("dns.google"),
                 "capture.encrypted_dns", id="a resolver that is bypassed"),
    pytest.param({"encrypted_dns": "refuse"}, {}, connection(), "", id="another host"),
    pytest.param({}, {"ech": "block"}, connection(ech=True), "tls.ech", id="ECH"),
    pytest.param({}, {"ech": "block"}, connection(), "", id="no ECH"),
    pytest.param({}, {"ech": "strip"}, connection(ech=True), "", id="ECH that is looked into"),
])
def test_what_hides_names_has_its_verdict(capture, tls, conn, rule):
    policy = Policy(version=1, capture=Capture(**capture), tls=Tls(**tls))
    verdict = policy.connection_verdict(conn)
    assert (verdict.verdict, verdict.rule) == ("block" if rule else "inspect", rule)


def test_a_connection_rule_goes_before_what_hides_names():
    rule = ConnectionRule("our-own", "inspect", hosts=("dns.google",))
    policy = Policy(version=1, capture=Capture(encrypted_dns="refuse"), tls=Tls(ech="block"), connections=(rule,))
    assert policy.connection_verdict(connection("dns.google", ech=True)).rule == "our-own"


@pytest.mark.parametrize("conditions", [{"sni": "absent"}, {"ech": "present"}])
def test_a_hello_alone_earns_no_bypass(conditions):
    with pytest.raises(ValueError, match="any program"):
        ConnectionRule("r", "bypass", **conditions)
    ConnectionRule("r", "bypass", apps=("/usr/bin/backup",), **conditions)


@pytest.mark.parametrize(("users", "allowed"), [((), False), (("ann",), True), (("1000",), True), (("bob",), False)])
def test_quic_is_for_some(users, allowed):
    process = Process(7, user="ann", uid=1000)
    assert Capture(quic_users=users).allows_quic(process) is allowed
    assert Capture(quic_users=users).allows_quic(None) is False
    assert Capture(quic="allow").allows_quic(None) is True
