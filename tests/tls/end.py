"""What our two ends of a TLS connection share: a socket, the record layer, and the transcript of the handshake."""

import contextlib
import socket

from cryptography.exceptions import InvalidTag

from tests.tls.keys import Protection12, Protection13
from tests.tls.wire import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    KEY_UPDATE,
    MAX_FRAGMENT,
    Reader,
    record,
)

#: Seconds for which an end waits: longer than lockgate may take for anything.
PATIENCE = 15.0


class Ended(Exception):
    """The connection is over, or is left as it stands."""


class End:
    """Reads records and messages, decrypted, and keeps the alerts that come; writes what it is told."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.writing: Protection12 | Protection13 | None = None
        self.reading: Protection12 | Protection13 | None = None
        self.fragment = MAX_FRAGMENT        # bytes of a handshake message that one record holds
        self.transcript = b""
        self.alerts: list[tuple[int, int]] = []     # level and description, as they came
        self.data = b""                     # application data, as it came
        self.strays: list[tuple[int, bytes]] = []   # records of other kinds that came where data was expected
        self._raw, self._messages = b"", b""

    # -- reading

    def _take(self, size: int) -> bytes:
        while len(self._raw) < size:
            try:
                got = self.sock.recv(65536)
            except OSError as error:
                raise Ended(str(error)) from error
            if not got:
                raise Ended("closed")
            self._raw += got
        taken, self._raw = self._raw[:size], self._raw[size:]
        return taken

    def record(self) -> tuple[int, bytes]:
        """The next record that is neither an alert nor a ChangeCipherSpec of TLS 1.3; `Ended` after a fatal alert."""
        while True:
            head = self._take(5)
            payload = self._take(int.from_bytes(head[3:]))
            kind = head[0]
            plain = isinstance(self.reading, Protection13) and kind in (ALERT, CHANGE_CIPHER_SPEC)
            if self.reading is not None and not plain:
                try:
                    kind, payload = self.reading.open(head, payload)
                except InvalidTag:
                    raise Ended("a record that cannot be decrypted") from None
            if kind == ALERT:
                self.alerts.append((payload[0], payload[1]))
                if payload[0] == 2 or payload[1] == 0:
                    raise Ended("an alert")
            elif kind != CHANGE_CIPHER_SPEC or self.reading is None:
                return kind, payload

    def message(self, *kinds: int) -> tuple[int, bytes]:
        """The next handshake message, of one of these kinds; it joins the transcript."""
        while len(self._messages) < 4 or len(self._messages) < 4 + int.from_bytes(self._messages[1:4]):
            kind, payload = self.record()
            if kind == HANDSHAKE:
                self._messages += payload
            elif kind != CHANGE_CIPHER_SPEC:
                raise Ended(f"a record of kind {kind} where a handshake message belongs")
        reader = Reader(self._messages)
        kind, body = reader.number(1), reader.vector(3)
        whole, self._messages = self._messages[: 4 + len(body)], reader.data
        if kind not in kinds:
            raise Ended(f"message {kind} where {kinds} belong")
        self.transcript += whole
        return kind, body

    def hear(self) -> None:
        """Take one record once the handshake is over."""
        kind, data = self.record()
        if kind == APPLICATION_DATA:
            self.data += data
        elif kind == HANDSHAKE and data[0] == KEY_UPDATE and isinstance(self.reading, Protection13):
            self.reading = self.reading.updated()
        else:
            self.strays.append((kind, data))

    def listen(self) -> None:
        """Keep what still comes, until the other end closes."""
        with contextlib.suppress(Ended):
            while True:
                self.hear()

    # -- writing

    def sealed(self, kind: int, payload: bytes, size: int = MAX_FRAGMENT) -> bytes:
        pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
        return b"".join(self.writing.seal(kind, piece) if self.writing else record(kind, piece) for piece in pieces)

    def send(self, kind: int, payload: bytes) -> None:
        self.raw(self.sealed(kind, payload, self.fragment if kind == HANDSHAKE else MAX_FRAGMENT))

    def raw(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Ended(str(error)) from error

    def finish(self) -> None:
        """Send no more; without a close_notify, that is a cut."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close at once, with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()
