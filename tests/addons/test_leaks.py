"""What leak filters share: one finding a value, bounded memory, and every way that text goes out."""

import base64
import gc
import sys
import time
from collections import Counter
from dataclasses import dataclass

import pytest

from addons.leaks import MOST, MOST_VALUES, Finder, LeakFilter, action
from addons.scan import Pattern, PatternSet
from addons.verdict import Action, Finding, Verdict
from addons.views import Tree
from tests.addons.conftest import SIZES, cut, heard, request

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


@dataclass
class Options(LeakFilter):
    """With the options that all have."""

    def scanner(self, where: str = "body") -> Finder:
        return Keys().scanner(where)

    def weigh(self, found: list[Finding], host: str) -> Verdict | None:
        return Verdict(self._action, "found", tuple(found))


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
    verdicts = list(heard(Keys().requestviews(request()), b"-- key-123456 --", size))
    assert [verdict.reason for verdict in verdicts] == ["1 to site.example"]
    assert verdicts[0].findings[0].where == "body"


@pytest.mark.parametrize("size", SIZES)
def test_the_innermost_view_tells_where(size: int) -> None:
    """The parts of a form are in the body as they are, too."""
    body = (b'--b\r\ncontent-disposition: form-data; name="f"\r\n\r\n' + b"." * 3000 + b" key-123456"
            + b"," * 9000 + b"\r\n--b--\r\n")
    verdicts = list(heard(Keys().requestviews(request()), body, size, "multipart/form-data; boundary=b"))
    assert [[(f.where, f.start) for f in v.findings] for v in verdicts] == [[("body > multipart[1]", 3001)]]


def hear(message, *views: tuple[str, bytes]) -> list[str]:
    """Show views, one after the other, to what hears a message: the places in its last verdict."""
    root, found = Tree(None).root, []
    for step, text in views:
        hear = message.opened(root.inside(step))
        hear(text)
        hear(b"")
        if verdict := message.leaving(1 << 20):
            found = [f"{f.where} {f.start}" for f in verdict.findings]
    return found


KEY = b"key-123456"


@pytest.mark.parametrize(("views", "found"), [
    pytest.param([("a", KEY), ("b", b"." + KEY)], ["body > a 0"], id="a value in two views is one"),
    pytest.param([("a", KEY), ("b", b"key-654321")], ["body > a 0", "body > b 0"], id="two values"),
    pytest.param([("a", KEY + b" " + KEY)], ["body > a 0", "body > a 11"], id="twice in one view is two"),
    pytest.param([("a", KEY), ("b", KEY + b" " + KEY)], ["body > a 0", "body > b 11"], id="the second of a view"),
])
def test_a_value_counts_once(views, found) -> None:
    assert hear(Keys().requestviews(request()), *views) == found


def test_a_long_body_full_of_values_takes_bounded_memory() -> None:
    message = Keys(Action.ALERT).requestviews(request())
    hear = message.opened(Tree(None).root)
    for block in range(30):
        hear(b" ".join(b"key-%06d" % i for i in range(block * 1000, block * 1000 + 1000)) + b" ")
        message.leaving(sys.maxsize)
    kept = [each for each in gc.get_objects() if type(each) is Counter and len(each) > MOST_VALUES]
    assert not kept


def test_what_waits_is_not_looked_through_in_vain() -> None:
    message, root = Keys(Action.ALERT).requestviews(request()), Tree(None).root
    hear = message.opened(root)
    hear(b" ".join(b"key-%06d" % i for i in range(30_000)) + b" ")
    start = time.thread_time()
    assert not any(message.leaving(0) for _ in range(2000))
    assert time.thread_time() - start < 0.5
    assert message.leaving(sys.maxsize) is not None


@pytest.mark.parametrize(("options", "flow", "asked"), [
    pytest.param({}, request(), (True, False), id="what goes out"),
    pytest.param({"responses": True}, request(), (True, True), id="responses, too"),
    pytest.param({"responses": True, "hosts_allowed": ("example",)}, request(), (False, False), id="may have it"),
    pytest.param({"hosts_allowed": ("other.example",)}, request(), (True, False), id="another host may"),
    pytest.param({"hosts_allowed": ("te.example",)}, request(), (True, False), id="one whose name ends so may"),
])
def test_which_messages_are_searched(options, flow, asked) -> None:
    leaks = Options(**options)
    assert (bool(leaks.requestviews(flow)), bool(leaks.responseviews(flow))) == asked
    assert bool(leaks.requestheaders(request("/" + KEY.decode()))) is asked[0]


@pytest.mark.parametrize(("option", "upload", "answer"), [
    (None, Action.BLOCK, Action.ALERT),
    ("block", Action.BLOCK, Action.ALERT), ("alert", Action.ALERT, Action.ALERT), ("allow", None, None),
])
def test_what_cannot_be_read(option, upload, answer) -> None:
    given = {"unscannable": option} if option else {}
    leaks, root = Options(**given, responses=True), Tree(None).root
    for viewer, expected in (leaks.requestviews(request()), upload), (leaks.responseviews(request()), answer):
        verdicts = [viewer.unscannable(root.inside(name), "it is encrypted") for name in ("zip:a", "zip:b")]
        assert verdicts[0] is None if expected is None else verdicts[0].action is expected
        if expected is Action.ALERT:
            assert verdicts[1] is None, "the same alert twice"
        if expected is not None:
            assert verdicts[0].reason == "unscannable: it is encrypted, in body > zip:a"


@pytest.mark.parametrize("options", [{"action": "stop"}, {"unscannable": "kill"}, {"unscannable": ""}])
def test_options_that_are_none(options) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("flow", "where"),
    [
        pytest.param(request("/a?b=key-123456"), "url", id="url"),
        pytest.param(request("/a?b=key%2d123456"), "url", id="encoded"),
        pytest.param(request("/a?b=%6bey%252d123456"), "url", id="encoded twice"),
        pytest.param(request(X_Note="key-123456"), "header:x-note", id="header"),
        pytest.param(request(accept_encoding="key-123456"), "header:accept-encoding", id="any header"),
        pytest.param(request("/a?b=" + b64("is it key-123456?")), "url > base64", id="base64"),
        pytest.param(request(X_Note="x " + b64("is it key-123456?")), "header:x-note > base64", id="base64 in a header"),
        pytest.param(request("/a?b=" + b64("is it key-123456?").replace("=", "%3D")), "url > unescaped > base64", id="both"),
    ],
)
def test_head(flow, where: str) -> None:
    verdict = Keys().requestheaders(flow)
    assert verdict
    assert [f.where for f in verdict.findings] == [where]


@pytest.mark.parametrize(("headers", "where"), [
    pytest.param({"cookie": "a=b; t=key-123456"}, "header:cookie > t", id="a cookie"),
    pytest.param({"cookie": "a=b; t=" + b64("is it key-123456?")}, "header:cookie > t > base64", id="inside a cookie"),
    pytest.param({"authorization": "Basic " + b64("u:key-123456")}, "header:authorization > basic", id="basic"),
    pytest.param({"authorization": "Bearer key-123456"}, "header:authorization", id="bearer"),
])
def test_credentials_headers(headers, where: str) -> None:
    flow = request(**headers)
    assert Options().requestheaders(flow) is None
    verdict = Options(credentials_headers=True).requestheaders(flow)
    assert [f.where for f in verdict.findings] == [where]


def test_a_value_in_several_readings_is_one_finding() -> None:
    verdict = Keys().requestheaders(request("/?q=key-123456&r=%20"))
    assert verdict
    assert [(f.where, f.start) for f in verdict.findings] == [("url", 4)]


def test_a_flood_of_findings_is_bounded() -> None:
    text = (b"key-123456 " + b"." * 4000) * 3 * MOST
    verdicts = list(heard(Keys(Action.ALERT).requestviews(request()), text, 5000))
    assert len(verdicts) <= MOST
    assert len(verdicts[-1].findings) <= MOST


def test_a_grave_finding_is_not_lost_among_many() -> None:
    """Whatever is found beside it, all that is new is weighed."""
    class First(Keys):
        def weigh(self, found: list[Finding], host: str) -> Verdict | None:
            return super().weigh(found, host) if any(finding.rule == "key" for finding in found) else None

    assert First().requestheaders(request("/key-123456" + "?name=abcd" * 2 * MOST))
    text = b"key-123456 " + b"name=abcd " * 2 * MOST + b" " * 4000
    assert list(heard(First().requestviews(request()), text))


def test_a_request_without_a_valid_host_is_searched() -> None:
    assert Keys().requestheaders(request("/key-123456", host="a:b:c"))


@pytest.mark.parametrize("name", ["allow", "BLOCK", "", "stop"])
def test_actions_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="action"):
        action(name)
