"""Values masked in what passes: in a body's held bytes, in a body held as a whole, in a request's head.

A finding in the body as it is is masked where it is held, before any of it has left.  One anywhere else (escaped,
compressed, in an archive) can only be masked in a body that is held as a whole, which is then put together again and
judged once more.  Where neither will do, and where the body is signed, what should be redacted is blocked.
"""

import re
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

from mitmproxy import http

from addons import repacking
from addons.decode import Unscannable
from addons.masking import Span, in_text
from addons.verdict import Action, Finding
from proxy.chain import Decision, Rule
from proxy.deadline import Missed, limited
from proxy.hearing import Viewers
from proxy.holding import Held

#: Held beyond what views need, where something may be masked: not even the first characters may have left.
MORE: Final = 64
#: Steps of a view's path that lead to the same text in another spelling, part by part.
TEXTS: Final = re.compile(r"multipart\[[^\]]*\]|unescaped|quoted-printable|utf-16.*|base64")
#: Bytes searched without yielding.
STEP: Final = 16 * 1024
#: Seconds of processor time to mask one body: as much as what is inside one may take at first to be read.
MASKING: Final = 3.0
TOO_LONG: Final = "it takes too long to mask"
#: Headers that promise what the body is (RFC 9530, RFC 1864, Amazon's and Google's stores).
DIGESTS: Final = ("digest", "content-digest", "repr-digest", "content-md5", "x-goog-hash", "x-amz-trailer")
#: What these hold is nobody's text: changed, the request would be another.
FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer",
                            "content-type", "content-encoding"})
#: Types that stream by nature: these are not held as a whole.
FLOWING: Final = ("text/event-stream", "text/plain", "text/csv", "application/grpc", "application/connect",
                  "application/x-ndjson", "application/jsonl", "application/vnd.amazon.eventstream")

#: Before what is cut out of a body, so that it is not taken for the beginning of a file.
PLAIN: Final = b"text: \r\n"

type Work = Generator[Awaitable[object] | None, Any, Decision | None]


class Judge(Protocol):
    """A body that is only judged, as what it is declared to be or as another type: returns what stops it."""

    def __call__(self, raw: bytes, viewers: Viewers, declared: str | None = None) -> Work: ...


class Redaction:
    """What is masked of one body; `name` is that of its root view.

    `whole` is how many bytes are held until the body has ended, 0 for none; `refuses` says why it must not be changed.
    """

    def __init__(self, held: Held, viewers: Viewers, coding: str, declared: str, name: str, whole: int,
                 refuses: Callable[[], str], judge: Judge) -> None:
        self._held, self._coding, self._name, self._refuses, self._judge = held, coding, name, refuses, judge
        self._viewers = [each for each in viewers if getattr(each[1], "redacts", False)]
        self._begun = False
        self._numbers = "json" in declared or "xml" in declared
        self._whole = whole if self._viewers else 0
        self._pending: dict[Rule, set[str]] = {}
        self._where: dict[Rule, Decision] = {}
        self._strange: Decision | None = None       # the first that can only be masked in the whole
        self.more = MORE if self._viewers else 0
        self.length: int | None = None      # of the body, if that has changed

    @property
    def collecting(self) -> bool:
        return self._whole > 0

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    def begins(self, head: bytes) -> None:
        """More of it comes; by its first bytes, is it JSON?"""
        if not self._begun and (head := head.lstrip()):
            self._begun, self._numbers = True, self._numbers or head[:1] in (b"{", b"[")

    def take(self, rule: Rule, decision: Decision, base: int) -> Decision:
        """Mask these findings, whose places count from `base`, or keep in mind that they are to be; else block."""
        if reason := self._refuses():
            return blocked(decision, f"it cannot be redacted: {reason}")
        left = [each for each in decision.findings if each.where != self._name or each.sample.startswith("----")
                or not self._held.mask(base + each.start, base + each.end, numbers=self._numbers)]
        if left:
            if all(known is not rule for known, _ in self._viewers):
                return unmaskable(decision, left[0].where)
            strange = [each for each in left if not self._is_text(each)]
            if strange and not self.collecting:
                return unmaskable(decision, strange[0].where)
            if strange and self._strange is None:
                self._strange = unmaskable(decision, strange[0].where)
            self._pending.setdefault(rule, set()).update(each.rule for each in left)
            self._where[rule] = replace(decision, findings=tuple(left))
        return replace(decision, redacted=True)

    def _is_text(self, found: Finding) -> bool:
        name, *steps = found.where.split(" > ")
        return (self._held.exact and name == self._name and bool(steps) and all(map(TEXTS.fullmatch, steps))
                and not found.sample.startswith("----"))

    def mend(self) -> Work:
        """As it streams: mask what is written otherwise in the text that is held, and judge that again."""
        if self.collecting or not self._pending:
            return None
        first = next(iter(self._where.values()))
        before, old = self._held.window()
        try:
            new = yield from _in_time(in_text(before + old, self._spans, self._deep))
        except Exception as error:
            return blocked(first, _why(error, first.findings[0].where))
        if len(new) != len(before + old) or not new.startswith(before):
            return unmaskable(first, first.findings[0].where)
        again = [(rule, viewer.again()) for rule, viewer in self._viewers if rule in self._pending]
        if (yield from self._judge(PLAIN + new, again, "text/plain")) is not None:
            return unmaskable(first, first.findings[0].where)
        self._held.rewrite(new[len(before) :])
        self._pending.clear()
        self._where.clear()
        return None

    def _deep(self, data: bytes) -> Generator[None, None, bytes]:
        return in_text(data, self._spans)

    def outgrown(self) -> Decision | None:
        """Called while it is held as a whole: if it is too large for that, it streams; return what that blocks."""
        if not self.collecting or self._held.size <= self._whole:
            return None
        self._whole = 0
        return self._strange

    def finish(self) -> Work:
        """The body has ended: put it together anew, if anything is still to be masked; return what stops it."""
        if not self.collecting:
            return (yield from self.mend())
        self._whole = 0
        if not self._pending:
            return None
        first = next(iter(self._where.values()))
        where = first.findings[0].where
        old = self._held.whole()
        try:
            new = yield from _in_time(repacking.body(old, self._coding, self._spans))
        except Exception as error:
            return blocked(first, _why(error, where))
        again = [(rule, viewer.again()) for rule, viewer in self._viewers if rule in self._pending]
        if (stopped := (yield from self._judge(new, again))) is not None:
            return unmaskable(first, _places(stopped) or where)
        if new != old:
            self._held.replace(new)
            self.length = len(new)
        return None

    def _spans(self, text: bytes) -> Generator[None, None, list[Span]]:
        found: list[Span] = []
        for rule, viewer in self._viewers:
            if (names := self._pending.get(rule)) is not None:
                found += yield from spans(text, viewer.finder(), names)
        return found


def _in_time(work: Generator[None, None, bytes]) -> Generator[None, None, bytes]:
    """Do this in bounded time; raise Unscannable if that does not do."""
    spent = 0.0
    while True:
        began = time.thread_time()
        try:
            next(work)
        except StopIteration as done:
            result: bytes = done.value
            return result
        spent += time.thread_time() - began
        if spent > MASKING:
            raise Unscannable(TOO_LONG)
        yield


def _why(error: BaseException, where: str) -> str:
    """What was not meant to be raised is no less a reason: what cannot be masked does not leave."""
    told = str(error) if isinstance(error, (Unscannable, repacking.Unchangeable)) else type(error).__name__
    return f"it cannot be redacted where it is, {where}: {TOO_LONG if isinstance(error, Missed) else told}"


def spans(text: bytes, finder: Any, names: set[str]) -> Generator[None, None, list[Span]]:
    """Return where a finder finds what has one of these names; a private key is all of it."""
    found: list[Span] = []
    for at in range(0, len(text) + STEP, STEP):      # at last b"", which is the end
        for each in finder.feed(text[at : at + STEP]):
            if each.rule in names:
                found.append((each.start, _end(text, each.start, each.end)))
        yield
    return found


def _end(text: bytes, start: int, end: int) -> int:
    """Of a key in PEM only the beginning is found (RFC 7468)."""
    if not text.startswith(b"-----BEGIN", start):
        return end
    last = text.find(b"-----END", end)
    close = text.find(b"-----", last + 8) if last >= 0 else -1
    return close + 5 if close >= 0 else len(text)


def blocked(decision: Decision, why: str) -> Decision:
    return replace(decision, action=Action.BLOCK, reason=f"{decision.reason}; {why}", redacted=False)


def unmaskable(decision: Decision, where: str) -> Decision:
    return blocked(decision, f"it cannot be redacted where it is: {where}")


def _places(decision: Decision) -> str:
    return decision.findings[0].where if decision.findings else ""


# -- what decides how


def signed(headers: http.Headers) -> str:
    """Why a body must stay as it is, empty if it may change: somebody has signed it, or sent its hash along."""
    for name in headers:
        lower = name.lower()
        if lower in DIGESTS or lower.startswith("x-amz-checksum-"):
            return f"the body is signed ({lower})"
        if lower == "x-amz-content-sha256" and not headers[name].upper().startswith(("UNSIGNED", "STREAMING-UNSIGNED")):
            return f"the body is signed ({lower})"
        if lower == "signature-input" and any(f'"{each}"' in headers[name].lower() for each in DIGESTS):
            return f"the body is signed ({lower})"
    return ""


def whole(headers: http.Headers, rules: Viewers) -> int:
    """How many bytes to hold until the body has ended; 0 if it is to stream."""
    limits = [rule.buffer for rule, viewer in rules if getattr(viewer, "redacts", False)]
    if not limits:
        return 0
    coded = headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
    declared = headers.get("content-type", "").strip().lower()
    if declared.startswith("text/event-stream" if coded else FLOWING):
        return 0
    length = headers.get("content-length", "")
    return 0 if length.isdecimal() and int(length) > min(limits) else min(limits)


# -- heads


def head(request: http.Request, decision: Decision, rule: Rule, again: Callable[[], object]) -> Decision:
    """Mask findings in the path, the query and the headers of a request, in place; `again` asks the filter anew."""
    try:
        return limited(rule.deadline, _head, request, decision, rule, again)
    except (Missed, Exception) as error:
        return blocked(decision, _why(error, _places(decision) or "the head"))


def _head(request: http.Request, decision: Decision, rule: Rule, again: Callable[[], object]) -> Decision:
    make = getattr(rule.filter, "scanner", None)
    names = {each.rule for each in decision.findings}
    places = {each.where.partition(" > ")[0] for each in decision.findings}
    barred = next((place for place in places if place.removeprefix("header:") in FRAMING), "")
    if not callable(make) or barred:
        return unmaskable(decision, barred or "the head")
    mask = partial(_masked, make=make, names=names)
    changed = []
    if "url" in places:
        old = request.data.path
        request.data.path = mask(old)
        changed = ["the URL"] if request.data.path != old else []
    fields = []
    for name, value in request.headers.fields:
        fields.append((name, mask(value) if f"header:{name.decode('latin-1').lower()}" in places else value))
    changed += [name.decode("latin-1") for (name, new), (_, old) in zip(fields, request.headers.fields, strict=True)
                if new != old]
    request.headers.fields = tuple(fields)
    left = rule.verdict(again())
    if left is not None and (left.action is not Action.ALERT):
        return unmaskable(decision, _places(left) or "the head")
    return replace(decision, reason=f"{decision.reason}; masked in {', '.join(changed)}", redacted=True)


def _masked(value: bytes, make: Callable[[], Any], names: set[str]) -> bytes:
    def find(text: bytes) -> Generator[None, None, list[Span]]:
        return spans(text, make(), names)

    def deep(data: bytes) -> Generator[None, None, bytes]:
        return in_text(data, find)

    work = _in_time(in_text(value, find, deep))
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: bytes = done.value
            return result
