"""The command that shows connections."""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

from proxy import history, screen
from proxy.monitor import Monitor
from proxy.options import UsageError, refused_reading, state
from proxy.rows import KEYS, Row, chosen, described, ordered

#: Seconds between two looks of --watch, at most so many times the cost of a look, and that what has gone is shown.
INTERVAL, COST, LINGER = 1.0, 5.0, 3.0


def connections(arguments: argparse.Namespace) -> int:
    """Every TCP and UDP connection of this computer, captured or not: whose, where to, how much, and what was decided.

    A name with ~ was seen for this address, not on this connection; > before an age: it is older than that.  Keys with
    --watch: s sorts by the next column, q quits.

    example:
      sudo lockgate connections --watch
      sudo lockgate connections --app firefox --sort received
      sudo lockgate connections --history --since 1h --host example.org --json
    """
    if arguments.watch and (arguments.history or arguments.limit):
        raise UsageError("--watch shows what there is, all of it: not with --history or --limit")
    if arguments.since and not arguments.history:
        raise UsageError("--since is for --history")
    if arguments.history and arguments.listening:
        raise UsageError("--listening is not for --history: what waits for connections has none")
    if os.geteuid() != 0:
        print("without root: no programs of other users, no names and verdicts of a proxy that root has started",
              file=sys.stderr)
    with refused_reading(), contextlib.suppress(KeyboardInterrupt):
        if arguments.history:
            return _history(arguments)
        since = history.since_when(history.folder_of(state(arguments)))
        with contextlib.closing(Monitor(state(arguments), since)) as monitor:
            if arguments.watch and monitor.blind:
                print("the kernel does not tell us of connections that end between two looks", file=sys.stderr)
            if not arguments.watch:
                return _once(arguments, monitor)
            signal.signal(signal.SIGTERM, _interrupt)
            if sys.stdout.isatty() and not arguments.json:
                return _drawn(arguments, monitor)
            return _told(arguments, monitor)
    return 130


def _chosen(arguments: argparse.Namespace) -> Callable[[Row], bool]:
    return chosen(every=arguments.every, listening=arguments.listening, app=arguments.app, host=arguments.host,
                  port=arguments.port, state=arguments.in_state, verdict=arguments.verdict, user=arguments.of_user)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _once(arguments: argparse.Namespace, monitor: Monitor) -> int:
    rows = ordered(filter(_chosen(arguments), monitor.look()), arguments.sort or "app")
    _print(rows[:arguments.limit], as_json=arguments.json)
    for complaint in monitor.complaints:
        print(complaint, file=sys.stderr)
    return 0


def _history(arguments: argparse.Namespace) -> int:
    since = None
    if arguments.since:
        from proxy.events import parse_time  # brings mitmproxy

        since = parse_time(arguments.since)
    rows = filter(_chosen(arguments), history.read(history.folder_of(state(arguments)), since=since))
    if arguments.json and not arguments.sort:       # a page at a time
        for row in islice(rows, arguments.limit):
            print(json.dumps(described(row, time.time())))
        return 0
    newest = list(islice(rows, arguments.limit))
    _print(ordered(newest, arguments.sort) if arguments.sort else newest, as_json=arguments.json, past=True)
    return 0


def _print(rows: list[Row], *, as_json: bool, past: bool = False) -> None:
    now, columns = time.time(), screen.PAST if past else screen.COLUMNS
    lines = screen.table(rows, now, screen.line_width(), columns=columns)
    if as_json:
        lines = [json.dumps(described(row, now)) for row in rows]
    print(*lines, sep="\n" if lines else "", end="\n" if lines else "")


def _changes(monitor: Monitor, wanted: Callable[[Row], bool],
             before: dict[int, Row]) -> tuple[dict[int, Row], list[Row], list[Row]]:
    """A look: what is there, what of that is new, what has gone; also what came and went since the last."""
    there = {row.cookie: row for row in monitor.look() if wanted(row)}
    ended = {row.cookie: row for row in monitor.gone(now=True) if row.cookie in before or wanted(row)}
    gone = [ended.get(cookie, row) for cookie, row in before.items() if cookie not in there]
    gone += [row for cookie, row in ended.items() if cookie not in before and cookie not in there]
    return there, [row for cookie, row in there.items() if cookie not in before], gone


def _pause(cost: float) -> float:
    return max(INTERVAL, COST * cost)


def _told(arguments: argparse.Namespace, monitor: Monitor) -> int:
    """For a pipe: a line for each connection as it comes, and when it goes."""
    wanted, there, began = _chosen(arguments), dict[int, Row](), time.monotonic()
    said: list[str] = []
    while True:
        there, new, gone = _changes(monitor, wanted, there)
        now = time.time()
        for what, rows in (("new", new), ("gone", gone)):
            for line in _lines(ordered(rows, arguments.sort or "age"), what, now, as_json=arguments.json):
                print(line)
        sys.stdout.flush()
        for complaint in (each for each in monitor.complaints if each not in said):
            print(complaint, file=sys.stderr)
        said = monitor.complaints
        time.sleep(_pause(time.monotonic() - began))
        began = time.monotonic()


def _lines(rows: list[Row], what: str, now: float, *, as_json: bool) -> list[str]:
    if as_json:
        return [json.dumps({"event": what} | described(row, now)) for row in rows]
    mark = screen.NEW if what == "new" else screen.GONE
    return screen.table(rows, now, screen.UNLIMITED, {row.cookie: mark for row in rows})[1:]


def _drawn(arguments: argparse.Namespace, monitor: Monitor) -> int:
    """For a terminal: the whole table, drawn over."""
    wanted, shown = _chosen(arguments), screen.Screen()
    there, leaving = dict[int, Row](), dict[int, tuple[float, Row]]()
    sort, first = arguments.sort or "app", True
    with shown.open():
        while True:
            began = time.monotonic()
            there, new, gone = _changes(monitor, wanted, there)
            leaving = {cookie: each for cookie, each in leaving.items() if began - each[0] < LINGER}
            leaving |= {row.cookie: (began, row) for row in gone}
            marks = dict.fromkeys(leaving, screen.GONE) | {row.cookie: screen.NEW for row in new if not first}
            first, until = False, began + _pause(time.monotonic() - began)
            while (left := until - time.monotonic()) > 0:
                rows = ordered([*there.values(), *(row for _, row in leaving.values())], sort)
                lines = screen.table(rows, time.time(), screen.line_width(), marks)
                shown.draw(_head(there, sort, monitor), lines)
                match shown.key(left):
                    case "q":
                        return 0
                    case "s":
                        sort = list(KEYS)[(list(KEYS).index(sort) + 1) % len(KEYS)]


def _head(there: dict[int, Row], sort: str, monitor: Monitor) -> str:
    captured = sum(row.captured for row in there.values())
    words: list[Any] = [time.strftime("%H:%M:%S"), f"{len(there)} connections, {captured} captured", f"by {sort}",
                        "s: sort  q: quit", *monitor.complaints]
    return "   ".join(words)
