"""One event for each decision, with what was known, and nothing of a secret in it."""

import json

import pytest
from mitmproxy.test import tflow, tutils

from addons.connection import Connection, Process
from addons.credentials import Secrets
from addons.verdict import Action, label
from proxy import sinks
from proxy.chain import Decision, Exchange
from proxy.records import Records
from proxy.schema import Events
from proxy.session import Session, Transfer
from tests.proxy.conftest import GET, running

KEY = "AKIA" + "4QXB7ZKLMRTW2NPD"
PROCESS = Process(7, exe="/usr/bin/app", cmdline=("app", "-d", KEY), user="me", uid=1000)
CONNECTION = Connection("a.example", ("192.0.2.1", 443), ("127.0.0.1", 5), PROCESS, alpn=("h2",), ja4="t13d")


@pytest.fixture
def record(tmp_path):
    """Run something with a Records, and return the events it left."""

    def run(act):
        records = Records(tmp_path, Events())
        act(records)
        records.close()
        return list(sinks.read(tmp_path))

    return run


def transfer(path=b"/x", decision=None, alerts=(), refusal=None):
    flow = tflow.tflow(req=tutils.treq(path=path), resp=True)
    label(flow, "kind:api")
    exchange = Exchange(flow, ())
    exchange.decision = decision
    exchange.alerts.extend(alerts)
    return Transfer(exchange, "INCIDENT01", "a.example", refusal=refusal)


def exchanged(records, given, error=""):
    session = Session(CONNECTION, lambda: None, records)
    session.transfers[given.exchange.flow.id] = given
    records.exchange(session, given, error)
    records.exchange(session, given, error)     # a second end is no second event
    assert not session.transfers


BLOCK = Decision(Action.BLOCK, "r", "because")
ALERT = Decision(Action.ALERT, "m", "would block: because", monitored=Action.BLOCK)


@pytest.mark.parametrize(("given", "expected"), [
    pytest.param({}, [("http", "pass", None)], id="nobody objected"),
    pytest.param({"decision": BLOCK}, [("alert", "block", "r")], id="blocked"),
    pytest.param({"decision": Decision(Action.ALLOW, "a", "fine")}, [("http", "allow", "a")], id="allowed"),
    pytest.param({"alerts": [ALERT]}, [("alert", "alert", "m"), ("http", "pass", None)], id="an alert, then nothing"),
    pytest.param({"alerts": [ALERT], "decision": BLOCK}, [("alert", "alert", "m"), ("alert", "block", "r")], id="both"),
    pytest.param({"refusal": (421, "not here")}, [("alert", "block", "lockgate")], id="refused by the proxy itself"),
])
def test_exchange(record, given, expected):
    events = record(lambda records: exchanged(records, transfer(**given)))
    assert [(e["event_type"], e["lockgate"]["verdict"], e["lockgate"].get("filter")) for e in events] == expected
    for event in events:
        assert event["process"]["exe"] == "/usr/bin/app"
        assert event["tls"]["sni"] == event["http"]["hostname"] == "a.example"
        assert event["labels"] == ["kind:api"]


def test_no_secret_gets_in(record):
    path = f"/upload?key={KEY}".encode()
    flow = tflow.tflow(req=tutils.treq(path=path))
    verdict = Secrets().requestheaders(flow)
    decision = Decision(verdict.action, "secrets", verdict.reason, verdict.findings)
    (event,) = record(lambda records: exchanged(records, transfer(path, decision)))
    text = json.dumps(event)
    assert KEY not in text
    assert KEY[:5] not in text
    assert event["lockgate"]["findings"][0]["sample"] == "AKIA…"


@pytest.mark.parametrize(("refused", "requests", "rules"), [
    pytest.param(None, [{}], [None], id="not refused"),
    pytest.param(BLOCK, [], ["r"], id="no request came"),
    pytest.param(Decision(Action.KILL, "r", "no"), [], ["r"], id="killed"),
    pytest.param(BLOCK, [{"decision": BLOCK}], ["r"], id="a request told"),
    pytest.param(BLOCK, [{"decision": BLOCK}] * 2, ["r", "r"], id="two did"),
    pytest.param(BLOCK, [{"refusal": (421, "not here")}], ["lockgate", "r"], id="one was refused for another reason"),
    pytest.param(BLOCK, [{"refusal": (421, "not here"), "decision": BLOCK}], ["lockgate", "r"], id="and for both"),
])
def test_what_refused_a_connection_is_recorded(record, refused, requests, rules):
    def act(records):
        session = Session(CONNECTION, lambda: None, records, refused=refused)
        for request in requests:
            given = transfer(**request)
            session.transfers[given.exchange.flow.id] = given
            records.exchange(session, given)
        if refused:
            records.uninspectable(session, "not HTTP")      # no reason beside the one that counts
        records.ended(session)
        records.ended(session)

    events = record(act)
    assert [event["lockgate"].get("filter") for event in events] == rules
    assert all(event["lockgate"].get("incident") for event in events if event["event_type"] == "alert")


def test_a_failure_and_the_block_behind_it_share_an_incident(record):
    def act(records):
        session = Session(CONNECTION, lambda: None, records, refused=BLOCK)
        records.unverified(session, "expired")
        records.ended(session)

    one, other = record(act)
    assert one["lockgate"]["incident"] == other["lockgate"]["incident"]


@pytest.mark.parametrize(("verdict", "decision", "expected"), [
    ("bypass", Decision(Action.ALLOW, "tls.bypass", "listed"), ("tls", "bypass")),
    ("block", Decision(Action.KILL, "c", "no"), ("alert", "kill")),
    ("alert", ALERT, ("alert", "alert")),
])
def test_connection(record, verdict, decision, expected):
    (event,) = record(lambda records: records.connection(CONNECTION, verdict, decision, flow_id=1))
    assert (event["event_type"], event["lockgate"]["verdict"]) == expected
    assert event["tls"]["ja4"] == "t13d"


@pytest.mark.parametrize("fail", [
    pytest.param(lambda records, session: records.uninspectable(session, "not HTTP"), id="not HTTP"),
    pytest.param(lambda records, session: records.unverified(session, "expired"), id="the origin's certificate"),
])
@pytest.mark.parametrize(("waiting", "same"), [
    pytest.param((), True, id="the page still to come"),
    pytest.param(("INCIDENT01",), True, id="the page of the request that waits"),
    pytest.param(("INCIDENT01", "INCIDENT02"), False, id="nobody knows which"),
])
def test_a_failed_connection_and_its_page_share_an_incident(record, fail, waiting, same):
    def act(records):
        nonlocal session
        session = Session(CONNECTION, lambda: None, records)
        session.transfers = {name: Transfer(Exchange(None, ()), name) for name in waiting}
        fail(records, session)

    session = None
    (event,) = record(act)
    assert event["flow_id"] == session.flow_id
    assert (event["lockgate"]["incident"] in (session.incident, *waiting)) == same
    assert (session.incident == "") == bool(waiting)


def test_the_page_leads_to_all_that_is_known(folder, origin):
    """An origin that nobody vouches for: its handshake and the request that met it are one incident."""
    with running(folder / "unverified", "version: 1\n") as proxy:
        number = json.loads(proxy.ask(origin, GET).body)["incident"]
        found = [event for event in proxy.events() if event["lockgate"].get("incident") == number]
    assert {event["lockgate"]["filter"] for event in found} == {"tls", "lockgate"}
    assert len({event["flow_id"] for event in found}) == 1


def test_life_cycle(record):
    (event,) = record(lambda records: records.lifecycle("started", "here"))
    assert event["lockgate"] == {"event": "started", "reason": "here"}


