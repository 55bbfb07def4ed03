"""Events as plain dicts; what must not be in them is searched for in their JSON."""

import json
import re
import time

import pytest
from mitmproxy.test import tflow

from addons.connection import Connection, Parent, Process
from addons.verdict import Finding, masked
from proxy.events import (
    CROCKFORD,
    Http,
    Outcome,
    connection_event,
    flow_event,
    http_event,
    http_part,
    incident,
    lifecycle_event,
    line,
    mask_command,
    mask_url,
    normal_incident,
    parse_time,
)

SECRET = b"AKIAQWERTYUIOPASDFGH"


def connection(**more):
    process = Process(42, "/usr/bin/curl", ("curl", "-d", SECRET.decode()), "ann", 1000,
                      (Parent(41, "/bin/sh"), Parent(1)), "/user.slice", name="curl", started=1e9, service="a.service")
    return Connection("host.example", ("192.0.2.1", 443), ("127.0.0.1", 50_000), process, alpn=("h2",),
                      ja3="aa", ja4="t13d", labels={"b", "a"}, **more)


def found(where, start, value=SECRET, length=None):
    return Finding("aws", "secret.aws", where, start, start + (length or len(value)), masked(value))


def test_connection_event():
    event = connection_event(connection(), Outcome("inspect"), flow_id=5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", event.pop("timestamp"))
    assert event == {
        "event_type": "tls", "flow_id": 5, "src_ip": "127.0.0.1", "src_port": 50_000, "dest_ip": "192.0.2.1",
        "dest_port": 443, "proto": "TCP", "app_proto": "tls", "lockgate": {"verdict": "inspect"},
        "tls": {"sni": "host.example", "alpn": ["h2"], "ja3": {"hash": "aa"}, "ja4": "t13d"},
        "process": {"pid": 42, "exe": "/usr/bin/curl", "cmdline": "curl -d AKIA…", "user": "ann", "uid": 1000,
                    "parents": [{"pid": 41, "exe": "/bin/sh"}, {"pid": 1, "exe": ""}], "cgroup": "/user.slice",
                    "service": "a.service", "started": "2001-09-09T01:46:40.000+00:00"},
        "labels": ["a", "b"],
    }


def test_a_process_that_has_ended():
    gone = Connection(None, ("192.0.2.1", 80), ("127.0.0.1", 1), Process(42, user="ann", ended=True, name="curl\x1b"))
    event = connection_event(gone, Outcome("inspect"), flow_id=1)
    assert event["process"] == {"pid": 42, "exe": "", "user": "ann", "name": "curl\x1b", "ended": True}
    assert " curl\ufffd(42) " in line(event)


def test_nothing_known():
    event = connection_event(Connection(None, ("192.0.2.1", 80), ("127.0.0.1", 1), tls=False), Outcome("inspect"),
                             flow_id=1)
    assert event["event_type"] == "tcp"
    assert not {"tls", "process", "labels", "alert"} & event.keys()


def test_nowhere_to_go():
    """A connection to the proxy that has not said where: EVE's readers take an address or nothing."""
    event = connection_event(Connection(None, ("", 0), ("127.0.0.1", 1), tls=False), Outcome("block"), flow_id=1)
    assert not {"dest_ip", "dest_port"} & event.keys()
    assert line(event)


def test_a_name_that_is_missing_or_may_hide_another_is_said():
    event = connection_event(connection(unnamed=True, ech=True), Outcome("inspect"), flow_id=1)
    assert (event["tls"]["sni_absent"], event["tls"]["ech"]) == (True, True)


def test_flow_event():
    outcome = Outcome("bypass", "tls.bypass", "listed")
    event = flow_event(connection(), outcome, flow_id=5, sent=7, received=9)
    assert event["flow"] == {"bytes_toserver": 7, "bytes_toclient": 9}
    assert (event["event_type"], event["app_proto"], event["flow_id"]) == ("flow", "tls", 5)
    assert event["lockgate"] == {"verdict": "bypass", "filter": "tls.bypass", "reason": "listed"}
    assert line(event).endswith("host.example:443 tls.bypass: listed (7 bytes sent, 9 received)")


@pytest.mark.parametrize(("verdict", "kind", "action"), [
    ("allow", "http", None), ("inspect", "http", None), ("bypass", "http", None),
    ("alert", "alert", "allowed"), ("block", "alert", "blocked"), ("kill", "alert", "blocked"),
])
def test_alert(verdict, kind, action):
    outcome = Outcome(verdict, "secrets-out", "a secret", "0123456789", (found("body", 7),), monitored="block")
    event = http_event(connection(), outcome, Http("host.example", "/", "GET", "HTTP/2.0"), flow_id=1, labels=("c",))
    assert (event["event_type"], event["app_proto"], event["labels"]) == (kind, "http2", ["a", "b", "c"])
    assert event.get("alert") == (action and {"action": action, "signature": "secrets-out", "category": "secret.aws"})
    assert event["lockgate"]["monitored"] == "block"
    [finding] = event["lockgate"]["findings"]
    assert finding == {"rule": "aws", "kind": "secret.aws", "where": "body", "start": 7, "end": 27, "sample": "AKIA…"}


def test_http_part_masks_what_was_found():
    request = tflow.tflow(resp=True)
    request.request.path = f"/up?key={SECRET.decode()}"
    request.request.headers["user-agent"] = SECRET.decode()
    findings = (found("url", 8), found("header:user-agent", 0))
    part = http_part(request.request, request.response, "host.example", findings, sent=0, received=7)
    event = http_event(connection(), Outcome("block", findings=findings), part, flow_id=1)
    assert SECRET.decode()[4:] not in json.dumps(event, ensure_ascii=False)
    assert event["http"] == {"hostname": "host.example", "url": "/up?key=AKIA…", "http_method": "GET",
                             "protocol": "HTTP/1.1", "status": 200, "http_user_agent": "AKIA…",
                             "length": 7, "request_length": 0}


def encoded(data, times=1):
    for _ in range(times):
        data = "".join(f"%{byte:02X}" for byte in data).encode()
    return data


@pytest.mark.parametrize(("path", "findings", "shown"), [
    pytest.param(b"/a?b=c", (), "/a?b=c", id="nothing found"),
    pytest.param(b"/a?b=" + SECRET, (found("body", 5),), "/a?b=" + SECRET.decode(), id="found elsewhere"),
    pytest.param(b"/a?b=" + SECRET + b"&c", (found("url", 5),), "/a?b=AKIA…&c", id="as it is"),
    pytest.param(b"/%2Fa?b=" + SECRET + b"&c", (found("url", 6),), "/%2Fa?b=AKIA…&c", id="offset after decoding once"),
    pytest.param(b"/a?b=" + encoded(SECRET), (found("url", 5),), "/a?b=%41%4B%49%41…", id="encoded"),
    pytest.param(b"/a?b=" + encoded(SECRET, 2), (found("url", 5),), "/a?b=" + encoded(b"AKIA", 2).decode() + "…",
                 id="encoded twice"),
    pytest.param(b"/" + SECRET + b"?b=" + encoded(SECRET[:3]) + SECRET[3:], (found("url", 1),),
                 "/AKIA…?b=%41%4B%49A…", id="every occurrence, in every reading"),
    pytest.param(b"/x?b=%zz%" + SECRET, (found("url", 9),), "/x?b=%zz%AKIA…", id="stray percent signs"),
    pytest.param(b"/a?b=" + SECRET, (found("url", 3),), "…", id="not where it is said to be: nothing is shown"),
    pytest.param(b"/a?b=\xff", (), "/a?b=\xff", id="not ASCII"),
])
def test_mask_url(path, findings, shown):
    assert mask_url(path, findings) == shown


@pytest.mark.parametrize(("arguments", "shown"), [
    (["curl", "-sS", "https://ann:pw12345@host.example:8443/path?q=1"], "curl -sS https://host.example:8443/…"),
    (["curl", "-H", "X-Note: AKIAQWERTY"], "curl -H X-No…"),
    (["curl", "--data=card 4111111111111111"], "curl --data=card…"),
    (["python3", "-m", "http.server", "--bind", "/tmp/x"], "python3 -m http… --bind /tmp/x"),
    (["git", "clone", "git@host.example:a/b"], "git clone git@…"),
    (["mysql", "-pverysecret"], "mysql -pve…"),
    (["tool", "--token=/home/ann/token"], "tool --token=/home/ann/token"),
    ([], ""),
])
def test_mask_command(arguments, shown):
    assert mask_command(arguments) == shown


def test_incident():
    ids = {incident() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) == 10 and set(each) <= set(CROCKFORD) for each in ids)
    assert normal_incident("abcil-o123") == "ABC110123"


@pytest.mark.parametrize(("event", "shown"), [
    pytest.param(lifecycle_event("reloaded", "policy.yaml"), "reloaded - policy.yaml", id="life"),
    pytest.param(connection_event(connection(), Outcome("bypass", "tls.bypass", "tls.bypass has host.example"),
                                  flow_id=1),
                 "bypass  curl(42) host.example:443 tls.bypass: tls.bypass has host.example", id="connection"),
    pytest.param(http_event(connection(), Outcome("block", "f", "why", "0123456789"),
                            Http("host.example", "/x", "POST", "HTTP/1.1", 403), flow_id=1),
                 "block   curl(42) POST https://host.example/x 403 f: why [0123456789]", id="request"),
    pytest.param(connection_event(connection(), Outcome("block", "f", "\x1b[2J\nevil\u202e"), flow_id=1),
                 "block   curl(42) host.example:443 f: \ufffd[2J\ufffdevil\ufffd", id="no escape reaches the terminal"),
])
def test_line(event, shown):
    assert line(json.loads(json.dumps(event)))[20:] == shown


@pytest.mark.parametrize(("text", "ago"), [("90s", 90), ("10m", 600), ("2h", 7200), ("3d", 259_200)])
def test_parse_time(text, ago):
    assert parse_time(text) == pytest.approx(time.time() - ago, abs=5)


def test_parse_iso_time():
    assert parse_time("1970-01-02T00:00:00+00:00") == 86_400


@pytest.mark.parametrize("text", ["", "now", "5", "1w", "-1h"])
def test_no_time(text):
    with pytest.raises(ValueError, match="write 90s"):
        parse_time(text)
