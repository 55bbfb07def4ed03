"""Loopback origins that keep a record of every byte that reached them, and do as they are told: answers may be
malformed, late or absent.  And clients that speak to them through a proxy."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import h11

from certs.authority import Authority
from tests.accepting import accepting

HOSTS = ("origin.test", "other.test", "*.wild.test")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def close(sock: socket.socket) -> None:
    """End as origins should: without a close_notify, a body that nothing else ends is cut (RFC 9112, 9.8)."""
    if isinstance(sock, ssl.SSLSocket):
        with contextlib.suppress(OSError, ValueError):
            sock.settimeout(2)
            sock.unwrap()
    sock.close()


@dataclass
class Origin:
    """A server on 127.0.0.1.  `paths`: what to do where; by default the request is read and answered with `ok`."""

    folder: Path
    alpn: tuple[str, ...] = ("http/1.1",)
    tls: bool = True
    port: int = 0
    record: bytearray = field(default_factory=bytearray)        # all that came, decrypted
    connections: int = 0
    greeting: bytes = b""
    on_connect: Callable[[socket.socket], None] | None = None     # instead of everything else, before TLS
    paths: dict[str, Callable[[socket.socket], None] | bytes] = field(default_factory=dict)
    h2_settings: dict[int, int] = field(default_factory=dict)
    h2_paths: dict[str, Callable[["H2Server", int], None]] = field(default_factory=dict)

    @contextlib.contextmanager
    def serve(self) -> Iterator["Origin"]:
        context = self._context() if self.tls else None
        with accepting(lambda sock: partial(self._serve, sock, context)) as self.port:
            yield self

    @property
    def roots(self) -> Path:
        return Authority.load_or_create(self.folder).pem_path

    def _context(self) -> ssl.SSLContext:
        authority = Authority.load_or_create(self.folder)
        leaf = authority.issue(HOSTS)
        pair = self.folder / "pair.pem"
        pair.write_bytes(leaf.chain_pem + leaf.key_pem)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair)
        context.set_alpn_protocols(list(self.alpn))
        return context

    def _serve(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, h11.RemoteProtocolError, h2.exceptions.ProtocolError), sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.on_connect:
                self.on_connect(sock)
                return
            end = context.wrap_socket(sock, server_side=True) if context else sock
            with end:
                if self.greeting:
                    end.sendall(self.greeting)
                if isinstance(end, ssl.SSLSocket) and end.selected_alpn_protocol() == "h2":
                    H2Server(self, end).run()
                else:
                    while self._one_request(end):
                        pass
                close(end)

    def _one_request(self, sock: socket.socket) -> bool:
        """Read a head; give the socket to what the path says, or read the body and say ok."""
        parser, head = h11.Connection(h11.SERVER, 1 << 24), b""
        while not isinstance(event := parser.next_event(), h11.Request):
            if not (data := self.recv(sock)):
                return False
            head += data
            parser.receive_data(data)
        act = self.paths.get(event.target.decode().partition("?")[0], OK)
        if callable(act):
            act(sock)
            return False
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                if not (data := self.recv(sock)):
                    return False
                parser.receive_data(data)
        sock.sendall(act)
        return b"content-length" in act.lower() or b"chunked" in act.lower()

    def recv(self, sock: socket.socket) -> bytes:
        data = sock.recv(65536)
        self.record += data
        return data


class H2Server:
    """One HTTP/2 connection: answers `ok` when a request has ended, or does what its path says when it begins."""

    def __init__(self, origin: Origin, sock: socket.socket) -> None:
        self.origin, self.sock = origin, sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.acknowledge = True
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self.special: set[int] = set()

    def run(self) -> None:
        if self.origin.h2_settings:
            self.h2.local_settings.update(self.origin.h2_settings)
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.flush()
        while data := self.sock.recv(65536):
            for event in self.h2.receive_data(data):
                self._on(event)
            self.flush()

    def _on(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                headers = dict(event.headers)
                self.origin.record += "".join(f"{k}: {v}\n" for k, v in event.headers).encode()
                if act := self.origin.h2_paths.get(headers[":path"]):
                    self.special.add(event.stream_id)
                    act(self, event.stream_id)
            case h2.events.DataReceived():
                self.origin.record += event.data
                if self.acknowledge:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
                if event.stream_id not in self.special:
                    self.answer(event.stream_id)
            case h2.events.StreamReset():
                self.reset[event.stream_id] = event.error_code

    def answer(self, stream_id: int, body: bytes = b"ok", *, end: bool = True, status: str = "200",
               headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.h2.send_headers(stream_id, [(":status", status), *headers])
        self.h2.send_data(stream_id, body, end_stream=end)

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())


@dataclass
class Answer:
    """What a client read of one response."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None


class H2Client:
    """A synchronous HTTP/2 client that sends what it is told, when it is told."""

    def __init__(self, sock: ssl.SSLSocket, host: str) -> None:
        self.sock, self.host = sock, host
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False,
            normalize_outbound_headers=False))
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.open = True
        self.h2.initiate_connection()
        self.flush()

    def __del__(self) -> None:
        self.sock.close()

    def request(self, path: str = "/", method: str = "GET", *, end: bool = True,
                headers: tuple[tuple[str, str], ...] = (), authority: str | None = None) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        self.answers[stream_id] = Answer()
        self.h2.send_headers(stream_id, [
            (":method", method), (":scheme", "https"), (":authority", self.host if authority is None else authority),
            (":path", path), *headers], end_stream=end)
        self.flush()
        return stream_id

    def send(self, stream_id: int, data: bytes, *, end: bool = False, frame: int = 16384) -> None:
        """Send as the windows allow; stop when the stream is over."""
        pieces = [data[i : i + frame] for i in range(0, len(data), frame)] or [b""]
        for position, piece in enumerate(pieces):
            while self.h2.local_flow_control_window(stream_id) < len(piece) and self.open:
                self.pump(5)
            if self.over(stream_id):
                return
            self.h2.send_data(stream_id, piece, end_stream=end and position == len(pieces) - 1)
            if position % 64 == 63:
                self.flush()
        self.flush()

    def over(self, stream_id: int) -> bool:
        answer = self.answers[stream_id]
        return answer.ended or answer.reset is not None or not self.open

    def flush(self) -> None:
        try:
            self.sock.sendall(self.h2.data_to_send())
        except OSError:
            self.open = False

    def pump(self, limit: float) -> bool:
        """Take what comes within the limit; return whether something came."""
        self.sock.settimeout(limit)
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if not data:
            self.open = False
            return False
        for event in self.h2.receive_data(data):
            self._on(event)
        self.flush()
        return True

    def _on(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                answer = self.answers[event.stream_id]
                answer.headers = dict(event.headers)
                answer.status = int(answer.headers[":status"])
            case h2.events.DataReceived():
                self.answers[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                self.answers[event.stream_id].headers |= dict(event.headers)
            case h2.events.StreamEnded():
                self.answers[event.stream_id].ended = True
            case h2.events.StreamReset():
                self.answers[event.stream_id].reset = event.error_code
            case h2.events.ConnectionTerminated():
                self.goaway = event.error_code

    def wait(self, stream_id: int, limit: float = 15) -> Answer:
        """Read until the stream is over."""
        while not self.over(stream_id) and self.pump(limit):
            pass
        return self.answers[stream_id]
