"""The streamed answer of a language model: its text joined over events, and the tools that it calls.

Theory of operation.  An answer comes as events (server-sent events, JSON lines, or Amazon's binary event stream), each
of which holds a few characters.  The makers name them differently, but alike: a string at one of the keys `TEXTS`.  So
an event's strings at those keys go on the channels of the same key and index, whoever made it.  An answer that is one
JSON text is read by its paths.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from addons.decode import Unscannable
from addons.json_strings import Sink, Strings

#: Keys of what a model says, of all makers.
TEXTS: Final = frozenset({
    "answer", "arguments", "completion", "content", "delta", "generated_text", "input", "message", "output",
    "output_text", "outputText", "partial_json", "reasoning", "reasoning_content", "refusal", "response", "text",
    "thinking", "token", "transcript", "v",
})  # fmt: skip
#: Keys beside a text that say to which of several it belongs.
_INDEXES: Final = ("index", "output_index", "content_index", "contentBlockIndex")
#: Events that say again what others have said (OpenAI's Responses).
_REPEATS: Final = (".done", ".completed", ".incomplete")
#: Types of what calls a tool, and keys beside its name.
_CALLS: Final = frozenset({
    "custom_tool_call", "function", "function_call", "mcp_call", "mcp_tool_use", "server_tool_use", "tool_call",
    "tool_use",
})  # fmt: skip
_ARGUMENTS: Final = ("arguments", "args", "input", "parameters", "toolUseId")
#: In an answer that is one JSON text: where the name of a called tool stands.
_CALL_PATH: Final = re.compile(r"(?:tool_calls\[\d+\](?:\.function)?|functionCall|function_call|toolUse)\.name\Z")

#: What only models' events have: other streams are joined as well, but nobody waits for how their texts go on.
_MODEL: Final = re.compile(
    rb'"(?:choices|candidates|completion|content_block|contentBlockIndex|conversation_id|eval_count|generated_text)"\s{0,4}:'
    rb'|"delta"\s{0,4}:\s{0,4}["{]|"done"\s{0,4}:\s{0,4}(?:true|false)|"o"\s{0,4}:\s{0,4}"append"|"text-generation"')

#: Bytes of one event.  Deltas have some hundred; what is longer is no delta and is scanned as it is.
MAX_EVENT: Final = 64 * 1024
#: Values within values, and values in one event, that are looked at.
MAX_DEPTH, MAX_VALUES = 12, 2000
#: Texts of one answer that are told apart; more go on the last.
MAX_CHANNELS: Final = 64
#: Of the binary event stream: the prelude, its checksum, and the checksum at the end.
_PRELUDE, _TAIL = 12, 4

#: Gets a channel (`content`, `arguments[1]`) and what is added to it.
Said = Callable[[str, bytes], None]
Called = Callable[[str], None]

SSE: Final = "text/event-stream"
AWS: Final = "application/vnd.amazon.eventstream"
LINES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/stream+json",
                "application/x-jsonlines", "application/json-lines")  # fmt: skip


def is_stream(declared: str) -> bool:
    """True for the media types of event streams."""
    return declared.partition(";")[0].strip().lower() in (SSE, AWS, *LINES)


class Answer:
    """Feed it the answer's body as declared; `said` and `called` hear what the model says and which tools it calls,
    `payload` each event of a binary stream, `over` that an event is.  `is_model`: there was one such as models send."""

    def __init__(self, declared: str, said: Said, called: Called,
                 payload: Callable[[bytes], None] | None = None, over: Callable[[], None] = lambda: None) -> None:
        self._said, self._called, self._heard, self._over = said, called, payload, over
        self.is_model = False
        self._channels: set[str] = set()
        kind = declared.partition(";")[0].strip().lower()
        self._may_be_other = kind in LINES              # what a log or a database sends comes so as well
        self._buffer = b""
        self._dropped = False               # the beginning of this line: it is too long
        self._strings = Strings(self._open, TEXTS | {"name"}, frozenset({"arguments", "args", "input"}))
        self.feed: Callable[[bytes], None] = (
            self._frames if kind == AWS else self._lines if is_stream(declared) else self._strings.feed)

    def end(self) -> None:
        if self._buffer and not self._dropped and self.feed == self._lines:
            self._line(self._buffer)
        self._buffer = b""
        self._strings.end()

    # -- lines: the data of server-sent events (HTML standard, 9.2.6), or JSON itself

    def _lines(self, data: bytes) -> None:
        # An event of several data lines is no JSON of a model: each line is read for itself.
        *lines, rest = (self._buffer + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if self.feed is _ignore:
                return
            if self._dropped:
                self._dropped = False
            else:
                self._line(line)
        if len(rest) > MAX_EVENT:
            self._dropped, rest = True, b""
        self._buffer = rest

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            line = line[5:]
        if b'"' in line and len(line) <= MAX_EVENT and line.lstrip()[:1] in (b"{", b"["):
            self._event(line)
        elif line.strip() == b"[DONE]":
            self._over()

    # -- frames (AWS, "Event stream encoding")

    def _frames(self, data: bytes) -> None:
        buffer, at = self._buffer + data, 0
        while len(buffer) - at >= _PRELUDE:
            size, head = int.from_bytes(buffer[at : at + 4]), int.from_bytes(buffer[at + 4 : at + 8])
            if size > MAX_EVENT or size < _PRELUDE + _TAIL + head:
                raise Unscannable("an event of the stream is too long, or no event")
            if len(buffer) - at < size:
                break
            self._payload(buffer[at + _PRELUDE + head : at + size - _TAIL])
            at += size
        self._buffer = buffer[at:]

    def _payload(self, payload: bytes) -> None:
        """Bedrock's `invoke` wraps the model's own event in base64."""
        if payload.startswith(b'{"bytes":"'):
            with suppress(binascii.Error):      # then it is heard as it is
                payload = base64.b64decode(payload[10:].partition(b'"')[0], validate=True)
        if self._heard is not None:
            self._heard(payload)
        self._event(payload)

    # -- events

    def _event(self, text: bytes) -> None:
        self.is_model = self.is_model or _MODEL.search(text) is not None
        if self._may_be_other and not self.is_model:
            self._buffer, self.feed = b"", _ignore
            return
        with suppress(ValueError, RecursionError):      # what is no JSON adds nothing, and is scanned as it is
            self._read(json.loads(text), b'"name"' in text)
        self._over()

    def _read(self, event: Any, may_call: bool) -> None:
        if isinstance(event, dict) and str(event.get("type", "")).endswith(_REPEATS):
            return
        for name in calls(event, 0, iter(range(MAX_VALUES))) if may_call else ():
            self._called(name)
        budget = iter(range(MAX_VALUES))
        for key, index, piece in pieces(event, "", "", 0, budget):
            self._say(key + index, piece.encode("utf-8", "replace"))

    def _say(self, channel: str, piece: bytes) -> None:
        if channel not in self._channels:
            if len(self._channels) >= MAX_CHANNELS:
                channel = "more"
            self._channels.add(channel)
        self._said(channel, piece)

    def _open(self, path: str, leaf: str, role: str) -> Sink | None:
        """A string of an answer that is one JSON text."""
        if leaf == "name":
            return self._name if _CALL_PATH.search(path) or role in _CALLS else None
        channel = re.sub(r"\A\[\d+\]\.?", "", path)     # Gemini streams a list of answers
        return lambda piece: self._say(channel, piece) if piece else None

    def _name(self, piece: bytes) -> None:
        if piece:
            self._called(piece.decode("utf-8", "replace"))


def _ignore(_data: bytes) -> None:
    pass


def pieces(value: Any, key: str, index: str, depth: int, budget: Iterator[int]) -> Iterator[tuple[str, str, str]]:
    """Yield key, index and text of what an event adds."""
    if next(budget, None) is None or depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        if value and key in TEXTS:
            yield key, index, value
    elif isinstance(value, dict):
        for name in _INDEXES:
            if (number := value.get(name)) and isinstance(number, int):
                index += f"[{number}]"
        for name, each in value.items():
            yield from pieces(each, name, index, depth + 1, budget)
    elif isinstance(value, list):
        for each in value:
            yield from pieces(each, key, index, depth + 1, budget)


def calls(value: Any, depth: int, budget: Iterator[int]) -> Iterator[str]:
    """Yield the names of the tools that an event calls."""
    if next(budget, None) is None or depth > MAX_DEPTH:
        return
    if isinstance(value, dict):
        name = value.get("name")
        if isinstance(name, str) and name and (value.get("type") in _CALLS or any(key in value for key in _ARGUMENTS)):
            yield name
        for each in value.values():
            if isinstance(each, (dict, list)):
                yield from calls(each, depth + 1, budget)
    elif isinstance(value, list):
        for each in value:
            yield from calls(each, depth + 1, budget)
