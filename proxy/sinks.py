"""Where events go: a database that `lockgate events` reads, JSON lines, standard output.

Theory of operation. `EventLog.emit` only puts an event on a bounded queue; a thread hands what has gathered to each
sink. A sink that fails (a full disk, usually) either loses what it was given, which is counted and recorded later
(`on_full: drop`), or keeps it and is tried again while `healthy` is False and the proxy refuses requests (`block`).
"""

import contextlib
import itertools
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, Protocol

from proxy import schema
from proxy.events import COLUMNS, Event, columns, lifecycle_event, normal_incident, parse_time

MAX_QUEUE = 10_000  # events that may wait: some 20 MB, and several seconds of the busiest computer
BATCH = 2000  # events a transaction: the commit is then a small part of the cost
PAGE = 1000  # events that a reader takes at a time
MAX_JSONL, KEPT_JSONL = 64 * 2**20, 4  # bytes a file, and how many older files are kept
#: Seconds between two batches: a writer that woke for each event would take the interpreter from the event loop for it.
PAUSE = 0.2
#: Seconds: until a failed sink is tried again; that `close` waits for the last events; between two looks for events
#: that are too old or too many; between two looks for new ones when following.
RETRY, CLOSE, PRUNE, POLL = 1.0, 5.0, 10.0, 0.25

DATABASE, SCHEMA_VERSION = "events.db", 1
SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, {", ".join(COLUMNS)}, event TEXT NOT NULL);
{"".join(f"CREATE INDEX by_{column} ON events ({column});" for column in COLUMNS if column != "type")}
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
INSERT = f"INSERT INTO events ({', '.join(COLUMNS)}, event) VALUES ({'?, ' * len(COLUMNS)}?)"  # noqa: S608
USED = """SELECT (page_count - freelist_count) * page_size
          FROM pragma_page_count, pragma_freelist_count, pragma_page_size"""
CONDITIONS = {
    "since": "at >= :since",
    "host": "(host = :host OR substr(host, -length(:host) - 1) = '.' || :host)",
    "app": "(app = :app OR substr(app, -length(:app) - 1) = '/' || :app)",
    "tree": """(app = :tree OR substr(app, -length(:tree) - 1) = '/' || :tree OR EXISTS (
        SELECT 1 FROM (SELECT json_extract(value, '$.exe') AS exe FROM json_each(event, '$.process.parents'))
        WHERE exe = :tree OR substr(exe, -length(:tree) - 1) = '/' || :tree))""",
    "user": """:user IN (json_extract(event, '$.process.user'), CAST(json_extract(event, '$.process.uid') AS TEXT))""",
    "service": "json_extract(event, '$.process.service') = :service",
    "container": "json_extract(event, '$.process.container') = :container",
    "verdict": "verdict = :verdict",
    "filter": "filter = :filter",
    "incident": "incident = :incident",
}

log = logging.getLogger(__name__)
dumps = json.JSONEncoder(default=str).encode  # a surprise in an event must not stop those behind it


class Sink(Protocol):
    """Takes events in order. If `write` raises, it has written none of them."""

    def write(self, events: Sequence[Event]) -> None: ...

    def close(self) -> None: ...


class EventLog:
    """The events of one proxy on their way to their sinks. `emit` is for the event loop; `close` flushes."""

    def __init__(self, sinks: Sequence[Sink], on_full: Literal["drop", "block"] = "drop") -> None:
        self.lost, self._block = 0, on_full == "block"
        self._outlets = [_Outlet(sink, keep=self._block) for sink in sinks]
        self._queue: SimpleQueue[Event | None] = SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """False while decisions cannot be recorded and the policy asks that nothing happens unrecorded."""
        return not self._block or (self._queue.qsize() < MAX_QUEUE and not any(each.error for each in self._outlets))

    def emit(self, event: Event) -> None:
        """Hand over an event, which must not be changed any more; costs a microsecond and never raises."""
        if self._queue.qsize() < MAX_QUEUE:
            self._queue.put(event)
        else:
            self.lost += 1

    def close(self) -> None:
        """Write what is waiting, for at most CLOSE seconds, and close the sinks."""
        self._queue.put(None)
        self._closing.set()
        self._thread.join(CLOSE)

    def _run(self) -> None:
        closing = False
        while not closing:
            batch = self._gather()
            closing = None in batch
            lost, self.lost = self.lost, 0
            events = [lifecycle_event("events lost", f"{lost} came faster than they are written")] if lost else []
            events += filter(None, batch)
            for outlet in self._outlets:
                outlet.write(events, now=closing)
        for outlet in self._outlets:
            with contextlib.suppress(OSError, sqlite3.Error):
                outlet.sink.close()

    def _gather(self) -> list[Event | None]:
        """Wait for an event, or until a failed sink is due, and take what has come by then."""
        batch: list[Event | None] = []
        with contextlib.suppress(Empty):
            batch.append(self._queue.get(timeout=RETRY if any(each.backlog for each in self._outlets) else None))
            self._closing.wait(PAUSE)
            while len(batch) < BATCH and batch[-1] is not None:
                batch.append(self._queue.get_nowait())
        return batch


@dataclass(slots=True)
class _Outlet:
    """A sink, what it still has to write, and what it lost."""

    sink: Sink
    keep: bool
    backlog: list[Event] = field(default_factory=list)
    lost: int = 0
    error: str = ""
    retry_at: float = 0.0

    def write(self, events: Sequence[Event], *, now: bool = False) -> None:
        """Write them, or after a failure not before RETRY seconds have passed, unless it must be `now`."""
        self.backlog += events
        if self.backlog and (now or time.monotonic() >= self.retry_at):
            self._attempt()
        if self.error:
            kept = MAX_QUEUE if self.keep else 0
            self.lost += len(self.backlog[kept:])
            del self.backlog[kept:]

    def _attempt(self) -> None:
        loss = [lifecycle_event("events lost", f"{self.lost} could not be written: {self.error}")] if self.lost else []
        try:
            self.sink.write([*loss, *self.backlog])
            self.backlog, self.lost, self.error = [], 0, ""
        except Exception as error:  # whatever it is, the thread must live: without it nothing at all is recorded
            if not self.error:
                log.error("events cannot be written: %s", error)
            self.error, self.retry_at = str(error) or type(error).__name__, time.monotonic() + RETRY


class JsonLines:
    """One JSON object a line, in a file only its owner may read; full files become `<name>.1` and so on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = self._open()

    def write(self, events: Sequence[Event]) -> None:
        if (end := os.lseek(self._file, 0, os.SEEK_END)) >= MAX_JSONL:
            self._rotate()
            end = 0
        data = memoryview("".join(dumps(event) + "\n" for event in events).encode())
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            os.ftruncate(self._file, end)  # no half lines
            raise

    def close(self) -> None:
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)

    def _rotate(self) -> None:
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, KEPT_JSONL + 1))]
        for newer, older in reversed(list(itertools.pairwise(names))):
            if newer.exists():
                newer.replace(older)
        os.close(self._file)
        self._file = self._open()


class StandardOutput:
    """One JSON object a line."""

    def write(self, events: Sequence[Event]) -> None:
        print(*map(dumps, events), sep="\n", flush=True)

    def close(self) -> None:
        pass


class Database:
    """`events.db` in the state folder, bounded in size and age; a damaged file is put aside as `events.db.damaged`."""

    def __init__(self, folder: Path, max_mb: int, max_days: int) -> None:
        self._max_bytes, self._max_age, self._pruned = max_mb * 2**20, max_days * 86_400, -PRUNE
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / DATABASE
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, full, not writable: the file may be good
                raise
            log.error("%s: %s; it is put aside", self._path, error)
            self._path.replace(self._path.with_suffix(".db.damaged"))
            self._connection = self._open()

    def write(self, events: Sequence[Event]) -> None:
        if time.monotonic() - self._pruned > PRUNE:
            self._prune()
            self._pruned = time.monotonic()
        with self._connection as transaction:
            transaction.executemany(INSERT, ((*columns(event), dumps(event)) for event in events))

    def close(self) -> None:
        self._connection.close()

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))  # the -wal and -shm files take over its mode
        connection = sqlite3.connect(self._path, check_same_thread=False)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                connection.executescript(SCHEMA)
            elif version != SCHEMA_VERSION:
                raise sqlite3.OperationalError(f"{self._path} is of another version of lockgate; move it away")
            connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last second, never the file
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _prune(self) -> None:
        execute = self._connection.execute
        with self._connection:
            execute("DELETE FROM events WHERE at < ?", (time.time() - self._max_age,))
        while execute(USED).fetchone()[0] > self._max_bytes:
            with self._connection:
                execute("DELETE FROM events WHERE id <= (SELECT min(id) + (max(id) - min(id)) / 10 FROM events)")
        execute("PRAGMA incremental_vacuum").fetchall()
        execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def open_log(folder: Path, events: schema.Events, *, stdout: bool = False) -> EventLog:
    """Open the sinks that a policy names; `folder` is the state folder. Raises OSError or sqlite3.Error."""
    sinks: list[Sink] = [Database(folder, events.sqlite.max_mb, events.sqlite.max_days)]
    if events.jsonl:
        sinks.append(JsonLines(events.jsonl))
    return EventLog([*sinks, StandardOutput()] if stdout else sinks, events.on_full)


def read(folder: Path, *, limit: int | None = None, **wanted: str | None) -> Iterator[Event]:
    """Yield the events in order; `limit` keeps the last ones.

    `wanted` has any of since (`90s`, `10m`, `2h`, `3d`, ISO time), host (with its subdomains), app (path or file name),
    tree (an ancestor's too), user, service, container, verdict, filter, incident. Raises FileNotFoundError without a
    database, ValueError for a bad time or a bad database.
    """
    values = _values(wanted)
    page = _select(folder, values, limit=limit, newest=True) if limit else _select(folder, values)
    while page:
        yield from (event for _, event in page)
        page = [] if limit else _select(folder, values, page[-1][0])


def follow(folder: Path, **wanted: str | None) -> Iterator[Event]:
    """Yield events as they come, from now on or from `since`, without end. Raises as `read` does."""
    values = _values(wanted)
    last = 0 if "since" in values else max([number for number, _ in _select(folder, {}, limit=1, newest=True)] or [0])
    while True:
        page = _select(folder, values, last)
        yield from (event for _, event in page)
        if page:
            last = page[-1][0]
        else:
            time.sleep(POLL)


def _values(wanted: dict[str, str | None]) -> dict[str, Any]:
    normal: dict[str, Callable[[str], Any]] = {"since": parse_time, "incident": normal_incident}
    return {name: normal.get(name, str)(text) for name, text in wanted.items() if text is not None}


def _select(
    folder: Path, values: dict[str, Any], after: int = 0, limit: int = PAGE, *, newest: bool = False
) -> list[tuple[int, Event]]:
    """Return some events with their numbers. Nothing stays open: a slow reader must not keep the log from shrinking."""
    path = folder / DATABASE
    if not path.exists():
        raise FileNotFoundError(f"{path}: no events here yet; is it the right --state?")
    where = " AND ".join(["id > :after", *(CONDITIONS[name] for name in values)])
    query = f"SELECT id, event FROM events WHERE {where} ORDER BY id {'DESC' if newest else 'ASC'} LIMIT :limit"  # noqa: S608
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(query, values | {"after": after, "limit": limit}).fetchall()
    except sqlite3.Error as error:
        raise ValueError(f"{path}: {error}") from None
    return [(number, json.loads(text)) for number, text in sorted(rows)]
