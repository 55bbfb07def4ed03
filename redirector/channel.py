"""The control channel over file descriptors: wire.py with I/O, and never a wait longer than asked for."""
import os
import select
from contextlib import suppress

from redirector.wire import Decoder, Message, ProtocolError, encode

#: Bytes that may wait for a peer that does not read: some hundred answers. At the limit the peer counts as broken.
MAX_PENDING = 1 << 16


class PeerGone(Exception):
    """End of input, or silence for too long."""


class Channel:
    """Messages over two file descriptors, which may be one socket."""

    def __init__(self, receive: int, send: int) -> None:
        self._receive, self._send = receive, send
        self._decoder, self._pending = Decoder(), b""
        os.set_blocking(receive, False)
        os.set_blocking(send, False)

    @property
    def waiting(self) -> bool:
        """Is there something that the peer has not taken yet?"""
        return bool(self._pending)

    def messages(self, limit: float) -> list[Message]:
        """What arrives within `limit` seconds, perhaps nothing. Raises PeerGone, ProtocolError."""
        readable, writable, _ = select.select([self._receive], [self._send] if self.waiting else [], [], limit)
        if writable:
            self._flush()
        if not readable:
            return []
        try:
            data = os.read(self._receive, 1 << 16)
        except OSError as error:
            raise PeerGone(f"the control channel broke: {error}") from error
        if not data:
            raise PeerGone("the control channel was closed")
        return self._decoder.feed(data)

    def send(self, message: Message) -> None:
        self._pending += encode(message)
        if len(self._pending) > MAX_PENDING:
            raise ProtocolError("the peer does not read")
        self._flush()

    def _flush(self) -> None:
        with suppress(BlockingIOError):
            try:
                self._pending = self._pending[os.write(self._send, self._pending):]
            except ConnectionError as error:
                raise PeerGone("the control channel was closed") from error
