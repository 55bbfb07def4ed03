"""What several tests of filters need."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from mitmproxy import http
from mitmproxy.test import tflow

from addons.scan import Engine, Hyperscan, Keywords, Perscan
from addons.verdict import Verdict
from addons.views import Listener, Tree, View

SIZES = [1, 2, 7, 64, 1000, 1 << 20]


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """Yield the data in chunks, then the empty one that ends it."""
    yield from (data[at : at + size] for at in range(0, len(data), size))
    yield b""


def heard(viewer, body: bytes, size: int = 1 << 20, declared: str = "") -> Iterator[Verdict]:
    """Yield what a view scanner says of all the views of a body that comes in chunks of a size."""
    said: list[Verdict] = []

    class Ear:
        def opened(self, view: View) -> Listener:
            scan = viewer.opened(view)
            return lambda data: said.append(scan(data))

        def unscannable(self, view: View, reason: str) -> None:
            said.append(viewer.unscannable(view, reason))

    tree = Tree(Ear(), declared=declared)
    for chunk in cut(body, size):
        tree.feed(chunk) if chunk else tree.end()
        asyncio.run(tree.settle()) if tree.waiting else None
        if hasattr(viewer, "leaving"):
            said.append(viewer.leaving(tree.clear))
        yield from filter(None, said)
        said.clear()


def request(
    path: str = "/", host: str = "site.example", method: str = "POST", **headers: str
) -> http.HTTPFlow:
    """Return a flow with just this request head; `x_note` becomes `x-note`."""
    flow = tflow.tflow(resp=True)
    flow.request.method, flow.request.path = method, path
    flow.request.headers.clear()
    flow.request.headers["host"] = host
    for name, value in headers.items():
        flow.request.headers[name.replace("_", "-")] = value
    return flow


@pytest.fixture(params=[Perscan, Hyperscan, Keywords])
def engine(request: pytest.FixtureRequest) -> Callable[..., Engine]:
    """Each scan engine that is installed here."""
    package = {Perscan: "pyperscan", Hyperscan: "hyperscan", Keywords: "ahocorasick_rs"}[request.param]
    pytest.importorskip(package)
    return request.param
