"""Texts of prompts and answers are views, and an answer flows but for what may be a value."""

import json
import re

import pytest

from addons.deltas import AWS, SSE
from addons.llm_views import is_prompt
from addons.views import Listener, Tree, View
from tests.addons.conftest import SIZES, cut
from tests.addons.test_deltas import bedrock, frame, openai, sse

NDJSON = "application/x-ndjson"


class Ear:
    """Notes each view and its text; at which byte of the body a pattern was first heard in one."""

    def __init__(self, pattern: bytes = b"(?!)") -> None:
        self.views: list[tuple[str, bytes]] = []
        self.found = False
        self._pattern = re.compile(pattern)

    def opened(self, view: View) -> Listener:
        pieces: list[bytes] = []

        def hear(data: bytes) -> None:
            pieces.append(data)
            if not data:                    # as a scanner of patterns: it judges at the end
                text = b"".join(pieces)
                self.views.append((view.path, text))
                self.found = self.found or self._pattern.search(text) is not None

        return hear

    def unscannable(self, view: View, reason: str) -> None:
        raise AssertionError((view.path, reason))

    def named(self) -> dict[str, bytes]:
        return {path.rpartition(" > ")[2]: text for path, text in self.views if "llm:" in path}


def heard(body: bytes, declared: str, size: int) -> dict[str, bytes]:
    ear = Ear()
    tree = Tree(ear, "body", declared)
    for chunk in cut(body, size):
        tree.feed(chunk)
    tree.end()
    return ear.named()


PROMPT = {
    "model": "m",
    "system": "You are a helpful assistant.",
    "messages": [
        {"role": "user", "content": "My card is\n4111 1111 1111 1111"},
        {"role": "assistant", "content": [{"type": "tool_use", "name": "sql", "input": {"query": "select * from users"}}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "DE89 3704 0044 0532 0130 00"}]},
        {"role": "tool", "content": "another tool's result"},
        {"role": "user", "content": "short"},
    ],
    "tools": [{"type": "function", "function": {"name": "sql", "description": "asks the database"}}],
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_a_finding_says_which_part_of_a_prompt_it_is_in(size: int) -> None:
    assert heard(json.dumps(PROMPT).encode(), "application/json", size) == {
        "llm:system": b"You are a helpful assistant.",
        "llm:messages[0].content": b"My card is\n4111 1111 1111 1111",
        "llm:messages[1].content[0].input.query": b"select * from users",
        "llm:tool_result(messages[2].content[0].content)": b"DE89 3704 0044 0532 0130 00",
        "llm:tool_result(messages[3].content)": b"another tool's result",
        "llm:tools[0].function.description": b"asks the database",
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"contents":[{"parts":[{"text":"hello model"}]}]}', "llm:contents[0].parts[0].text"),
        (b'{"systemInstruction":{"parts":[{"text":"be brief, please"}]}}', "llm:systemInstruction.parts[0].text"),
        (b'{"model":"m","input":"hello model"}', "llm:input"),
        (b'{"contents":[{"parts":[{"functionResponse":{"name":"f","response":{"x":"from a tool"}}}]}]}',
         "llm:tool_result(contents[0].parts[0].functionResponse.response.x)"),
        (b'{"action":"next","messages":[{"content":{"content_type":"text","parts":["hello model"]}}]}',
         "llm:messages[0].content.parts[0]"),
        (b'{"model":"m","prompt":"hello model"}', "llm:prompt"),
        (b'{"messages":[{"role":"user","content":[{"toolResult":{"content":[{"json":{"a":"from a tool"}}]}}]}]}',
         "llm:tool_result(messages[0].content[0].toolResult.content[0].json.a)"),
    ],
)  # fmt: skip
def test_prompts_of_all_makers(body: bytes, expected: str) -> None:
    assert expected in heard(body, "application/json", 16)


@pytest.mark.parametrize("body", [b'{"query":"mutation","variables":{"input":{"text":"hello world"},"input":"hello"}}', b'{"id":1}', b'{"name":"input","items":[]}', b'{"message":"hello world"}'])
def test_other_json_costs_nothing(body: bytes) -> None:
    assert not is_prompt(body)
    assert heard(body, "application/json", 16) == {}


SPLIT = ["Your", " card", " is", " 41", "11", " 1111", " 11", "11", " 1111", ", I think", "."]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("declared", "body", "name"),
    [
        pytest.param(SSE, sse(*map(openai, SPLIT)), "llm:answer.content", id="events"),
        pytest.param(NDJSON, b"".join(json.dumps(openai(t)).encode() + b"\n" for t in SPLIT), "llm:answer.content", id="lines"),
        pytest.param(AWS, b"".join(frame(bedrock({"completion": t})) for t in SPLIT), "llm:answer.completion", id="frames"),
    ],
)  # fmt: skip
def test_a_value_split_over_events_is_in_one_view(declared: str, body: bytes, name: str, size: int) -> None:
    found = heard(body, declared, size)
    assert found[name] == b"Your card is 4111 1111 1111 1111, I think."


def released(texts: list[str], declared: str = SSE, pattern: bytes = rb"4111 1111 1111 1111|ghp_\w{20}") -> tuple[str, bool]:
    """Feed an answer event by event; return the text that had left when the value was found, or all, and whether."""
    ear = Ear(pattern)
    tree, left, ends, at = Tree(ear, "body", declared), 0, list[int](), 0
    for text in texts:
        event = b"data: " + json.dumps(openai(text)).encode() + b"\n\n"
        tree.feed(event)
        at += len(event)
        ends.append(at)
        if ear.found:
            break
        left = max(left, tree.clear)
    else:
        tree.end()
        left = at
    return "".join(text for text, end in zip(texts, ends, strict=False) if end <= left), ear.found


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        pytest.param(SPLIT, "Your card is 41", id="a card"),
        pytest.param(["the key", ": ", "gh", "p_", "A1b2C3d4", "E5f6G7h8", "I9j0K1l2M3", " ", "ok"], "the key: gh", id="a key"),
        pytest.param(["so: 4111 1111 1111 1111 is it", "x"], "", id="in one event"),
    ],
)
def test_of_a_value_at_most_four_characters_leave(texts: list[str], left: str) -> None:
    assert released(texts) == (left, True)


def test_words_are_not_delayed() -> None:
    words = ["The", "quick", "fox,", "said", "Ann,", "jumps", "over\nthe", "dog.", "On", "5", "I'm", "well;", "'so'", "(as)."]
    ear = Ear()
    tree, at = Tree(ear, "body", SSE), 0
    for word in words:
        event = b"data: " + json.dumps(openai(word + " ")).encode() + b"\n\n"
        tree.feed(event)
        at += len(event)
        assert tree.clear == at, word


def test_other_streams_never_wait_for_what_follows() -> None:
    tree = Tree(Ear(), "body", SSE)
    event = b'data: {"message": "build 4711"}\n\n'
    tree.feed(event)
    assert tree.clear == len(event)


@pytest.mark.parametrize("last", [b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n', b"data: [DONE]\n\n"])
def test_an_answer_that_ends_in_a_number_does_not_wait(last: bytes) -> None:
    tree, event = Tree(Ear(), "body", SSE), b"data: " + json.dumps(openai("it is 4242")).encode() + b"\n\n"
    tree.feed(event)
    assert tree.clear < len(event)
    tree.feed(last)
    assert tree.clear == len(event + last)


def test_a_long_answer_is_no_end_of_views() -> None:
    ear = Ear()
    tree = Tree(ear, "body", SSE)
    for number in range(3000):
        tree.feed(b"data: " + json.dumps(openai(f" n{number}-x")).encode() + b"\n\n")
    assert tree.budget.views < 100
    assert len(tree.views) < 20
