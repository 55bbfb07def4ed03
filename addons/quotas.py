"""Block what has used up its share: requests or bytes, per program, host or user, in an hour or a day."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from mitmproxy import http

from addons import usage
from addons.connection import Process
from addons.names import host_of
from addons.schedule import now, zone
from addons.verdict import Action, BodyScanner, Verdict

#: Windows by the form in which their name is made of a time; an hour that summer time repeats is two.
WINDOWS: Final = {"hour": "%Y-%m-%d %H:00 %z", "day": "%Y-%m-%d"}

#: A scanner that never waits.
type Scan = Callable[[bytes], Verdict | None]


@dataclass
class Quotas:
    """A share of requests or bytes.

    `name` is what its use is kept under, and `lockgate quotas` shows; one that is changed keeps it.  `requests` and
    `bytes` are how many are let pass in a window (`per: hour` or `day`, by the clock of `timezone`); bytes are those
    of bodies and WebSocket messages in both directions, after decoding, and a transfer is cut where it has used them
    up.  `by` says for whom each counts: any of app, host, user; none of them is one share for all.  The use outlasts
    restarts; a crash loses two seconds of it.
    """

    name: str
    requests: int = 0
    bytes: int = 0
    per: Literal["hour", "day"] = "day"
    by: tuple[Literal["app", "host", "user"], ...] = ("app", "host")
    action: Literal["block", "alert"] = "block"
    timezone: str = ""
    _use: usage.Usage = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("`name` is empty: the use is kept under it")
        if min(self.requests, self.bytes) < 0 or not (self.requests or self.bytes):
            raise ValueError("give `requests` or `bytes`: a number from 1")
        self._zone = zone(self.timezone)
        self._use = usage.shared()
        self._use.limits(self.name, self.requests, self.bytes, self.per)

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        window, subject = self._window(), self._subject(flow)
        count = self._use.count(self.name, window, subject)
        if self.requests and count.requests >= self.requests:
            return self._used_up(f"{self.requests} requests", subject)
        if self.bytes and count.bytes >= self.bytes:
            return self._used_up(f"{self.bytes} bytes", subject)
        self._use.add(self.name, window, subject, 1, 0)
        return None

    def requestbody(self, flow: http.HTTPFlow) -> BodyScanner | None:
        return self._scanner(flow)

    def responsebody(self, flow: http.HTTPFlow) -> BodyScanner | None:
        return self._scanner(flow)

    def websocket_message(self, flow: http.HTTPFlow) -> Verdict | None:
        scan = self._scanner(flow) if flow.websocket else None
        return scan(flow.websocket.messages[-1].content) if scan and flow.websocket else None

    def _scanner(self, flow: http.HTTPFlow) -> Scan | None:
        if not self.bytes:
            return None
        subject, told = self._subject(flow), False

        def scan(data: bytes) -> Verdict | None:
            nonlocal told
            count = self._use.add(self.name, self._window(), subject, 0, len(data))
            if count.bytes <= self.bytes or told:
                return None
            told = True
            return self._used_up(f"{self.bytes} bytes", subject)

        return scan

    def _window(self) -> str:
        return window_name(self.per, now(self._zone))

    def _subject(self, flow: http.HTTPFlow) -> str:
        process = flow.metadata.get("process") or Process(0)
        parts = {"app": process.exe or "unknown program", "user": process.user or "unknown user", "host": ""}
        if "host" in self.by:
            try:
                parts["host"] = host_of(flow.request)
            except ValueError:
                parts["host"] = "no valid host"
        return " ".join(parts[each] for each in self.by) or "all"

    def _used_up(self, what: str, subject: str) -> Verdict:
        return Verdict(Action(self.action), f"quota {self.name}: {what} of this {self.per} for {subject} are used up")


def window_name(per: str, time: datetime) -> str:
    """Return what the hour or day of a time is called."""
    return time.strftime(WINDOWS[per])
