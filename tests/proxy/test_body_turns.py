"""Bodies and filters that take their time: what is waited for, how long, and that nobody else is kept from a turn."""

import asyncio
import time

import pytest

from addons.verdict import Action, block
from proxy.body import Body
from tests.addons.conftest import SIZES
from tests.proxy.bodies import Viewer, hear, reader, rule

__all__ = ["reader"]


def promise(said, seconds=0.0):
    async def answer():
        await asyncio.sleep(seconds)
        return said

    return answer()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("said", "stop"), [(None, None), (block("x"), ("r", Action.BLOCK))])
def test_a_scanner_that_promises(said, stop, size):
    """What comes meanwhile is kept for it, in order."""
    pieces = []

    class Slow:
        def opened(self, view):
            def scan(data):
                pieces.append(data)
                return promise(said if not data else None)

            return scan if view.path == "body" else None

    text = b"upper:" + b"0123456789" * 9
    assert hear(text, Slow(), size=size) == (b"" if said else text, stop)
    assert b"".join(pieces) == text
    assert pieces[-1] == b""


def test_a_body_scanner_that_promises():
    assert hear(b"abc", scanners=[(rule(), lambda data: promise(block("x")))])[1] == ("r", Action.BLOCK)


@pytest.mark.parametrize("what", ["view", "body"])
def test_a_promise_that_is_not_kept(what):
    late = rule(limit=0.05)
    began = time.monotonic()
    scan = lambda data: promise(None, 5)  # noqa: E731
    viewer = type("Late", (), {"opened": lambda self, view: scan})()
    left, stop = hear(b"abc", *([(late, viewer)] if what == "view" else []), scanners=[(late, scan)] if what == "body" else [])
    assert (left, stop) == (b"", ("r", Action.BLOCK))
    assert time.monotonic() - began < 2


def test_others_have_their_turn():
    """A scanner that takes long for a chunk: between its pieces, others go on."""
    def slow(data):
        until = time.perf_counter() + 0.0005
        while time.perf_counter() < until:
            """Work."""

    async def both():
        body, turns = Body([(rule(), slow)], "", lambda _: True), 0

        async def others():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(others())
        await body.show(b"z" * 1_000_000)
        other.cancel()
        return turns

    assert asyncio.run(both()) >= 25


def test_pieces_shrink_where_reading_takes_long():
    """A piece of 16 KiB that takes 10 ms would hold everybody else up."""
    took = []

    class Slow(Viewer):
        def opened(self, view):
            def scan(data):
                took.append(len(data))
                time.sleep(len(data) * 1e-6)

            return scan

    hear(b"z" * 200_000, Slow())
    assert max(took[10:]) <= 4096
