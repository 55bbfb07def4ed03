"""A bypassed connection: two sockets joined as they are, outside the HTTP engine."""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from dataclasses import dataclass

#: Bytes moved at once: what one TLS record burst of a fast download brings.
CHUNK = 256 * 1024
#: Seconds without a byte either way until both ends are closed; as for inspected connections.
IDLE_LIMIT = 600.0
#: Seconds for a peer to take what was sent before a reset; one that does not read loses it, as without us.
DRAIN_LIMIT, DRAIN_STEP = 1.0, 0.005


@dataclass(slots=True)
class Moved:
    """Bytes that went from the client to the origin, and back."""

    sent: int = 0
    received: int = 0


async def splice(client: socket.socket, origin: socket.socket, first: bytes, moved: Moved) -> None:
    """Send the bytes already read, then move both ways until both have ended; half-closes and resets are passed on.

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

    moves = [loop.create_task(move(client, origin, upload=True)), loop.create_task(move(origin, client, upload=False))]
    pending = set(moves)
    try:
        while pending and (left := last + IDLE_LIMIT - loop.time()) > 0:
            done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_EXCEPTION)
            if any(each.exception() for each in done):
                break
    finally:
        for each in moves:      # one that waited on would take the bytes of whoever has the descriptor next
            each.cancel()
        ends = await asyncio.gather(*moves, return_exceptions=True)
    if failed := [end for end in ends if isinstance(end, Exception)]:
        if not all(isinstance(end, OSError) for end in failed):
            raise failed[0]
        await asyncio.gather(hang_up(client), hang_up(origin))      # a clean end would make a cut answer look whole


async def hang_up(sock: socket.socket) -> None:
    """Have the close of this socket send a reset, once its peer has what was sent before."""
    loop = asyncio.get_running_loop()
    until = loop.time() + DRAIN_LIMIT
    with contextlib.suppress(OSError):      # it has gone already
        while loop.time() < until and _unsent(sock):
            await asyncio.sleep(DRAIN_STEP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _unsent(sock: socket.socket) -> int:
    """Bytes that the peer has not acknowledged (tcp(7), SIOCOUTQ); 0 where the socket is no longer connected."""
    sock.getpeername()
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])
