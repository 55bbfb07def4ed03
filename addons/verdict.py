"""What a filter may say: verdicts, findings and labels.

A filter hook returns a `Verdict`, or None for "no opinion".  It never enforces anything itself: the chain does.
"""

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from addons.connection import Connection

if TYPE_CHECKING:
    from mitmproxy import http

    from addons.views import View

#: Characters of a value that a sample may show; the rest never leaves the scanner, not even into a log.
SAMPLE: Final = 4


class Action(enum.StrEnum):
    """What the chain shall do; `ALERT` and `REDACT` let the chain go on."""

    ALLOW = "allow"
    ALERT = "alert"
    REDACT = "redact"
    BLOCK = "block"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sensitive value: where it is and what it is, never the value itself.

    `kind` is dotted (`secret.github`, `pii.credit_card`); `where` is `url`, `header:<name>` or the path of a view, as
    `body > zip:a.docx > text`; `start` and `end` are byte offsets in that text; `sample` comes from `masked()`; `mark`
    tells values apart, without saying what they are: `hash` of the bytes, or 0.
    """

    rule: str
    kind: str
    where: str
    start: int
    end: int
    sample: str
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """An action, the reason that the user and the log will read, and what led to it."""

    action: Action
    reason: str
    findings: tuple[Finding, ...] = ()


def allow(reason: str) -> Verdict:
    """Let it pass and ask no later filter."""
    return Verdict(Action.ALLOW, reason)


def alert(reason: str, findings: tuple[Finding, ...] = ()) -> Verdict:
    """Record it and go on."""
    return Verdict(Action.ALERT, reason, findings)


def redact(reason: str, findings: tuple[Finding, ...]) -> Verdict:
    """Mask these values before they leave, and go on; where that cannot be done it is a block.

    Findings in the body itself (`body`), known before they leave, are masked as it streams.  Others need a view
    scanner that has `spans` (see `ViewScanner`).
    """
    return Verdict(Action.REDACT, reason, findings)


def block(reason: str, findings: tuple[Finding, ...] = ()) -> Verdict:
    """Refuse it with an answer that gives the reason."""
    return Verdict(Action.BLOCK, reason, findings)


def kill(reason: str, findings: tuple[Finding, ...] = ()) -> Verdict:
    """Close the connection without an answer."""
    return Verdict(Action.KILL, reason, findings)


#: Made fresh for each message; called with every decoded piece, then once with b"" for the end.  What it cannot say at
#: once it may promise: the message waits, no longer than the rule's deadline.
BodyScanner = Callable[[bytes], Verdict | Awaitable[Verdict | None] | None]


class ViewScanner(Protocol):
    """Hears all views of one message, made fresh for each.

    It may also have `unscannable(view, reason) -> Verdict | None`, told of each view that cannot be read, or not to its
    end; without it, that is a failure and the rule's `on_error` speaks.  And `leaving(place) -> Verdict | None`: all
    views of so many bytes of the body have been heard, and they are about to leave.

    One that may redact says so with `redacts = True`, and has `finder()`, whose `feed(data)` returns the findings in a
    text by itself, b"" being its end; and `again()`, a fresh one for the same message.
    """

    def opened(self, view: "View") -> BodyScanner | None:
        """A view begins, its path, name and kind are known: return what shall get its bytes, and b"" at its end."""


#: A scanner that returns this very object needs no more of the message; it is not called again, not even at the end.
DONE: Final = Verdict(Action.ALLOW, "scanner is done")


def masked(value: bytes) -> str:
    """Return the first characters of a value, printable, and an ellipsis for all the rest."""
    head = value[:SAMPLE].decode("ascii", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in head) + "…"


def label(subject: "http.HTTPFlow | Connection", name: str, confidence: float = 1.0) -> None:
    """Attach a label that later filters and rules can read; doing it twice is the same as once.

    `confidence`, from 0 to 1, is how sure the filter is: 1 for what was seen, less for what was inferred.  Of two
    filters that attach the same label, the surer one is believed.  A flow's labels are a list in its metadata, where
    mitmproxy's `~meta` expression finds them.
    """
    if isinstance(subject, Connection):
        known, doubts = name in subject.labels, subject.doubts
        subject.labels.add(name)
    else:
        names = subject.metadata.setdefault("labels", [])
        if not (known := name in names):
            names.append(name)
        elif "doubts" not in subject.metadata:
            return
        doubts = subject.metadata.setdefault("doubts", {}) if known or confidence < 1 else {}
    if confidence >= 1:
        doubts.pop(name, None)
    elif not known or confidence > doubts.get(name, 1.0):
        doubts[name] = confidence


def labels(subject: "http.HTTPFlow | Connection") -> frozenset[str]:
    """Return the labels attached so far."""
    if isinstance(subject, Connection):
        return frozenset(subject.labels)
    return frozenset(subject.metadata.get("labels", ()))


def confidence(subject: "http.HTTPFlow | Connection", name: str) -> float:
    """Return how sure it is that a label is right; 0 if nobody attached it."""
    doubts = subject.doubts if isinstance(subject, Connection) else subject.metadata.get("doubts", {})
    return float(doubts.get(name, 1.0)) if name in labels(subject) else 0.0
