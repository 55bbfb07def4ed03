"""Connections to an ICAP server: kept for the next message, one message at a time on each (RFC 3507)."""

import asyncio
import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Final

from addons.icapwire import LAST, LAST_OF_ALL, MAX_HEAD, MAX_LINE, Answer, Headers, IcapError, chunks, message

#: Connections kept idle; servers have some ten workers for each.
MAX_IDLE: Final = 8
#: Connections at a time: others wait.
MAX_CONNECTIONS: Final = 32
#: Bytes of an answer's body that are read: beyond, the server changes more than it was given.
MAX_BODY: Final = 256 * 1024 * 1024
#: Bytes of a preview, unless the server wants fewer: a head to tell the type by.
PREVIEW: Final = 4096


@dataclass(frozen=True, slots=True)
class Result:
    """The answer, and the length and SHA-256 of the body in it."""

    answer: Answer
    size: int = 0
    digest: bytes = b""


class IcapClient:
    """Asks one service, `icap://HOST[:PORT]/PATH`."""

    def __init__(self, host: str, port: int, url: str) -> None:
        self.host, self.port, self.url = host, port, url
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._options: Answer | None = None

    async def ask(self, method: str, parts: list[tuple[str, bytes]], body: str, data: bytes,
                  headers: Headers) -> Result:
        """Send a message; return what becomes of it.  Raises OSError, IcapError, asyncio.IncompleteReadError."""
        async with self._slots:
            options = self._options or await self._learn()
            preview = min(PREVIEW, int(options.headers.get("preview", "0") or 0), len(data))
            asked = "preview" in options.headers
            told = [*headers, ("Allow", "204"), *([("Preview", str(preview))] if asked and body != "null-body" else [])]
            head = message(method, self.url, self.host, parts, body, told)
            fresh = not self._idle
            try:
                return await self._exchange(head, data, body, preview if asked else None)
            except ConnectionError:
                if fresh:
                    raise
                self.close()        # the server had closed a connection that we kept
                return await self._exchange(head, data, body, preview if asked else None)

    async def _learn(self) -> Answer:
        result = await self._exchange(message("OPTIONS", self.url, self.host, [], "null-body", []), b"", "null-body",
                                      None)
        if result.answer.status != 200:
            raise IcapError(f"the server does not offer {self.url}: {result.answer.status} {result.answer.reason}")
        self._options = result.answer
        return result.answer

    def close(self) -> None:
        """Close what is idle; whoever is asked now keeps its connection to the end."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _exchange(self, head: bytes, data: bytes, body: str, preview: int | None) -> Result:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(
            self.host, self.port, limit=MAX_HEAD)
        reusable = False
        try:
            result = await self._converse(reader, writer, head, data, body, preview)
            reusable = result.answer.headers.get("connection", "").lower() != "close"
            return result
        finally:
            if reusable and len(self._idle) < MAX_IDLE:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, data: bytes,
                        body: str, preview: int | None) -> Result:
        writer.write(head)
        if body != "null-body" and preview is not None:
            writer.writelines(chunks(data[:preview]))
            writer.write(LAST_OF_ALL if preview == len(data) else LAST)
            await writer.drain()
            answer = await _head(reader)
            if answer.status != 100:
                return await _rest(reader, answer)
            data = data[preview:]
        if body != "null-body":
            for piece in chunks(data):
                writer.write(piece)
                await writer.drain()
            writer.write(LAST)
        await writer.drain()
        return await _rest(reader, await _head(reader))


async def _head(reader: asyncio.StreamReader) -> Answer:
    try:
        return Answer.read(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        raise ConnectionResetError("the ICAP server closes without an answer") from None
    except asyncio.LimitOverrunError:
        raise IcapError(f"an answer whose head is longer than {MAX_HEAD} bytes") from None


async def _rest(reader: asyncio.StreamReader, answer: Answer) -> Result:
    for name, length in answer.lengths:
        answer.parts[name] = await reader.readexactly(length)
    if not answer.has_body:
        return Result(answer)
    size, digest = 0, hashlib.sha256()
    while length := await _chunk(reader):
        if (size := size + length) > MAX_BODY:
            raise IcapError(f"an answer whose body is longer than {MAX_BODY} bytes")
        while length:
            piece = await reader.read(min(length, 64 * 1024))
            if not piece:
                raise asyncio.IncompleteReadError(b"", length)
            digest.update(piece)
            length -= len(piece)
        await reader.readexactly(2)
    while await reader.readline() not in (b"\r\n", b""):       # trailers
        pass
    return Result(answer, size, digest.digest())


async def _chunk(reader: asyncio.StreamReader) -> int:
    """Read the line before a chunk, return its size; 0 is the last."""
    line = (await reader.readline())
    size = line.partition(b";")[0].strip()
    if len(line) > MAX_LINE or not line.endswith(b"\r\n") or not 0 < len(size) <= 8:
        raise IcapError(f"not the beginning of a chunk: {line[:40]!r}")
    try:
        return int(size, 16)
    except ValueError:
        raise IcapError(f"not the size of a chunk: {line[:40]!r}") from None
