"""What the data-leak filters share: findings from hits, and the hooks through which text comes.

A leak filter says what it looks for and what a finding means; this says where to look: the URL and the headers, every
view of the body and of WebSocket messages, of what goes out and, where asked, of what comes in.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from mitmproxy import http

from addons.names import covers, host_of
from addons.pieces import is_missing, is_piece
from addons.scan import Hit, PatternSet
from addons.text import head
from addons.verdict import Action, Finding, Verdict, ViewScanner, masked
from addons.views import View

#: A message's older findings beyond this are forgotten, and alerts about it cease: what is to be said has been said.
MOST: Final = 100
#: Values remembered of a message, to know them again in its other views.
MOST_VALUES: Final = 4096
#: What the `action` field of a leak filter may say.
ACTIONS: Final = (Action.ALERT, Action.BLOCK, Action.KILL, Action.REDACT)
#: Findings weighed at once where each is to be masked: no more than a verdict has room for.
BATCH: Final = 50
#: What `unscannable` may say.
UNSCANNABLE: Final = (Action.BLOCK, Action.ALERT, Action.ALLOW)


def action(name: str) -> Action:
    """Return the action of that name; ValueError if a leak filter cannot take it."""
    return _one_of("action", name, ACTIONS)


def _one_of(field: str, name: str, known: tuple[Action, ...]) -> Action:
    if name not in known:
        raise ValueError(f"{field}: {name!r} is none of {', '.join(known)}")
    return Action(name)


class Finds(Protocol):
    """Feed it a text in pieces, then b"": it returns what it finds as soon as that is certain."""

    def feed(self, data: bytes) -> list[Finding]: ...


class Finder:
    """Finds patterns.

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
        return Finding(name, self._kind(name), self._where, hit.start, hit.end, masked(hit.head), hit.mark)


@dataclass(kw_only=True)
class LeakFilter:
    """The hooks, and the options that all leak filters have; one derives from this and gives `scanner` and `weigh`.

    `action` is what a finding leads to: alert, block, kill or redact (mask it and go on).  `responses` has answers and
    the server's messages searched as well.  What is in a message and cannot be read (encrypted, damaged, nested too
    deep) leads to `unscannable`: block, alert or allow; an answer is never blocked for that, nor a piece of a larger
    upload for what is missing of it.  `credentials_headers` has Authorization and Cookie searched, `hosts_allowed`
    are hosts, with their sub-domains, that may have it all.
    """

    action: str = "block"
    responses: bool = False
    unscannable: str = "block"
    credentials_headers: bool = False
    hosts_allowed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._action = action(self.action)
        _one_of("unscannable", self.unscannable, UNSCANNABLE)

    @property
    def redacts(self) -> bool:
        return self.action == Action.REDACT

    # -- what a leak filter says

    def scanner(self, where: str = "body") -> Finds:
        """Return a finder for one text; `where`, the path of the view, goes into its findings."""
        raise NotImplementedError

    def weigh(self, found: list[Finding], host: str) -> Verdict | None:
        """Say what it means that a message to a host holds these, of which the last are new."""
        raise NotImplementedError

    def spares(self, flow: http.HTTPFlow) -> bool:
        """May this host have it all?"""
        return bool(self.hosts_allowed) and covers(self.hosts_allowed, asked(flow))

    # -- the hooks

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        if self.spares(flow):
            return None
        text, finder = head(flow.request, self.credentials_headers), self.scanner("head")
        found: dict[tuple[str, str, bytes], Finding] = {}
        for finding in finder.feed(text.text) + finder.feed(b""):
            where, start = text.where(finding.start)
            value = text.text[finding.start : finding.end]
            moved = replace(finding, where=where, start=start, end=start + len(value))
            found.setdefault((moved.rule, where.partition(" > ")[0], value), moved)
        return self.weigh(list(found.values()), asked(flow)) if found else None

    def requestviews(self, flow: http.HTTPFlow) -> ViewScanner | None:
        """The views of a body that goes out, or of a WebSocket message."""
        if self.spares(flow):
            return None
        piece = is_piece(flow.request, flow.request.path)
        return Message(self, asked(flow), Action(self.unscannable), piece)

    def responseviews(self, flow: http.HTTPFlow) -> ViewScanner | None:
        if not self.responses or self.spares(flow):
            return None
        told = Action.ALERT if self.unscannable == Action.BLOCK else Action(self.unscannable)
        return Message(self, asked(flow), told, flow.response is not None and is_piece(flow.response))


class Found:
    """What is found in all views of one message: a value in several of them is one, twice in one view it is two."""

    def __init__(self, scanner: Callable[[str], Finds]) -> None:
        self._scanner = scanner
        self.repeated: list[Finding] = []           # of what was due last, what is known from another view
        self._waiting: list[tuple[int, Finding, Counter[object]]] = []     # place in the body, its view's values
        self._first = sys.maxsize                   # the first of these places
        self._known: Counter[object] = Counter()    # how often a value stands in the view that has it most often

    def opened(self, view: View) -> Callable[[bytes], None]:
        """Return what takes the bytes of a view."""
        finder, values = self._scanner(view.path), Counter[object]()

        def hear(data: bytes) -> None:
            for each in finder.feed(data):
                place = view.origin(each.start)
                self._first = min(self._first, place)
                self._waiting.append((place, each, values))

        return hear

    def due(self, place: int) -> list[Finding]:
        """All is said about so many bytes of the body: return what is new in them.

        Of the views that a value is in, the innermost tells best where it is; it is the last to know.
        """
        self.repeated = []
        if place <= self._first:    # of a body that is held as a whole, all that was found may wait, and it is a lot
            return []
        due = [each for each in self._waiting if each[0] < place]
        self._waiting = [each for each in self._waiting if each[0] >= place]
        self._first = min((each[0] for each in self._waiting), default=sys.maxsize)
        due.sort(key=lambda each: (-each[1].where.count(" > "), each[0]))
        new: list[Finding] = []
        for _, finding, values in due:
            (new if self._is_new(finding, values) else self.repeated).append(finding)
        return new

    def _is_new(self, finding: Finding, here: Counter[object]) -> bool:
        value = (finding.rule, finding.mark or (finding.sample, finding.end - finding.start))
        if len(here) >= MOST_VALUES:        # a body may be of any length
            here.clear()
        here[value] += 1
        if here[value] <= self._known[value]:
            return False
        if len(self._known) >= MOST_VALUES:
            self._known.clear()
        self._known[value] = here[value]
        return True


class Message(Found):
    """One message in front of one leak filter."""

    def __init__(self, leaks: LeakFilter, host: str, unreadable: Action, piece: bool = False) -> None:
        super().__init__(leaks.scanner)
        self._leaks, self._host, self._unreadable, self._piece = leaks, host, unreadable, piece
        self._found: list[Finding] = []
        self._count = 0
        self._told: set[str] = set()
        self._masked: set[str] = set()          # rules whose findings are to be masked
        self._reason = ""

    def unscannable(self, view: View, reason: str) -> Verdict | None:
        if self._unreadable is Action.ALLOW or (reason in self._told and self._unreadable is Action.ALERT):
            return None
        told = self._unreadable
        if self._piece and is_missing(reason):
            if reason in self._told:
                return None
            told = Action.ALERT
        self._told.add(reason)
        return Verdict(told, f"unscannable: {reason}, in {view.path}")

    def leaving(self, place: int) -> Verdict | None:
        """So many bytes of the body are about to leave: weigh what was found in these."""
        new = self.due(place)
        if self.redacts:
            return self._all(new)
        verdict = None
        for batch in self._batches(new):
            if (said := self._weigh(batch)) is not None:
                verdict = said
                if said.action is not Action.ALERT:
                    break
        return verdict

    @property
    def redacts(self) -> bool:
        return self._leaks.redacts

    def finder(self) -> Finds:
        return self._leaks.scanner()

    def again(self) -> "Message":
        return Message(self._leaks, self._host, self._unreadable)

    def _all(self, new: list[Finding]) -> Verdict | None:
        """More than one verdict has room for, and in every view: each has to be masked where it is."""
        said = [each for batch in self._batches(new) if (each := self._weigh(batch)) is not None]
        masks = [each for each in said if each.action is Action.REDACT]
        for each in masks:
            self._reason = each.reason
            self._masked.update(finding.rule for finding in each.findings)
        again = [finding for finding in self.repeated if finding.rule in self._masked]
        if not masks and not again:
            return said[-1] if said else None
        return Verdict(Action.REDACT, self._reason, (*again, *(f for each in masks for f in each.findings)))

    def _batches(self, new: list[Finding]) -> Iterator[list[Finding]]:
        """The same pieces of all that is found, whatever came at a time: what is weighed together depends on that."""
        at = 0
        while at < len(new):
            size = BATCH - self._count % BATCH
            yield new[at : at + size]
            at += size

    def _weigh(self, new: list[Finding]) -> Verdict | None:
        enough = self._count >= MOST
        verdict = self._leaks.weigh(self._found + new, self._host)
        self._found.extend(new)
        self._count += len(new)
        if not self._count % BATCH:
            del self._found[:-MOST]
        if verdict is not None and verdict.action is Action.REDACT:     # what was let pass has left
            findings = tuple(each for each in verdict.findings if each in new)
            verdict = replace(verdict, findings=findings) if findings else None
        return None if enough and verdict and verdict.action is Action.ALERT else verdict


def asked(flow: http.HTTPFlow) -> str:
    """Return the host, or an empty name, which is nobody's, if the request has no valid one."""
    try:
        return host_of(flow.request)
    except ValueError:
        return ""
