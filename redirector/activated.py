"""`python -I -m redirector.activated FILE`: the redirector of a proxy that the service manager started without rights.

The proxy connects to a socket that is root's; the manager starts one of us for each connection, which is our standard
input and output (systemd.socket(5), `Accept=yes`). What is captured stands in FILE, which root wrote before; the proxy
only comes and asks. So nothing that it says chooses the rules. Exit codes: those of `python -m redirector`.
"""
import os
import socket
import stat
import struct
import sys
import time

from redirector import release
from redirector.__main__ import NOT_INSTALLED, PROTOCOL_BROKEN, main
from redirector.plan import require
from redirector.session import note
from redirector.wire import HEARTBEAT_LIMIT, MAX_LINE, ProtocolError, Start, decode, encode

#: Seconds for an earlier one to end by itself: more than it waits for a heartbeat.
EARLIER_LIMIT = HEARTBEAT_LIMIT + 0.5
#: struct ucred: pid, uid, gid (unix(7)).
CREDENTIALS = struct.Struct("3i")


def read_start(path: str) -> Start:
    """The Start in a file that root alone may write. Raises OSError, ValueError."""
    release.check_folder(os.path.dirname(path))  # noqa: PTH120
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
        info = os.fstat(file.fileno())
        require(stat.S_ISREG(info.st_mode) and info.st_uid in (0, os.geteuid()) and not info.st_mode & 0o022,
                f"{path}: not a file that root alone may write")
        start = decode(file.read(MAX_LINE).rstrip(b"\n"))
    require(isinstance(start, Start) and start.plan is not None, f"{path}: not a Start with a plan")
    assert isinstance(start, Start)
    return start


def check_peer(start: Start, descriptor: int) -> None:
    """Raises ValueError where somebody else than the proxy's user, or root, has connected; OSError for no socket."""
    with socket.socket(fileno=os.dup(descriptor)) as peer:
        _, uid, _ = CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    assert start.plan is not None
    require(uid in (0, start.plan.exempt_uid), f"user {uid} is not the proxy's")


def end_earlier(start: Start) -> None:
    """The proxy's end of an earlier one has closed. That one may not have noticed yet, or never will, being stopped;
    its rules are in our way. Meanwhile the guard refuses."""
    until = time.monotonic() + EARLIER_LIMIT
    while (earlier := _others(start)) and time.monotonic() < until:
        time.sleep(0.02)
    for record in earlier:
        release.end(start.run_dir, record)


def _others(start: Start) -> list[release.Record]:
    wanted = ("redirector", start.instance, release.netns())
    return [each for each in release.status(start.run_dir) if (each.role, each.instance, each.netns) == wanted]


def activated(arguments: list[str]) -> int:
    if len(arguments) != 1:
        note("usage: python -I -m redirector.activated FILE")
        return PROTOCOL_BROKEN
    try:
        start = read_start(arguments[0])
        check_peer(start, 0)
        end_earlier(start)
    except ProtocolError as error:
        note(f"{arguments[0]}: {error}")
        return PROTOCOL_BROKEN
    except (OSError, ValueError) as error:
        note(str(error))
        return NOT_INSTALLED
    sys.argv[1:] = [encode(start).decode().rstrip()]
    return main()


if __name__ == "__main__":
    sys.exit(activated(sys.argv[1:]))
