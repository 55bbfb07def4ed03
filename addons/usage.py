"""What quotas have counted: in memory, and every two seconds in SQLite by a thread of its own."""

import atexit
import contextlib
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from addons import keeping

#: Seconds between two writings: what a crash may lose.
INTERVAL: Final = 2.0
#: Subjects that are counted one by one in a window; those beyond share one count, so that memory is bounded.
MAX_SUBJECTS: Final = 100_000
OTHERS: Final = "all others"
FILE: Final = "use.sqlite"

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS use (name TEXT, window TEXT, subject TEXT, requests INTEGER, bytes INTEGER,
                                PRIMARY KEY (name, window, subject)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quota (name TEXT PRIMARY KEY, requests INTEGER, bytes INTEGER, per TEXT, window TEXT);
"""


@dataclass(slots=True)
class Count:
    """Requests and bytes so far."""

    requests: int = 0
    bytes: int = 0


class Usage:
    """Counts by quota, window and subject.  Only the newest window of a quota is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._file = folder / FILE if folder else None
        self._counts: dict[str, dict[str, Count]] = {}      # quota -> subject -> count
        self._windows: dict[str, str] = {}
        self._limits: dict[str, tuple[int, int, str]] = {}
        self._changed: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        if self._file:
            self._read()
            threading.Thread(target=self._run, name="quota use", daemon=True).start()
            atexit.register(self.write)

    def limits(self, name: str, requests: int, size: int, per: str) -> None:
        """Remember what a quota lets pass, for those who look at its use."""
        with self._lock:
            self._limits[name] = (requests, size, per)

    def count(self, name: str, window: str, subject: str) -> Count:
        """Return what has been counted in this window; a window begins empty."""
        with self._lock:
            return self._count(name, window, subject)

    def add(self, name: str, window: str, subject: str, requests: int, size: int) -> Count:
        """Count, and return the sum."""
        with self._lock:
            count = self._count(name, window, subject)
            count.requests += requests
            count.bytes += size
            self._changed.add((name, subject if subject in self._counts[name] else OTHERS))
            return count

    def _count(self, name: str, window: str, subject: str) -> Count:
        if self._windows.get(name) != window:
            self._windows[name], self._counts[name] = window, {}
        counts = self._counts[name]
        if subject not in counts and len(counts) >= MAX_SUBJECTS:
            subject = OTHERS
        return counts.setdefault(subject, Count())

    # -- on disk

    def _read(self) -> None:
        """Go on where the last process was; from nothing, if the file cannot be read: that stops nobody's requests."""
        with contextlib.suppress(sqlite3.Error), contextlib.closing(self._open()) as database:
            newest = dict(database.execute("SELECT name, window FROM quota WHERE window IS NOT NULL"))
            for name, window, subject, requests, size in database.execute("SELECT * FROM use"):
                if newest.get(name) == window:
                    self._windows[name] = window
                    self._counts.setdefault(name, {})[subject] = Count(requests, size)

    def _open(self) -> sqlite3.Connection:
        assert self._file is not None
        database = sqlite3.connect(self._file, timeout=5)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.executescript(_TABLES)
        return database

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            self.write()

    def write(self) -> None:
        """Write what has changed.  A disk that is full loses use, not requests."""
        if self._file is None:
            return
        with self._lock:
            changed, self._changed = self._changed, set()
            rows = [(name, self._windows[name], subject, count.requests, count.bytes) for name, subject in changed
                    if (count := self._counts[name].get(subject))]  # fmt: skip
            quotas = [(name, *limits, self._windows.get(name)) for name, limits in self._limits.items()]
        if not rows:
            return
        try:
            with contextlib.closing(self._open()) as database, database:
                database.executemany("INSERT OR REPLACE INTO quota VALUES (?, ?, ?, ?, ?)", quotas)
                database.executemany("INSERT OR REPLACE INTO use VALUES (?, ?, ?, ?, ?)", rows)
                database.execute("DELETE FROM use WHERE window IS NOT (SELECT window FROM quota WHERE name = use.name)")
        except sqlite3.Error:
            with self._lock:
                self._changed |= changed

    def close(self) -> None:
        """Write the last of it and end the thread."""
        self._stop.set()
        self.write()
        atexit.unregister(self.write)


_shared: dict[Path | None, Usage] = {}


def shared() -> Usage:
    """Return the counts of this process: filters of an old and a new policy count together."""
    folder = keeping.folder("quotas")
    if folder not in _shared:
        _shared[folder] = Usage(folder)
    return _shared[folder]


def rows(folder: Path) -> list[tuple[str, str, str, int, int, int, int]]:
    """Return quota, window, subject, requests, bytes and the limits of both from a folder.  Raises sqlite3.Error."""
    uri = f"{(folder / FILE).absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5)) as database:
        found: list[tuple[str, str, str, int, int, int, int]] = database.execute(
            "SELECT use.name, use.window, subject, use.requests, use.bytes, quota.requests, quota.bytes "
            "FROM use JOIN quota USING (name) ORDER BY use.name, use.bytes DESC, use.requests DESC"
        ).fetchall()
        return found
