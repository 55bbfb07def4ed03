"""Answers of the makers of language models, in the shapes that their interfaces document, joined to texts."""

import base64
import json
from typing import Any

import pytest

from addons.decode import Unscannable
from addons.deltas import AWS, SSE, Answer
from tests.addons.conftest import SIZES, cut

Json = dict[str, Any]


def heard(data: bytes, declared: str, size: int) -> tuple[dict[str, str], list[str]]:
    texts: dict[str, bytes] = {}
    tools: list[str] = []
    answer = Answer(declared, lambda channel, piece: texts.update({channel: texts.get(channel, b"") + piece}), tools.append)
    for chunk in cut(data, size):
        answer.feed(chunk)
    answer.end()
    return {channel: text.decode() for channel, text in texts.items()}, tools


def sse(*events: Json) -> bytes:
    return b"".join(b"event: x\ndata: " + json.dumps(each).encode() + b"\n\n" for each in events) + b"data: [DONE]\n\n"


def lines(*events: Json) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in events)


def frame(event: Json) -> bytes:
    """One frame of Amazon's event stream; nobody checks its checksums here."""
    head, payload = b"\x0b:event-type\x07\0\5chunk", json.dumps(event, separators=(",", ":")).encode()
    size = 12 + len(head) + len(payload) + 4
    return size.to_bytes(4) + len(head).to_bytes(4) + b"\0\0\0\0" + head + payload + b"\0\0\0\0"


def bedrock(event: Json) -> Json:
    return {"bytes": base64.b64encode(json.dumps(event).encode()).decode()}


def openai(text: str) -> Json:
    return {"id": "c-1", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]}


CASES = [
    pytest.param(SSE, sse(openai("41"), openai("11")), {"content": "4111"}, [], id="OpenAI chat"),
    pytest.param(SSE, sse({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {
        "name": "send", "arguments": ""}}]}}]}, {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {
            "arguments": '{"to'}}]}}]}, {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '": 1}'}}]}}]}),
        {"arguments": '{"to": 1}'}, ["send"], id="OpenAI tool call"),
    pytest.param(SSE, sse({"type": "response.output_item.added", "output_index": 0, "item": {"type": "function_call", "name": "f",
                           "arguments": ""}},
                          {"type": "response.output_text.delta", "output_index": 1, "delta": "he"},
                          {"type": "response.output_text.delta", "output_index": 1, "delta": "llo"},
                          {"type": "response.output_text.done", "output_index": 1, "text": "hello"}),
                 {"delta[1]": "hello"}, ["f"], id="OpenAI responses"),
    pytest.param(SSE, sse({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "bash",
                           "input": {}}},
                          {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
                          {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{"}},
                          {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}}),
                 {"text": "ab", "partial_json[1]": "{"}, ["bash"], id="Anthropic"),
    pytest.param(SSE, sse({"candidates": [{"content": {"parts": [{"text": "x"}], "role": "model"}, "index": 0}]},
                          {"candidates": [{"content": {"parts": [{"text": "y"}, {"functionCall": {"name": "g", "args": {}}}]}}]}),
                 {"text": "xy"}, ["g"], id="Gemini"),
    pytest.param("application/json", b'[{"candidates":[{"content":{"parts":[{"text":"x"}]}}]}\n,\r\n'
                 b'{"candidates":[{"content":{"parts":[{"text":"y"},{"functionCall":{"name":"g","args":{}}}]}}]}]',
                 {"candidates[0].content.parts[0].text": "xy"}, ["g"], id="Gemini, a list"),
    pytest.param(SSE, sse({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "c"}}}},
                          {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": {"type": "function", "function": {
                              "name": "find", "arguments": ""}}}}}),
                 {"text": "c"}, ["find"], id="Cohere"),
    pytest.param("application/x-ndjson", lines({"message": {"role": "assistant", "content": "o"}, "done": False},
                                               {"message": {"content": "k"}}, {"response": "r"}), {"content": "ok", "response": "r"}, [], id="Ollama"),
    pytest.param(AWS, frame({"contentBlockIndex": 0, "delta": {"text": "b"}}) + frame({"start": {"toolUse": {
        "toolUseId": "t", "name": "act"}}}), {"text": "b"}, ["act"], id="Bedrock converse"),
    pytest.param(AWS, frame(bedrock({"type": "content_block_delta", "index": 0, "delta": {"text": "x"}})),
                 {"text": "x"}, [], id="Bedrock invoke"),
    pytest.param(SSE, sse({"p": "/message/content/parts/0", "o": "append", "v": "He"}, {"v": "llo"}, {"v": [{"o": "append", "v": "!"}]}),
                 {"v": "Hello!"}, [], id="ChatGPT's page"),
    pytest.param("application/json; charset=utf-8", json.dumps({"choices": [{"message": {"content": "whole", "tool_calls": [
        {"type": "function", "function": {"name": "f", "arguments": "{}"}}]}}]}).encode(),
        {"choices[0].message.content": "whole", "choices[0].message.tool_calls[0].function.arguments": "{}"}, ["f"], id="not streamed"),
    pytest.param("application/x-ndjson", lines({"index": {}}, {"message": "no answer"}), {}, [], id="lines of something else"),
    pytest.param(SSE, b"\xef\xbb\xbfdata: {\r\n\r\ndata: [1,2\r\rdata: 7\n\n: ping\n\ndata:" + b'{"text":"' + b"x" * 70000 + b'"}\n\n',
                 {}, [], id="no answers"),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("declared", "data", "texts", "tools"), CASES)
def test_answers(declared: str, data: bytes, texts: dict[str, str], tools: list[str], size: int) -> None:
    assert heard(data, declared, size) == (texts, tools)


def test_a_frame_too_long_is_not_read() -> None:
    with pytest.raises(Unscannable):
        heard(b"\x7f\xff\xff\xff" + b"\0" * 8, AWS, 100)


def test_depth_is_bounded() -> None:
    deep = b"data: " + b'{"delta":' * 5000 + b'"x"' + b"}" * 5000 + b"\n\n"
    assert heard(deep, SSE, 1000) == ({}, [])
