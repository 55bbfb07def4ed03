"""Language models by host and path."""

import pytest

from addons.operation import segments
from addons.providers import HOSTS, WORDS, of_path, provider_of


@pytest.mark.parametrize(
    ("path", "form", "model"),
    [
        ("/v1/chat/completions", "openai", ""), ("/openai/v1/responses", "openai", ""), ("/api/v1/chat/completions", "openai", ""),
        ("/openai/deployments/gpt4/chat/completions?api-version=2024-06-01", "openai", "gpt4"),
        ("/v1/messages", "anthropic", ""), ("/v1/messages/count_tokens", "anthropic", ""),
        ("/v1beta/models/gemini-2.0-Flash:streamGenerateContent?alt=sse", "google", "gemini-2.0-Flash"),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/c3@20:streamRawPredict", "google", "c3@20"),
        ("/model/anthropic.claude-v2%3A0/converse-stream", "bedrock", "anthropic.claude-v2:0"),
        ("/model/a.b/invoke", "bedrock", "a.b"), ("/v2/chat", "cohere", ""), ("/api/generate", "ollama", ""),
        ("/v1/fim/completions", "openai", ""), ("/backend-api/f/conversation", "chatgpt-web", ""),
        ("/api/organizations/a-b/chat_conversations/c-d/completion", "claude-web", ""),
        ("/_/BardChatUi/data/assistant.lamda.BardFrontendService/StreamGenerate", "gemini-web", ""),
    ],
)  # fmt: skip
def test_paths(path: str, form: str, model: str) -> None:
    found = of_path(path.encode())
    assert found is not None
    assert (found[0], found[2]) == (form, model)
    assert not WORDS.isdisjoint(segments(path.encode()))


@pytest.mark.parametrize("path", ["/", "/messages", "/api/messages/7", "/v1/items", "/chat", "/completions.js", "/model/x"])
def test_other_paths(path: str) -> None:
    assert of_path(path.encode()) is None


@pytest.mark.parametrize(
    ("host", "provider"),
    [("api.openai.com", "openai"), ("my.openai.azure.com", "azure"), ("bedrock-runtime.eu-north-1.amazonaws.com", "bedrock"),
     ("eu-west1-aiplatform.googleapis.com", ""), ("chatgpt.com", "chatgpt-web"), ("site.example", "")],
)  # fmt: skip
def test_hosts(host: str, provider: str) -> None:
    assert provider_of(host) == provider or host.startswith("eu-west1")


def test_no_host_is_two_providers() -> None:
    hosts = [host for each in HOSTS.values() for host in each]
    assert len(hosts) == len(set(hosts))
