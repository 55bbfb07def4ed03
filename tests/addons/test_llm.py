"""Who may be asked what, and which tools an answer may call."""

import json
from typing import Any

import pytest
from mitmproxy import http

from addons.deltas import SSE
from addons.llm import Prompts
from addons.verdict import DONE, Action, confidence, labels
from tests.addons.conftest import SIZES, cut, request
from tests.addons.test_deltas import openai, sse

OPENAI = {"host": "api.openai.com", "path": "/v1/chat/completions", "content_type": "application/json"}
PROMPT = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "found nothing"},
    ],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"name": {}}}}},
              {"type": "function", "function": {"name": "shell_exec"}}],
}  # fmt: skip


def asked(rules: Prompts, body: Any = PROMPT, size: int = 1 << 20, **given: str) -> tuple[http.HTTPFlow, str]:
    """Send a prompt; return the flow, and the reason of the block, if any."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    flow = request(**(OPENAI | given))
    said = rules.requestheaders(flow)
    if said is None and (scan := rules.requestbody(flow)):
        for chunk in cut(data, size):
            if (said := scan(chunk)) is not None:
                break
    if said is None or said is DONE:
        return flow, ""
    assert said.action is Action.BLOCK
    return flow, said.reason


@pytest.mark.parametrize("size", SIZES)
def test_labels(size: int) -> None:
    flow, said = asked(Prompts(), size=size)
    assert said == ""
    assert labels(flow) == {"llm:openai", "category:ai", "llm:model:gpt-4o-mini", "op:llm:prompt", "op:llm:system",
                            "op:llm:tools", "op:llm:tool-result", "op:llm:file"}  # fmt: skip


@pytest.mark.parametrize("size", [1, 64, 1 << 20])
@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ({"block_prompts_to": ("openai",)}, {}, "prompts to openai (api.openai.com) are not allowed"),
        ({"block_prompts_to": ("openai.com",)}, {}, "prompts to openai (api.openai.com) are not allowed"),
        ({"block_prompts_to": ("anthropic",)}, {}, ""),
        ({"providers": ("azure", "corp.example")}, {}, "not among those allowed"),
        ({"providers": ("azure", "corp.example")}, {"host": "llm.corp.example"}, ""),
        ({"providers": ("openai",)}, {"host": "x.example", "path": "/ask"}, "prompts to other (x.example)"),
        ({"models": ("gpt-4o*", "o3")}, {}, ""),
        ({"models": ("o3",)}, {}, "the model gpt-4o-mini is not among those allowed"),
        ({"models": ("o3",)}, {"host": "a.openai.azure.com", "path": "/openai/deployments/g4/chat/completions"}, "the model g4"),
        ({"max_prompt": 100}, {}, "longer than 100 bytes"),
        ({"max_prompt": 100}, {"content_length": "101"}, "longer than 100 bytes"),
        ({"max_prompt": 100_000}, {}, ""),
        ({"tools": ("shell*",)}, {}, "the tool shell_exec may not be offered to a model"),
        ({"tools": ("look",)}, {}, "the tool look may not be called"),
        ({"tools": ("name",)}, {}, ""),
        ({"files": "block"}, {}, "files in prompts are not allowed"),
        ({"block_prompts_to": ("*",)}, {"path": "/v1/embeddings"}, "not allowed"),
        ({"block_prompts_to": ("*",)}, {"method": "GET"}, ""),
    ],
)  # fmt: skip
def test_rules(options: dict[str, Any], given: dict[str, str], said: str, size: int) -> None:
    reason = asked(Prompts(**options), size=size, **given)[1]
    assert said in reason
    assert bool(said) is bool(reason)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("length", "said"), [(1000, ""), (1001, "the prompt is longer than 1000 bytes")])
def test_a_prompt_that_is_no_json_has_a_size(length: int, said: str, size: int) -> None:
    given = {"path": "/v1/audio/transcriptions", "content_type": "multipart/form-data; boundary=b"}
    assert asked(Prompts(max_prompt=1000), b"--b\r\n".ljust(length, b"x"), size, **given)[1] == said


def test_a_prompt_is_known_by_its_shape() -> None:
    flow, _ = asked(Prompts(), host="x.example", path="/ask")
    assert confidence(flow, "op:llm:prompt") == 0.7
    assert {"llm:other", "llm:model:gpt-4o-mini"} <= labels(flow)


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"messages":["a"]}', b'{"input":"x"}', b"\x00\x01", b'{"prompt":"x"}'])
def test_other_bodies_are_let_be(body: bytes) -> None:
    flow, said = asked(Prompts(block_prompts_to=("*",)), body, host="x.example", path="/ask")
    assert (labels(flow), said) == (frozenset(), "")


def test_brackets_are_no_way_round() -> None:
    body = b'{"model":"m","x":' + b"[" * 50_000
    assert asked(Prompts(tools=("x",)), body, size=1000)[1] == "the prompt cannot be read: more brackets than text"
    flow, said = asked(Prompts(), body, size=1000)
    assert (said, "op:llm:unreadable" in labels(flow)) == ("", True)


CALL = {"choices": [{"delta": {"tool_calls": [{"index": 0, "type": "function", "function": {"name": "rm", "arguments": ""}}]}}]}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("tools", "said"), [((), None), (("rm",), "the tool rm may not be called")])
def test_calls_of_tools_in_an_answer(tools: tuple[str, ...], said: str | None, size: int) -> None:
    rules = Prompts(tools=tools)
    flow, _ = asked(rules, {"model": "m", "messages": []})
    assert flow.response
    flow.response.headers["content-type"] = SSE
    reasons = []
    for event in (sse(openai("hello")), sse(CALL), sse(openai("bye"))):
        scan = rules.responsebody(flow)             # the chain asks anew for each event
        assert scan
        reasons += [verdict.reason for chunk in cut(event, size) if (verdict := scan(chunk))]
    assert reasons == ([said] if said else [])
    assert "op:llm:tool-call:rm" in labels(flow)


def test_each_filter_judges_an_answer_by_its_own_tools() -> None:
    rules = [Prompts(tools=("ls",)), Prompts(tools=("rm",))]
    flow, _ = asked(rules[0], {"model": "m", "messages": []})
    assert flow.response
    flow.response.headers["content-type"] = SSE
    scans = [each.responsebody(flow) for each in rules]
    said = [scan and scan(sse(CALL)) for scan in scans]
    assert [each and each.reason for each in said] == [None, "the tool rm may not be called"]


def test_other_answers_are_let_be() -> None:
    assert Prompts().responsebody(request()) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [({"providers": ("opnai",)}, "neither a host nor a provider"), ({"files": "no"}, "files:"), ({"max_prompt": -1}, "max_prompt")],
)
def test_mistakes(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Prompts(**options)
