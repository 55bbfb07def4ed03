"""The explicit door: clients that know us as their proxy, by HTTP (RFC 9110, 9.3.6; RFC 9112, 3.2.2) or by SOCKS.

The first byte tells which: 4 and 5 are versions of SOCKS (`socks.py`), and no request begins so.  Only the first
request head is read here, with h11; after a CONNECT of either the connection is like any captured one, and plain
requests go to the engine as they came.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

import h11

from proxy import answers, destination, pac, socks
from proxy.admission import Admission, basic
from proxy.destination import Address
from proxy.hosts import Disagreement, split_authority
from proxy.proxyurl import as_address
from proxy.upstreamproxy import UpstreamProxy
from redirector.plan import Declaration

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
#: What SOCKS says in place of a status; anything else is a failure.
REPLIES = {403: socks.Reply.NOT_ALLOWED, 407: socks.Reply.NOT_ALLOWED, 502: socks.Reply.HOST_UNREACHABLE,
           504: socks.Reply.HOST_UNREACHABLE}
#: How a client is asked for a name and a password (RFC 7617, 2 and 2.1).
CHALLENGE = (b"proxy-authenticate", b'Basic realm="lockgate", charset="UTF-8"')
WHO = "This proxy serves those who give a name and a password."

#: What this way of capturing can do.  It captures programs that know it, so that scopes and ports are not ours to say;
#: without a proxy these get no connection.  Success is told before the origin is dialled, as the verdict may need what
#: the client says first.
DECLARATION = Declaration("explicit", rights="none", systems=("Linux", "macOS", "Windows"), ipv6=True, closed=True)

type Spoken = Literal["http", "socks5", "socks4"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client asks to go: `address` has the name, as long as that has not been looked up.

    `plain`: not by CONNECT, the requests themselves say where; `rest`: bytes read.
    """

    host: str | None
    address: Address
    rest: bytes
    plain: bool = False
    spoken: Spoken = "http"


class Refusal(Exception):
    """The client gets an answer with this status, and is closed.

    `raw` is what SOCKS says where it has no status, `reply` what it says in place of the status.
    """

    def __init__(self, status: int, reason: str, spoken: Spoken = "http", raw: bytes = b"",
                 reply: socks.Reply | None = None) -> None:
        super().__init__(reason)
        self.status, self.spoken, self.raw = status, spoken, raw
        self.reply = reply or REPLIES.get(status, socks.Reply.FAILED)

    def answer(self, incident: str) -> bytes:
        """The answer; that of HTTP names the incident."""
        if self.raw:
            return self.raw
        if self.spoken != "http":
            return socks.answer(self.reply) if self.spoken == "socks5" else socks.answer4(self.reply)
        response = answers.refusal(None, self.status, str(self), incident=incident)
        more = [CHALLENGE] if self.status == 407 else []
        return _head(self.status, b"Refused", [*response.headers.fields, *more]) + (response.raw_content or b"")


class Served(Exception):
    """What the client asked for is ours to give: `answer`."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("it asked for a page of our own")
        self.answer = answer


def _head(status: int, reason: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    head = h11.Connection(h11.SERVER).send(h11.Response(status_code=status, reason=reason, headers=headers))
    assert head is not None
    return head


async def greet(client: socket.socket, admission: Admission | None = None, *, direct: bool = False) -> Target:
    """Read the first request; a CONNECT is still to be answered, by `accept`.  Raises `Refusal` for no request to a
    proxy, `Served` for the file by which clients find us; `direct` is said there.

    With `admission`, only those may come who give a name and a password that it knows.
    """
    read = await _more(client)
    if read[0] == socks.VERSION5:
        return await _greet5(client, read, admission)
    if read[0] == socks.VERSION4:
        if admission is not None:
            raise Refusal(407, "SOCKS 4 knows no passwords, and this proxy asks for one.", "socks4")
        return await _asked(client, read, socks.request4, "socks4")
    event, read, rest = await _first_head(client, read)
    if event.method in (b"GET", b"HEAD") and event.target == pac.PATH.encode():
        raise Served(_pac(client, whole=event.method == b"GET", direct=direct))
    if admission is not None:
        given = basic(dict(event.headers).get(b"proxy-authorization", b"").decode("latin-1"))
        if given is None or not await admission.good(*given):
            raise Refusal(407, WHO)
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
    return Target(host, (host, port), rest)


async def _more(client: socket.socket) -> bytes:
    data = await asyncio.get_running_loop().sock_recv(client, MAX_HEAD)
    if not data:
        raise ConnectionError("closed before its first request was complete")
    return data


async def _first_head(client: socket.socket, read: bytes) -> tuple[h11.Request, bytes, bytes]:
    """Return the first request, all bytes read, and those behind its head."""
    connection, data = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD), read
    while True:
        try:
            connection.receive_data(data)
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise Refusal(error.error_status_hint, f"This is an HTTP proxy, and that is no request: {error}") from None
        if isinstance(event, h11.Request):
            return event, read, connection.trailing_data[0]
        data = await _more(client)
        read += data


def _pac(client: socket.socket, *, whole: bool, direct: bool) -> bytes:
    host, port = client.getsockname()[:2]
    body = pac.script(destination.plain(host), port, direct=direct)
    fields = {"content-type": pac.TYPE, "content-length": str(len(body)), "cache-control": "no-cache",
              "x-content-type-options": "nosniff", "connection": "close"}
    head = _head(200, b"OK", [(name.encode(), value.encode()) for name, value in fields.items()])
    return head + body if whole else head


# -- SOCKS

async def _greet5(client: socket.socket, data: bytes, admission: Admission | None) -> Target:
    """RFC 1928, 3: the method first, then perhaps a password, then the request."""
    loop = asyncio.get_running_loop()
    offered, data = await _understood(client, data, socks.greeting)
    wanted = socks.NO_AUTHENTICATION if admission is None else socks.PASSWORD
    if wanted not in offered.methods:
        why = "SOCKS: the client insists on authentication, which is not asked for here." if admission is None else WHO
        raise Refusal(400 if admission is None else 407, why, raw=socks.method(socks.NONE_ACCEPTABLE))
    await loop.sock_sendall(client, socks.method(wanted))
    if admission is not None:
        try:
            login, data = await _understood(client, data, socks.login)
        except socks.Malformed as error:
            raise Refusal(400, f"SOCKS: {error}.", raw=socks.logged_in(welcome=False)) from None
        if not await admission.good(login.user, login.password):
            raise Refusal(407, WHO, raw=socks.logged_in(welcome=False))
        await loop.sock_sendall(client, socks.logged_in(welcome=True))
    return await _asked(client, data, socks.request, "socks5")


async def _asked(client: socket.socket, data: bytes, read: Callable[[bytes], socks.Request | None],
                 spoken: Spoken) -> Target:
    """The request itself; a name or an address is looked at as that of a CONNECT of HTTP is."""
    try:
        wish, rest = await _understood(client, data, read)
        host, port = split_authority(pac.authority(wish.host, wish.port))
    except socks.Malformed as error:
        reply = socks.answer if spoken == "socks5" else socks.answer4
        raise Refusal(400, f"SOCKS: {error}.", spoken, reply(error.reply)) from None
    except Disagreement as error:
        raise Refusal(400, f"SOCKS: {error}", spoken) from None
    assert port is not None
    return Target(host, (host, port), rest, spoken=spoken)


async def _understood[T: (socks.Greeting, socks.Login, socks.Request)](
        client: socket.socket, data: bytes, read: Callable[[bytes], T | None]) -> tuple[T, bytes]:
    """Receive until a message is complete; return it and the bytes behind it."""
    while (message := read(data)) is None:
        data += await _more(client)
    return message, data[message.size :]


async def accept(client: socket.socket, spoken: Spoken = "http") -> None:
    """Say that the tunnel stands."""
    words = {"http": b"HTTP/1.1 200 Connection established\r\n\r\n", "socks5": socks.answer(socks.Reply.DONE),
             "socks4": socks.answer4(socks.Reply.DONE)}
    await asyncio.get_running_loop().sock_sendall(client, words[spoken])


async def find(host: str, port: int, own: set[Address], via: UpstreamProxy | None = None, *,
               here: bool = True) -> tuple[Address, ...]:
    """Return the addresses of a host that we may lead to, in the order to try them in; raise `Refusal`.

    504, 502: nobody knows, or in time; 403: no proxy should lead to any of them.  `own` are the addresses that we
    listen on ourselves; `here`: the client is on this computer.  A name that the upstream proxy is to look up is
    returned as it is.
    """
    if via is not None and as_address(host) is None and via.covers(host):
        return ((host, port),)
    loop, flags = asyncio.get_running_loop(), socket.AI_ADDRCONFIG
    try:
        async with asyncio.timeout(RESOLVE_LIMIT):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except TimeoutError:
        raise Refusal(504, f"Nobody said within {RESOLVE_LIMIT:g} s where {host} is.") from None
    except OSError as error:
        if as_address(host) is not None:
            raise Refusal(502, f"{host}: this computer is in no network of that kind.",
                          reply=socks.Reply.NETWORK_UNREACHABLE) from None
        raise Refusal(502, f"{host} was not found: {error.strerror or error}.") from None
    except UnicodeError:    # a label is empty, or longer than 63 octets
        raise Refusal(502, f"{host} is no name that could be looked up.") from None
    places = [destination.plain(str(entry[4][0])) for entry in found]
    reasons = {place: destination.forbidden(place, port, own, here=here) for place in places}
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
