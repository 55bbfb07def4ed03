"""The explicit door: clients that know us as their HTTP proxy (RFC 9110, 9.3.6; RFC 9112, 3.2.2).

Only the first request head is read here, with h11; after a CONNECT the connection is like any captured one, and plain
requests go to the engine as they came.
"""

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from itertools import zip_longest

import h11

from proxy import answers, destination
from proxy.destination import Address
from proxy.hosts import Disagreement, split_authority

#: Bytes of the first request head.
MAX_HEAD = 64 * 1024
#: Seconds for the name service, half of what a client waits for an answer.
RESOLVE_LIMIT = 5.0
#: Addresses of one name that are considered: at one every 250 ms, more would not get their turn in time.
MAX_ADDRESSES = 10
#: Where a connection goes that has not said so, or whose requests each say it.
UNKNOWN: Address = ("", 0)
#: Seconds for a refused client to take its answer.
LINGER_LIMIT = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client asks to go: `address` has the name, as long as that has not been looked up.

    `plain`: not by CONNECT, the requests themselves say where; `rest`: bytes read.
    """

    host: str | None
    address: Address
    rest: bytes
    plain: bool = False


class Refusal(Exception):
    """The client gets an answer with this status, and is closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    def answer(self, incident: str) -> bytes:
        """The answer, which names the incident."""
        response = answers.refusal(None, self.status, str(self), incident=incident)
        head = h11.Connection(h11.SERVER).send(h11.Response(
            status_code=self.status, reason=b"Refused", headers=list(response.headers.fields)))
        assert head is not None
        return head + (response.raw_content or b"")


async def greet(client: socket.socket) -> Target:
    """Read the first request head; a CONNECT is still to be answered.  Raises `Refusal` for no request to a proxy."""
    loop = asyncio.get_running_loop()
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    read = b""
    while True:
        data = await loop.sock_recv(client, MAX_HEAD)
        if not data:
            raise ConnectionError("closed before its first request was complete")
        read += data
        try:
            connection.receive_data(data)
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise Refusal(error.error_status_hint, f"This is an HTTP proxy, and that is no request: {error}") from None
        if isinstance(event, h11.Request):
            break
    if event.method != b"CONNECT":
        if event.target.startswith(b"/"):
            raise Refusal(400, "This is lockgate, an HTTP proxy: set it as your proxy, do not ask it for pages.")
        return Target(None, UNKNOWN, read, plain=True)
    try:
        host, port = split_authority(event.target.decode("ascii", "replace"))
    except Disagreement as error:
        raise Refusal(400, str(error)) from None
    if port is None:
        raise Refusal(400, "CONNECT needs a host and a port.")
    return Target(host, (host, port), connection.trailing_data[0])


async def accept(client: socket.socket) -> None:
    """Say that the tunnel stands."""
    await asyncio.get_running_loop().sock_sendall(client, b"HTTP/1.1 200 Connection established\r\n\r\n")


async def find(host: str, port: int, own: set[Address]) -> tuple[Address, ...]:
    """Return the addresses of a host that we may lead to, in the order to try them in; raise `Refusal`.

    504, 502: nobody knows, or in time; 403: no proxy should lead to any of them.  `own` are the addresses that we
    listen on ourselves.
    """
    loop, flags = asyncio.get_running_loop(), socket.AI_ADDRCONFIG
    try:
        async with asyncio.timeout(RESOLVE_LIMIT):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except TimeoutError:
        raise Refusal(504, f"Nobody said within {RESOLVE_LIMIT:g} s where {host} is.") from None
    except OSError as error:
        raise Refusal(502, f"{host} was not found: {error.strerror or error}.") from None
    except UnicodeError:    # a label is empty, or longer than 63 octets
        raise Refusal(502, f"{host} is no name that could be looked up.") from None
    reasons = {str(entry[4][0]): destination.forbidden(str(entry[4][0]), port, own) for entry in found}
    allowed = _in_turn([address for address, why in reasons.items() if why is None])
    if not allowed:
        raise Refusal(403, f"{host}: {next(iter(reasons.values()))}.")
    return tuple((address, port) for address in allowed[:MAX_ADDRESSES])


def _in_turn(addresses: list[str]) -> list[str]:
    """One of each family in turn, the system's first choice first (RFC 8305, 4)."""
    first = [each for each in addresses if (":" in each) == (":" in addresses[0])]
    second = [each for each in addresses if each not in first]
    return [each for pair in zip_longest(first, second) for each in pair if each is not None]


async def refuse(client: socket.socket, answer: bytes) -> None:
    """Send an answer and hear the client out for a moment, since a reset would take the answer from it."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(LINGER_LIMIT):
            await loop.sock_sendall(client, answer)
            client.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(client, MAX_HEAD):
                """What it had begun to send."""
