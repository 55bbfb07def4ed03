"""Which bypasses have to be earned, and what becomes of those that are not."""

import asyncio
import ssl
import time
from dataclasses import replace

import pytest

from addons.connection import Connection, Process
from proxy import bypass as module
from proxy import pins
from proxy.bypass import PINNED, Bypasses
from proxy.chain import Chain
from proxy.gate import judge
from proxy.hello import parse
from proxy.origins import Origins
from proxy.paths import Roots
from proxy.pins import CLOSED, Pins
from proxy.pinstore import Pin, Store
from proxy.policy import parse as parse_policy
from proxy.probe import Probe
from proxy.revocation import Revocation
from proxy.session import Rules, Session
from proxy.tlspolicy import Upstream
from tests.proxy.origin import Origin

APP = "/opt/app"
LEARN = "pinned: learn, learn: [{apps: [/opt/app], hosts: [origin.test, other.test]}]"


class Recorder:
    """Takes events as (verdict, rule, reason)."""

    def __init__(self):
        self.events = []

    def connection(self, connection, verdict, decision, *, flow_id, incident=""):
        self.events.append((verdict, decision.rule, decision.reason))


@pytest.fixture(scope="module")
def impostor(folder):
    """Has certificates for all the names, from an authority that nobody trusts."""
    with Origin(folder / "impostor").serve() as served:
        yield served


@pytest.fixture
def bypasses(origin, tmp_path, monkeypatch):
    monkeypatch.setattr(pins, "LOOK_INTERVAL", 0)
    return Bypasses(Probe(Origins(Roots.read(origin.roots), Upstream, Revocation())), Pins(tmp_path))


def hello(host):
    """A real ClientHello, parsed."""
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return parse(out.read())


def session(tmp_path, origin, policy, host="origin.test", app=APP, *, tls=True):
    rules = Rules(parse_policy(f"version: 1\n{policy}".encode(), tmp_path / "policy.yaml"), Chain([]))
    process = Process(1, app, user="me", uid=1000)
    connection = Connection(host, ("127.0.0.1", origin.port), ("127.0.0.1", 1), process, tls=tls)
    return Session(connection, lambda: rules, Recorder())


def settle(bypasses, session, said="origin.test", *, heard=None):
    if session.connection.tls:
        heard = heard or hello(said)
    verdict, decision, _ = judge(session, session.connection, [session.connection.address])
    return asyncio.run(bypasses.settle(session, heard, verdict, decision))


@pytest.fixture(params=[True, False], ids=["proved", "not proved"])
def proved(request):
    return request.param


RULE = "connections: [{{id: it, verdict: bypass, {}}}]"


@pytest.mark.parametrize("policy", [
    pytest.param("tls: {bypass: [origin.test]}", id="a name in tls.bypass"),
    pytest.param("tls: {bypass: ['*.test']}", id="a pattern"),
    pytest.param(RULE.format("hosts: [origin.test]"), id="a rule about hosts"),
    pytest.param(RULE.format("hosts: [origin.test], apps: [/opt/app]"), id="and about programs"),
    pytest.param("tls: {bypass: [origin.test]}\nconnections: [{id: tls.bypass, verdict: bypass, ports: [9]}]",
                 id="a rule of another kind with that name"),
])
def test_a_name_must_be_proved(bypasses, tmp_path, origin, impostor, policy, proved):
    here = session(tmp_path, origin if proved else impostor, policy)
    verdict, decision = settle(bypasses, here)
    if proved:
        assert (verdict, here.recorder.events) == ("bypass", [])
        assert decision.rule in ("tls.bypass", "it")
    else:
        assert (verdict, decision) == ("inspect", None)
        ((kind, rule, reason),) = here.recorder.events
        assert (kind, rule) in [("alert", "tls.bypass"), ("alert", "it")]
        assert "127.0.0.1 did not prove to be origin.test: No trusted authority" in reason


@pytest.mark.parametrize("policy", [
    pytest.param(RULE.format("addresses: [127.0.0.0/8]"), id="addresses"),
    pytest.param(RULE.format("apps: [/opt/*]"), id="programs"),
    pytest.param(RULE.format("users: [me]"), id="users"),
])
def test_what_the_client_does_not_say_needs_no_proof(bypasses, tmp_path, impostor, policy):
    here = session(tmp_path, impostor, policy)
    before = impostor.connections
    assert settle(bypasses, here)[0] == "bypass"
    assert impostor.connections == before


@pytest.mark.parametrize(("host", "said"), [
    pytest.param("origin.test", None, id="no server name: the tunnel's is not the ClientHello's"),
    pytest.param("origin.test", "other.test", id="another one"),
])
def test_the_name_is_the_clienthellos(bypasses, tmp_path, origin, host, said):
    here = session(tmp_path, origin, "tls: {bypass: [origin.test]}", host)
    assert settle(bypasses, here, said) == ("inspect", None)
    assert "names no server" in here.recorder.events[0][2]


def test_an_ech_extension_is_no_reason_to_decrypt(bypasses, tmp_path, origin):
    """Browsers send one that holds nothing; what it says is not read either way."""
    here = session(tmp_path, origin, "tls: {bypass: [origin.test]}")
    with_ech = replace(hello("origin.test"), ech=True)
    assert settle(bypasses, here, heard=with_ech)[0] == "bypass"


def test_a_label_without_a_name(bypasses, tmp_path, origin):
    here = session(tmp_path, origin, "tls: {bypass: ['label:health']}", host=None)
    here.connection.labels.add("health")
    assert settle(bypasses, here, None) == ("inspect", None)
    assert "names no server" in here.recorder.events[0][2]


def test_without_tls_a_name_leads_where_we_found_it(bypasses, tmp_path, impostor):
    here = session(tmp_path, impostor, RULE.format("hosts: [origin.test]"), tls=False)
    assert settle(bypasses, here)[0] == "bypass"


def test_an_origin_that_says_nothing_costs_a_part_of_the_time(bypasses, folder, tmp_path):
    with Origin(folder / "silent", on_connect=lambda sock: time.sleep(2)).serve() as silent:
        here = session(tmp_path, silent, "tls: {bypass: [origin.test]}\nlimits: {answer: 1}")
        began = time.monotonic()
        assert settle(bypasses, here) == ("inspect", None)
    assert time.monotonic() - began < 0.9
    assert f"no handshake within {module.SHARE:g} s" in here.recorder.events[0][2]


# -- pins


def pin(host="origin.test", *, learned=True, app=APP):
    now = time.time()
    return Pin(app, host, "unknown ca, 2 times", learned, now, now + 3600)


@pytest.mark.parametrize(("made", "policy", "expected"), [
    pytest.param(pin(), f"tls: {{{LEARN}}}", "bypass", id="learned"),
    pytest.param(pin(), "", "inspect", id="learned under another policy"),
    pytest.param(pin(), "tls: {pinned: learn}", "inspect", id="the policy has another list now"),
    pytest.param(pin(learned=False), "", "bypass", id="added by an operator"),
    pytest.param(pin("other.test"), f"tls: {{{LEARN}}}", "inspect", id="for another host"),
    pytest.param(pin(app="/opt/other"), f"tls: {{{LEARN}}}", "inspect", id="for another program"),
    pytest.param(pin(), f"tls: {{{LEARN}}}\nconnections: [{{id: must, verdict: inspect, users: [me]}}]", "inspect",
                 id="a rule says inspect"),
    pytest.param(pin(learned=False), "connections: [{id: must, verdict: inspect, hosts: ['*.test']}]", "inspect",
                 id="even to an operator"),
    pytest.param(pin(), f"tls: {{{LEARN}}}\nconnections: [{{id: never, verdict: block, users: [me]}}]", "block",
                 id="a rule says block"),
])
def test_a_pin(bypasses, origin, tmp_path, made, policy, expected):
    Store(tmp_path).put(made, limit=0)
    here = session(tmp_path, origin, policy)
    verdict, decision = settle(bypasses, here)
    assert verdict == expected
    if verdict == "bypass":
        assert decision.rule == PINNED
        assert "not inspected with origin.test until" in decision.reason


def test_a_pin_must_be_proved_too(bypasses, impostor, tmp_path):
    Store(tmp_path).put(pin(learned=False), limit=0)
    here = session(tmp_path, impostor, "")
    assert settle(bypasses, here) == ("inspect", None)
    assert here.recorder.events[0][:2] == ("alert", PINNED)


@pytest.mark.parametrize(("policy", "error", "events"), [
    pytest.param("", "tlsv1 alert unknown ca", ["block"] * 3, id="by default it stays blocked, and every time is told"),
    pytest.param(f"tls: {{{LEARN}}}", "tlsv1 alert unknown ca", ["block", "alert", "block"], id="learned, and told as an alert"),
    pytest.param(f"tls: {{{LEARN}}}", CLOSED, ["alert"], id="silence is no event, but counts"),
    pytest.param("", CLOSED, [], id="silence"),
    pytest.param(f"tls: {{{LEARN}}}", "tlsv1 alert protocol version", [], id="nothing about certificates"),
    pytest.param(f"tls: {{{LEARN}}}\nconnections: [{{id: must, verdict: inspect, hosts: [origin.test]}}]",
                 "tlsv1 alert unknown ca", ["block"] * 3, id="a rule says inspect: never learned"),
    pytest.param("tls: {pinned: learn}", "tlsv1 alert unknown ca", ["block"] * 3, id="not on the list"),
])
def test_a_client_does_not_take_our_certificate(bypasses, origin, tmp_path, policy, error, events):
    here = session(tmp_path, origin, policy)
    for _ in range(3):
        bypasses.client_failed(here, error)
    assert [verdict for verdict, _, _ in here.recorder.events] == events
    assert {rule for _, rule, _ in here.recorder.events} <= {PINNED}
    assert settle(bypasses, here)[0] == ("bypass" if "alert" in events else "inspect")


def test_a_blocked_connection_teaches_nothing(bypasses, origin, tmp_path):
    """Its page comes with our certificate, whatever the filters say."""
    here = session(tmp_path, origin, f"tls: {{{LEARN}}}")
    here.refused = module.Decision(module.Action.BLOCK, "blocklist", "no")
    for _ in range(3):
        bypasses.client_failed(here, "tlsv1 alert unknown ca")
    here.refused = None
    assert settle(bypasses, here)[0] == "inspect"


def test_the_event_says_what_to_do(bypasses, origin, tmp_path):
    here = session(tmp_path, origin, "")
    bypasses.client_failed(here, "tlsv1 alert unknown ca")
    reason = here.recorder.events[0][2]
    for part in (APP, "origin.test", "unknown ca", "lockgate ca verify", "lockgate pins add"):
        assert part in reason
