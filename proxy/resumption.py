"""TLS sessions resumed, on both sides, and for nobody but the one who had them.

Towards clients OpenSSL's own tickets serve: their keys are random in each context and never leave it.  `bind` says
whom the tickets of the next connection are for.  Towards origins `Sessions` keeps the newest ticket of each `Key`.

What keeps resumption from being worse than none:

- A ticket is resumed for the same process of the same user, under the same policy, and with origins on behalf of a
  client that itself came back with a ticket of ours.  So an origin cannot link two users or programs by our tickets;
  two windows of one process that both come back, it can.
- A resumed session sends no certificate: it may be had only while the one seen in the full handshake is valid, at
  most `LIFETIME` after it.  The path that verified it is kept, for who wants to know whether it was revoked since.
- A ticket is used once (RFC 8446, C.4), early data is neither sent nor taken (RFC 8470), and with origins TLS 1.2 is
  never resumed: its resumption has no forward secrecy.
"""

import hashlib
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from OpenSSL import SSL

from addons.connection import Connection
from proxy.destination import Address
from proxy.mirror import Offer
from proxy.paths import Path

#: Seconds from a full handshake until its tickets are worth nothing; browsers keep theirs for up to two hours.
LIFETIME = 3600
#: Tickets kept; each has its origin's chain with it, some 10 KB in all.  Beyond it the oldest goes.
MAX_SESSIONS = 1000

_lib = cast(Any, SSL)._lib

type Partition = tuple[int, int, float, str]


class Key(NamedTuple):
    """All that a session with an origin depends on: another user, policy, offer or set of roots is another session.

    `generation` counts the policies that have been in force; `roots` names the trust that verified the origin.
    """

    address: Address
    name: str
    offer: Offer
    partition: Partition
    generation: int
    roots: str


def partition(connection: Connection) -> Partition | None:
    """Return whose sessions the connection may share, or None: it is not known who asks, nothing is resumed."""
    process = connection.process
    if process is None or process.uid is None or process.ended:
        return None
    return process.uid, process.pid, process.started, process.exe


# -- towards clients

def accept_tickets(context: SSL.Context) -> None:
    """Let a new server context resume by tickets alone, for LIFETIME; it would also keep 20 000 sessions of its own."""
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_timeout(LIFETIME)


def bind(context: SSL.Context, owner: Partition | None, name: str, generation: int) -> None:
    """Make tickets of the next connection of this server context good for this owner, name and policy only.

    To be called right before `SSL.Connection(context)`, which copies it (SSL_CTX_set_session_id_context(3)).
    """
    known = repr((owner, name, generation)).encode() if owner else secrets.token_bytes(32)
    identity = hashlib.sha256(known).digest()
    # pyOpenSSL's own method refuses contexts that have been used, for other threads' sake: there are none here.
    if not _lib.SSL_CTX_set_session_id_context(cast(Any, context)._context, identity, len(identity)):
        raise SSL.Error([("resumption", "bind", "OpenSSL takes no session id context")])


# -- towards origins

@dataclass(frozen=True, slots=True)
class Ticket:
    """A session that can be resumed until then, in seconds of the epoch, and the path by which it was verified."""

    session: SSL.Session
    path: Path
    until: float


class Sessions:
    """Tickets of origins, the newest for each key, in memory only."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._tickets: OrderedDict[Key, Ticket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tickets)

    def begin(self, key: Key, connection: SSL.Connection, *, resume: bool) -> "Attempt":
        """Prepare a connection that has sent nothing yet: it gets the ticket for the key, if it may resume."""
        ticket = self._tickets.pop(key, None) if resume else None
        if ticket is not None and ticket.until > self._clock():
            connection.set_session(ticket.session)
            return Attempt(self, key, connection, ticket)
        return Attempt(self, key, connection, None)

    def put(self, key: Key, session: SSL.Session, path: Path, until: float = math.inf) -> None:
        """Keep a ticket until then, until the path ends, or for LIFETIME; the oldest goes when there are too many."""
        ends = (each.not_valid_after_utc.timestamp() for each in path)
        self._tickets[key] = Ticket(session, path, min(until, self._clock() + LIFETIME, *ends))
        self._tickets.move_to_end(key)
        if len(self._tickets) > MAX_SESSIONS:
            self._tickets.popitem(last=False)

    def clear(self) -> None:
        """Forget all: a new policy, or another bundle of roots."""
        self._tickets.clear()


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """One connection with an origin, and the ticket that it was given."""

    sessions: Sessions
    key: Key
    connection: SSL.Connection
    ticket: Ticket | None

    @property
    def path(self) -> Path:
        """What verified the session, if the origin took the ticket: it has sent no certificate.  Else empty."""
        reused = _lib.SSL_session_reused(cast(Any, self.connection)._ssl)
        return self.ticket.path if self.ticket and reused else ()

    def keep(self, path: Path) -> None:
        """Keep the newest ticket; `path`: what verified this connection's own handshake, empty if nothing did.

        To be called when the origin has been accepted and its first data read: tickets come before it.  Without a
        new one nothing is kept that could be used twice.  The tickets of a resumed session end with the first one's.

        OpenSSL gives up a session whose connection is freed without a close_notify of either side: send one.
        """
        session = self.connection.get_session()
        if session is None or self.connection.get_protocol_version() != SSL.TLS1_3_VERSION:
            return
        if self.ticket is None or not self.path:
            if path:
                self.sessions.put(self.key, session, path)
        elif cast(Any, session)._session != cast(Any, self.ticket.session)._session:
            self.sessions.put(self.key, session, self.ticket.path, self.ticket.until)
