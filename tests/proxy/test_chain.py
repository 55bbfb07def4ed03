"""The chain: whom it asks, and what it makes of what they say, or fail to say."""

import asyncio

import pytest
from mitmproxy.test import tflow

from addons.verdict import Action, alert, allow, block, kill
from proxy import deadline
from proxy.chain import MOST_ALERTS, PATIENCE, Decision, Exchange, Rule, stepwise


def rule(name, result, *, monitor=False, on_error=Action.BLOCK, matches=None, hook="requestheaders"):
    def call(_flow):
        if isinstance(result, BaseException):
            raise result
        return result

    return Rule(name, object(), matches, monitor, on_error, 0.05, 100, hooks={hook: call})


def ask(*rules, hook="requestheaders"):
    exchange = Exchange(tflow.tflow(), rules)
    asyncio.run(exchange.ask(hook))
    return exchange


def nobody(_flow):
    return False


def broken(_flow):
    raise ValueError


@pytest.mark.parametrize(("rules", "decision", "alerts"), [
    pytest.param([rule("a", None)], None, [], id="no opinion"),
    pytest.param([rule("a", None), rule("b", block("x"))], ("b", Action.BLOCK), [], id="the second decides"),
    pytest.param([rule("a", allow("x")), rule("b", block("x"))], ("a", Action.ALLOW), [], id="the first decides"),
    pytest.param([rule("a", alert("x")), rule("b", kill("x"))], ("b", Action.KILL), ["a"], id="an alert goes on"),
    pytest.param([rule("a", block("x"), monitor=True), rule("b", None)], None, ["a"], id="monitored"),
    pytest.param([rule("a", ValueError())], ("a", Action.BLOCK), [], id="raises"),
    pytest.param([rule("a", SystemExit())], ("a", Action.BLOCK), [], id="exits"),
    pytest.param([rule("a", "block")], ("a", Action.BLOCK), [], id="nonsense"),
    pytest.param([rule("a", ValueError(), on_error=Action.ALLOW), rule("b", block("x"))], ("b", Action.BLOCK), ["a"],
                 id="passed over when it raises"),
    pytest.param([rule("a", ValueError(), monitor=True)], None, ["a"], id="monitored, raises"),
    pytest.param([rule("a", block("x"), matches=nobody)], None, [], id="does not apply"),
    pytest.param([rule("a", block("x"), matches=broken)], ("a", Action.BLOCK), [], id="may or may not apply"),
    pytest.param([rule("a", block("x"), hook="response")], None, [], id="another hook"),
])
def test_ask(rules, decision, alerts):
    exchange = ask(*rules)
    assert (exchange.decision and (exchange.decision.rule, exchange.decision.action)) == decision
    assert [each.rule for each in exchange.alerts] == alerts


def test_an_allow_holds_for_later_hooks():
    later = rule("b", block("x"), hook="request")
    exchange = Exchange(tflow.tflow(), (rule("a", allow("x")), later))
    asyncio.run(exchange.ask("requestheaders"))
    assert exchange.buffering("request") == []


def test_alerts_of_a_request_without_end_are_bounded():
    exchange = Exchange(tflow.tflow(), ())
    for number in range(MOST_ALERTS + 5):
        assert not exchange.note(Decision(Action.ALERT, "r", str(number)))
    assert (len(exchange.alerts), exchange.untold) == (MOST_ALERTS, 5)


def test_clients_are_not_told_what_a_filter_raised():
    decision = ask(rule("a", ValueError("/var/lib/keys at 10.0.0.7"))).decision
    assert decision.reason == "the filter failed: ValueError: /var/lib/keys at 10.0.0.7"
    assert decision.told == "the filter failed"
    assert ask(rule("a", block("ads"))).decision.told == "ads"


def test_a_filter_that_is_always_late_rests():
    """It answers at once then, by its `on_error`, and does not cost everybody its deadline."""
    def late(_flow):
        while True:
            """Never."""

    slow = rule("a", None)
    slow.hooks["requestheaders"] = late
    reasons = [ask(slow).decision.reason for _ in range(PATIENCE + 1)]
    assert all("missed its deadline" in reason for reason in reasons[:PATIENCE])
    assert "resting" in reasons[-1]


def steps(function):
    async def run():
        async with asyncio.timeout(0.2):
            return await stepwise(0.05, function())

    return asyncio.run(run())


def test_stepwise():
    async def good():
        await asyncio.sleep(0.01)
        try:
            await asyncio.wait_for(asyncio.sleep(9), 0.01)
        except TimeoutError:
            return "caught"

    assert steps(good) == "caught"


async def loops():
    await asyncio.sleep(0)
    while True:
        """Never."""


async def stays():
    while True:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            """Will not go."""


@pytest.mark.parametrize(("function", "error"), [(loops, deadline.Missed), (stays, TimeoutError)])
def test_steps_that_do_not_end(function, error):
    with pytest.raises(error):
        steps(function)
