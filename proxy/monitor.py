"""The connections of this computer as one list: the kernel's sockets, who holds them, what the workers know of them.

Theory of operation. `Monitor.look` takes the notifications of what has ended, a dump of what is there, one pass over
/proc for sockets that are new, and the workers' words; the kernel decides what there is and how much it has moved, the
workers only add names and verdicts. A captured connection has two sockets here, the application's and the proxy's end
of it, and a third leads on to the origin: the first is shown, the others are the proxy's own. Where the first is in
another network namespace (a container, another computer), the proxy's end stands for it.
"""

import pwd
import time
from collections import OrderedDict
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from proxy.rows import OWN, PROXY, SEEN, Row
from proxy.workers import Ends, Known, Workers
from redirector import holders, processes, tables
from redirector.connects import Connects
from redirector.plan import BackendError, Endpoint
from redirector.wire import MAX_USER, clip

#: Seconds that the end of a connection waits for what the worker says of it: it may accept after the client has gone.
#: And seconds that it waits for a worker that does not answer.
HOLD, MAX_HOLD = 4.0, 10.0
#: Seconds that what a worker said of an ended connection is kept, and by which its clock may differ from a look's.
MEMORY, SLACK = 30.0, 4.0
#: Addresses whose names are remembered, and sockets whose end was seen (they may yet show as TIME_WAIT).
MAX_NAMES, MAX_ENDED = 10_000, 20_000
#: Connections of the proxy's with the same ends, one after the other, whose end has not been seen yet.
MAX_TWINS = 8
#: Searches for the process of one socket: it may be another user's, or among too many.
MAX_SEARCHES = 3
#: States of what is not a whole socket: the kernel says uid 0.
NOBODYS = ("TIME_WAIT", "SYN_RECV")
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  # where a worker may listen


class Monitor:
    """Looks again and again. `blind`: the kernel does not tell us of what ends between two looks."""

    def __init__(self, state: Path, since: dict[int, float] | None = None) -> None:
        """`since` has when connections began that are known from elsewhere, by cookie."""
        self._workers, self._since = Workers(state), since or {}
        self._rows: dict[int, Row] = {}
        self._held: list[Row] = []                      # ended, and not yet given out
        self._ended: OrderedDict[int, Row] = OrderedDict()
        self._left: OrderedDict[Endpoint, None] = OrderedDict()     # the local ends of those
        self._known: dict[int, list[Known]] = {}        # by the client's port
        self._own: OrderedDict[Ends, list[float]] = OrderedDict()
        self._locals: set[Endpoint] = set()             # of what is there now
        self._names: OrderedDict[str, str] = OrderedDict()
        self._looked, self._answered = False, 0.0       # when all workers were last asked that then answered
        try:
            self._destroyed: tables.Destroyed | None = tables.Destroyed()
        except OSError:
            self._destroyed = None
        try:
            self._callers: Connects | None = Connects()     # for root; else what is over at once has no process
        except (OSError, BackendError, ValueError):
            self._callers = None

    @property
    def blind(self) -> bool:
        return self._destroyed is None

    @property
    def lost(self) -> int:
        """How often more sockets ended than could be told of."""
        return self._destroyed.lost if self._destroyed else 0

    @property
    def complaints(self) -> list[str]:
        return self._workers.complaints

    def close(self) -> None:
        if self._destroyed is not None:
            self._destroyed.close()
        if self._callers is not None:
            self._callers.close()

    # -- looking

    def attend(self) -> None:
        """Take what has ended, so that not too much of it waits; `look` does it too."""
        for each in self._destroyed.take() if self._destroyed else ():
            self._end(each, time.time())        # not one time for all: more come while we take them

    def look(self) -> list[Row]:
        """What is there now. Raises OSError where the kernel does not say."""
        now = time.time()
        found = list(tables.dump())
        self.attend()                                   # what ended before or during the dump is not there any more
        present = [self._see(each, now) for each in found if each.cookie not in self._ended]
        there = {row.cookie for row in present}
        for row in [row for cookie, row in self._rows.items() if cookie not in there]:
            self._gone(row, now)                        # nobody told us: no right to hear of it, or too much at once
        self._hold({row.cookie: row for row in present if row.pid is None and row.searches < MAX_SEARCHES}, found)
        self._learn(now)
        for row in present:
            self._join(row)
        self._looked = True
        self._locals = {row.local for row in present if row.role != PROXY}
        strangers = [turned(row) for row in present if row.known is not None and self._stands_in(row)]
        lingering = [self._closing(each) for each in found if each.cookie in self._ended and each.state == "TIME_WAIT"]
        return present + strangers + lingering

    def gone(self, *, now: bool = False) -> list[Row]:
        """The connections whose end is known since the last time, applications' ones only; `now`: do not wait."""
        latest = max(min(time.time() - HOLD, self._answered), time.time() - MAX_HOLD) if not now else float("inf")
        due = [row for row in self._held if (row.ended or 0) <= latest]
        self._held = [row for row in self._held if (row.ended or 0) > latest]
        for row in due:
            self._join(row)
        return [turned(row) if row.role == PROXY else row for row in due if row.role != PROXY or self._stands_in(row)]

    def _see(self, each: tables.Socket, now: float) -> Row:
        row = self._rows.get(each.cookie)
        if row is None:
            row = Row(each.protocol, each.local, each.remote, each.state, each.cookie,
                      self._since.get(each.cookie, now), self._looked or each.cookie in self._since,
                      user="" if each.state in NOBODYS else _user(each.uid))
            if each.state != "TIME_WAIT":
                self._rows[each.cookie] = row
        _update(row, each)
        return row

    def _end(self, each: tables.Socket, now: float) -> None:
        row = self._rows.get(each.cookie)
        if row is None:
            if not each.remote[1]:
                return                                  # neither owner, nor peer, nor bytes are known
            row = Row(each.protocol, each.local, each.remote, each.state, each.cookie, now, began=self._looked)
            self._called(row)
        if each.remote[1]:                              # else its own process aborted it, and the kernel forgot
            _update(row, each)
        self._gone(row, now)

    def _called(self, row: Row) -> None:
        """Say who connected what was over before anybody looked."""
        caller = self._callers.caller(row.cookie) if self._callers is not None else None
        if caller is None or processes.is_redirector(caller.pid):      # that connects in its place (see `hook`)
            return
        row.pid, row.user = caller.pid, row.user or _user(caller.uid)
        row.exe = processes.program(caller.pid, by=caller.at) or clip(caller.name.decode(errors="replace"), MAX_USER)

    def _gone(self, row: Row, now: float) -> None:
        self._rows.pop(row.cookie, None)
        row.ended = now
        if not row.listening:
            row.state = "CLOSED"
            self._held.append(row)
        _remember(self._ended, row.cookie, row, MAX_ENDED)
        _remember(self._left, row.local, None, MAX_ENDED)

    def _closing(self, each: tables.Socket) -> Row:
        return replace(self._ended[each.cookie], state=each.state)

    @staticmethod
    def _hold(rows: dict[int, Row], found: list[tables.Socket]) -> None:
        """Say who holds the sockets that are new."""
        asked = [each for each in found if each.inode and each.cookie in rows]
        wanted = {each.inode: rows[each.cookie] for each in asked}
        for row in wanted.values():
            row.searches += 1
        held = holders.holders(wanted, {each.uid for each in asked})
        programs = {pid: processes.program(pid) for pid in set(held.values())}
        for inode, pid in held.items():
            wanted[inode].pid, wanted[inode].exe = pid, programs[pid]

    # -- joining

    def _learn(self, now: float) -> None:
        """Ask the workers; the latest word on a connection replaces the earlier ones."""
        found, own = self._workers.ask()
        if not self._workers.complaints:
            self._answered = now
        taken = {each.id for same in self._known.values() for each in same if each.taken}
        for port, same in list(self._known.items()):
            same[:] = [each for each in same if each.ended is not None and now - each.ended < MEMORY]
            if not same:
                del self._known[port]
        for each in found:
            each.taken = each.id in taken
            each.started, each.ended = min(each.started, now), each.ended and min(each.ended, now)
            self._known.setdefault(each.client[1], []).append(each)
            if each.host and each.server[0] not in ("", each.host):
                _remember(self._names, each.server[0], each.host, MAX_NAMES)
        for ends, at in own:
            _remember(self._own, ends, [*self._own.get(ends, ()), at][-MAX_TWINS:], MAX_ENDED)

    def _join(self, row: Row) -> None:
        """Add what the workers know, and say which sockets are the proxy's own."""
        pids = {worker.pid for worker in self._workers.running}
        doors = [end for worker in self._workers.running for end in worker.listen]
        listens = any(row.local == door or (row.local[1] == door[1] and door[0] in WILDCARDS) for door in doors)
        if self._was_dialled(row) or row.pid in pids or (row.pid is None and listens):
            row.role = PROXY
            row.known = self._find(row, row.remote[1]) if listens and not row.listening else None
            return
        if row.protocol == "tcp" and not row.listening and (known := self._find(row, row.local[1])) is not None:
            if row.ended is not None:
                known.taken = True
            _add(row, known)
        elif not row.host and (name := self._names.get(row.remote[0])):
            row.host, row.host_from = name, SEEN

    def _was_dialled(self, row: Row) -> bool:
        """Did the proxy make it? No two connections have the same ends at once, but one after the other they may: so
        each of the proxy's that has ended takes away its mark, and the next is another's."""
        times = self._own.get((row.local, row.remote), [])
        if row.ended is None:
            return row.pid is None and bool(times)
        known = self._find(row, row.local[1])       # a client's with the same ends: which of the two came first?
        if times and times[0] <= row.ended and (known is None or times[0] < known.started):
            del times[0]
            return True
        return row.role == PROXY

    def _find(self, row: Row, port: int) -> Known | None:
        """The worker's word on the connection that this is an end of; `port` is the client's.

        Of several with the same ends, the newest is that which is there, and those that have ended are taken in turn.
        """
        until, same = (row.ended or time.time()) + SLACK, self._known.get(port, [])
        if row.known is not None:
            return next((known for known in same if known.id == row.known.id), None)
        for known in same if row.ended is not None else reversed(same):
            alive = known.started <= until and (known.ended is None or known.ended >= row.first - SLACK)
            if _is_end(row, known) and alive and not known.taken:
                return known
        return None

    def _stands_in(self, row: Row) -> bool:
        """Is this the proxy's end of a captured connection whose other end is in no process here?"""
        known = row.known
        return (known is not None and row.role == PROXY and not known.taken
                and known.client not in self._locals and known.client not in self._left)


def turned(row: Row) -> Row:
    """The client's end of a captured connection, made from the proxy's."""
    assert row.known is not None
    found = replace(row, local=row.known.client, remote=row.known.server, sent=row.received, received=row.sent,
                    role="", pid=None, exe="", user="")
    _add(found, row.known)
    return found


def _is_end(row: Row, known: Known) -> bool:
    """The application's end, which the kernel or a hook led to the proxy; that which packets were turned round for
    (the proxy sees the server's address with the client's port); or the proxy's own end."""
    if row.local == known.client:
        return row.remote in (known.server, known.local)
    if row.remote == known.server:
        return known.client == (row.remote[0], row.local[1])
    return (row.local, row.remote) == (known.local, known.client)


def _update(row: Row, each: tables.Socket) -> None:
    row.state = each.state
    if each.sent is not None and each.received is not None:
        row.sent, row.received = max(row.sent or 0, each.sent), max(row.received or 0, each.received)


def _add(row: Row, known: Known) -> None:
    row.known, row.verdict, row.labels = known, known.verdict, known.labels
    row.first, row.began = min(row.first, known.started), True
    if known.server[0]:
        row.remote = known.server
    if known.host:
        row.host, row.host_from = known.host, OWN
    if row.pid in (None, known.pid):
        row.pid, row.exe = known.pid, known.exe or row.exe
    row.user = row.user or known.user


def _remember(memory: OrderedDict[Any, Any], key: Any, value: Any, limit: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > limit:
        memory.popitem(last=False)


@lru_cache(256)
def _user(uid: int) -> str:
    try:
        return clip(pwd.getpwuid(uid).pw_name, MAX_USER)
    except KeyError:
        return str(uid)
