"""A bypassed connection: two sockets joined as they are, outside the HTTP engine."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import Any

#: Bytes moved at once: what one TLS record burst of a fast download brings.
CHUNK = 256 * 1024
#: Seconds without a byte either way until both ends are closed; as for inspected connections.
IDLE_LIMIT = 600.0


@dataclass(slots=True)
class Moved:
    """Bytes that went from the client to the origin, and back."""

    sent: int = 0
    received: int = 0


async def splice(client: socket.socket, origin: socket.socket, first: bytes, moved: Moved) -> None:
    """Send the bytes already read, then move both ways until both have ended; half-closes are passed on.

    `moved` counts, also when this is cancelled or raises OSError.
    """
    loop = asyncio.get_running_loop()
    if first:
        await loop.sock_sendall(origin, first)
        moved.sent += len(first)
    last = loop.time()

    async def move(source: socket.socket, target: socket.socket, *, upload: bool) -> None:
        nonlocal last
        buffer = memoryview(bytearray(CHUNK))
        while count := await loop.sock_recv_into(source, buffer):
            last = loop.time()
            await loop.sock_sendall(target, buffer[:count])
            if upload:
                moved.sent += count
            else:
                moved.received += count
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    async def watch() -> None:
        while (left := last + IDLE_LIMIT - loop.time()) > 0:
            await asyncio.sleep(left)

    both = asyncio.gather(move(client, origin, upload=True), move(origin, client, upload=False))
    watcher = asyncio.ensure_future(watch())
    ends: list[asyncio.Future[Any]] = [both, watcher]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await both
