"""Questions to the outside about certificates: plain HTTP with narrow limits, each put once for all who want to know.

The addresses come from certificates that a trusted CA has signed, and CAs write them, not who asks for a certificate.
So private addresses are allowed: companies have responders there.  What comes is signed, so TLS would add nothing, and
would have to be verified in turn.  The worker's own sockets are exempt from capture: no question comes round to us.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, NamedTuple, cast
from urllib.parse import SplitResult, urljoin, urlsplit

import h11

from proxy.destination import streams
from proxy.evidence import Unusable
from proxy.upstreamproxy import UpstreamProxy

#: Redirects that are followed, to plain HTTP only; more are a loop.
REDIRECTS = 2
#: Seconds until the head of an answer is there, redirects included: an answer is made in milliseconds.
FIRST_WORD = 2.0
#: Seconds for the rest.  Longer than anybody waits: a large list that comes late serves the next connection.
FETCH_LIMIT = 20.0
#: Seconds that who failed, or was too slow, is left alone: else every connection would wait for it.
REST = 60.0
#: Fetches at a time, so that at most this many of the largest lists are in memory unverified.
MAX_FETCHES = 16
#: Failures remembered; the oldest are forgotten first.
MAX_FAILURES = 1000
#: Bytes parsed at once: even if each is a chunk of its own, the event loop is held up for 5 ms only.
PIECE = 4096


class Unanswered(Exception):
    """No answer came.  The message completes "it could not be checked: ..."."""


class Silent(Unanswered):
    """Nobody is there, or does not speak in time: there is no sense in asking it something else."""


async def fetch(url: str, limit: int, body: bytes | None = None, content_type: str = "",
                via: UpstreamProxy | None = None) -> bytes:
    """Return what is at an http:// URL, of at most `limit` bytes; with a body by POST, also after a redirect.

    `via` is the proxy that such questions leave by.

    Raises Silent without a connection or a word within FIRST_WORD seconds, or an end within FETCH_LIMIT;
    Unanswered after too many redirects or bytes, or with any answer but 200.
    """
    try:
        async with asyncio.timeout(FIRST_WORD) as deadline:
            for _ in range(1 + REDIRECTS):
                answer = await _exchange(urlsplit(url), limit, body, content_type, deadline, via)
                if isinstance(answer, bytes):
                    return answer
                url = urljoin(url, answer.location)
    except OSError as error:
        raise Silent(f"{place(url)} does not answer: {str(error) or 'too slow'}") from error
    except (ValueError, h11.ProtocolError) as error:
        raise Unanswered(f"{place(url)}: {error}") from error
    raise Unanswered(f"{place(url)} redirects without end")


def place(url: str) -> str:
    """Return the host and port of a URL that may be nonsense."""
    return url.partition("://")[2].partition("/")[0]


class Redirect(NamedTuple):
    location: str


async def _exchange(url: SplitResult, limit: int, body: bytes | None, content_type: str,
                    deadline: asyncio.Timeout, via: UpstreamProxy | None) -> bytes | Redirect:
    if url.scheme != "http" or not url.hostname:
        raise ValueError(f"{url.geturl()!r} is not an http:// address")
    via = via if via is not None and via.covers(url.hostname) else None
    reader, writer = await _open(url.hostname, url.port or 80, via)
    try:
        parser = h11.Connection(h11.CLIENT)
        writer.write(_request(parser, url, body, content_type, via))
        answer = await _head(parser, reader)
        if isinstance(answer, h11.Response):
            deadline.reschedule(asyncio.get_running_loop().time() + FETCH_LIMIT)
            return await _content(parser, reader, limit)
        return answer
    finally:
        writer.transport.abort()


async def _open(host: str, port: int, via: UpstreamProxy | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if via is None:
        return await streams(host, port)
    return await asyncio.open_connection(sock=await (via.connect() if via.forwards else via.tunnel(host, port)))


def _request(parser: h11.Connection, url: SplitResult, body: bytes | None, content_type: str,
             via: UpstreamProxy | None) -> bytes:
    headers = [("host", url.netloc.rpartition("@")[2]), ("connection", "close"), ("user-agent", "lockgate")]
    if body is not None:
        headers += [("content-type", content_type), ("content-length", str(len(body)))]
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if via is not None and via.forwards:        # it takes the whole URL (RFC 9112, 3.2.2)
        target = f"http://{url.netloc.rpartition('@')[2]}{target}"
        if via.authorization is not None:
            headers.append(("proxy-authorization", via.authorization.decode()))
    events = [h11.Request(method="GET" if body is None else "POST", target=target, headers=headers),
              h11.Data(data=body or b""), h11.EndOfMessage()]
    return b"".join(parser.send(event) or b"" for event in events)


async def _read(reader: asyncio.StreamReader) -> bytes:
    await asyncio.sleep(0)      # a full buffer is read without a turn for others
    return await reader.read(PIECE)


async def _head(parser: h11.Connection, reader: asyncio.StreamReader) -> h11.Response | Redirect:
    while True:
        match parser.next_event():
            case h11.NEED_DATA:
                parser.receive_data(await _read(reader))
            case h11.Response(status_code=200) as answer:
                return answer
            case h11.Response(status_code=301 | 302 | 303 | 307 | 308, headers=headers):
                return Redirect(dict(headers).get(b"location", b"").decode("ascii"))
            case h11.Response(status_code=status):
                raise ValueError(f"it answers {status}")


async def _content(parser: h11.Connection, reader: asyncio.StreamReader, limit: int) -> bytes:
    received = bytearray()
    while True:
        match parser.next_event():
            case h11.NEED_DATA:
                parser.receive_data(await _read(reader))
            case h11.Data(data=data):
                received += data
                if len(received) > limit:
                    raise ValueError(f"its answer is longer than {limit} bytes")
            case h11.EndOfMessage():
                return bytes(received)


class Inquiries:
    """Each question is put once for all who want the answer; whoever does not answer is left alone for a while.

    A question goes on when nobody waits for it any more: it keeps the answer itself where the next will find it.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Any]] = {}
        self._failed: OrderedDict[Hashable, tuple[float, str]] = OrderedDict()
        self._slots = asyncio.Semaphore(MAX_FETCHES)

    async def ask[T](self, url: str, key: Hashable, question: Callable[[], Awaitable[T]], patience: float) -> T:
        """Return the answer to a question, known by `key` and put to `url`; raises Unanswered after `patience` seconds.

        `question` raises Unanswered (Silent if its place should not be asked anything else) or Unusable.
        """
        loop = asyncio.get_running_loop()
        for each in (place(url), key):
            until, why = self._failed.get(each, (0.0, ""))
            if loop.time() < until:
                raise Unanswered(why)
        if (task := self._running.get(key)) is None:
            task = self._running[key] = loop.create_task(self._run(url, key, question))
            task.add_done_callback(lambda _: self._running.pop(key))
        try:
            async with asyncio.timeout(patience):
                answer = await asyncio.shield(task)
        except TimeoutError:
            raise self._fail(place(url), f"{place(url)} did not answer in time") from None
        if isinstance(answer, Unanswered):
            raise Unanswered(str(answer))       # another for each: one that is raised often grows a long traceback
        return cast(T, answer)

    async def _run[T](self, url: str, key: Hashable, question: Callable[[], Awaitable[T]]) -> T | Unanswered:
        """Return a failure, so that it is no complaint of asyncio's that nobody waited for it."""
        try:
            async with self._slots:
                answer = await question()
        except Silent as error:
            return self._fail(place(url), str(error))
        except (Unanswered, Unusable) as error:
            return self._fail(key, str(error))
        self._failed.pop(place(url), None)
        return answer

    def _fail(self, who: Hashable, why: str) -> Unanswered:
        self._failed[who] = asyncio.get_running_loop().time() + REST, why
        self._failed.move_to_end(who)
        if len(self._failed) > MAX_FAILURES:
            self._failed.popitem(last=False)
        return Unanswered(why)
