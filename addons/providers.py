"""Who serves a language model, and how it is asked: by host and path.

The interfaces are told apart by their paths, which servers of other makers copy; so a path counts on any host, with
less confidence on one that is not known.  What was recognised is an `Exchange` in `flow.metadata["llm"]`.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from mitmproxy import http

from addons.names import parents
from addons.operation import shown
from addons.verdict import label

#: Confidence where the path is a known interface's and the host nobody's that is known.
PATH_CONFIDENCE: Final = 0.8

#: Provider, and suffixes of its hosts that serve models or are a chat's own pages.
HOSTS: Final = {
    "openai": ("api.openai.com",), "anthropic": ("api.anthropic.com",),
    "google": ("generativelanguage.googleapis.com", "aiplatform.googleapis.com"), "mistral": ("api.mistral.ai",),
    "cohere": ("api.cohere.com", "api.cohere.ai"), "openrouter": ("openrouter.ai",), "groq": ("api.groq.com",),
    "azure": ("openai.azure.com", "cognitiveservices.azure.com", "services.ai.azure.com", "inference.ai.azure.com"),
    "deepseek": ("api.deepseek.com",), "xai": ("api.x.ai",), "together": ("api.together.xyz", "api.together.ai"),
    "fireworks": ("api.fireworks.ai",), "perplexity": ("api.perplexity.ai",), "cerebras": ("api.cerebras.ai",),
    "nvidia": ("integrate.api.nvidia.com",), "github": ("models.github.ai", "models.inference.ai.azure.com"),
    "copilot": ("githubcopilot.com", "copilot-proxy.githubusercontent.com"), "ollama": ("ollama.com",),
    "huggingface": ("router.huggingface.co", "api-inference.huggingface.co"), "alibaba": ("dashscope.aliyuncs.com",),
    "moonshot": ("api.moonshot.cn", "api.moonshot.ai"), "replicate": ("api.replicate.com",),
    "chatgpt-web": ("chatgpt.com", "chat.openai.com"), "claude-web": ("claude.ai", "claude.com"),
    "gemini-web": ("gemini.google.com",), "copilot-web": ("copilot.microsoft.com", "sydney.bing.com"),
    "perplexity-web": ("perplexity.ai",), "deepseek-web": ("chat.deepseek.com",), "grok-web": ("grok.com",),
    "mistral-web": ("chat.mistral.ai",), "huggingface-web": ("huggingface.co",),
    "duck-ai-web": ("duckduckgo.com", "duck.ai"),
    "poe-web": ("poe.com",), "kimi-web": ("kimi.com",), "qwen-web": ("chat.qwen.ai",), "meta-web": ("meta.ai",),
    "cursor": ("cursor.sh", "cursor.com"),
}  # fmt: skip
_BY_HOST: Final = {host: name for name, hosts in HOSTS.items() for host in hosts}
_BEDROCK: Final = re.compile(r"bedrock(?:-agent)?-runtime(?:-fips)?\.[a-z0-9-]+\.(?:amazonaws\.com|api\.aws)(?:\.cn)?")

#: Interface, what is asked of it, and the path after any prefix that a gateway puts before it.
_FORMS: Final = (
    ("openai", "prompt", r"/deployments/(?P<m1>[^/]+)/(?:chat/)?(?:completions|responses)"),
    ("openai", "prompt", r"/chat/completions"),
    ("openai", "prompt", r"/(?:v\d\w*|fim|agents|inference|engines/[^/]+)/completions"),
    ("openai", "prompt", r"/v\d\w*/responses"),
    ("openai", "prompt", r"/v\d\w*/threads(?:/[^/]+/(?:messages|runs))?"),
    ("openai", "embedding", r"/(?:v\d\w*|deployments/[^/]+)/embeddings"),
    ("openai", "image", r"/v\d\w*/images/(?:generations|edits|variations)"),
    ("openai", "audio", r"/v\d\w*/audio/(?:transcriptions|translations|speech)"),
    ("openai", "realtime", r"/v\d\w*/realtime"),
    ("anthropic", "prompt", r"/v1/(?:messages(?:/count_tokens|/batches)?|complete)"),
    ("google", "prompt", r"/models/(?P<m2>[^/:]+):(?:stream)?generate(?:content|answer|message)"),
    ("google", "embedding", r"/models/[^/:]+:(?:batch)?embedcontents?"),
    ("google", "prompt", r"/publishers/[^/]+/models/(?P<m3>[^/:]+):(?:stream)?(?:raw)?predict"),
    ("bedrock", "prompt", r"/model/(?P<m4>[^/]+)/(?:converse|converse-stream|invoke|invoke-with-response-stream)"),
    ("cohere", "prompt", r"/v[12]/(?:chat|generate|summarize|classify)"),
    ("cohere", "embedding", r"/v[12]/(?:embed|rerank)"),
    ("ollama", "prompt", r"/api/(?:chat|generate)"),
    ("ollama", "embedding", r"/api/(?:embed|embeddings)"),
    ("chatgpt-web", "prompt", r"/backend-(?:api|anon)/(?:f/)?conversation"),
    ("claude-web", "prompt", r"/chat_conversations/[^/]+/(?:retry_)?completion"),
    ("gemini-web", "prompt", r"/[\w.]*bardfrontendservice/streamgenerate"),
    ("copilot-web", "prompt", r"/c/api/(?:chat|conversations)|/sydney/chathub"),
    ("perplexity-web", "prompt", r"/rest/sse/perplexity_ask"),
    ("grok-web", "prompt", r"/rest/app-chat/conversations/(?:new|[^/]+/responses)"),
    ("deepseek-web", "prompt", r"/api/v0/chat/completion"),
    ("huggingface-web", "prompt", r"/chat/conversation/[^/]+"),
    ("duck-ai-web", "prompt", r"/duckchat/v1/chat"),
    ("openai", "file", r"/v1/(?:files|uploads)"),
    ("claude-web", "file", r"/api/(?:organizations/)?[^/]+/(?:upload|convert_document)"),
)  # fmt: skip
_PATHS: Final = tuple((form, what, re.compile(rf"(?:/[^?]*)?{path}/?")) for form, what, path in _FORMS)
#: Parts of a path, in lower case, without which none of the above fits: nearly every path is done with after this.
WORDS: Final = frozenset({
    b"batches", b"batchembedcontents", b"chat", b"chathub", b"classify", b"complete", b"completion", b"completions",
    b"conversation", b"conversations", b"converse", b"converse-stream", b"convert_document", b"count_tokens", b"edits",
    b"embed", b"embedcontent", b"embedcontents", b"embeddings", b"files", b"generate", b"generateanswer",
    b"generatecontent", b"generatemessage", b"generations", b"invoke", b"invoke-with-response-stream", b"messages",
    b"perplexity_ask", b"predict", b"rawpredict", b"realtime", b"rerank", b"responses", b"retry_completion", b"runs",
    b"speech", b"streamgenerate", b"streamgenerateanswer", b"streamgeneratecontent", b"streampredict",
    b"streamrawpredict", b"summarize", b"threads", b"transcriptions", b"translations", b"upload", b"uploads",
    b"variations",
})  # fmt: skip
#: Paths so common that they mean a model only on a host that serves some.
_COMMON: Final = frozenset({"cohere", "file", "copilot-web", "huggingface-web", "threads"})


@dataclass(slots=True)
class Exchange:
    """A question to a model, and its answer.  `form` is the interface, `what` of it is asked."""

    provider: str
    form: str
    what: str
    model: str = ""
    confidence: float = 1.0
    tools: list[str] = field(default_factory=list)      # that the answer calls, as labels show them


def provider_of(host: str) -> str:
    """Return who serves models at a host; empty if it is not known."""
    found = next((_BY_HOST[name] for name in parents(host) if name in _BY_HOST), "")
    return found or ("bedrock" if _BEDROCK.fullmatch(host) else "")


def recognise(flow: http.HTTPFlow, host: str, parts: list[bytes]) -> Exchange | None:
    """Label a request that asks a language model; return what is known of it, or None.

    `parts` are those of its path; see `operation.segments`.
    """
    if "llm" in flow.metadata:
        known: Exchange = flow.metadata["llm"]
        return known
    if WORDS.isdisjoint(parts) or (form := of_path(flow.request.data.path)) is None:
        return None
    provider = provider_of(host)
    name, what, model = form
    if not provider and (name in _COMMON or what in _COMMON or (what != "prompt" and name != "ollama")):
        return None
    sure = 1.0 if provider else PATH_CONFIDENCE
    found = Exchange(provider or "other", name, what, model, sure)
    flow.metadata["llm"] = found
    announce(flow, found)
    return found


def announce(flow: http.HTTPFlow, found: Exchange) -> None:
    """Attach the labels of an exchange."""
    label(flow, f"llm:{found.provider}", found.confidence)
    label(flow, f"op:llm:{found.what}", found.confidence)
    label(flow, "category:ai", found.confidence)
    if found.model:
        label(flow, f"llm:model:{shown(found.model)}", found.confidence)


def of_path(path: bytes) -> tuple[str, str, str] | None:
    """Return interface, what is asked and the model's name, if the path has it; None for any other path."""
    text = path.partition(b"?")[0].decode("latin-1")
    for form, what, pattern in _PATHS:
        if found := pattern.fullmatch(text.lower()):
            group = next((g for g in found.groupdict() if found[g]), "")
            return form, what, text[found.start(group) : found.end(group)].replace("%3A", ":") if group else ""
    return None
