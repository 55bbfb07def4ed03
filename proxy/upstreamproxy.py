"""The way out through another proxy, by HTTP (RFC 9110, 9.3.6) or SOCKS 5 (RFC 1928, 1929), where the policy names one.

All connections to origins take it: those of clients, the probes of bypasses, questions about revocation.  Where a name
is known the proxy gets the name, so that looking it up is its business.  Rules about addresses then see only what the
program itself dialled.
"""

import asyncio
import base64
import socket
from collections.abc import Sequence

import h11
from mitmproxy import http

from proxy import destination, pac, socks
from proxy.destination import Address
from proxy.proxyurl import Exceptions, Place, as_address

#: Bytes of the head of its answer, and seconds for all of it beyond the connection itself: it dials the origin
#: meanwhile.
MAX_HEAD, ANSWER_LIMIT = 16 * 1024, 10.0
#: Seconds that the addresses of its name are kept: each connection would wait for the name service otherwise.
KEPT = 30.0
#: Addresses of it that are tried.
MAX_ADDRESSES = 4
#: What its status means; completes "the upstream proxy ...".
STATUS = {403: "does not allow that connection", 407: "does not accept our name and password, or wants some",
          502: "could not reach the origin", 503: "is not available", 504: "got no answer from the origin in time"}


class ProxyRefused(OSError):
    """The upstream proxy did not lead to the origin; the message says so to the user."""


class UpstreamProxy:
    """One proxy.  `own` are the addresses that we listen on ourselves: a proxy there would be us."""

    def __init__(self, place: Place, exceptions: Exceptions, login: tuple[str, str] | None = None,
                 own: set[Address] | None = None) -> None:
        """Raises ValueError for a name and password that its protocol cannot carry."""
        self.place, self._exceptions = place, exceptions
        self._login = login and (login[0].encode(), login[1].encode())
        self._own = set[Address]() if own is None else own
        self._found: tuple[float, tuple[Address, ...]] = (0.0, ())
        if self._login is not None:
            self._check(*self._login)

    def _check(self, user: bytes, password: bytes) -> None:
        if any(byte < 32 or byte == 127 for byte in user + password):
            raise ValueError("the name or the password for the upstream proxy holds a control character")
        if b":" in user and self.place.kind == "http":
            raise ValueError("a name for an HTTP proxy holds no colon (RFC 7617, 2)")
        if self.place.kind == "socks5":
            socks.our_login(user, password)

    def __str__(self) -> str:
        return f"the upstream proxy {pac.authority(self.place.host, self.place.port)}"

    @property
    def places(self) -> tuple[Address, ...]:
        """Where it was found last."""
        return self._found[1]

    @property
    def forwards(self) -> bool:
        """Does it take plain requests as they are?  Many let nobody through to port 80 by CONNECT."""
        return self.place.kind == "http"

    @property
    def authorization(self) -> bytes | None:
        """The value of `Proxy-Authorization` (RFC 7617, 2)."""
        if self._login is None:
            return None
        return b"Basic " + base64.b64encode(b":".join(self._login))

    def covers(self, *hosts: str | None) -> bool:
        """Is an origin met through it that is known by these names and addresses?"""
        return not any(self._exceptions.covers(host) for host in hosts if host)

    # -- connecting

    async def connect(self) -> socket.socket:
        """Connect to the proxy itself."""
        try:
            return await destination.dial(await self._addresses())
        except ProxyRefused:
            raise
        except OSError as error:
            raise ProxyRefused(f"{self} could not be reached: {destination.words(error)}") from error

    async def tunnel(self, host: str, port: int) -> socket.socket:
        """Return a connection through it.  Raises ProxyRefused."""
        host = as_address(host) or host
        sock = await self.connect()
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                if self.place.kind == "socks5":
                    await self._ask_socks(sock, host, port)
                else:
                    await self._ask_http(sock, host, port)
        except TimeoutError:
            sock.close()
            raise ProxyRefused(f"{self} did not answer within {ANSWER_LIMIT:g} s") from None
        except ProxyRefused:
            sock.close()
            raise
        except (OSError, ValueError, h11.RemoteProtocolError) as error:
            sock.close()
            words = destination.words(error) if isinstance(error, OSError) else str(error)
            raise ProxyRefused(f"{self} failed: {words}") from error
        except BaseException:
            sock.close()
            raise
        return sock

    async def _addresses(self) -> tuple[Address, ...]:
        loop, (until, found) = asyncio.get_running_loop(), self._found
        if until < loop.time():
            entries = await loop.getaddrinfo(self.place.host, self.place.port, type=socket.SOCK_STREAM)
            found = tuple(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in entries))[:MAX_ADDRESSES]
            self._found = loop.time() + KEPT, found
        for address, port in found:
            if destination.ours(address, port, self._own):
                raise ProxyRefused(f"{self} is lockgate itself: the policy names its own listener")
        return found

    # -- asking for the tunnel

    async def _ask_http(self, sock: socket.socket, host: str, port: int) -> None:
        target = pac.authority(host, port)
        fields = [("host", target)]
        if self.authorization is not None:
            fields.append(("proxy-authorization", self.authorization.decode()))
        parser = h11.Connection(h11.CLIENT)
        request = parser.send(h11.Request(method="CONNECT", target=target, headers=fields))
        assert request is not None
        await asyncio.get_running_loop().sock_sendall(sock, request)
        while True:
            parser.receive_data(await _head(sock))
            event = parser.next_event()
            if not isinstance(event, h11.InformationalResponse):
                break
        assert isinstance(event, h11.Response)
        if not 200 <= event.status_code < 300:
            raise ProxyRefused(f"{self} {STATUS.get(event.status_code, 'refused')} (it answered {event.status_code})")

    async def _ask_socks(self, sock: socket.socket, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, socks.our_greeting(password=self._login is not None))
        version, method = await _exactly(sock, 2)
        if version != socks.VERSION5:
            raise ProxyRefused(f"{self} speaks no SOCKS 5")
        if method == socks.PASSWORD and self._login is not None:
            await loop.sock_sendall(sock, socks.our_login(*self._login))
            if (await _exactly(sock, 2))[1] != socks.WELCOME:
                raise ProxyRefused(f"{self} {STATUS[407]}")
        elif method != socks.NO_AUTHENTICATION:
            raise ProxyRefused(f"{self} {STATUS[407]}")
        await loop.sock_sendall(sock, socks.our_request(host, port))
        answer = b""
        while missing := socks.rest(answer):
            answer += await _exactly(sock, missing)
        if answer[1] != socks.Reply.DONE:
            raise ProxyRefused(f"{self} {socks.said(answer[1])} (it answered {answer[1]})")


async def dial(via: UpstreamProxy | None, addresses: Sequence[Address], name: str | None = None) -> socket.socket:
    """Connect to an origin: to its name or the first address through `via` if that covers it, else to an address.

    Raises OSError; ProxyRefused where it is the proxy that did not lead there.
    """
    host, port = addresses[0]
    if via is not None and via.covers(name, host):
        return await via.tunnel(name or host, port)
    if not destination.numeric(host):   # what `find` left to a proxy that a reload has taken away
        raise OSError("it has not been looked up")
    return await destination.dial(addresses)


def for_a_proxy(request: http.Request, port: int, authorization: bytes | None) -> http.Request:
    """A plain request in absolute form (RFC 9112, 3.2.2), for the origin's port.

    It is a copy: no filter and no event is to see our password.
    """
    request = request.copy()
    request.data.scheme = b"http"
    authority = request.headers["host"]
    named = authority.rpartition("]")[2].partition(":")[2]
    request.data.authority = (authority if named or port == 80 else f"{authority.rstrip(':')}:{port}").encode()
    if authorization is not None:
        request.headers["proxy-authorization"] = authorization.decode()
    return request


async def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
        if not more:
            raise ConnectionError("it closed the connection")
        data += more
    return data


async def _head(sock: socket.socket) -> bytes:
    """Read a head, and not a byte behind it: those are the origin's."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        await _readable(sock)
        piece = sock.recv(MAX_HEAD, socket.MSG_PEEK)
        if not piece:
            raise ConnectionError("it closed the connection")
        end = (head + piece).find(b"\r\n\r\n", max(0, len(head) - 3))
        head += sock.recv(len(piece) if end < 0 else end + 4 - len(head))
        if len(head) > MAX_HEAD:
            raise ValueError(f"the head of its answer is larger than {MAX_HEAD // 1024} KiB")
    return head


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
