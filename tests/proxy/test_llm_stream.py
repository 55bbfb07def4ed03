"""A streamed answer through the worker: inspected, and hardly later for it."""

import contextlib
import json
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy.conftest import Proxy, running
from tests.proxy.origin import Origin

PATH = "/v1/chat/completions"
PROMPT = json.dumps({"model": "m-1", "stream": True, "messages": [{"role": "user", "content": "word " * 400}]}).encode()
WORDS = ["It", " was", " a", " dark", " and", " stormy", " night", ".\n", " The", " rain", " fell", " in", " torrents"]
NUMBER = ["card", ":", " 41", "11 ", "1111", " 11", "11", " 1111", " is", " it", ".", " Bye"]
PLAIN = "version: 1\ntls: {{upstream: {{trusted_ca: {roots}}}}}\nfilters: {filters}\n"
FILTERS = """[
  {id: classify, use: classify.Http},
  {id: llm, use: llm.Prompts, with: {tools: [rm]}},
  {id: secrets, use: secrets.Secrets, with: {responses: true}},
  {id: cards, use: cards.Cards, with: {responses: true}}]"""
#: Seconds between two events, and what the first byte may be later for being inspected.
PAUSE, LATER = 0.01, 0.020


def events(words: list[str], kind: str = "text/event-stream") -> list[bytes]:
    ends = b"\n" if "json" in kind else b"\n\n"
    start = b"" if "json" in kind else b"data: "
    return [start + json.dumps({"choices": [{"delta": {"content": word}}]}).encode() + ends for word in words]


@pytest.fixture
def model(origin: Origin) -> Iterator[dict[str, object]]:
    """What the origin answers with: `kind` and `events`; when it sent each is in `sent`."""
    said: dict[str, object] = {"kind": "text/event-stream", "events": events(WORDS), "sent": []}

    def answer(sock: socket.socket) -> None:
        sent: list[float] = []
        said["sent"] = sent
        sock.sendall(f"HTTP/1.1 200 OK\r\ncontent-type: {said['kind']}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        for event in said["events"]:    # type: ignore[attr-defined]
            sent.append(time.perf_counter())
            with contextlib.suppress(OSError):
                sock.sendall(b"%x\r\n%b\r\n" % (len(event), event))
            time.sleep(PAUSE)
        with contextlib.suppress(OSError):
            sock.sendall(b"0\r\n\r\n")

    origin.paths[PATH] = answer
    yield said
    del origin.paths[PATH]


def ask(proxy: Proxy, origin: Origin) -> tuple[float, bytes, list[float]]:
    """Send the prompt; return seconds until the first event came, the answer, and when each event came."""
    head = f"POST {PATH} HTTP/1.1\r\nhost: origin.test\r\ncontent-type: application/json\r\ncontent-length: {len(PROMPT)}\r\n\r\n"
    with proxy.tls(origin) as sock:
        began, answer, came = time.perf_counter(), b"", list[float]()
        sock.sendall(head.encode() + PROMPT)
        with contextlib.suppress(OSError):
            while not answer.endswith(b"0\r\n\r\n") and (data := sock.recv(65536)):
                answer += data
                came += [time.perf_counter()] * data.count(b'"choices"')
    return came[0] - began if came else 0.0, answer, came


@pytest.fixture(scope="module")
def inspecting(folder: Path, origin: Origin) -> Iterator[Proxy]:
    with running(folder / "inspecting", PLAIN.format(roots=origin.roots, filters=FILTERS)) as proxy:
        yield proxy


def test_the_first_byte_is_hardly_later(folder: Path, origin: Origin, model: dict[str, object], inspecting: Proxy) -> None:
    with running(folder / "bare", PLAIN.format(roots=origin.roots, filters="[]")) as bare:
        first: tuple[list[float], list[float]] = [], []
        lags: tuple[list[float], list[float]] = [], []
        for _ in range(9):
            for number, proxy in enumerate((bare, inspecting)):
                took, answer, came = ask(proxy, origin)
                assert answer.count(b'"choices"') == len(WORDS)
                first[number].append(took)
                sent: list[float] = model["sent"]   # type: ignore[assignment]
                lags[number].extend(there - here for there, here in zip(came, sent, strict=True))
    later = statistics.median(first[1]) - statistics.median(first[0])
    each = statistics.median(lags[1]) - statistics.median(lags[0])
    print(f"first byte {later * 1000:.2f} ms later, an event {each * 1000:.2f} ms")
    assert later < LATER
    assert each < LATER


@pytest.mark.parametrize("kind", ["text/event-stream", "application/x-ndjson"])
def test_a_value_split_over_events_does_not_come_through(origin: Origin, model: dict[str, object], inspecting: Proxy,
                                                         kind: str) -> None:  # fmt: skip
    model["kind"], model["events"] = kind, events(NUMBER, kind)
    _, answer, _ = ask(inspecting, origin)
    assert b'"content": " 41"' in answer
    assert b'"11 "' not in answer, "at most four characters of it may leave"
    found = next(event for event in reversed(inspecting.events()) if event["lockgate"].get("filter") == "cards")
    assert found["lockgate"]["findings"][0]["where"] == "body > llm:answer.content"
    assert {"llm:other", "op:llm:prompt", "llm:model:m-1"} <= set(found["labels"])


def test_a_tool_that_is_refused_ends_the_answer(origin: Origin, model: dict[str, object], inspecting: Proxy) -> None:
    call = {"choices": [{"delta": {"tool_calls": [{"index": 0, "type": "function", "function": {"name": "rm", "arguments": ""}}]}}]}
    model["events"] = [*events(["Let", " me"]), b"data: " + json.dumps(call).encode() + b"\n\n", *events(["done"])]
    _, answer, _ = ask(inspecting, origin)
    assert b'" me"' in answer
    assert b'"rm"' not in answer
    assert b'"done"' not in answer
