"""Fixtures for the tests of filters: `pytest_plugins = ["proxy.fixtures"]` in a test file makes them known.

    def test_it(judged):
        said = judged(Mine(limit=3), "https://site.example/upload", body=b"...")
        assert (said.verdict, said.reason) == ("block", "too long")

The filter is called by the real chain, under its deadline, with the body decoded and in pieces of every size in
`CHUNKS`; that the verdict is the same for all is part of each test.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import pytest
from mitmproxy import connection, http
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from wsproto.frame_protocol import Opcode

from addons.connection import Process
from addons.verdict import label
from proxy import deadline, dryrun
from proxy.chain import Chain
from proxy.dryrun import Outcome
from proxy.keys import Node
from proxy.registry import Loaded, compile_when
from proxy.schema import FilterRule

#: Bytes of a piece: the network may cut anywhere.
CHUNKS = (1, 7, 1000, 65536)
#: Milliseconds for one call: more than the default, as a machine that runs tests may be busy.
DEADLINE = 1000


class Judged(Protocol):
    """The fixture `judged`."""

    def __call__(self, *filters: object, url: str = ..., method: str = ..., headers: Mapping[str, str] = ...,
                 body: bytes = ..., answer: bytes | None = ..., answer_headers: Mapping[str, str] = ...,
                 messages: Sequence[str | bytes] = ..., process: Process | None = ..., labels: Sequence[str] = ...,
                 when: str | None = ..., chunks: Sequence[int] = ...) -> Outcome: ...


@pytest.fixture
def judged() -> Iterator[Judged]:
    """What filters, in this order, say to an exchange; see `_exchange` for its parts.  Raises AssertionError where the
    verdict depends on how the body is cut."""
    deadline.prepare()

    def judge(*filters: object, chunks: Sequence[int] = CHUNKS, when: str | None = None, **parts: Any) -> Outcome:
        matches = compile_when(when) if when else None
        chain = Chain([Loaded(_rule(number), each, matches) for number, each in enumerate(filters, 1)])
        made = [asyncio.run(_outcome(chain, _exchange(**parts), size)) for size in chunks]
        for size, each in zip(chunks, made):
            assert _said(each) == _said(made[0]), f"in pieces of {size} bytes it says otherwise than of {chunks[0]}"
        return made[0]

    yield judge
    deadline.rest()


@pytest.fixture
def encoded() -> Callable[[bytes], dict[str, Any]]:
    """`judged(..., **encoded(body))`: the same body, in gzip."""

    def parts(body: bytes) -> dict[str, Any]:
        gzip = zlib.compressobj(wbits=31)
        return {"body": gzip.compress(body) + gzip.flush(), "headers": {"content-encoding": "gzip"}}

    return parts


async def _outcome(chain: Chain, flow: http.HTTPFlow, chunk: int) -> Outcome:
    return dryrun.outcome(await dryrun.through(chain, flow, chunk=chunk))


def _rule(number: int) -> FilterRule:
    return FilterRule(f"filter-{number}", "test", Node("", 0, "", {}), deadline=DEADLINE)


def _exchange(*, url: str = "https://site.example/", method: str = "", headers: Mapping[str, str] | None = None,
              body: bytes = b"", answer: bytes | None = None, answer_headers: Mapping[str, str] | None = None,
              messages: Sequence[str | bytes] = (), process: Process | None = None,
              labels: Sequence[str] = ()) -> http.HTTPFlow:
    """A request; with `answer` a response; with `messages` those that the client sends by WebSocket."""
    flow = http.HTTPFlow(connection.Client(peername=("127.0.0.1", 0), sockname=("127.0.0.1", 0)),
                         connection.Server(address=None))
    flow.request = http.Request.make(method or ("POST" if body else "GET"), url, b"", _fields(headers))
    dryrun.fill(flow.request, body)
    flow.request.headers.setdefault("host", flow.request.host)
    if answer is not None or messages:
        flow.response = http.Response.make(101 if messages else 200, b"", _fields(answer_headers))
        dryrun.fill(flow.response, answer or b"")
    if messages:
        flow.websocket = WebSocketData(messages=[
            WebSocketMessage(Opcode.TEXT if isinstance(each, str) else Opcode.BINARY, True,
                             each.encode() if isinstance(each, str) else each) for each in messages])
    flow.metadata["process"] = process
    for name in labels:
        label(flow, name)
    return flow


def _fields(headers: Mapping[str, str] | None) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in (headers or {}).items()]


def _said(outcome: Outcome) -> tuple[object, ...]:
    return (outcome.verdict, outcome.rule, outcome.reason, outcome.findings, outcome.labels,
            [(each.action, each.rule, each.reason) for each in outcome.alerts])
