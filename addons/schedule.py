"""Block at some times of the week, or let pass at some only."""

import re
import zoneinfo
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Final

from mitmproxy import http

from addons.verdict import Verdict, block

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW: Final = re.compile(r"(?:([a-z]{3}(?:-[a-z]{3})?(?:,[a-z]{3}(?:-[a-z]{3})?)*)\s+)?"
                            r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")  # fmt: skip
_DAY: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """Minutes of the days on which it begins; one that ends before it begins goes on into the next day."""

    text: str
    days: frozenset[int]
    begin: int
    end: int

    @classmethod
    def parse(cls, text: str) -> "Window":
        """Read `mon-fri 08:00-18:00`, `sat,sun 10:00-24:00` or `22:00-06:00`, each day.  Raises ValueError."""
        found = _WINDOW.fullmatch(" ".join(text.lower().split()))
        if not found:
            raise ValueError(f"{text!r} is no time window; write it as \"mon-fri 08:00-18:00\" or \"22:00-06:00\"")
        begin, end = (int(found[at]) * 60 + int(found[at + 1]) for at in (2, 4))
        if begin >= _DAY or end > _DAY or int(found[3]) > 59 or int(found[5]) > 59 or begin == end:
            raise ValueError(f"{text!r}: hours go from 00:00 to 24:00, and a window has a length")
        return cls(text, _days(found[1] or "mon-sun"), begin, end)

    def has(self, now: datetime) -> bool:
        """Tell whether a local time, as clocks show it, is in the window."""
        minute, day = now.hour * 60 + now.minute, now.weekday()
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        return (day in self.days and minute >= self.begin) or ((day - 1) % 7 in self.days and minute < self.end)


def _days(text: str) -> frozenset[int]:
    days = set[int]()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"{part!r} is no day; days are {' '.join(DAYS)}")
        start, stop = DAYS.index(first), DAYS.index(last or first)
        days.update((start + step) % 7 for step in range((stop - start) % 7 + 1))
    return frozenset(days)


def zone(name: str) -> tzinfo | None:
    """Return a time zone by its IANA name; None, the computer's own, for an empty one.  Raises ValueError."""
    try:
        return zoneinfo.ZoneInfo(name) if name else None
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone known here; write it as Europe/Berlin") from None


def now(timezone: tzinfo | None) -> datetime:
    """Return the time as clocks show it there; an hour that summer time skips or repeats is so here as well."""
    return datetime.now(timezone) if timezone else datetime.now().astimezone()


@dataclass
class Times:
    """Times of the week.

    In a window of `block` everything is blocked; with `allow`, everything outside of all its windows.  A window is
    `mon-fri 08:00-18:00`, `sat,sun 10:00-24:00` or `22:00-06:00` (each day); one over midnight belongs to the day on
    which it begins.  `timezone` is an IANA name; without it the computer's.  Use `when:` to say for whom or what.  An
    open WebSocket ends with its first message at the wrong time; a download goes on.
    """

    block: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    timezone: str = ""
    _zone: tzinfo | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.block or self.allow):
            raise ValueError("give `block` or `allow`")
        self._blocked = tuple(map(Window.parse, self.block))
        self._allowed = tuple(map(Window.parse, self.allow))
        self._zone = zone(self.timezone)

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        return self._judge()

    def websocket_message(self, flow: http.HTTPFlow) -> Verdict | None:
        return self._judge()

    def _judge(self) -> Verdict | None:
        time = now(self._zone)
        for window in self._blocked:
            if window.has(time):
                return block(f"blocked at this time: {window.text}")
        if self._allowed and not any(window.has(time) for window in self._allowed):
            return block(f"allowed at other times only: {', '.join(window.text for window in self._allowed)}")
        return None
