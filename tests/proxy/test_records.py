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


@pytest.mark.parametrize(("verdict", "decision", "expected"), [
    ("bypass", Decision(Action.ALLOW, "tls.bypass", "listed"), ("tls", "bypass")),
    ("block", Decision(Action.KILL, "c", "no"), ("alert", "kill")),
    ("alert", ALERT, ("alert", "alert")),
])
def test_connection(record, verdict, decision, expected):
    (event,) = record(lambda records: records.connection(CONNECTION, verdict, decision))
    assert (event["event_type"], event["lockgate"]["verdict"]) == expected
    assert event["tls"]["ja4"] == "t13d"


@pytest.mark.parametrize(("reason", "count"), [
    ("The client does not trust the proxy's certificate for a.example (tlsv1 alert unknown ca)", 1),
    ("connection closed early", 0),
    ("The client disconnected during the handshake. If this happens consistently for a.example, this may indicate that "
     "the client does not trust the proxy's certificate.", 0),
])
def test_a_plain_close_is_no_decision(record, reason, count):
    events = record(lambda records: records.untrusted(Session(CONNECTION, lambda: None, records), reason))
    assert len(events) == count


def test_life_cycle(record):
    (event,) = record(lambda records: records.lifecycle("started", "here"))
    assert event["lockgate"] == {"event": "started", "reason": "here"}


