"""Rules on labels: names, beginnings, confidence; and the filter that decides by them."""

import pytest

from addons.labelled import Labels, Wanted
from addons.verdict import DONE, Action, confidence, label, labels
from tests.addons.conftest import request


@pytest.mark.parametrize(
    ("attached", "expected"),
    [
        pytest.param([("a", 1)], 1, id="certain"),
        pytest.param([("a", 0.5)], 0.5, id="less"),
        pytest.param([("a", 0.5), ("a", 0.8), ("a", 0.6)], 0.8, id="the surest is believed"),
        pytest.param([("a", 0.5), ("a", 1)], 1, id="then certain"),
        pytest.param([("a", 1), ("b", 0.1), ("a", 0.5)], 1, id="certain remains"),
        pytest.param([("b", 1)], 0, id="not attached"),
    ],
)
def test_confidence(attached: list[tuple[str, float]], expected: float) -> None:
    flow = request()
    for name, sure in attached:
        label(flow, name, sure)
    assert confidence(flow, "a") == expected
    assert labels(flow) == {name for name, _ in attached}


@pytest.mark.parametrize(
    ("text", "holds"),
    [("op:login", True), ("op:login@0.7", True), ("op:login@0.8", False), ("op:*", True), ("op:*@0.9", True),
     ("op", False), ("op:log", False), ("x*", False), ("op:rpc:a@b", True), ("op:rpc:a@1", False)],
)  # fmt: skip
def test_wanted(text: str, holds: bool) -> None:
    flow = request()
    label(flow, "op:login", 0.7)
    label(flow, "op:rpc:a@b", 0.95)
    assert (Wanted.parse(text).match(flow) is not None) is holds


def test_the_first_list_decides() -> None:
    flow = request()
    label(flow, "a")
    label(flow, "b")
    for rules, action in (({"block": ["a"], "kill": ["b"]}, Action.KILL), ({"block": ["a"], "allow": ["b"]}, Action.ALLOW),
                          ({"alert": ["a"], "block": ["b"]}, Action.BLOCK)):  # fmt: skip
        found = Labels(**{key: tuple(names) for key, names in rules.items()}).requestheaders(flow)
        assert found is not None
        assert found.action is action


def test_labels_of_the_body_decide_as_it_streams() -> None:
    flow, rules = request(), Labels(block=("op:graphql:mutation:*",), alert=("a",))
    label(flow, "a")
    said = rules.requestheaders(flow)
    assert said is not None
    assert said.action is Action.ALERT
    scan = rules.requestbody(flow)
    assert scan(b"{") is None, "it alerts once"
    label(flow, "op:graphql:mutation:Drop")
    said = scan(b"}")
    assert said is not None
    assert (said.action, said.reason) == (Action.BLOCK, "it is op:graphql:mutation:Drop")
    assert rules.requestbody(request())(b"") is DONE


def test_each_filter_judges_for_itself() -> None:
    flow, filters = request(), [Labels(alert=("a",)), Labels(block=("b",))]
    scans = [each.requestbody(flow) for each in filters]
    label(flow, "a")
    label(flow, "b")
    assert [said and said.action for scan in scans if (said := scan(b"x")) is not DONE] == [Action.ALERT, Action.BLOCK]


def test_a_label_that_becomes_surer_is_judged_again() -> None:
    flow, rules = request(), Labels(block=("op:login@0.9",), alert=("op:*",))
    label(flow, "op:login", 0.7)
    assert (said := rules.requestheaders(flow)) is not None
    assert said.action is Action.ALERT
    label(flow, "op:login", 0.95)
    assert (said := rules.requestbody(flow)(b"password=")) is not None
    assert (said.action, said.reason) == (Action.BLOCK, "it is op:login")


def test_a_label_alerts_once_and_each_does() -> None:
    flow, rules = request(), Labels(alert=("op:graphql:*",))
    scan, told = rules.requestbody(flow), []
    for name in ("op:graphql:query:A", "op:graphql:query:A", "op:graphql:query:B"):
        label(flow, name)
        told.append(said.reason if (said := scan(b"x")) else None)
    assert told == ["it is op:graphql:query:A", None, "it is op:graphql:query:B"]


def test_an_empty_name_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="not the name of a label"):
        Labels(block=("",))
