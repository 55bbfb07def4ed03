"""Card numbers are found in every spelling; other numbers are not."""

import random

import pytest

from addons.cards import Cards, luhn
from addons.scan import Keywords, PatternSet, Perscan
from addons.verdict import Action, labels
from tests.addons.conftest import SIZES, cut, heard, request

VISA = "4111111111111111"

FOUND = [
    pytest.param(VISA, id="bare"),
    pytest.param("4111 1111 1111 1111", id="spaces"),
    pytest.param("4111-1111-1111-1111", id="dashes"),
    pytest.param("card=4111+1111+1111+1111&x=1", id="form"),
    pytest.param("card=4111%201111%201111%201111", id="form, encoded spaces"),
    pytest.param('{"pan":"' + VISA + '"}', id="JSON string"),
    pytest.param('{"pan":' + VISA + "}", id="JSON number"),
    pytest.param(f"<pan>{VISA}</pan>", id="XML"),
    pytest.param(f"no.\\n{VISA}\\n", id="after an escaped new line"),
    pytest.param(f"a%22{VISA}%22", id="after an encoded quote"),
    pytest.param(f"1;Smith;{VISA};12/27", id="CSV"),
    pytest.param(f"card {VISA}.", id="end of a sentence"),
    pytest.param("378282246310005", id="American Express"),
    pytest.param("3782 822463 10005", id="American Express, grouped"),
    pytest.param("5555555555554444", id="Mastercard"),
    pytest.param("2223003122003222", id="Mastercard, 2-series"),
    pytest.param("6011111111111117", id="Discover"),
    pytest.param("3530111333300000", id="JCB"),
    pytest.param("30569309025904", id="Diners Club"),
    pytest.param("credit card: 122000000000003", id="a rare one, named"),
    pytest.param("card number 4222222222222", id="13 digits, named"),
    pytest.param("x" * 9000 + " " + VISA + " " + "x" * 9000, id="far inside"),
]


def found(text: bytes, size: int = 65536) -> int:
    finder = Cards().scanner()
    return sum(len(finder.feed(chunk)) for chunk in cut(text, size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", FOUND)
def test_found(text: str, size: int) -> None:
    assert found(text.encode(), size) == 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("4111111111111112", id="wrong check digit"),
        pytest.param("9111111111111111", id="no issuer"),
        pytest.param("1" + VISA, id="in a longer number"),
        pytest.param(VISA + "1", id="longer behind"),
        pytest.param("a" + VISA, id="in a word"),
        pytest.param(VISA + "f", id="in a hex string"),
        pytest.param("0." + VISA, id="a fraction"),
        pytest.param(VISA + ".5", id="a float"),
        pytest.param("12-" + VISA, id="part of an identifier"),
        pytest.param('{"id": ' + VISA + "}", id="an id"),
        pytest.param("trace_id=" + VISA, id="a trace id"),
        pytest.param('"timestamp":"' + VISA + '"', id="a time"),
        pytest.param("4222222222222", id="13 digits, nothing says card"),
        pytest.param("5375 541D 542D 541E 5446 5443 5433 5448", id="a table of hex numbers"),
        pytest.param("1748503543012", id="milliseconds"),
    ],
)
def test_not_found(text: str) -> None:
    assert found(text.encode()) == 0


def test_noise() -> None:
    dice = random.Random(5)
    floats = " ".join(str(dice.random()) for _ in range(20_000)).encode()
    assert found(floats) + found(dice.randbytes(1 << 18).hex().encode()) + found(dice.randbytes(1 << 20)) == 0


@pytest.mark.parametrize(
    ("options", "body", "host", "action"),
    [
        pytest.param({}, VISA, "shop.example", Action.BLOCK, id="block by default"),
        pytest.param({"action": "alert"}, VISA, "shop.example", Action.ALERT, id="alert"),
        pytest.param({"minimum": 2}, VISA, "shop.example", None, id="one is below the minimum"),
        pytest.param({"minimum": 2}, f"{VISA} 5555555555554444", "shop.example", Action.BLOCK, id="two are not"),
        pytest.param({"processors": ("pay.example",)}, VISA, "api.pay.example", None, id="a processor"),
        pytest.param({"processors": ("pay.example",)}, VISA, "notpay.example", Action.BLOCK, id="not a processor"),
    ],
)
def test_body(options: dict, body: str, host: str, action: Action | None) -> None:
    viewer = Cards(**options).requestviews(request(host=host))
    verdicts = [v.action for v in heard(viewer, body.encode(), 5)] if viewer else []
    assert verdicts[-1:] == ([action] if action else [])


@pytest.mark.parametrize(
    ("path", "headers", "where"),
    [
        pytest.param(f"/pay/{VISA}", {}, "url", id="path"),
        pytest.param("/?c=4111%201111%201111%201111", {}, "url", id="query"),
        pytest.param("/", {"x_card": VISA}, "header:x-card", id="header"),
    ],
)
def test_head(path: str, headers: dict[str, str], where: str) -> None:
    verdict = Cards().requestheaders(request(path, **headers))
    assert verdict
    assert {(f.kind, f.where, f.sample) for f in verdict.findings} == {("pii.credit_card", where, "4111…")}


def test_processors_get_a_label_and_no_verdict() -> None:
    flow = request(f"/{VISA}", host="Pay.example")
    assert Cards(processors=("pay.example",)).requestheaders(flow) is None
    assert labels(flow) == {"card-processor"}


@pytest.mark.parametrize("options", [{"minimum": 0}, {"minimum": 101}, {"action": "forgive"}])
def test_bad_options(options: dict) -> None:
    with pytest.raises(ValueError, match=r"minimum|action"):
        Cards(**options)


@pytest.mark.parametrize(("digits", "valid"), [(VISA, True), ("4111111111111112", False), ("0", True), ("18", True)])
def test_luhn(digits: str, valid: bool) -> None:
    assert luhn(digits.encode()) is valid


def test_both_engines_give_the_same_verdicts() -> None:
    pytest.importorskip("pyperscan")
    text = "\n".join(case.values[0] for case in FOUND).encode()
    patterns = Cards()._patterns.patterns
    streams = [PatternSet(patterns, kind).stream() for kind in (Perscan, Keywords)]
    one, other = ([hit for chunk in cut(text, 999) for hit in stream.feed(chunk)] for stream in streams)
    assert one == other
