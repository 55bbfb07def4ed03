"""The history of connections: a SQLite database beside the state folder, bounded in rows and age.

It is not in the state folder, which belongs to the proxy's user: root writes here, and reads no file of the proxy's.
The recorder alone writes; `lockgate connections` reads, and learns there since when a connection has been open.
"""

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from proxy.rows import Row
from redirector.release import check_folder

DATABASE, SCHEMA_VERSION = "connections.db", 1
COLUMNS = ("cookie", "boot", "protocol", "local_ip", "local_port", "remote_ip", "remote_port", "state", "sent",
           "received", "pid", "exe", "user", "host", "host_from", "verdict", "labels", "captured", "began", "first",
           "ended")
SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE connections (id INTEGER PRIMARY KEY AUTOINCREMENT, {", ".join(COLUMNS)});
CREATE UNIQUE INDEX by_cookie ON connections (boot, cookie);
CREATE INDEX by_first ON connections (first);
CREATE INDEX by_ended ON connections (ended);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
#: A connection is written when it has been there for a look, and again when it has ended.
PUT = f"INSERT OR REPLACE INTO connections ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
#: Seconds between two looks for rows that are too old or too many; rows that a reader takes at a time.
PRUNE, PAGE = 60.0, 1000
#: Seconds that a reader and the writer wait for each other.
BUSY = 2.0


def folder_of(state: Path) -> Path:
    """Where the history of a state folder is."""
    return state.with_name(f"{state.name}-history")


def boot() -> str:
    """This boot: cookies are counted anew at the next."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class History:
    """The writer. Raises OSError, sqlite3.Error; ValueError where others could put a file in its place."""

    def __init__(self, folder: Path, max_rows: int, max_days: int) -> None:
        self._max_rows, self._max_age, self._pruned = max_rows, max_days * 86_400, -PRUNE
        self._boot = boot()
        make_folder(folder)
        path = folder / DATABASE
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))      # -wal and -shm take over its mode
        self._connection = sqlite3.connect(path, timeout=BUSY)
        try:
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._connection.executescript(SCHEMA)
            elif version != SCHEMA_VERSION:
                raise sqlite3.OperationalError(f"{path} is of another version of lockgate; move it away")
            self._connection.execute("PRAGMA synchronous = NORMAL")     # a power cut may cost the last second
        except sqlite3.Error:
            self._connection.close()
            raise

    def begin(self, there: Iterable[Row]) -> None:
        """`there` is what is open now: what an earlier recorder saw open, and is not there, ended we know not when."""
        cookies = {row.cookie for row in there}
        with self._connection as transaction:
            rows = transaction.execute("SELECT id, boot, cookie, first FROM connections WHERE ended IS NULL").fetchall()
            over = [(first, number) for number, boot, cookie, first in rows
                    if boot != self._boot or cookie not in cookies]
            transaction.executemany("UPDATE connections SET state = 'LOST', ended = ? WHERE id = ?", over)

    def write(self, rows: Sequence[Row]) -> None:
        """Put rows, new or known; those too old or too many go."""
        with self._connection as transaction:
            transaction.executemany(PUT, (self._values(row) for row in rows))
        if time.monotonic() - self._pruned > PRUNE:
            self._pruned = time.monotonic()
            self._prune()

    def _values(self, row: Row) -> tuple[object, ...]:
        return (row.cookie, self._boot, row.protocol, *row.local, *row.remote, row.state, row.sent, row.received,
                row.pid, row.exe, row.user, row.host, row.host_from, row.verdict, "\n".join(row.labels), row.captured,
                row.began, row.first, row.ended)

    def _prune(self) -> None:
        with self._connection as transaction:
            transaction.execute("DELETE FROM connections WHERE ended < ?", (time.time() - self._max_age,))
            transaction.execute("DELETE FROM connections WHERE id <= (SELECT max(id) FROM connections) - ?",
                                (self._max_rows,))
        self._connection.execute("PRAGMA incremental_vacuum").fetchall()
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._connection.close()


def make_folder(folder: Path) -> None:
    """Raises OSError; ValueError where others may write to it, or put another in its place."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    above = folder.parent.stat()
    if above.st_uid not in (0, os.geteuid()) or (above.st_mode & 0o022 and not above.st_mode & stat.S_ISVTX):
        raise ValueError(f"{folder.parent}: others may write there, so no history is kept in it")
    check_folder(str(folder))


def read(folder: Path, *, since: float | None = None) -> Iterator[Row]:
    """The connections that were open at `since` (seconds of the epoch) or later, the newest first.

    Raises FileNotFoundError without a history, PermissionError, ValueError for what is none.
    """
    last: tuple[float, int] = (float("inf"), 2**62)
    while page := _select(folder, "(first, id) < (?, ?) AND (ended IS NULL OR ended >= ?) ORDER BY first DESC, id DESC",
                          (*last, since or 0.0)):
        last = page[-1][1].first, page[-1][0]
        yield from (row for _, row in page)


def extent(folder: Path) -> tuple[int, float, int]:
    """Connections kept, when the oldest of them was first seen (seconds of the epoch), and bytes of the database.

    Raises what `read` does.
    """
    count, oldest = _rows(folder, "SELECT count(*), coalesce(min(first), 0) FROM connections", ())[0]
    return count, oldest, (folder / DATABASE).stat().st_size


def since_when(folder: Path) -> dict[int, float]:
    """When the connections that are open began, by cookie, as far as it is known; nothing without a history."""
    try:
        query = "SELECT cookie, first FROM connections WHERE ended IS NULL AND began AND boot = ?"
        return dict(_rows(folder, query, (boot(),)))
    except (OSError, ValueError):
        return {}


def _select(folder: Path, where: str, values: Sequence[object]) -> list[tuple[int, Row]]:
    query = f"SELECT id, {', '.join(COLUMNS)} FROM connections WHERE {where} LIMIT {PAGE}"  # noqa: S608
    return [(values[0], _row(dict(zip(COLUMNS, values[1:])))) for values in _rows(folder, query, values)]


def _row(column: dict[str, Any]) -> Row:
    same = {name: column[name] for name in (
        "protocol", "state", "cookie", "first", "ended", "sent", "received", "pid", "exe", "user", "host", "host_from",
        "verdict")}
    return Row(local=(column["local_ip"], column["local_port"]), remote=(column["remote_ip"], column["remote_port"]),
               labels=tuple(filter(None, column["labels"].split("\n"))), began=bool(column["began"]),
               recorded=bool(column["captured"]), **same)


def _rows(folder: Path, query: str, values: Sequence[object]) -> list[Any]:
    """Nothing stays open: a slow reader must not keep the file from shrinking."""
    path = folder / DATABASE
    try:
        if path.exists():
            uri = f"{path.resolve().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY)) as found:
                if found.execute("PRAGMA user_version").fetchone()[0]:      # else it is just being made
                    return found.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise ValueError(f"{path}: {error}") from None
    raise FileNotFoundError(f"{path}: no history here: it is written while `lockgate start` runs; "
                            "is it the right --state?")
