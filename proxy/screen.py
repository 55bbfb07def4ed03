"""Connections as a table for people: as wide as the terminal, and drawn again in place."""

import contextlib
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from proxy.rows import SEEN, Row

#: Columns without a terminal, as for a pipe: all of them, as wide as they need to be.
UNLIMITED = 10_000
#: ECMA-48, and xterm's alternate screen, which leaves what was there before as it was.
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, TO_LINE_END, TO_END = "\x1b[H", "\x1b[K", "\x1b[J"
BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[m"
#: Marks of a row: new since the last look, gone since then.
NEW, GONE = "+", "-"


@dataclass(frozen=True)
class Column:
    """`least` is the width it can be cut to, `rank` says which goes first where there is no room: the highest."""

    title: str
    text: Callable[[Row, float], str]
    least: int
    rank: int
    right: bool = False


def amount(count: int | None) -> str:
    """Bytes in at most six characters: 999, 1.0k, 9.9k, 10k, 1.2M."""
    if count is None:
        return "-"
    if count < 1000:
        return str(count)
    value = float(count)
    for unit in "kMGTPE":
        value /= 1000
        if value < 9.95:
            return f"{value:.1f}{unit}"
        if value < 999.5:
            return f"{value:.0f}{unit}"
    return f"{value:.0f}E"


def duration(seconds: float) -> str:
    """At most four characters: 0s, 59s, 59m, 23h, 999d."""
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "m"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds // 86400)}d"


def _age(row: Row, now: float) -> str:
    """With `>` where it began before it was first seen, and we have looked for a while."""
    age = row.age(now)
    if row.began:
        return duration(age)
    return f">{duration(age)}" if age >= 1 else "-"


def place(end: tuple[str, int]) -> str:
    host = f"[{end[0]}]" if ":" in end[0] else end[0]
    return f"{'*' if end[0] in ('0.0.0.0', '::') else host}:{end[1] or '*'}"  # noqa: S104


def _verdict(row: Row) -> str:
    return row.role or row.verdict or ("captured" if row.captured else "-")


def _host(row: Row) -> str:
    """A name that was seen for this address, but not on this connection, has a `~`."""
    return f"~{row.host}" if row.host_from == SEEN else row.host or "-"


COLUMNS = (
    Column("APP", lambda row, _: row.app or "-", 8, 0),
    Column("PID", lambda row, _: str(row.pid or "-"), 1, 5, right=True),
    Column("USER", lambda row, _: row.user or "-", 6, 7),
    Column("PROTO", lambda row, _: row.protocol.upper(), 5, 6),
    Column("LOCAL", lambda row, _: place(row.local), 12, 8),
    Column("REMOTE", lambda row, _: place(row.remote), 15, 1),
    Column("HOST", lambda row, _: _host(row), 12, 2),
    Column("STATE", lambda row, _: row.state, 5, 4),
    Column("SENT", lambda row, _: amount(row.sent), 4, 1, right=True),
    Column("RECV", lambda row, _: amount(row.received), 4, 1, right=True),
    Column("VERDICT", lambda row, _: _verdict(row), 7, 1),
    Column("AGE", lambda row, now: _age(row, now), 3, 3, right=True),
)
#: Of what was: when, and for how long.
PAST = (
    Column("BEGAN", lambda row, _: time.strftime("%m-%d %H:%M:%S", time.localtime(row.first)), 14, 2),
    *COLUMNS[:-1],
    Column("FOR", lambda row, now: _age(row, now), 3, 3, right=True),
)


def table(rows: list[Row], now: float, width: int, marks: dict[int, str] | None = None,
          columns: Sequence[Column] = COLUMNS) -> list[str]:
    """The lines, the head first, none wider than `width`; with `marks`, by cookie, each row begins with its own."""
    indent = 0 if marks is None else 2
    cells = [[each.text(row, now) for each in columns] for row in rows]
    natural = [max([len(column.title), *(len(line[i]) for line in cells)]) for i, column in enumerate(columns)]
    widths = _fitted(natural, width - indent, columns)
    lines = [_line(line, widths, columns) for line in ([column.title for column in columns], *cells)]
    if marks is not None:
        lines = [f"{mark} {line}" for mark, line in zip([" ", *(marks.get(row.cookie, " ") for row in rows)], lines)]
    return [line[:width].rstrip() for line in lines]


def _fitted(natural: list[int], room: int, columns: Sequence[Column]) -> list[int]:
    """The width of each column, 0 for one that is left out: first wide ones are cut, then the least important go."""
    widths = list(natural)
    while (excess := sum(widths) + sum(1 for each in widths if each) - 1 - room) > 0:
        slack = [(max(0, widths[i] - column.least), i) for i, column in enumerate(columns) if widths[i]]
        most, widest = max(slack)
        if most and sum(each for each, _ in slack) >= excess:
            widths[widest] -= min(most, max(1, excess // 4))
            continue
        shown = [i for i, each in enumerate(widths) if each]
        if len(shown) == 1:
            break
        widths[max(shown, key=lambda i: columns[i].rank)] = 0
    return widths


def _line(cells: list[str], widths: list[int], columns: Sequence[Column]) -> str:
    shown = []
    for column, text, width in zip(columns, cells, widths):
        if width:
            cut = text if len(text) <= width else text[:width - 1] + "…"
            shown.append(cut.rjust(width) if column.right else cut.ljust(width))
    return " ".join(shown)


def line_width() -> int:
    """The width of what we write to."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED


class Screen:
    """A terminal that is drawn over again and again; what was on it before comes back at the end."""

    def __init__(self) -> None:
        self._keys = sys.stdin.isatty()
        self._style = "NO_COLOR" not in os.environ

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        before = termios.tcgetattr(0) if self._keys else None
        try:
            if before is not None:
                tty.setcbreak(0)
            self._write(ENTER)
            yield
        finally:
            self._write(LEAVE)
            if before is not None:
                termios.tcsetattr(0, termios.TCSADRAIN, before)

    def draw(self, head: str, lines: Iterable[str]) -> None:
        """Show as much as there is room for; the last line says how much there is not."""
        width, height = shutil.get_terminal_size()
        lines = [head[:width], *lines]
        if len(lines) > height:
            lines = [*lines[:height - 1], f"... and {len(lines) - height + 1} more"]
        self._write(HOME + "\r\n".join(self._styled(i, line) + TO_LINE_END for i, line in enumerate(lines)) + TO_END)

    def _styled(self, number: int, line: str) -> str:
        style = BOLD if number == 1 or line.startswith(NEW) else DIM if line.startswith(GONE) else ""
        return f"{style}{line}{PLAIN}" if style and self._style else line

    def key(self, seconds: float) -> str:
        """The next key within so many seconds, or nothing."""
        found = select.select([0] if self._keys else [], [], [], seconds)[0]
        return os.read(0, 1).decode(errors="replace") if found else ""

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
