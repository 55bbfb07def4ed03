"""Connections that come round: what we send to an origin arrives here again, through whoever captures us in turn.

    application -> we -> another redirector -> we -> another redirector ...

A connection is looked at before it is led on.  It has come round if one of these holds:

1. *It is ours*: the process at its other end is this one.
2. *The other end is theirs*: we have a connection open to the same destination, and the kernel says that its other end,
   wherever NAT led it, is held by the very process that now comes to us for that destination, by a relative of it, or
   by one from which such connections lead there (A -> B -> C -> A).  A destination on this computer that calls itself
   is no such case: nobody led us there, so its own address is at the other end.
3. *Our own words*: it begins with the ClientHello that we sent, or passed on, in a connection still open.  The random
   in it (RFC 8446, 4.1.2) is 32 bytes: this holds through relays of which nothing can be seen, in containers or on
   other computers.
4. *A chain that only we keep going*, for clients of whom nothing is known.  In a loop each connection is made because
   of the one before: arrival, our dialling, arrival, our dialling, and none has got a byte from its origin.  So
   MAX_ROUNDS such turns are counted.  A browser's parallel connections arrive together, and then are dialled together:
   one turn, however many.  A client that opens one after another to a slow origin looks like a loop, but differs in
   time: while the newest is held back nothing can happen in a loop, so whatever the origin sends, or whichever ends,
   frees it.  After HOLD of utter silence it is refused.

An upstream proxy on this computer is captured as everybody is.  So what it sends on for us comes here: the second case,
but as it should be.  `Round.direct` says so, and it goes straight to the origin; it has been inspected on its way out.
Only a proxy that asks us for it, as two do that are each other's upstream proxy, is refused.

The second costs a question to the kernel (about a millisecond), so it is not asked of each connection: where we have
none open to that destination it is none's; else it is asked of the first connection of a process while others' are
open, of its third in parallel, and then whenever their number has doubled.  So a loop has its third round refused at
the latest, most their first, and a browser with a hundred connections to one host is asked about six times.

What is seen by none of these: a proxy out of sight that ends TLS itself and answers before it dials.
"""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from addons.connection import Connection, Process
from proxy.dialled import Dialled, ours, received
from redirector import sockets
from redirector.plan import Endpoint

log = logging.getLogger(__name__)

#: Turns after which a chain is a loop, where nothing else tells.
MAX_ROUNDS = 3
#: Seconds that the newest of such a chain is held back, and between two looks meanwhile.
HOLD, LOOK = 1.0, 0.02
#: The newest connections among which a chain is looked for: a loop's are all there is of late.
RECENT = 16
#: Programs and destinations whose innocence is remembered; some hundred bytes each.
MAX_KNOWN = 4096
#: Seconds for each look-up.
ANSWER_LIMIT = 1.0
#: Sockets that may stand between us and the loop's end, for chains of several redirectors; each costs two look-ups.
MAX_BETWEEN = 16
#: Where a ClientHello has its random, behind the headers of its record and message, and the version.
RANDOM = slice(11, 43)

type Owner = Callable[[Endpoint, Endpoint], asyncio.Future[Process | None]]


@dataclass(slots=True, eq=False)
class Round:
    """A connection that we lead on; `looped` says why it cannot succeed, once that is known."""

    target: Endpoint
    name: Endpoint | None           # the same by its name, as another may have looked it up
    who: str                        # the client's process, or its address
    came: float
    direct: bool = False            # our upstream proxy brings it, for us
    randoms: list[bytes] = field(default_factory=list)
    looped: str = ""


class Loops:
    """The rounds that are open, and the judgement on each new one."""

    def __init__(self, owner: Owner, *, captured: bool = True, dialled: Dialled = ours) -> None:
        """`captured`: clients do not choose us; so an upstream proxy that comes to us does not mean to."""
        self.owner, self.captured, self._dialled = owner, captured, dialled
        self._open: dict[Endpoint, dict[Round, None]] = {}
        self._named: dict[Endpoint, dict[Round, None]] = {}
        self._count: Counter[tuple[Endpoint, str]] = Counter()
        self._ask_at: OrderedDict[tuple[Endpoint, str], int] = OrderedDict()
        self._randoms: dict[bytes, Round] = {}

    def _enter(self, connection: Connection) -> Round:
        name = (connection.host, connection.address[1]) if connection.host else None
        made = Round(connection.address, name, _who(connection), time.monotonic())
        self._open.setdefault(made.target, {})[made] = None
        if name is not None:
            self._named.setdefault(name, {})[made] = None
        self._count[made.target, made.who] += 1
        return made

    def leave(self, ended: Round) -> None:
        for random in ended.randoms:
            self._randoms.pop(random, None)
        for index, key in ((self._open, ended.target), (self._named, ended.name)):
            if key is not None:
                index[key].pop(ended)
                if not index[key]:
                    del index[key]
        self._count[ended.target, ended.who] -= 1
        if not self._count[ended.target, ended.who]:
            del self._count[ended.target, ended.who]

    def sent(self, current: Round, data: bytes) -> None:
        """The first bytes that leave towards the origin."""
        if (random := random_of(data)) is not None and random not in self._randoms:
            self._randoms[random] = current
            current.randoms.append(random)

    async def judge(self, rounds: list[Round], connection: Connection, first: bytes = b"",
                    through: Sequence[Endpoint] = ()) -> str:
        """Why a connection that came in must not be led on, for the user; empty if it may.

        `first` are its first bytes, `through` the addresses of the upstream proxy that it would be led on through.
        The others of the loop are told too: their `looped` is set.  Adds it to `rounds`, each of which must `leave` in
        the end.
        """
        rounds.append(current := self._enter(connection))
        if not through:
            why = await self._why(current, connection, first)
        elif await self._brought(current, connection, through):
            current.direct = self.captured
            why = "" if self.captured else told(connection, "it is what lockgate sends through its upstream proxy")
        else:
            why = ""
        if why:
            for other in self._open.get(current.target, ()):
                other.looped = why
            self._ask_at.pop((current.target, current.who), None)       # no innocence to be remembered
            log.error("%s", why)
        return why

    async def _why(self, current: Round, connection: Connection, first: bytes) -> str:
        process, target = connection.process, current.target
        if process is not None and process.pid == os.getpid():
            return told(connection, "lockgate's own connections are redirected to it")
        if (random := random_of(first)) is not None and random in self._randoms:
            return told(connection, "it begins with the ClientHello that lockgate sent there", self._begun(current))
        if not self._dialled.any(target):
            return ""
        process = await self._known(connection)
        if process is None:
            alone = await self._goes_on_alone(current)
            return told(connection, f"of {MAX_ROUNDS} connections, each begun when the one before had left, none got "
                                    "an answer") if alone else ""
        if not self._due(current):
            return ""
        mine = self._dialled.to(target)
        ends = {_plain(sock.getsockname()) for sock, _ in mine}
        if (holder := await self._holder(ends, target, connection, process)) is not None:
            by = "it" if holder.pid == process.pid else _name(holder)
            return told(connection, f"what lockgate sends there arrives at {by}", self._begun(current))
        return ""

    async def _brought(self, current: Round, connection: Connection, through: Sequence[Endpoint]) -> bool:
        """Does our upstream proxy lead on what we have sent it for the same destination?"""
        known = {*self._open[current.target], *(self._named[current.name] if current.name else ())}
        if not any(each is not current and not each.direct for each in known):
            return False
        if (process := await self._known(connection)) is None:
            return connection.client[0] in {host for host, _ in through}        # another computer, or a container
        ends = [_plain(sock.getsockname()) for address in through for sock, _ in self._dialled.to(address)]
        return bool(ends) and any(related(process, each) for each in await self._others_of(ends, None))

    def _begun(self, current: Round) -> str:
        """Who was there first, so probably began it."""
        first = next((each.who for each in self._open.get(current.target, ()) if each.who != current.who), "")
        return f"begun by {first}" if first else ""

    def _due(self, current: Round) -> bool:
        """Is it time to ask?  See the module's docstring."""
        key = current.target, current.who
        parallel, others = self._count[key], len(self._open[current.target]) > self._count[key]
        alone = len(self._open[current.target]) == 1        # then the socket that is open is one of no client
        if key not in self._ask_at and (others or alone):
            due, next_at = True, 3
        else:
            next_at = self._ask_at.get(key, 3)
            due = parallel >= next_at
            next_at = 2 * parallel if due else 3 if parallel < 3 else next_at
        self._ask_at[key] = next_at
        self._ask_at.move_to_end(key)
        if len(self._ask_at) > MAX_KNOWN:
            self._ask_at.popitem(last=False)
        return due

    # -- who is at the other end

    async def _whose(self, client: Endpoint, server: Endpoint) -> Process | None:
        with contextlib.suppress(TimeoutError):     # a redirector with too many questions forgets some
            async with asyncio.timeout(ANSWER_LIMIT):
                return await self.owner(client, server)
        return None

    async def _known(self, connection: Connection) -> Process | None:
        """The client's process; where it was not found in time it is asked for once more, as all depends on it now."""
        if connection.process is None or not connection.process.pid:
            found = await self._whose(connection.client, connection.address)
            connection.process = found if found is not None and found.pid else connection.process
        return connection.process if connection.process is not None and connection.process.pid else None

    async def _holder(self, ends: Collection[Endpoint], target: Endpoint, connection: Connection,
                      process: Process) -> Process | None:
        """The process at the other end of ours, if the connection comes from it, or by way of it."""
        reached = await self._others_of(ends, target)
        if (held := next((each for each in reached if related(process, each)), None)) or not reached:
            return held
        first = reached[0]
        # it ends on this computer, but not at theirs: do those who have it lead it on to them?
        between = [each for each in _ask(lambda: sockets.towards(target)) if each.client not in ends
                   and each.client != connection.client][:MAX_BETWEEN]
        for each in between:
            holder = await self._whose(each.client, target)
            if holder is None or not any(related(holder, known) for known in reached):
                continue
            for found in await self._others_of([each.client], target):
                if related(process, found):
                    return first
                reached.append(found)
        return None

    async def _others_of(self, ends: Collection[Endpoint], target: Endpoint | None) -> list[Process]:
        """The processes at the other ends of these, where they are on this computer but not at the target itself."""
        faced = [each for each in _ask(lambda: sockets.facing(ends)) if each.client != target]
        found = [await self._whose(each.client, each.server) for each in faced[:MAX_BETWEEN]]
        return [each for each in found if each is not None and each.pid]

    # -- where nothing can be seen

    async def _goes_on_alone(self, current: Round) -> bool:
        if self._count[current.target, current.who] <= MAX_ROUNDS:
            return False
        silent = [(sock, at) for sock, at in self._dialled.to(current.target, RECENT) if not received(sock)]
        arrived = [each.came for each in list(self._open[current.target])[-RECENT:] if each.who == current.who]
        if turns(arrived, [at for _, at in silent]) < MAX_ROUNDS:
            return False
        until = time.monotonic() + HOLD
        while time.monotonic() < until:
            await asyncio.sleep(LOOK)
            if any(sock.fileno() < 0 or received(sock) for sock, _ in silent):
                return False
        return True


def turns(arrived: Iterable[float], dialled: Iterable[float]) -> int:
    """How often an arrival followed a dialling that followed an arrival."""
    kinds = [kind for _, kind in sorted([*((at, "a") for at in arrived), *((at, "d") for at in dialled)])]
    return sum(before == "d" and kind == "a" for before, kind in pairwise(kinds))


def random_of(data: bytes) -> bytes | None:
    """The random of a ClientHello at the start of `data`, or None, also where it is cut to pieces that hide it."""
    whole = len(data) >= RANDOM.stop and data[0] == 22 and data[5] == 1 and int.from_bytes(data[3:5]) > RANDOM.stop - 5
    return data[RANDOM] if whole else None


def related(one: Process, other: Process) -> bool:
    """The same process, or parent and child: servers accept in the one and work in the other."""
    return (one.pid == other.pid or any(parent.pid == one.pid for parent in other.parents[:1])
            or any(parent.pid == other.pid for parent in one.parents[:1]))


def told(connection: Connection, why: str, more: str = "") -> str:
    """Both parties by name, and what to do."""
    where = f"{connection.host or connection.address[0]}:{connection.address[1]}"
    return (f"a loop was stopped: {_who(connection)} brings back to lockgate ({sys.executable}, pid {os.getpid()}) "
            f"the connection to {where}: {why}{f'; {more}' if more else ''}. "
            "Let one of the two leave the other's connections alone.")


def _who(connection: Connection) -> str:
    process = connection.process
    return _name(process) if process is not None and process.pid else f"somebody at {connection.client[0]}"


def _name(process: Process) -> str:
    return f"{process.exe or 'a program'} (pid {process.pid})"


def _plain(name: Sequence[object]) -> Endpoint:
    return str(sockets.plain(str(name[0]))), int(str(name[1]))


def _ask[Found](question: Callable[[], list[Found]]) -> list[Found]:
    try:
        return question()
    except (OSError, ValueError) as error:      # no sock_diag here, as in some containers; a destination by name
        log.info("who holds the other end cannot be asked: %s", error)
        return []
