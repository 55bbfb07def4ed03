"""WebSocket: messages pass whole, one that may not ends both sides."""

import base64
import gzip
import json
import socket
import threading

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.proxy.conftest import running

KEY = "AKIA" + "4QXB7ZKLMRTW2NPD"
STARS = "*" * len(KEY)
POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 2, hello: 2}}
filters:
  - {{id: no-secrets, use: secrets.Secrets, deadline: 5000, when: "!~u answers & !~u masked"}}
  - {{id: masking, use: secrets.Secrets, with: {{action: redact, responses: true}}, deadline: 5000, when: ~u masked}}
  - {{id: nor-in-answers, use: secrets.Secrets, with: {{responses: true}}, deadline: 5000, when: ~u answers}}
  - {{id: slow, use: ./mine.py:Slow, when: ~u slow, deadline: 5000}}
"""
FILTERS = """
import asyncio
class Slow:
    async def websocket_message(self, flow): await asyncio.sleep(0.2)
"""


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", POLICY.format(roots=origin.roots), FILTERS) as started:
        yield started


class Server:
    """Echoes messages, and remembers them and how it ended."""

    def __init__(self, origin):
        self.messages, self.code = [], None
        self.deflate = False
        self._end = threading.Event()
        origin.paths["/ws"] = origin.paths["/slow"] = origin.paths["/masked"] = self

    def __call__(self, sock: socket.socket):
        extensions = "sec-websocket-extensions: permessage-deflate\r\n" if self.deflate else ""
        sock.sendall((f"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n{extensions}"
                      "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").encode())
        deflate = PerMessageDeflate()
        deflate.finalize("permessage-deflate")
        ws = Connection(ConnectionType.SERVER, [deflate] if self.deflate else [])
        try:
            while data := sock.recv(65536):
                ws.receive_data(data)
                for event in ws.events():
                    self.on(ws, sock, event)
        finally:
            self._end.set()

    @property
    def ended(self):
        """It has, or does soon."""
        return self._end.wait(5)

    def on(self, ws, sock, event):
        match event:
            case TextMessage() | BytesMessage():
                self.messages.append(event.data)
                sock.sendall(ws.send(type(event)(event.data, message_finished=event.message_finished)))
            case Ping():
                sock.sendall(ws.send(event.response()))
            case CloseConnection():
                self.code = event.code


class Client:
    def __init__(self, proxy, origin, *, deflate=False, path="/ws"):
        self.sock = proxy.tls(origin)
        self.ws = WSConnection(ConnectionType.CLIENT)
        extensions = [PerMessageDeflate()] if deflate else []
        request = self.ws.send(Request("origin.test", path, extensions=extensions))
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        self.sock.sendall(request.replace(key, b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
        self.ws._nonce = b"dGhlIHNhbXBsZSBub25jZQ=="
        self.ws.handshake._nonce = b"dGhlIHNhbXBsZSBub25jZQ=="
        assert isinstance(self.next(), AcceptConnection)

    def next(self):
        while True:
            for event in self.ws.events():
                return event
            self.ws.receive_data(self.sock.recv(65536) or None)

    def message(self):
        """A whole one, in however many fragments it comes."""
        got = self.next()
        whole = got.data
        while not got.message_finished:
            got = self.next()
            whole += got.data
        return whole

    def send(self, event):
        self.sock.sendall(self.ws.send(event))

    def __del__(self):
        self.sock.close()


@pytest.fixture
def server(origin):
    return Server(origin)


@pytest.mark.parametrize("deflate", [False, True])
def test_messages_pass(proxy, origin, server, deflate):
    server.deflate = deflate
    client = Client(proxy, origin, deflate=deflate)
    for message in (TextMessage("hello"), BytesMessage(b"\0\1" * 50_000), TextMessage("")):
        client.send(message)
        assert client.message() == message.data
    client.send(Ping(b"x"))
    assert isinstance(client.next(), Pong)


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("pieces", [[KEY], ["a " + KEY[:9], KEY[9:] + " b"]], ids=["whole", "in fragments"])
def test_secret_ends_both_sides(proxy, origin, server, deflate, pieces):
    server.deflate = deflate
    client = Client(proxy, origin, deflate=deflate)
    for number, piece in enumerate(pieces):
        client.send(TextMessage(piece, message_finished=number == len(pieces) - 1))
    end = client.next()
    assert isinstance(end, CloseConnection)
    assert end.code == 1008
    assert "blocked" in end.reason
    assert server.ended
    assert (server.messages, server.code) == ([], 1008)
    event = proxy.events()[-1]
    assert (event["lockgate"]["verdict"], event["lockgate"]["filter"]) == ("block", "no-secrets")


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize(("pieces", "expected"), [
    pytest.param([f"a {KEY} b"], f"a {STARS} b", id="text"),
    pytest.param(["a " + KEY[:9], KEY[9:] + " b"], f"a {STARS} b", id="in fragments"),
    pytest.param([f'{{"a": "\\u0041{KEY[1:]}"}}'], f'{{"a": "******{STARS[1:]}"}}', id="escaped"),
    pytest.param([gzip.compress(KEY.encode())], STARS, id="compressed"),
    pytest.param(["clean"], "clean", id="clean"),
])
def test_a_secret_is_masked_and_the_connection_goes_on(proxy, origin, server, deflate, pieces, expected):
    server.deflate = deflate
    client = Client(proxy, origin, deflate=deflate, path="/masked")
    for number, piece in enumerate(pieces):
        kind = TextMessage if isinstance(piece, str) else BytesMessage
        client.send(kind(piece, message_finished=number == len(pieces) - 1))
    heard = client.message()
    assert (gzip.decompress(heard).decode() if isinstance(heard, bytes) else heard) == expected
    assert KEY not in str(server.messages)
    client.send(TextMessage("after"))
    assert client.message() == "after"


def test_a_secret_in_an_answer_is_masked(proxy, origin, server):
    server.on = lambda ws, sock, event: isinstance(event, TextMessage) and sock.sendall(
        ws.send(TextMessage(event.data.replace("?", KEY))))
    client = Client(proxy, origin, path="/masked")
    client.send(TextMessage("the key is ?"))
    assert client.next().data == f"the key is {STARS}"


def test_what_follows_a_blocked_message_does_not_pass(proxy, origin, server):
    client = Client(proxy, origin)
    client.sock.sendall(client.ws.send(TextMessage(KEY)) + client.ws.send(TextMessage("after")))
    assert client.next().code == 1008
    assert server.ended
    assert server.messages == []


def test_in_order_while_a_filter_waits(proxy, origin, server):
    """All four are there before the filter has thought about the first: no echo comes between them."""
    client = Client(proxy, origin, path="/slow")
    client.sock.sendall(b"".join(client.ws.send(TextMessage(text)) for text in ("one", "two", KEY, "three")))
    assert client.next().code == 1008
    assert server.ended
    assert server.messages == ["one", "two"]


@pytest.mark.parametrize("fragments", [1, 6000])
def test_too_large(proxy, origin, server, fragments):
    before = proxy.memory()
    client = Client(proxy, origin)
    piece = b"z" if fragments > 1 else b"z" * (17 * 2**20)
    try:
        for _ in range(fragments):
            client.send(BytesMessage(piece, message_finished=False))
    except OSError:
        """It hears us out within bounds only."""
    end = client.next()
    assert (type(end), end.code) == (CloseConnection, 1009)
    assert server.messages == []
    assert proxy.memory() - before < 120 * 2**20


def test_bomb(proxy, origin, server):
    """16 MiB that inflate a thousandfold are not taken whole."""
    server.deflate = True
    before = proxy.memory()
    client = Client(proxy, origin, deflate=True)
    client.send(BytesMessage(bytes(100 * 2**20)))
    assert client.next().code == 1009
    assert proxy.memory() - before < 250 * 2**20


@pytest.mark.parametrize("code", [1000, 1001, 4000])
def test_ordinary_end(proxy, origin, server, code):
    client = Client(proxy, origin)
    client.send(TextMessage("hello"))
    assert client.next().data == "hello"
    client.send(CloseConnection(code, "bye"))
    assert client.next().code == code
    client.sock.close()
    assert server.ended
    assert server.code == code


def test_garbage_frames(proxy, origin, server):
    client = Client(proxy, origin)
    client.sock.sendall(b"\xff" * 100)
    assert isinstance(client.next(), CloseConnection)
    assert server.messages == []


def test_client_vanishes(proxy, origin, server):
    client = Client(proxy, origin)
    client.send(TextMessage("hello"))
    client.next()
    client.sock.close()
    assert server.ended


def encoded(text):
    return base64.b64encode(f"this is {text}, isn't it".encode()).decode()


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("message", [
    pytest.param(TextMessage(json.dumps({"a": {"b": "x " + KEY.replace("A", "\\u0041")}}).replace("\\\\", "\\")), id="JSON escapes"),
    pytest.param(BytesMessage(gzip.compress(KEY.encode())), id="compressed once more"),
    pytest.param(TextMessage(encoded(KEY)), id="base64"),
    pytest.param(TextMessage("." * 300_000 + KEY), id="the end of a long one"),
])
def test_what_is_inside_a_message_is_found(proxy, origin, server, message, deflate):
    server.deflate = deflate
    client = Client(proxy, origin, deflate=deflate)
    client.send(message)
    end = client.next()
    assert (end.code, end.reason.startswith("blocked: secret")) == (1008, True)
    assert server.messages == []


@pytest.mark.parametrize(("path", "passes"), [("/ws", True), ("/answers", False)])
def test_what_the_server_says(proxy, origin, server, path, passes):
    """Searched where the policy asks for it."""
    origin.paths["/answers"] = server
    server.on = lambda ws, sock, event: isinstance(event, TextMessage) and sock.sendall(
        ws.send(TextMessage(encoded(KEY))))
    client = Client(proxy, origin, path=path)
    client.send(TextMessage("what is it?"))
    got = client.next()
    assert got.data == encoded(KEY) if passes else got.code == 1008
