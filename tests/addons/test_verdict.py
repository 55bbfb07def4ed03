"""A verdict says what and why; samples show four characters; labels work alike on flows and connections."""

import pytest
from mitmproxy.test import tflow

from addons.connection import Connection
from addons.verdict import Action, Finding, Verdict, alert, allow, block, kill, label, labels, masked

FINDING = Finding("r", "secret.r", "body", 0, 8, "abcd…")


@pytest.mark.parametrize(
    ("verdict", "action", "findings"),
    [
        pytest.param(allow("why"), Action.ALLOW, (), id="allow"),
        pytest.param(alert("why", (FINDING,)), Action.ALERT, (FINDING,), id="alert"),
        pytest.param(block("why", (FINDING,)), Action.BLOCK, (FINDING,), id="block"),
        pytest.param(kill("why"), Action.KILL, (), id="kill"),
    ],
)
def test_constructors(verdict: Verdict, action: Action, findings: tuple[Finding, ...]) -> None:
    assert (verdict.action, verdict.reason, verdict.findings) == (action, "why", findings)


@pytest.mark.parametrize(
    ("value", "sample"),
    [
        pytest.param(b"ghp_0123456789", "ghp_…", id="four characters and no more"),
        pytest.param(b"abc", "abc…", id="shorter"),
        pytest.param(b"\x1b[2J9", "\N{REPLACEMENT CHARACTER}[2J…", id="no control characters reach a terminal"),
        pytest.param(b"\xff\xfeab", "\N{REPLACEMENT CHARACTER}" * 2 + "ab…", id="not ASCII"),
    ],
)
def test_masked(value: bytes, sample: str) -> None:
    assert masked(value) == sample


def test_labels_are_kept_once_and_where_mitmproxy_finds_them() -> None:
    flow = tflow.tflow()
    for name in ("ads", "app:x", "ads"):
        label(flow, name)
    assert labels(flow) == {"ads", "app:x"}
    assert flow.metadata["labels"] == ["ads", "app:x"]


def test_labels_of_a_connection() -> None:
    connection = Connection("a.example", ("192.0.2.1", 443), ("127.0.0.1", 1))
    label(connection, "bank")
    assert labels(connection) == connection.labels == {"bank"}
    assert labels(tflow.tflow()) == frozenset()
