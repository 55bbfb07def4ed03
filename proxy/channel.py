"""The proxy's end of the control channel: heartbeats out, and whose connection is this?"""

import asyncio
import contextlib
import logging
import pwd
import socket
from collections.abc import Callable
from functools import lru_cache

from addons.connection import Parent, Process
from proxy.destination import Address
from redirector import owner, wire
from redirector.plan import NO_UID

log = logging.getLogger(__name__)

#: Seconds without a sign of life from the redirector until it counts as gone; it answers each heartbeat.
SILENCE_LIMIT = 3.0
#: Bytes that may wait for a redirector that does not read: some hundred look-ups.  Beyond it nothing is sent: it shows
#: as silence, there and here.
MAX_PENDING = 1 << 16


class Lost(Exception):
    """The redirector has gone or failed: its rules went with it, or the guard holds."""


class Channel:
    """Heartbeats come from the event loop itself, so that a proxy that hangs is one that falls silent."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._decoder, self._pending = wire.Decoder(), b""
        self._asked: dict[int, Callable[[wire.Owner], None]] = {}
        self._next = 0
        self._heard = self._loop.time()
        self.ready: asyncio.Future[wire.Ready] = self._loop.create_future()

    async def run(self) -> None:
        """Serve until the redirector goes; raises `Lost`."""
        beat = self._loop.create_task(self._beat())
        try:
            while data := await self._loop.sock_recv(self._sock, wire.MAX_LINE):
                self._heard = self._loop.time()
                for message in self._decoder.feed(data):
                    self._take(message)
            raise Lost("the redirector ended")
        except (OSError, wire.ProtocolError) as error:
            raise Lost(f"the redirector's channel failed: {error}") from None
        finally:
            beat.cancel()

    def _take(self, message: wire.Message) -> None:
        match message:
            case wire.Ready():
                self.ready.set_result(message)
            case wire.Failed():
                raise Lost(message.reason)
            case wire.Owner():
                if hear := self._asked.pop(message.id, None):
                    hear(message)

    async def _beat(self) -> None:
        while True:
            self._send(wire.Heartbeat())
            await asyncio.sleep(wire.HEARTBEAT_INTERVAL)
            if self._loop.time() - self._heard > SILENCE_LIMIT:
                log.error("the redirector has been silent for %.0f s", SILENCE_LIMIT)
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
                return

    def _send(self, message: wire.Message) -> bool:
        """Send it now or when there is room, and whole; False where too much waits already."""
        line = wire.encode(message)
        if len(self._pending) + len(line) > MAX_PENDING:
            return False
        waited, self._pending = bool(self._pending), self._pending + line
        if not waited and not self._flush():
            self._loop.add_writer(self._sock, self._go_on)
        return True

    def _go_on(self) -> None:
        if self._flush():
            self._loop.remove_writer(self._sock)

    def _flush(self) -> bool:
        """Send what there is room for; True when nothing is left."""
        try:
            sent = self._sock.send(self._pending)
        except BlockingIOError:
            sent = 0
        except OSError:                         # closed: `run` sees it too
            sent = len(self._pending)
        self._pending = self._pending[sent:]
        return not self._pending

    def owner(self, client: Address, server: Address) -> asyncio.Future[Process | None]:
        """Ask whose socket it is; the answer is None where the redirector knows none."""
        return self._ask(client, server, lambda owner: described(owner.process))

    def origin(self, client: Address, server: Address) -> asyncio.Future[tuple[Process | None, Address | None]]:
        """Ask that, and where a client that is now connected to `server`, our own end, wanted to go; None: nobody
        knows."""
        return self._ask(client, server, lambda owner: (described(owner.process), owner.server))

    def _ask[T](self, client: Address, server: Address, read: Callable[[wire.Owner], T]) -> asyncio.Future[T]:
        self._next += 1
        key, future = self._next, self._loop.create_future()

        def hear(owner: wire.Owner) -> None:
            if not future.done():
                future.set_result(read(owner))

        self._asked[key] = hear
        future.add_done_callback(lambda _: self._asked.pop(key, None))
        if not self._send(wire.Lookup(key, client, server)):
            hear(wire.Owner(key, None))
        return future

    def stop(self) -> None:
        """An orderly end: rules and guard go."""
        self._send(wire.Stop())


def own_lookup(client: Address, server: Address) -> asyncio.Future[Process | None]:
    """Without a redirector: what this user may see for itself, which is its own processes."""
    return asyncio.get_running_loop().run_in_executor(None, _find, client, server)


def _find(client: Address, server: Address) -> Process | None:
    try:
        return described(owner.find(client, server))
    except OSError as error:                    # no sock_diag here, as in some containers: nobody is known
        log.info("whose connection it is cannot be asked: %s", error)
        return None


def described(found: wire.Process | None) -> Process | None:
    """The redirector's words in ours."""
    if found is None:
        return None
    return Process(
        pid=found.pid or 0, exe=found.exe, cmdline=found.cmdline, user=found.user or _name(found.uid),
        uid=None if found.uid == NO_UID else found.uid,
        parents=tuple(Parent(*parent) for parent in found.parents), cgroup=found.cgroup, ended=found.ended,
        name=found.name, started=found.started, service=found.service, container=found.container,
        namespaces=found.namespaces)


@lru_cache(256)
def _name(uid: int) -> str:
    if uid == NO_UID:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
