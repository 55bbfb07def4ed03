"""What the data-leak filters share: findings from hits, and the hooks through which text comes.

A leak filter says what it looks for and what a finding means; this says where to look: the URL, the headers, the body
and the WebSocket messages of the client, in short what goes out.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mitmproxy import http

from addons.names import host_of
from addons.scan import Hit, PatternSet
from addons.text import head
from addons.verdict import Action, BodyScanner, Finding, Verdict, masked

#: A message's older findings beyond this are forgotten, and alerts about it cease: what is to be said has been said.
MOST: Final = 100
#: What the `action` field of a leak filter may say.
ACTIONS: Final = (Action.ALERT, Action.BLOCK, Action.KILL)


def action(name: str) -> Action:
    """Return the action of that name; ValueError if a leak filter cannot take it."""
    if name not in ACTIONS:
        raise ValueError(f"action: {name!r} is none of {', '.join(ACTIONS)}")
    return Action(name)


class Finder:
    """Feed it a text in pieces, then b"": it returns what it finds as soon as that is certain.

    Where values overlap, the pattern that comes first is right, and `minor` patterns give way to all others.
    """

    def __init__(
        self, patterns: PatternSet, kind: Callable[[str], str], where: str, minor: frozenset[str] = frozenset()
    ) -> None:
        self._patterns, self._stream = patterns.patterns, patterns.stream()
        self._kind, self._where, self._minor = kind, where, minor
        self._end = self._end_of_major = 0

    def feed(self, data: bytes) -> list[Finding]:
        return [self._finding(hit) for hit in self._stream.feed(data) if self._is_new(hit)]

    def _is_new(self, hit: Hit) -> bool:
        minor = self._patterns[hit.pattern].name in self._minor
        new = hit.start >= (self._end if minor else self._end_of_major)
        if new:
            self._end = max(self._end, hit.end)
        if new and not minor:
            self._end_of_major = hit.end
        return new

    def _finding(self, hit: Hit) -> Finding:
        name = self._patterns[hit.pattern].name
        return Finding(name, self._kind(name), self._where, hit.start, hit.end, masked(hit.head))


class LeakFilter:
    """The hooks; a leak filter derives from this and gives `scanner` and `weigh`."""

    credentials_headers = False

    def scanner(self, where: str = "body") -> Finder:
        """Return a finder for one text; `where` goes into its findings."""
        raise NotImplementedError

    def weigh(self, found: list[Finding], host: str) -> Verdict | None:
        """Say what it means that a message to a host holds these, of which the last are new."""
        raise NotImplementedError

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        text, finder = head(flow.request, self.credentials_headers), self.scanner()
        found: dict[tuple[str, str, bytes], Finding] = {}
        for finding in finder.feed(text.text) + finder.feed(b""):
            where, start = text.where(finding.start)
            value = text.text[finding.start : finding.end]
            moved = replace(finding, where=where, start=start, end=start + len(value))
            found.setdefault((moved.rule, where, value), moved)
        return self.weigh(list(found.values()), asked(flow)) if found else None

    def requestbody(self, flow: http.HTTPFlow) -> BodyScanner | None:
        return self._scanner(flow)

    def websocket_message(self, flow: http.HTTPFlow) -> Verdict | None:
        if not flow.websocket or not (message := flow.websocket.messages[-1]).from_client:
            return None
        scan = self._scanner(flow)
        early = scan(message.content)
        return scan(b"") or early  # the later one has seen all

    def _scanner(self, flow: http.HTTPFlow) -> BodyScanner:
        finder, host, found = self.scanner(), asked(flow), list[Finding]()

        def scan(data: bytes) -> Verdict | None:
            if not (new := finder.feed(data)):
                return None
            enough = len(found) >= MOST
            verdict = self.weigh(found + new, host)
            found.extend(new)
            del found[:-MOST]
            return None if enough and verdict and verdict.action is Action.ALERT else verdict

        return scan


def asked(flow: http.HTTPFlow) -> str:
    """Return the host, or an empty name, which is nobody's, if the request has no valid one."""
    try:
        return host_of(flow.request)
    except ValueError:
        return ""
