"""Programs that accept only certificates of their own choice, and the hosts with which they were seen to do so.

A pin is one (program, host) that is let through unread for a while.  It is learned, after FAILURES refusals of our
certificate, where the shipped list or the policy says that this program pins this host; anybody can send an alert, so
an alert alone earns nothing.  Or an operator adds it, with `lockgate pins`.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

import yaml

from addons.connection import Connection
from proxy.patterns import host_pattern
from proxy.pinstore import Key, Pin, Store
from proxy.tlspolicy import Learn, Tls

log = logging.getLogger(__name__)

#: Refusals, and the seconds within which they come: once may be a user who closed a window.
FAILURES, WITHIN = 2, 60.0
#: Seconds that a learned pin lasts.  Programs change; a week of them is found again at the price of two failures.
LIFE = 7 * 86400.0
#: Programs and hosts whose refusals are counted; the oldest are forgotten first.
MAX_COUNTED = 1024
#: Seconds between two looks at the file, so that `lockgate pins` has its effect within one.
LOOK_INTERVAL = 0.5
#: Alerts by which a client says that it does not take our certificate, as OpenSSL names them (RFC 8446, 6.2).
ALERTS = ("bad certificate", "unsupported certificate", "certificate revoked", "certificate expired",
          "certificate unknown", "unknown ca")
#: A client that compares keys after the handshake, as those in Go do, says nothing; neither does one that only
#: connected in advance.  So this counts towards learning, and is no event by itself.
CLOSED = "closed without a word"


@lru_cache(1)
def shipped() -> tuple[Learn, ...]:
    """The programs that we know to pin; each has its source in the file."""
    entries = yaml.safe_load(Path(__file__).with_name("pinned.yaml").read_bytes())
    return tuple(Learn(tuple(entry["apps"]), tuple(map(host_pattern, entry["hosts"]))) for entry in entries)


def learnable(tls: Tls) -> tuple[Learn, ...]:
    """What may be learned under a policy."""
    return (*tls.learn, *shipped()) if tls.pinned == "learn" else ()


def cause(error: str) -> str | None:
    """What a failed handshake's error says of our certificate; None if nothing."""
    return next((alert for alert in ALERTS if alert in error), CLOSED if error == CLOSED else None)


class Pins:
    """The pins in force, and the failures that may lead to more."""

    def __init__(self, state: Path, clock: Callable[[], float] = time.time) -> None:
        self._store = Store(state, clock)
        self._clock = clock
        self._seen = self._store.stamp()
        self._pins = self._read()
        self._looked = clock()
        self._failures: OrderedDict[Key, list[float]] = OrderedDict()

    def find(self, connection: Connection) -> Pin | None:
        """The pin that covers a connection, if one does."""
        self._look()
        pin = self._pins.get(_key(connection))
        return pin if pin and self._clock() < pin.until else None

    def client_failed(self, connection: Connection, why: str, learn: Iterable[Learn]) -> Pin | None:
        """A client did not take our certificate.  Return the pin if this one was learned by it just now."""
        key, now = _key(connection), self._clock()
        if self.find(connection) or not any(rule.covers(*key) for rule in learn):
            return None
        times = [at for at in self._failures.pop(key, ()) if now - WITHIN <= at <= now]
        self._failures[key] = [*times, now]
        if len(self._failures) > MAX_COUNTED:
            self._failures.popitem(last=False)
        if len(times) + 1 < FAILURES:
            return None
        try:
            pin = Pin(*key, f"{why}, {len(times) + 1} times within {WITHIN:g} s", True, now, now + LIFE)
            self._store.put(pin, limit=0)       # nobody may keep the proxy waiting
        except (OSError, ValueError) as error:
            log.error("%r pins %s, which could not be noted: %s", *key, error)
            return None
        del self._failures[key]
        self._pins[key] = pin
        return pin

    def _look(self) -> None:
        now = self._clock()
        if 0 <= now - self._looked < LOOK_INTERVAL:
            return
        self._looked, stamp = now, self._store.stamp()
        if stamp != self._seen:
            self._pins, self._seen = self._read(), stamp

    def _read(self) -> dict[Key, Pin]:
        try:
            return self._store.read()
        except OSError as error:
            log.error("the pins cannot be read, none holds: %s", error)
            return {}


def _key(connection: Connection) -> Key:
    process = connection.process
    return process.exe if process else "", connection.host or ""
