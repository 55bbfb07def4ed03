"""`lockgate explain`: the rule that would decide, and what every other one said."""

import asyncio
import json
import time

import pytest

from proxy import cli
from proxy.chain import Chain
from proxy.explain import Asked
from proxy.explain import judge as explained
from proxy.pins import Pins
from proxy.pinstore import Pin, Store
from proxy.policy import parse
from proxy.session import Rules

POLICY = """\
version: 1
tls: {bypass: ["*.bank.example"]}
connections:
  - {id: no-telemetry, verdict: block, hosts: ["*.telemetry.example"]}
filters:
  - {id: ads, use: blocklist.Hosts, with: {hosts: [ads.example, 192.0.2.7]}}
  - {id: labels, use: classify.Http}
  - {id: secrets, use: secrets.Secrets, when: "!~app /usr/bin/backup"}
  - {id: cards, use: cards.Cards, mode: monitor}
  - {id: broken, use: ./broken.py:Broken}
"""
BROKEN = (
    "class Broken:\n    def requestheaders(self, flow):\n        if flow.request.path == '/raise': raise ValueError\n"
)
KEY = "AKIA" + "4QXB7ZKLMRTW2NPD"


@pytest.fixture
def explain(tmp_path, capsys):
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "broken.py").write_text(BROKEN)

    def run(*words, code=0):
        assert cli.main(["explain", "--policy", str(tmp_path / "policy.yaml"), *map(str, words)]) == code
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("request_", "verdict", "rule"),
    [
        pytest.param({"url": "https://ads.example/x"}, "block", "ads", id="host"),
        pytest.param({"url": "https://x.ads.example:8443/"}, "block", "ads", id="sub-domain and port"),
        pytest.param({"url": "http://192.0.2.7/"}, "block", "ads", id="address"),
        pytest.param({"url": "wss://ads.example/socket"}, "block", "ads", id="WebSocket"),
        pytest.param({"url": "https://a.telemetry.example/"}, "block", "no-telemetry", id="connection rule"),
        pytest.param({"url": "https://www.bank.example/"}, "bypass", "tls.bypass", id="bypass"),
        pytest.param({"url": "https://a.example/", "body": f"key {KEY}"}, "block", "secrets", id="secret in the body"),
        pytest.param({"url": f"https://a.example/?k={KEY}"}, "block", "secrets", id="secret in the URL"),
        pytest.param(
            {"url": "https://a.example/", "headers": {"X-Key": KEY}}, "block", "secrets", id="secret in a header"
        ),
        pytest.param(
            {"url": "https://a.example/", "body": KEY, "app": "/usr/bin/backup"}, "pass", "", id="by an app that may"
        ),
        pytest.param({"url": "https://a.example/", "body": "4111 1111 1111 1111"}, "pass", "", id="a card, monitored"),
        pytest.param({"url": "https://a.example/raise"}, "block", "broken", id="a filter that raises"),
        pytest.param(
            {"url": "https://a.example/", "source_url": "https://b.example/", "type": "script"},
            "pass",
            "",
            id="nothing",
        ),
        pytest.param({"url": "https://exämple.org/ü?q=ß"}, "pass", "", id="international"),
        pytest.param({"url": "http://[2001:db8::1]:8080/"}, "pass", "", id="IPv6"),
    ],
)
def test_many_requests(explain, tmp_path, request_, verdict, rule):
    (tmp_path / "requests").write_text(json.dumps(request_) + "\n\n")
    (answer,) = map(json.loads, explain("--requests", tmp_path / "requests", "--json").splitlines())
    assert (answer["verdict"], answer["rule"]) == (verdict, rule)


def test_one_request_for_a_person(explain, tmp_path):
    (tmp_path / "body").write_text(f'{{"key": "{KEY}", "card": "4111 1111 1111 1111"}}')
    said = explain("https://a.example/up", "--body-file", tmp_path / "body")
    assert said.startswith("block by secrets: ")
    assert "\n  ads: no opinion\n" in said
    assert "\n  cards: not asked (secrets had decided)\n" in said
    assert "at 9: AKIA…\n" in said
    assert KEY not in said
    assert "its `when` does not match" in explain("https://a.example/", "--app", "/usr/bin/backup")


def test_a_bad_line_is_named(explain, tmp_path):
    (tmp_path / "requests").write_text('{"url": "https://a.example/"}\n{"method": "GET"}\n')
    assert len(explain("--requests", tmp_path / "requests", "--json", code=2).splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        pytest.param("https://A.Example./", "a.example", "/", id="one spelling of a name"),
        pytest.param("https://a.example:443/x", "a.example", "/x", id="the usual port"),
        pytest.param("http://a.example:443/x", "a.example:443", "/x", id="an unusual one"),
        pytest.param("https://user:pass@a.example/", "a.example", "/", id="without who asks"),
        pytest.param("https://a.example?q=%20&r=ü", "a.example", "/?q=%20&r=%C3%BC", id="no path, quoted once"),
    ],
)
def test_what_is_asked(url, authority, path):
    flow = Asked(url).flow()
    assert (flow.request.headers["host"], flow.request.path) == (authority, path)


# -- before decryption

TLS = """\
version: 1
tls:
  bypass: ["*.bank.example"]
  pinned: learn
  learn: [{apps: [/opt/app], hosts: [learned.example]}]
  upstream:
    exceptions:
      - {hosts: [old.example], accept: [expired, weak], min_version: "1.0"}
      - {hosts: [one.example], accept: [untrusted], fingerprint: "%s"}
    identities: [{hosts: [old.example], file: me.pem}]
connections:
  - {id: by-app, verdict: bypass, apps: [/opt/backup]}
  - {id: must, verdict: inspect, hosts: [must.example]}
""" % ("ab" * 32)
PINNED = ("/opt/app", "pinned.example"), ("/opt/app", "must.example"), ("/opt/app", "gone.example")


@pytest.mark.parametrize(("url", "app", "verdict", "rule", "words"), [
    pytest.param("https://www.bank.example/", None, "bypass", "tls.bypass",
                 "tls.bypass has *.bank.example, if www.bank.example's address proves", id="a name, to be proved"),
    pytest.param("http://www.bank.example/", None, "pass", "", "no filter objects", id="and without TLS"),
    pytest.param("https://a.example/", "/opt/backup", "bypass", "by-app", "connection rule by-app", id="a program"),
    pytest.param("https://pinned.example/", "/opt/app", "bypass", "tls.pinned",
                 "/opt/app is not inspected with pinned.example until", id="a pin"),
    pytest.param("https://pinned.example/", "/opt/other", "pass", "", "", id="a pin of another program"),
    pytest.param("https://must.example/", "/opt/app", "pass", "", "", id="a pin that a rule overrules"),
    pytest.param("https://gone.example/", "/opt/app", "pass", "", "", id="a pin that the policy would not let be learned"),
    pytest.param("https://learned.example/", "/opt/app", "pass", "", "tls.pinned: the program passes unread for a time",
                 id="what may be learned"),
    pytest.param("https://learned.example/", None, "pass", "", "", id="but not of nobody"),
    pytest.param("https://old.example/", None, "pass", "", "tls.exceptions tolerates: expired, weak", id="exceptions"),
    pytest.param("https://old.example/", None, "pass", "", "lets it speak TLS 1.0", id="an old version"),
    pytest.param("https://old.example/", None, "pass", "", "certificate for it, if it asks for one: ", id="an identity"),
    pytest.param("https://one.example/", None, "pass", "", f"untrusted, by the certificate {'ab' * 32} alone",
                 id="an exception for one certificate"),
])
def test_before_decryption(tmp_path, url, app, verdict, rule, words):
    for pair in PINNED:
        store, now = Store(tmp_path), time.time()
        store.put(Pin(*pair, "unknown ca", pair[1] == "gone.example", now, now + 1000), limit=1)
    rules = Rules(parse(TLS.encode(), tmp_path / "policy.yaml"), Chain(()))
    answer = asyncio.run(explained(rules, Asked(url, app=app), Pins(tmp_path)))
    assert (answer["verdict"], answer["rule"]) == (verdict, rule)
    said = [answer["reason"], *answer.get("tls", [])]
    assert any(words in each for each in said)
    assert ("(probe)" in answer["reason"]) == (rule in ("tls.bypass", "tls.pinned"))
    assert words or said == ["no filter objects"]


def test_before_decryption_for_a_person(explain):
    said = explain("https://www.bank.example/")
    assert said.startswith("bypass by tls.bypass: tls.bypass has *.bank.example, if www.bank.example's address proves ")
