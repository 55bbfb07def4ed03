"""Rules on labels: what `~label` means in `when:`, and a filter that decides by labels as soon as they are there."""

import re
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from mitmproxy import http

from addons.verdict import DONE, Action, BodyScanner, Verdict, confidence

_WANTED: Final = re.compile(r"(?P<name>.+?)(?P<any>\*)?(?:@(?P<least>0(?:\.\d+)?|1(?:\.0+)?))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Labels that a rule names: `category:ai`, `op:graphql:*` for all that begin so, `app:x@0.8` if that sure."""

    name: str
    begins: bool = False
    least: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Wanted":
        """Read it; ValueError for an empty name."""
        if (found := _WANTED.fullmatch(text)) is None:
            raise ValueError(f"not the name of a label: {text!r}")
        return cls(found["name"], bool(found["any"]), float(found["least"] or 0))

    def match(self, flow: http.HTTPFlow, told: Container[str] = ()) -> str | None:
        """Return the flow's first label that is meant, without those that are `told`, or None."""
        known = flow.metadata.get("labels", ())
        if not self.begins:
            return self.name if self.name in known and self.name not in told and self._sure(flow, self.name) else None
        return next((name for name in known
                     if name.startswith(self.name) and name not in told and self._sure(flow, name)), None)

    def _sure(self, flow: http.HTTPFlow, name: str) -> bool:
        return not self.least or confidence(flow, name) >= self.least


@dataclass
class Labels:
    """Decides by the labels that filters before it set, also by those that need the body's first bytes.

    `allow`, `block`, `kill` and `alert` are lists of labels: `category:paste`, `op:graphql:mutation:*` for all that
    begin so, `op:login@0.9` for those that are at least so sure.  The first list that has one decides, in this order:
    allow, kill, block, alert.  A label of a body is known before its first 4 KiB leave, so what is blocked by a
    GraphQL operation or a file's kind has not reached the origin.
    """

    allow: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    alert: tuple[str, ...] = ()
    _rules: list[tuple[Action, Wanted]] = field(init=False, repr=False, compare=False)
    _judged: "WeakKeyDictionary[http.HTTPFlow, _Judged]" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._judged = WeakKeyDictionary()
        lists = ((Action.ALLOW, self.allow), (Action.KILL, self.kill), (Action.BLOCK, self.block),
                 (Action.ALERT, self.alert))  # fmt: skip
        self._rules = [(action, Wanted.parse(text)) for action, names in lists for text in names]

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        return self._judge(flow)

    def responseheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        return self._judge(flow)

    def requestbody(self, flow: http.HTTPFlow) -> BodyScanner:
        return self._scanner(flow)

    def responsebody(self, flow: http.HTTPFlow) -> BodyScanner:
        return self._scanner(flow)

    def websocket_message(self, flow: http.HTTPFlow) -> Verdict | None:
        return self._judge(flow)

    def _scanner(self, flow: http.HTTPFlow) -> BodyScanner:
        return lambda data: self._judge(flow) or (None if data else DONE)

    def _judge(self, flow: http.HTTPFlow) -> Verdict | None:
        """Judge the labels, if there are others than before, or surer ones; each alerts once."""
        judged = self._judged.setdefault(flow, _Judged())
        count, doubts = len(flow.metadata.get("labels", ())), flow.metadata.get("doubts", {})
        if (count, doubts) == (judged.count, judged.doubts):
            return None
        judged.count, judged.doubts = count, dict(doubts)
        for action, wanted in self._rules:
            if name := wanted.match(flow, judged.told if action is Action.ALERT else ()):
                judged.told.add(name)
                return Verdict(action, f"it is {name}")
        return None


@dataclass(slots=True)
class _Judged:
    """What has been judged of a flow: how many labels, with which doubts; and those that were told of."""

    count: int = 0
    doubts: dict[str, float] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
