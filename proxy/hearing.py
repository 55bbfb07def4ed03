"""How the rules hear the views of a message: each call under its rule's deadline, each answer in the rule's name."""

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from addons.verdict import DONE, Action
from addons.views import Listener, View
from addons.views.tree import Tree
from proxy.chain import Decision, Rule
from proxy.deadline import Missed

#: Alerts about views that cannot be read, of one rule on one message: an archive may have thousands of those.
MOST_UNSCANNABLE: Final = 20

#: Rules with their view scanners, in the policy's order.
type Viewers = list[tuple[Rule, Any]]


class Stopped(BaseException):
    """A decision ends the body, wherever in its views that was found."""


def unscannable(rule: Rule, viewer: Any, view: View, reason: str) -> object:
    """What a rule says of a view that it cannot read: its view scanner, if that has an opinion on it, or `on_error`."""
    if callable(answer := getattr(viewer, "unscannable", None)):
        return rule.guarded(answer, view, reason)
    return rule.failure(f"unscannable {view.path}: {reason}")


def failure(error: BaseException) -> str:
    """Why a reader that is at fault, or does not come back, has not read: that must not be a way round."""
    if isinstance(error, Missed):
        return "it takes more time to read than a reader has"
    return f"its reader failed: {type(error).__name__}: {error}"[:500]


class Ear:
    """One rule's scanner of one view.  While an answer of it is awaited, what comes is kept for it."""

    __slots__ = ("kept", "rule", "scanner")

    def __init__(self, rule: Rule, scanner: Callable[[bytes], Any]) -> None:
        self.rule = rule
        self.scanner: Callable[[bytes], Any] | None = scanner
        self.kept: list[bytes] | None = None


class Ears:
    """All rules at one tree; `said` gets what they answer, and may raise `Stopped`."""

    def __init__(self, viewers: Viewers, said: Callable[[Rule, object], None]) -> None:
        self.viewers = viewers
        self.awaited: deque[tuple[Ear, Awaitable[object]]] = deque()
        self._said = said
        self._complaints: dict[Rule, int] = {}
        self._muted: frozenset[Rule] = frozenset()

    def mute(self, rules: frozenset[Rule]) -> None:
        """These have no say any more."""
        self._muted |= rules
        self.viewers = [each for each in self.viewers if each[0] not in rules]

    def opened(self, view: View) -> Listener | None:
        ears = []
        for rule, viewer in tuple(self.viewers):
            scanner = rule.guarded(viewer.opened, view)
            if scanner is None or scanner is DONE:
                continue
            if callable(scanner):
                ears.append(Ear(rule, scanner))
            else:
                self._said(rule, scanner)
        if not ears:
            return None
        if len(ears) == 1:
            ear = ears[0]
            return lambda data: self._hear(ear, data)
        return lambda data: self._all(ears, data)

    def unscannable(self, view: View, reason: str) -> None:
        for rule, viewer in tuple(self.viewers):
            decision = rule.verdict(unscannable(rule, viewer, view, reason))
            if decision is not None and decision.action is Action.ALERT:
                count = self._complaints[rule] = self._complaints.get(rule, 0) + 1
                if count > MOST_UNSCANNABLE:
                    continue
            self._said(rule, decision)

    def leaving(self, place: int) -> None:
        """So many bytes of the body are about to leave: the last moment to say something about them."""
        for rule, viewer in tuple(self.viewers):
            if callable(hook := getattr(viewer, "leaving", None)) and (said := rule.guarded(hook, place)) is not None:
                self._said(rule, said)

    def answered(self, ear: Ear, result: object) -> None:
        """What was awaited is there: go on with what came meanwhile."""
        self._said(ear.rule, result)
        kept, ear.kept = ear.kept or [], None
        for data in kept:
            self._hear(ear, data)

    def _all(self, ears: list[Ear], data: bytes) -> None:
        for ear in ears:
            self._hear(ear, data)

    def _hear(self, ear: Ear, data: bytes) -> None:
        if ear.scanner is None or ear.rule in self._muted:
            return
        if ear.kept is not None:
            ear.kept.append(data)
            return
        result = ear.rule.guarded(ear.scanner, data)
        if result is None:
            return
        if result is DONE:
            ear.scanner = None
        elif isinstance(result, Decision) or not inspect.isawaitable(result):
            self._said(ear.rule, result)
        else:
            ear.kept = []
            self.awaited.append((ear, result))


def root(declared: str) -> View:
    """A view of a body none of which could be read."""
    return Tree(Ears([], lambda _rule, _result: None), "body", declared).root


def refused(scanners: Sequence[tuple[Rule, object]], viewers: Viewers, view: View, reason: str,
            note: Callable[[Decision], bool]) -> None:
    """A body cannot be read at all: let each rule answer, until one stops it."""
    for rule, _ in scanners:
        if note(rule.failure(f"unscannable body: {reason}")):
            return
    for rule, viewer in viewers:
        decision = rule.verdict(unscannable(rule, viewer, view, reason))
        if decision is not None and note(decision):
            return
