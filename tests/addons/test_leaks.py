"""What leak filters share: one finding a value, bounded memory, and every way that text goes out."""

import pytest
from mitmproxy.test import tflow
from mitmproxy.websocket import WebSocketMessage
from wsproto.frame_protocol import Opcode

from addons.leaks import MOST, Finder, LeakFilter, action
from addons.scan import Pattern, PatternSet
from addons.verdict import Action, Finding, Verdict
from tests.addons.conftest import SIZES, cut, request

PATTERNS = PatternSet(
    [
        Pattern("key", rb"key-\d{6}(?!\d)", (b"key-",), longest=10),
        Pattern("digits", rb"-(\d{6})(?!\d)", (b"-",), longest=7),
        Pattern("any", rb"(?i:name)=([\w-]{4,40})(?![\w-])", (b"name",), longest=45),
    ]
)


class Keys(LeakFilter):
    """Blocks, and says how much it has been told of."""

    def __init__(self, does: Action = Action.BLOCK) -> None:
        self.does = does

    def scanner(self, where: str = "body") -> Finder:
        return Finder(PATTERNS, "test.{}".format, where, frozenset({"any"}))

    def weigh(self, found: list[Finding], host: str) -> Verdict | None:
        return Verdict(self.does, f"{len(found)} to {host}", tuple(found))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(b"x key-123456", [("key", 2, 12)], id="the first pattern names a value"),
        pytest.param(b"name=abcd-key-123456", [("any", 5, 20), ("key", 10, 20)], id="a minor one hides no other"),
        pytest.param(b"name=key-123456", [("key", 5, 15)], id="and gives way"),
        pytest.param(b"key-123456 key-123456", [("key", 0, 10), ("key", 11, 21)], id="each value once"),
    ],
)
def test_finder(text: bytes, found: list[tuple[str, int, int]], size: int) -> None:
    finder = Keys().scanner("here")
    got = [finding for chunk in cut(text, size) for finding in finder.feed(chunk)]
    assert [(f.rule, f.start, f.end) for f in got] == found
    assert all((f.kind, f.where) == (f"test.{f.rule}", "here") and len(f.sample) == 5 for f in got)


@pytest.mark.parametrize("size", SIZES)
def test_body(size: int) -> None:
    scan = Keys().requestbody(request())
    verdicts = [verdict for chunk in cut(b"-- key-123456 --", size) if (verdict := scan(chunk))]
    assert [verdict.reason for verdict in verdicts] == ["1 to site.example"]


@pytest.mark.parametrize(
    ("flow", "where"),
    [
        pytest.param(request("/a?b=key-123456"), "url", id="url"),
        pytest.param(request("/a?b=key%2d123456"), "url", id="encoded"),
        pytest.param(request("/a?b=%6bey%252d123456"), "url", id="encoded twice"),
        pytest.param(request(X_Note="key-123456"), "header:x-note", id="header"),
        pytest.param(request(accept_encoding="key-123456"), "header:accept-encoding", id="any header"),
    ],
)
def test_head(flow, where: str) -> None:
    verdict = Keys().requestheaders(flow)
    assert verdict
    assert [f.where for f in verdict.findings] == [where]


def test_a_value_in_several_readings_is_one_finding() -> None:
    verdict = Keys().requestheaders(request("/?q=key-123456&r=%20"))
    assert verdict
    assert [(f.where, f.start) for f in verdict.findings] == [("url", 4)]


@pytest.mark.parametrize(
    ("message", "blocked"),
    [
        pytest.param(WebSocketMessage(Opcode.TEXT, True, b"key-123456"), True, id="text"),
        pytest.param(WebSocketMessage(Opcode.BINARY, True, b"\0key-123456\0"), True, id="binary"),
        pytest.param(WebSocketMessage(Opcode.TEXT, True, b"nothing"), False, id="nothing"),
        pytest.param(WebSocketMessage(Opcode.TEXT, False, b"key-123456"), False, id="of the server"),
    ],
)
def test_websocket(message: WebSocketMessage, blocked: bool) -> None:
    flow = tflow.twebsocketflow()
    flow.websocket.messages.append(message)
    assert bool(Keys().websocket_message(flow)) is blocked


def test_a_flood_of_findings_is_bounded() -> None:
    scan = Keys(Action.ALERT).requestbody(request())
    verdicts = [verdict for _ in range(3 * MOST) if (verdict := scan(b"key-123456 " + b"." * 4000))]
    assert len(verdicts) <= MOST
    assert len(verdicts[-1].findings) <= MOST


def test_a_grave_finding_is_not_lost_among_many() -> None:
    """Whatever is found beside it, all that is new is weighed."""
    class First(Keys):
        def weigh(self, found: list[Finding], host: str) -> Verdict | None:
            return super().weigh(found, host) if any(finding.rule == "key" for finding in found) else None

    assert First().requestheaders(request("/key-123456" + "?name=abcd" * 2 * MOST))
    scan = First().requestbody(request())
    assert scan
    assert scan(b"key-123456 " + b"name=abcd " * 2 * MOST + b" " * 4000)


def test_a_request_without_a_valid_host_is_searched() -> None:
    assert Keys().requestheaders(request("/key-123456", host="a:b:c"))


@pytest.mark.parametrize("name", ["allow", "BLOCK", "", "stop"])
def test_actions_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="action"):
        action(name)
