"""Views of what a language model is asked and answers, so that a finding says which part it is in.

`llm:messages[3].content` is a string of a prompt, `llm:tool_result(messages[4].content)` what a tool has answered,
`llm:answer.content` the text of a streamed answer, joined over its events.

Theory of operation of the joined text.  A value is split over events, so it stands in none of them.  The whole text is
one view, which holds nothing back: an answer must flow.  A filter judges a place once 2 KiB behind it have come, which
in an answer are minutes.  So what may be the beginning of a value is held back, from its fifth character on, until it
has ended or grown too long: then the text up to there is shown as a view that ends.  Words are not held, so an ordinary
answer is not delayed at all.
"""

import re
from typing import Final

from addons.deltas import LINES, SSE, Answer
from addons.json_strings import Sink, Strings
from addons.views.tree import Reader, View

#: Keys of a prompt whose strings are of interest; inside what stands at a key of WHOLE every string is.
PROMPT: Final = frozenset({
    "arguments", "content", "context", "data", "description", "file_data", "image_url", "input", "instructions",
    "message", "output", "parts", "preamble", "prompt", "query", "reasoning_content", "snippet", "suffix", "system",
    "text", "texts", "thinking", "title", "url",
})  # fmt: skip
WHOLE: Final = frozenset({"args", "arguments", "documents", "functionResponse", "input", "json", "response",
                          "toolResult"})  # fmt: skip
#: Roles and types of what a tool says.
TOOL: Final = frozenset({"tool", "function", "tool_result", "function_call_output", "custom_tool_call_output",
                         "mcp_tool_result", "web_search_tool_result", "computer_call_output", "TOOL"})  # fmt: skip
#: A prompt's first bytes have one of these (all makers' bodies begin so or with their model).
_IS_PROMPT: Final = re.compile(
    rb'"(?:messages|contents|chat_history|conversation)"\s{0,8}:\s{0,8}\['
    rb'|"(?:prompt|input|system|instructions|inputText|preamble|system_?[iI]nstruction)"\s{0,8}:\s{0,8}["\[]'
    rb'|"system_?[iI]nstruction"\s{0,8}:\s{0,8}\{'
)
#: And one of these, which other messages have not.
_OF_MODELS: Final = re.compile(
    rb'"(?:role|parts|model|max_?[tT]okens\w*|temperature|stream|anthropic_version|generation_?[cC]onfig|inferenceConfig)"'
    rb'\s{0,8}:'
)
#: Declared of a prompt's texts: what is inside them is read in the body's own view.  No header can say this.
PLAIN: Final = "text/x-llm\n"
#: Bytes of a string below which it is not worth a view.  It is in the body's own view as well.
SHORT: Final = 8

#: Characters of an answer's end that are kept: what a value needs before it, as the name of a key.
CONTEXT: Final = 512
#: Characters of a value that is not at its end yet, after which it is shown as it is.
LONG: Final = 256
#: Characters of a value that may leave.
FREE: Final = 4
_SEPARATORS: Final = bytes.maketrans(b"\t\r\n\"'`<>(){}[],;|\\", b" " * 18)
_SUSPICIOUS: Final = re.compile(rb"\d{2}|[A-Za-z]\d|\d[A-Za-z]|[a-z][A-Z]|[A-Z]{5}|[_@+/=]|\w-\w")


def is_prompt(head: bytes) -> bool:
    """True if JSON that begins so is probably a prompt."""
    return _IS_PROMPT.search(head) is not None and _OF_MODELS.search(head) is not None


def is_tool_result(path: str, role: str) -> bool:
    """True for a string that a tool has said, by its path and the role or type beside it."""
    if "functionResponse" in path or "toolResult" in path:
        return True
    return role in TOOL and not path.startswith(("tools[", "functions[")) and "tool_calls[" not in path


def readers(view: View, head: bytes) -> list[Reader]:
    """Return the readers that a view gets which is the body of a prompt or of an answer; `head` are its first bytes."""
    if view.depth:
        return []
    declared = view.declared.partition(";")[0].strip().lower()
    if declared == SSE or declared in LINES:
        return [AnswerReader(view)]
    return [PromptReader(view)] if view.kind == "application/json" and is_prompt(head) else []


class PromptReader:
    """Opens a view for each text of a prompt."""

    def __init__(self, view: View) -> None:
        self._view, self._strings = view, Strings(self._open, PROMPT, WHOLE)

    def feed(self, data: bytes) -> None:
        self._strings.feed(data)

    def end(self) -> None:
        self._strings.end()

    def _open(self, path: str, leaf: str, role: str) -> Sink:
        return _Text(self._view, f"llm:tool_result({path})" if is_tool_result(path, role) else f"llm:{path}")


class _Text:
    """Feeds a view once there is enough for one."""

    __slots__ = ("_head", "_name", "_parent", "_view")

    def __init__(self, parent: View, name: str) -> None:
        self._parent, self._name, self._head = parent, name, b""
        self._view: View | None = None

    def __call__(self, data: bytes) -> None:
        if self._view is not None:
            self._view.feed(data) if data else self._view.end()
            return
        self._head += data
        if data and len(self._head) >= SHORT:
            self._view = self._parent.inside(self._name, declared=PLAIN)
            self._view.feed(self._head)
            self._head = b""


class AnswerReader:
    """Opens a view for each text of a streamed answer, and one for each place that may be a value's."""

    def __init__(self, view: View) -> None:
        self._view, self._channels = view, dict[str, _Channel]()
        self._answer = Answer(view.declared, self._said, lambda _name: None, self._payload, self._over)

    def feed(self, data: bytes) -> None:
        self._answer.feed(data)
        for channel in self._channels.values():
            channel.judge(self._answer.is_model)

    def end(self) -> None:
        self._answer.end()
        for channel in self._channels.values():
            channel.end()

    def _said(self, channel: str, piece: bytes) -> None:
        if (found := self._channels.get(channel)) is None:
            found = self._channels[channel] = _Channel(self._view, f"llm:answer.{channel}")
        found.feed(piece)

    def _over(self) -> None:
        for channel in self._channels.values():
            channel.event_ends()

    def _payload(self, payload: bytes) -> None:
        _show(self._view, "event", payload)


class Frames(AnswerReader):
    """The events of a binary stream, each a view, and the answer that they hold."""

    def feed(self, data: bytes) -> None:
        super().feed(data)
        self._view.settled()


class Lines:
    """Lines of JSON, which are one view; what came is judged where a piece ends with a line."""

    def __init__(self, view: View) -> None:
        self._view, self._lines = view, view.inside("lines")

    def feed(self, data: bytes) -> None:
        self._lines.feed(data)
        if data.endswith(b"\n"):
            self._lines.pause()
        self._view.settled()

    def end(self) -> None:
        self._lines.end()


class _Channel:
    """One text of an answer."""

    def __init__(self, root: View, name: str) -> None:
        self._root, self._name, self._tail = root, name, b""
        self._new = b""                     # since it was judged
        self._added = self._goes_on = False             # something in this event; in the last event
        self._held: View | None = None      # open and pinned where what may be a value's beginning came
        self._whole = root.inside(name)
        self._whole.flows = True

    def feed(self, piece: bytes) -> None:
        self._added = self._goes_on = True
        self._whole.feed(piece)
        self._new += piece

    def event_ends(self) -> None:
        """An event that adds nothing here says that this text is over, or pauses."""
        self._goes_on, self._added = self._added, False

    def judge(self, may_wait: bool) -> None:
        """A piece of the body is read: show what may be a value, hold what may go on to be one."""
        text, new = self._tail + self._new, self._new
        run = _last_run(text) if self._goes_on and may_wait else b""
        may_be = FREE <= len(run) < LONG and _SUSPICIOUS.search(run) is not None
        if self._held is not None and not (may_be and len(run) > len(new)):
            _show(self._root, self._name, text)
            self._let_go()
        elif may_wait and self._held is None and _SUSPICIOUS.search(new, 0, len(new) - len(run) * may_be):
            _show(self._root, self._name, text)         # it came and went within this piece
        if may_be and self._held is None:
            self._hold()
        self._tail, self._new = text[-CONTEXT - LONG :], b""

    def end(self) -> None:
        self._let_go()
        self._whole.end()

    def _hold(self) -> None:
        budget = self._root.tree.budget
        self._held = self._root.inside(self._name, since=self._root.read)
        self._held.pin()
        budget.views -= 1

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.unpin()
            self._held.end()
            self._held = None


def _show(root: View, name: str, text: bytes) -> None:
    """Show a text as a view that is over, and does not count: a long answer has thousands."""
    view = root.inside(name, since=root.read)
    root.tree.budget.views -= 1
    view.feed(text, root.read)
    view.end()


def _last_run(tail: bytes) -> bytes:
    """Return the last word of a text; numbers in groups are one word."""
    words = tail[-LONG:].translate(_SEPARATORS).split(b" ")
    last = len(words) - 1
    if last > 0 and not words[last] and words[last - 1][-1:].isdigit():
        last -= 1                           # a group may follow
    while last > 0 and words[last][:1].isdigit() and words[last - 1][-1:].isdigit():
        last -= 1
    return b" ".join(words[last:])
