"""The fixture for authors' tests judges as the proxy does."""

from dataclasses import dataclass

import pytest

from addons import Process, alert, allow, block, label
from addons.cards import Cards
from addons.classify import Http

pytest_plugins = ["proxy.fixtures"]
CARD = b"4111 1111 1111 1111"


@dataclass
class Says:
    """What it is told to say, at a hook."""

    hook: str
    verdict: object

    def __getattr__(self, name):
        if name == self.__dict__["hook"]:
            return lambda _: self.verdict
        raise AttributeError(name)


@pytest.mark.parametrize(("filters", "exchange", "verdict", "rule"), [
    ([Cards()], {"body": b"x " * 900 + CARD}, "block", "filter-1"),
    ([Cards()], {"url": "https://site.example/?q=4111111111111111"}, "block", "filter-1"),
    ([Cards()], {"messages": ["hi", CARD]}, "block", "filter-1"),
    ([Cards()], {"answer": CARD}, "pass", ""),
    ([Cards(responses=True)], {"answer": CARD}, "block", "filter-1"),
    ([Says("requestheaders", allow("mine")), Cards()], {"body": CARD}, "allow", "filter-1"),
    ([Says("responseheaders", block("no"))], {"answer": b""}, "block", "filter-1"),
    ([Says("responseheaders", block("no"))], {}, "pass", ""),
    ([Says("request", block("no"))], {}, "block", "filter-1"),
    ([Says("request", block("no"))], {"body": bytes(2 << 20)}, "block", "filter-1"),
    ([Says("requestheaders", 7)], {}, "block", "filter-1"),
    ([Cards()], {"body": CARD, "when": "~m GET"}, "pass", ""),
    ([Cards()], {"body": CARD, "when": "~app curl", "process": Process(1, "/usr/bin/curl")}, "block", "filter-1"),
    ([Cards()], {"body": CARD, "when": "~label ours"}, "pass", ""),
    ([Cards()], {"body": CARD, "when": "~label ours", "labels": ["ours"]}, "block", "filter-1"),
])
def test_verdicts(judged, filters, exchange, verdict, rule):
    said = judged(*filters, **exchange)
    assert (said.verdict, said.rule) == (verdict, rule)


def test_alerts_labels_and_findings(judged):
    said = judged(Http(), Says("requestheaders", alert("look")), Cards(action="alert"), body=CARD)
    assert "direction:upload" in said.labels
    assert [each.rule for each in said.alerts] == ["filter-2", "filter-3"]
    assert [each.where for each in said.findings] == ["body"]


def test_a_verdict_that_depends_on_the_cut_fails_the_test(judged):
    class Careless:
        def requestbody(self, flow):
            return lambda piece: block("found") if b"word" in piece else None

    with pytest.raises(AssertionError, match="in pieces of"):
        judged(Careless(), body=b"a word")


def test_labels_of_a_flow_are_its_own(judged):
    class Once:
        def requestheaders(self, flow):
            seen = "been" in flow.metadata.get("labels", ())
            label(flow, "been")
            return block("again") if seen else None

    assert judged(Once()).verdict == "pass"
