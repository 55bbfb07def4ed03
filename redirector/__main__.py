"""`python -I -m redirector`: obeys the control channel on its standard input and output (one socket, or two pipes).

Start -> install -> Ready -> heartbeats and look-ups -> Stop, end of input, silence, nonsense or SIGTERM -> remove.
SIGINT is ignored: a Ctrl-C goes to the launcher too, which then ends us in order. Exit codes: 0 ended in order (Stop,
SIGTERM), 1 could not install, 2 the peer broke the protocol, 3 the peer has gone or is hung.
"""
import signal
import sys
import time
from contextlib import suppress

from redirector import owner
from redirector.channel import Channel, PeerGone
from redirector.plan import BackendError
from redirector.session import Observation, Session
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
)

ORDERLY, NOT_INSTALLED, PROTOCOL_BROKEN, PEER_GONE = range(4)
#: Seconds from our start to the peer's Start.
START_LIMIT = 10.0
#: Seconds without a heartbeat where nothing was captured: no rules wait to go, so there is time to be sure.
OBSERVED_LIMIT = 5.0
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


def look_up(question: Lookup) -> Owner:
    """Not knowing an owner is no reason to end the capture, so a system that cannot be asked has none."""
    try:
        return Owner(question.id, owner.find(question.client, question.server))
    except OSError as error:
        print(f"redirector: look-up: {error}", file=sys.stderr)
        return Owner(question.id, None)


def serve(channel: Channel, session: Session | Observation, limit: float) -> None:
    """Answer until Stop. Raises PeerGone, also after `limit` seconds without a heartbeat, and ProtocolError."""
    beat = time.monotonic()
    while True:
        for message in channel.messages(TICK):
            match message:
                case Heartbeat():
                    beat = time.monotonic()
                    channel.send(Heartbeat())
                case Lookup():
                    channel.send(look_up(message))
                case Stop():
                    session.end_guard()
                    return
                case _:
                    raise ProtocolError(f"unexpected {message}")
        if time.monotonic() - beat > limit:
            raise PeerGone(f"no heartbeat for {limit:.0f} s")
        session.tend_guard()


def run(channel: Channel) -> None:
    """From Start to the end; nothing but a guard is left on return. Raises BackendError, PeerGone, ProtocolError."""
    start = receive_start(channel)
    with Session(start, start.plan) if start.plan else Observation() as session:
        channel.send(session.install())
        serve(channel, session, HEARTBEAT_LIMIT if start.plan else OBSERVED_LIMIT)


def main() -> int:
    """Returns the exit code; says on standard error why it is not 0."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ORDERLY))
    channel = Channel(receive=0, send=1)
    try:
        run(channel)
    except BackendError as error:
        return _fail(channel, error, NOT_INSTALLED)
    except ProtocolError as error:
        return _fail(channel, error, PROTOCOL_BROKEN)
    except PeerGone as error:
        return _fail(channel, error, PEER_GONE)
    return ORDERLY


def _fail(channel: Channel, error: Exception, code: int) -> int:
    reason = str(error).encode(errors="replace")[:MAX_REASON].decode(errors="ignore")
    print(f"redirector: {reason}", file=sys.stderr)
    with suppress(PeerGone, ProtocolError):
        channel.send(Failed(reason))
    return code


if __name__ == "__main__":
    sys.exit(main())
