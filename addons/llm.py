"""Language models: who may be asked what, and which tools an answer may call."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from mitmproxy import http

from addons import providers
from addons.decode import Unscannable
from addons.deltas import Answer
from addons.json_strings import Sink, Strings
from addons.leaks import asked
from addons.llm_views import is_prompt, is_tool_result
from addons.names import covers
from addons.operation import operation, segments, shown
from addons.providers import Exchange
from addons.sniff import ENOUGH
from addons.verdict import DONE, BodyScanner, Verdict, block, label

#: Confidence that a body is a prompt, where its shape alone says so.
SHAPE_CONFIDENCE: Final = 0.7
#: Tools of one exchange that get a label.
MOST_TOOLS: Final = 50
#: Keys of a prompt that tell what is in it.
_LEAVES: Final = frozenset({
    "content", "data", "fileUri", "file_data", "file_id", "file_uri", "image_url", "images", "instructions", "model",
    "modelId", "name", "system", "text", "url",
})  # fmt: skip
_DEFINITION: Final = re.compile(
    r"(?:tools|functions)\[\d+\](?:\.(?:function|toolSpec|function_?[dD]eclarations\[\d+\]))?\.name"
    r"|toolConfig\.tools\[\d+\]\.toolSpec\.name")
_CALL: Final = re.compile(r"(?:tool_calls\[\d+\]\.(?:function\.)?|functionCall\.|function_call\.|toolUse\.)name\Z")
_SYSTEM: Final = re.compile(r"system(?:_?[iI]nstruction)?\b|instructions\Z|preamble\Z")
_FILE: Final = re.compile(
    r"inline_?[dD]ata|file_?[dD]ata|image_url|\bimages\[|\bfile_id\Z|\bsource\.|\b(?:document|image|video)\.")
_SHAPE: Final = re.compile(rb'"(?:model|messages|contents|max_tokens|temperature|anthropic_version)"\s{0,8}:')
_DIALOGUE: Final = re.compile(rb'"(?:role|parts)"\s{0,8}:|"prompt"\s{0,8}:\s{0,8}"')


@dataclass
class Prompts:
    """Questions to language models and their answers.  Without options it only labels them.

    `providers` are the only ones that may be asked (`openai`, `anthropic`, `bedrock` ..., `other` for unknown hosts
    that speak a known interface), `block_prompts_to` those that may not; both take host names as well.  `models` are
    the only models, as `gpt-4*`.  `max_prompt` is the most bytes of a request.  `tools` may be neither offered to a
    model nor called by its answer, as `shell*`.  `files: block` refuses files and pictures in prompts.

    Labels: `llm:PROVIDER`, `llm:model:NAME`, `op:llm:prompt`, `op:llm:system`, `op:llm:tools`, `op:llm:tool-result`,
    `op:llm:file`, and of answers `op:llm:tool-call:NAME`.
    """

    providers: tuple[str, ...] = ()
    block_prompts_to: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    max_prompt: int = 0
    tools: tuple[str, ...] = ()
    files: str = "allow"

    def __post_init__(self) -> None:
        known = {*providers.HOSTS, "bedrock", "other", "*"}
        for name in (*self.providers, *self.block_prompts_to):
            if name not in known and "." not in name:
                raise ValueError(f"{name!r} is neither a host nor a provider: {', '.join(sorted(known))}")
        if self.files not in ("allow", "block"):
            raise ValueError(f"files: {self.files!r} is neither allow nor block")
        if self.max_prompt < 0:
            raise ValueError("max_prompt: must be a number of bytes, or 0 for no limit")

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        request = flow.request.data
        if request.method != b"POST" and b"upgrade" not in {name.lower() for name, _ in request.headers.fields}:
            return None
        found = providers.recognise(flow, asked(flow), segments(request.path))
        return self._judge(flow, found) if found else None

    def requestbody(self, flow: http.HTTPFlow) -> BodyScanner | None:
        if flow.request.method != "POST":
            return None
        return _Request(self, flow).scan

    def responsebody(self, flow: http.HTTPFlow) -> BodyScanner | None:
        """Labels and judges calls of tools; the state goes on from event to event."""
        if "llm" not in flow.metadata or flow.response is None:
            return None
        answers: dict[int, _Response] = flow.metadata.setdefault("llm answers", {})     # by filter, which each keeps
        if (answer := answers.get(id(self))) is None:
            answer = answers[id(self)] = _Response(self, flow)
        return answer.scan

    def _judge(self, flow: http.HTTPFlow, found: Exchange) -> Verdict | None:
        """Judge by provider, model and announced size."""
        host = asked(flow)
        if self.providers and not _names(self.providers, found.provider, host):
            return block(f"prompts to {found.provider} ({host}) are not among those allowed")
        if _names(self.block_prompts_to, found.provider, host):
            return block(f"prompts to {found.provider} ({host}) are not allowed")
        length = flow.request.headers.get("content-length", "")
        if length.isdigit() and (wrong := self.too_long(int(length[:18]))):
            return wrong
        return self.wrong_model(found.model)

    def too_long(self, size: int) -> Verdict | None:
        return block(f"the prompt is longer than {self.max_prompt} bytes") if 0 < self.max_prompt < size else None

    def wrong_model(self, model: str) -> Verdict | None:
        if not model or not self.models or any(fnmatchcase(model, each) for each in self.models):
            return None
        return block(f"the model {shown(model)} is not among those allowed")

    def wrong_tool(self, name: str, what: str) -> Verdict | None:
        refused = any(fnmatchcase(name, each) for each in self.tools)
        return block(f"the tool {shown(name)} may not be {what}") if refused else None


def _names(named: tuple[str, ...], provider: str, host: str) -> bool:
    return provider in named or "*" in named or covers(named, host)


class _Request:
    """One prompt: what it holds is labelled and judged while it streams."""

    def __init__(self, rules: Prompts, flow: http.HTTPFlow) -> None:
        self._rules, self._flow = rules, flow
        self._strings: Strings | None = None
        self._head, self._size = b"", 0
        self._counts_only = False       # it is no JSON: what can be judged is its size
        self._verdict: Verdict | None = None

    def scan(self, data: bytes) -> Verdict | None:
        self._size += len(data)
        if self._counts_only:
            return self._rules.too_long(self._size)
        if self._strings is None:
            self._head += data
            if data and len(self._head) < ENOUGH:
                return None
            if not self._begins(self._head):
                self._counts_only = "llm" in self._flow.metadata and self._rules.max_prompt > 0
                return self._rules.too_long(self._size) if self._counts_only else DONE
            self._strings = Strings(self._open, _LEAVES)
            data, self._head = self._head, b""
        self._read(self._strings, data)
        said, self._verdict = self._verdict or self._rules.too_long(self._size), None
        return said

    def _read(self, strings: Strings, data: bytes) -> None:
        if not data:
            strings.end()
            return
        strings.feed(data)
        if strings.gave_up:
            label(self._flow, "op:llm:unreadable")
            if self._rules.models or self._rules.tools or self._rules.files == "block":
                self._verdict = self._verdict or block("the prompt cannot be read: more brackets than text")

    def _begins(self, head: bytes) -> bool:
        """Is it a prompt?  What the path did not tell, the shape does."""
        if "llm" in self._flow.metadata:
            return head.lstrip()[:1] in (b"{", b"[")
        if not (is_prompt(head) and _SHAPE.search(head) and _DIALOGUE.search(head)):
            return False
        found = Exchange(providers.provider_of(asked(self._flow)) or "other", "shape", "prompt",
                         confidence=SHAPE_CONFIDENCE)  # fmt: skip
        self._flow.metadata["llm"] = found
        providers.announce(self._flow, found)
        self._verdict = self._rules._judge(self._flow, found)
        return True

    def _open(self, path: str, leaf: str, role: str) -> Sink | None:
        if leaf in ("model", "modelId") and path == leaf:
            return _Whole(self._model)
        if leaf == "name":
            return self._named(path, role)
        if role in ("system", "developer") or _SYSTEM.match(path):
            label(self._flow, "op:llm:system")
        elif is_tool_result(path, role):
            label(self._flow, "op:llm:tool-result")
        if _FILE.search(path):
            self._file(path)
        return None

    def _named(self, path: str, role: str) -> Sink | None:
        if _DEFINITION.fullmatch(path):
            return _Whole(self._tool)
        return _Whole(self._called) if _CALL.search(path) or role == "tool_use" else None

    def _model(self, name: str) -> None:
        found: Exchange = self._flow.metadata["llm"]
        if not found.model:
            found.model = name
            label(self._flow, f"llm:model:{shown(name)}")
        self._verdict = self._verdict or self._rules.wrong_model(name)

    def _tool(self, name: str) -> None:
        label(self._flow, "op:llm:tools")
        self._verdict = self._verdict or self._rules.wrong_tool(name, "offered to a model")

    def _called(self, name: str) -> None:
        """A call in the dialogue so far, which the client has obeyed."""
        self._verdict = self._verdict or self._rules.wrong_tool(name, "called")

    def _file(self, path: str) -> None:
        label(self._flow, "op:llm:file")
        if self._rules.files == "block":
            self._verdict = self._verdict or block("files in prompts are not allowed")


class _Response:
    """One answer, event after event."""

    def __init__(self, rules: Prompts, flow: http.HTTPFlow) -> None:
        self._rules, self._flow = rules, flow
        declared = flow.response.headers.get("content-type", "") if flow.response else ""
        self._unread = False
        self._answer = Answer(declared, lambda _channel, _piece: None, self._called)
        self._verdict: Verdict | None = None

    def scan(self, data: bytes) -> Verdict | None:
        if self._unread:
            return DONE
        try:
            if data:                        # b"" may be the end of one event only
                self._answer.feed(data)
        except Unscannable as error:
            self._unread = True
            label(self._flow, "op:llm:unreadable")
            if self._rules.tools:
                self._verdict = self._verdict or block(f"the answer cannot be read: {error}")
        said, self._verdict = self._verdict, None
        return said

    def _called(self, name: str) -> None:
        found: Exchange = self._flow.metadata["llm"]
        known = shown(name)
        if known not in found.tools and len(found.tools) < MOST_TOOLS:
            found.tools.append(known)
            label(self._flow, f"op:llm:tool-call:{known}")
            operation(self._flow).name = known
        self._verdict = self._verdict or self._rules.wrong_tool(name, "called")


class _Whole:
    """Keeps a short string and says it at its end."""

    def __init__(self, said: Callable[[str], None]) -> None:
        self._said, self._text = said, b""

    def __call__(self, data: bytes) -> None:
        if data:
            self._text += data[: 256 - len(self._text)]
        else:
            self._said(self._text.decode("utf-8", "replace"))
