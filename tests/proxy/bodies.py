"""Bodies in memory that go past filters, piece by piece, and a filter that notes what it hears of their views."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from addons.decode import Unscannable
from addons.verdict import Action
from addons.views import choosing
from addons.views.tree import View
from proxy.body import Body
from proxy.chain import Decision, Rule


def rule(name: str = "r", on_error: Action = Action.BLOCK, *, monitor: bool = False, limit: float = 1.0) -> Rule:
    return Rule(name, object(), None, monitor, on_error, limit, 0)


def run(raw: bytes, size: int, scanners: Sequence[Any] = (), coding: str = "", notes: list[Decision] | None = None,
        **more: Any) -> tuple[bytes, Decision | None]:
    """Feed in chunks; return what left and the decision that stopped it."""
    notes = [] if notes is None else notes

    def note(decision: Decision) -> bool:
        notes.append(decision)
        return decision.action is not Action.ALERT

    return asyncio.run(show(Body(list(scanners), coding, note, **more), raw, size))


async def show(body: Body, raw: bytes, size: int) -> tuple[bytes, Decision | None]:
    out = []
    for chunk in [*(raw[at : at + size] for at in range(0, len(raw), size)), None]:
        chunks, stop = await body.show(chunk)
        out += chunks
        if stop:
            break
    return b"".join(out), stop


def hear(raw: bytes, *viewers: Any, size: int = 1 << 20, **more: Any) -> tuple[bytes, tuple[str, Action] | None]:
    """The same for those who hear views, each with its rule or under one of no matter; of the decision, whose and what."""
    ruled = [(each if isinstance(each, tuple) else (rule(), each)) for each in viewers]
    left, stop = run(raw, size, viewers=ruled, **more)
    return left, stop and (stop.rule, stop.action)


class Upper:
    """A reader for these tests: a text that begins with `upper:` holds one in capitals; `!` in it is no such text."""

    def __init__(self, view: View) -> None:
        self._view, self._inside = view, view.inside("upper")

    def feed(self, data: bytes) -> None:
        if b"!" in data:
            raise Unscannable("an exclamation mark")
        if b"#" in data:
            raise ZeroDivisionError
        if b"?" in data:
            self._view.tree.later(self._view, later(), self._late)
        elif b"^" in data:
            self._inside.pin()
        elif b"~" in data:
            while True:
                """Never come back."""
        self._inside.feed(data.upper())

    def _late(self, text: bytes) -> None:
        inside = self._view.inside("late")
        inside.feed(text)
        inside.end()

    def end(self) -> None:
        self._inside.end()


async def later() -> bytes:
    await asyncio.sleep(0)
    return b"later"


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = choosing.choose

    def choose(view: View, head: bytes) -> Any:
        return ([Upper(view)], True) if head.startswith(b"upper:") else usual(view, head)

    monkeypatch.setattr(choosing, "choose", choose)


class Viewer:
    """Notes all that it hears; says what `answers` has for a word."""

    def __init__(self, answers: dict[bytes, Any] | None = None, unscannable: Callable[[View, str], Any] | None = None,
                 wants: Callable[[View], bool] = lambda view: True) -> None:
        self.heard: dict[str, bytes] = {}
        self.answers, self.wants = answers or {}, wants
        if unscannable:
            self.unscannable = unscannable

    def opened(self, view: View) -> Callable[[bytes], Any] | None:
        if not self.wants(view):
            return None
        self.heard[view.path] = b""

        def scan(data: bytes) -> Any:
            self.heard[view.path] += data or b"."
            return next((said for word, said in self.answers.items() if word in self.heard[view.path]), None)

        return scan
