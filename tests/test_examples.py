"""The examples do what they say, through the registry as a policy would name them."""

from pathlib import Path

import pytest
from mitmproxy.test import tflow

from addons.verdict import Action
from proxy.policy import parse
from proxy.registry import build

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def load(use, options="{}"):
    text = f"version: 1\nfilters:\n  - {{id: it, use: {use}, with: {options}}}\n"
    if options == "{}":
        text = text.replace(", with: {}", "")
    (loaded,) = build(parse(text.encode(), EXAMPLES / "policy.yaml"), EXAMPLES, strict=False)
    return loaded.filter


@pytest.mark.parametrize(("size", "action"), [(99, None), (100, None), (101, Action.BLOCK)])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_big_uploads(size, action, chunk):
    scan = load("./big_uploads.py:BigUploads", "{limit: 100}").requestbody(tflow.tflow())
    pieces = [b"x" * min(chunk, size - start) for start in range(0, size, chunk)] + [b""]
    verdicts = [verdict for piece in pieces if (verdict := scan(piece))]
    assert [v.action for v in verdicts[:1]] == ([action] if action else [])


def test_big_uploads_to_our_own():
    flow = tflow.tflow()
    filter_ = load("./big_uploads.py:BigUploads", f"{{ours: [{flow.request.pretty_host}]}}")
    assert filter_.requestheaders(flow).action is Action.ALLOW


def test_stamp_is_an_addon_as_mitmproxy_knows_it():
    assert callable(load("./stamp.py").response)


def test_word_watch_is_a_program_that_a_policy_takes():
    assert load("external.External", "{program: ./word_watch.py, arguments: [walrus]}").program == EXAMPLES / "word_watch.py"
