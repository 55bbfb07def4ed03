"""`python -I -m proxy.recorder ORDER`: writes the history of connections while `lockgate start` runs.

ORDER is JSON, an `Order`. A process of its own, the launcher's child and of no consequence to any other: it sees no
content, changes nothing but its database, and where it fails the history ends and nothing else. It has the launcher's
rights, as root alone may see who holds every socket. It ends with its standard input, or at SIGTERM. Of the service it
is a unit of its own, which `serving.py` begins.
"""

import contextlib
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxy import history
from proxy.monitor import Monitor
from proxy.rows import PROXY

if TYPE_CHECKING:
    from proxy.schema import History

#: Seconds between two looks, and at most the share of one core that looks may take: the pause grows with their cost, up
#: to less than what a worker said is remembered for (MEMORY in monitor.py).
INTERVAL, SHARE, MAX_INTERVAL = 1.0, 0.05, 5.0
#: Seconds between two times that what has ended is taken from the kernel, which keeps only so much.
TAKE = 0.25
#: The history must not take the processor from the proxy, nor the memory (oom_score_adj of proc(5)).
NICE, FIRST_TO_GO = 10, 500
#: Seconds for the last rows to be written.
STOP_LIMIT = 5.0


@dataclass(frozen=True)
class Order:
    """What to look at, where to write, and how much to keep."""

    state: str
    folder: str
    max_rows: int
    max_days: int

    @classmethod
    def of(cls, state: Path, settings: "History") -> "Order":
        return cls(str(state), str(history.folder_of(state)), settings.max_rows, settings.max_days)


@contextlib.contextmanager
def recording(state: Path, settings: "History") -> Iterator[None]:
    """Record until the end of this. Where it cannot be started, nothing is recorded, and it says why itself."""
    if not settings.max_days:
        yield
        return
    order = json.dumps(asdict(Order.of(state, settings)))
    child = subprocess.Popen([sys.executable, "-I", "-m", "proxy.recorder", order], cwd="/",
                             stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        assert child.stdin is not None
        child.stdin.close()
        try:
            child.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _record(order: Order, until: int) -> None:
    """Look and write until this descriptor is at its end. Raises OSError, ValueError, sqlite3.Error where it cannot
    begin."""
    database = history.History(Path(order.folder), order.max_rows, order.max_days)
    monitor = Monitor(Path(order.state), history.since_when(Path(order.folder)))
    with contextlib.closing(database), contextlib.closing(monitor):
        database.begin(monitor.look())
        written: set[int] = set()
        pause, trouble = 0.0, False
        while not _ended(monitor, pause, until):
            began = time.process_time()
            try:
                _turn(monitor, database, written)
                trouble = False
            except (OSError, sqlite3.Error) as error:
                if not trouble:
                    _tell(f"the history of connections has a gap: {error}")
                trouble = True
            pause = min(MAX_INTERVAL, max(INTERVAL, (time.process_time() - began) / SHARE))
        database.write(monitor.gone(now=True))


def _turn(monitor: Monitor, database: history.History, written: set[int]) -> None:
    lost = monitor.lost
    there = [row for row in monitor.look() if row.role != PROXY and not row.listening and row.state != "TIME_WAIT"]
    new = [row for row in there if row.cookie not in written]
    over = monitor.gone()
    if new or over:
        database.write([*new, *over])
    written.update(row.cookie for row in new)
    written.difference_update(row.cookie for row in over)
    if monitor.lost > lost:
        _tell("connections ended faster than the kernel keeps them for us: the history lacks some")


def _ended(monitor: Monitor, pause: float, until: int) -> bool:
    """Wait; True when it is to end."""
    next_look = time.monotonic() + pause
    while (left := next_look - time.monotonic()) > 0:
        if select.select([until], [], [], min(left, TAKE))[0]:
            return True
        monitor.attend()
    return False


def _tell(message: str) -> None:
    with contextlib.suppress(OSError):
        print(f"lockgate: {message}", file=sys.stderr, flush=True)


def run(order: Order, until: int) -> int:
    """Record as this process, until the descriptor is at its end or SIGTERM comes; return the exit code."""
    for number in (signal.SIGINT, signal.SIGHUP):       # they are the launcher's, which then ends us
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.nice(NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(FIRST_TO_GO))
    try:
        _record(order, until)
    except (OSError, ValueError, sqlite3.Error) as error:
        _tell(f"no history of connections is written: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(Order(**json.loads(sys.argv[1])), until=0))
