"""`python -I -m redirector [START]`: obeys the control channel on standard input and output (one socket, or two pipes).

Start -> install -> Ready -> heartbeats and look-ups -> Stop, end of input, silence, nonsense or SIGTERM -> remove.
Start is the channel's first message, or the argument where whoever is at the other end is not to choose the rules. For
`hook` a second argument is the number of the inherited descriptor that leads to the keeper of the command.
SIGINT is ignored: a Ctrl-C goes to the launcher too, which then ends us in order. Exit codes: 0 ended in order (Stop,
SIGTERM), 1 could not install, 2 the peer broke the protocol, 3 the peer has gone or is hung.
"""
import os
import signal
import socket
import sys
import time
from collections import deque
from contextlib import nullcontext, suppress
from dataclasses import replace

from redirector import owner
from redirector.channel import Channel, PeerGone
from redirector.hook import HookSession
from redirector.plan import BackendError
from redirector.session import Observation, Session, note
from redirector.wire import (
    HEARTBEAT_LIMIT,
    MAX_REASON,
    Failed,
    Heartbeat,
    Lookup,
    Owner,
    ProtocolError,
    Start,
    Stop,
    clip,
    decode,
)

ORDERLY, NOT_INSTALLED, PROTOCOL_BROKEN, PEER_GONE = range(4)
#: Seconds from our start to the peer's Start.
START_LIMIT = 10.0
#: Seconds of silence where nothing was captured: no rules wait to go, so there is time to be sure.
OBSERVED_LIMIT = 5.0
#: Look-ups that may wait, as many as a proxy has connections. Beyond it the oldest are forgotten: none waits for them.
MAX_QUESTIONS = 10_000
#: Seconds that a look-up may have waited: the proxy has gone on without the answer, so the search is spared.
PATIENCE = 0.5
#: The same where the proxy needs the destination from us: many at once must all have that in time.
PATIENCE_FOR_SERVER = 0.2
#: Seconds between two looks at the guard and at the clock.
TICK = 0.2


def receive_start(channel: Channel) -> Start:
    """The first message. Raises PeerGone, ProtocolError."""
    deadline = time.monotonic() + START_LIMIT
    while (left := deadline - time.monotonic()) > 0:
        match channel.messages(left):
            case []:
                continue
            case [Start() as start, *rest] if all(isinstance(message, Heartbeat) for message in rest):
                return start
            case messages:
                raise ProtocolError(f"expected Start, got {messages[0]}")
    raise PeerGone(f"no Start within {START_LIMIT:.0f} s")


def start_of(arguments: list[str], channel: Channel) -> Start:
    """Raises PeerGone, ProtocolError."""
    match [decode(os.fsencode(argument)) for argument in arguments]:
        case []:
            return receive_start(channel)
        case [Start() as start]:
            return start
        case _:
            raise ProtocolError("the argument is not a Start")


def look_up(question: Lookup) -> Owner:
    """Not knowing an owner is no reason to end the capture, so what cannot be asked or understood has none."""
    try:
        return Owner(question.id, owner.find(question.client, question.server))
    except (OSError, ValueError) as error:
        note(f"look-up: {error}")
        return Owner(question.id, None)


class Questions:
    """Look-ups in the order they came: any user can ask for many at once, by connecting, and make each a long search.

    So there is one a turn, with heartbeats in between, and none before the peer has taken the answers it has: else many
    at once would fill the channel, which counts as a broken peer.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Lookup]] = deque(maxlen=MAX_QUESTIONS)

    def add(self, question: Lookup) -> None:
        self._waiting.append((time.monotonic(), question))

    def ready(self, channel: Channel) -> bool:
        return bool(self._waiting) and not channel.waiting

    def answer(self, channel: Channel, session: Session | Observation | HookSession) -> None:
        """Answer the oldest. Raises BackendError when the capture has ended."""
        asked, question = self._waiting.popleft()
        if isinstance(session, HookSession):        # it knows at once, and without its answer there is no connection
            channel.send(session.look_up(question))
            return
        ends = session.original(question.client, question.server)
        server = None if ends is None or ends[1] == question.server else ends[1]
        late = time.monotonic() - asked > (PATIENCE if server is None else PATIENCE_FOR_SERVER)
        found = Owner(question.id, None) if late or ends is None else look_up(Lookup(question.id, *ends))
        channel.send(found if server is None else replace(found, server=server))


def serve(channel: Channel, session: Session | Observation | HookSession, limit: float) -> None:
    """Answer until Stop. Raises PeerGone, also after `limit` seconds of silence, ProtocolError, and BackendError when
    the capture ends by itself."""
    questions, heard = Questions(), time.monotonic()
    while True:
        messages = channel.messages(0 if questions.ready(channel) else TICK)
        for message in messages:
            match message:
                case Heartbeat():
                    channel.send(Heartbeat())
                case Lookup():
                    questions.add(message)
                case Stop():
                    session.end_guard()
                    return
                case _:
                    raise ProtocolError(f"unexpected {message}")
        if messages:
            heard = time.monotonic()
        elif time.monotonic() - heard > limit:      # and nothing waits to be read: it was they who were late, not we
            raise PeerGone(f"no sign of life for {limit:.0f} s")
        if questions.ready(channel):
            questions.answer(channel, session)
        session.tend()


def session_of(start: Start, more: list[str]) -> Session | Observation | HookSession:
    """Raises BackendError."""
    match start.plan, more:
        case None, []:
            return Observation()
        case plan, [number] if plan and plan.backend == "hook" and number.isdecimal():
            return HookSession(plan, socket.socket(fileno=int(number)))
        case plan, [] if plan and plan.backend != "hook":
            return Session(start, plan)
    raise BackendError("hook, and nothing else, needs a keeper's descriptor as the second argument")


def run(channel: Channel, arguments: list[str]) -> None:
    """From Start to the end; nothing but a guard is left on return. Raises BackendError, PeerGone, ProtocolError."""
    start = start_of(arguments[:1], channel)
    hooked = start.plan is not None and start.plan.backend == "hook"     # there each call says whose it is
    with nullcontext() if hooked else owner.watching() as hindrance, session_of(start, arguments[1:]) as session:
        if hindrance and os.geteuid() == 0:        # others see their own processes, and know it
            note(f"the processes of connections are searched in /proc: {hindrance}")
        channel.send(session.install())
        serve(channel, session, HEARTBEAT_LIMIT if start.plan else OBSERVED_LIMIT)


def main() -> int:
    """Returns the exit code; says on standard error why it is not 0."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ORDERLY))
    channel = Channel(receive=0, send=1)
    try:
        run(channel, sys.argv[1:])
    except BackendError as error:
        return _fail(channel, error, NOT_INSTALLED)
    except ProtocolError as error:
        return _fail(channel, error, PROTOCOL_BROKEN)
    except PeerGone as error:
        return _fail(channel, error, PEER_GONE)
    return ORDERLY


def _fail(channel: Channel, error: Exception, code: int) -> int:
    reason = clip(str(error), MAX_REASON)
    note(reason)
    with suppress(PeerGone, ProtocolError):
        channel.send(Failed(reason))
    return code


if __name__ == "__main__":
    sys.exit(main())
