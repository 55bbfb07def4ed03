"""What the parts of the proxy know of a request together."""

import pytest
from mitmproxy.test import tflow

from addons.verdict import Action
from proxy.chain import Chain, Decision, Exchange, Rule
from proxy.policy import default_policy
from proxy.session import Rules, Session, Transfer


class Whole:
    def request(self, flow):
        """Wants all of it."""


class Scans:
    def requestbody(self, flow):
        return lambda _: None


def transfer(*filters, on_error=Action.BLOCK, **headers):
    flow = tflow.tflow()
    flow.request.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    rules = tuple(Rule(f"r{n}", each, None, False, on_error, 1.0, 100, hooks={
        name: getattr(each, name) for name in ("request", "requestbody") if hasattr(each, name)})
        for n, each in enumerate(filters))
    return Transfer(Exchange(flow, rules), "ABC")


@pytest.mark.parametrize(("filters", "headers", "opened", "stopped"), [
    pytest.param([], {}, False, False, id="no filters: untouched"),
    pytest.param([Whole()], {}, False, False, id="none that scans"),
    pytest.param([Scans()], {}, True, False, id="scanned"),
    pytest.param([Scans()], {"content_encoding": "gzip"}, True, False, id="decoded"),
    pytest.param([Scans()], {"content_encoding": "rot13"}, False, True, id="not to be decoded"),
])
def test_open_upload(filters, headers, opened, stopped):
    subject = transfer(*filters, **headers)
    subject.open_upload()
    assert (subject.upload is not None, subject.stopped) == (opened, stopped)


@pytest.mark.parametrize(("on_error", "stops"), [(Action.BLOCK, True), (Action.ALLOW, False)])
def test_overflow(on_error, stops):
    """Too large to be kept: `on_error` decides, and a filter that is passed over is not asked for this message."""
    subject = transfer(Whole(), on_error=on_error)
    assert subject.overflow("request") == stops
    assert subject.stopped == stops
    assert subject.exchange.buffering("request") == []


@pytest.mark.parametrize(("refused", "other", "relays"), [
    (False, "relay", True), (False, "block", False), (True, "relay", False)])
def test_relays(refused, other, relays):
    policy = default_policy()
    object.__setattr__(policy.capture, "other", other)
    decision = Decision(Action.BLOCK, "r", "why") if refused else None
    session = Session(None, lambda: Rules(policy, Chain([])), None, refused=decision)
    assert session.relays == relays
