"""An origin for large uploads, as a program of its own: counts the bytes of bodies and keeps none.

`python -m tests.proxy.sink PAIR.pem` says its ports on the first line.  Each request is answered with how many bytes of its body came; `GET /seen` with
how many came of the latest body, whether or not that was whole.
"""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h11

from certs.authority import Authority
from tests.proxy.origin import HOSTS

#: Bytes that a client may send before we have said something to it: what real servers allow on HTTP/2.
WINDOW = 1 << 20
seen = 0


def main() -> None:
    ports = []
    for alpn in ("http/1.1", "h2"):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[1])
        context.set_alpn_protocols([alpn])
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        threading.Thread(target=accept, args=(listener, context), daemon=True).start()
        ports.append(listener.getsockname()[1])
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


def accept(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0], context), daemon=True).start()


def serve(raw: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError, h11.RemoteProtocolError, h2.exceptions.ProtocolError), \
            context.wrap_socket(raw, server_side=True) as sock:
        if sock.selected_alpn_protocol() == "h2":
            http2(sock)
        else:
            while http1(sock):
                pass


def http1(sock: ssl.SSLSocket) -> bool:
    global seen
    parser, size, asks = h11.Connection(h11.SERVER), 0, False
    while not isinstance(event := parser.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            if not (data := sock.recv(65536)):
                return False
            parser.receive_data(data)
        elif isinstance(event, h11.Request):
            asks = event.target == b"/seen"
            if event.method == b"POST":
                seen = 0
        elif isinstance(event, h11.Data):
            size += len(event.data)
            seen = size
    body = b"%d" % (seen if asks else size)
    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    return True


def http2(sock: ssl.SSLSocket) -> None:
    global seen
    end = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    end.initiate_connection()
    end.increment_flow_control_window(WINDOW)
    sock.sendall(end.data_to_send())
    while data := sock.recv(65536):
        for event in end.receive_data(data):
            match event:
                case h2.events.RequestReceived():
                    end.increment_flow_control_window(WINDOW, event.stream_id)
                    seen = 0
                case h2.events.DataReceived():
                    seen += len(event.data)
                    end.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    end.send_headers(event.stream_id, [(":status", "200")])
                    end.send_data(event.stream_id, b"%d" % seen, end_stream=True)
        sock.sendall(end.data_to_send())


@dataclass
class Sink:
    """A running one."""

    h1: int
    h2: int
    roots: Path     # what it is verified by
    context: ssl.SSLContext

    def seen(self) -> int:
        """How many bytes of the latest body have come."""
        with socket.create_connection(("127.0.0.1", self.h1)) as raw, self.context.wrap_socket(raw, server_hostname="origin.test") as sock:
            sock.sendall(b"GET /seen HTTP/1.1\r\nhost: origin.test\r\n\r\n")
            return int(sock.recv(4096).rpartition(b"\n")[2])


@contextlib.contextmanager
def sinking(folder: Path) -> Iterator[Sink]:
    """Start one, with a root of its own."""
    authority = Authority.load_or_create(folder)
    leaf = authority.issue(HOSTS)
    (folder / "pair.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    command = [sys.executable, "-m", "tests.proxy.sink", str(folder / "pair.pem")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            ports, roots = json.loads(process.stdout.readline()), authority.pem_path
            yield Sink(*ports, roots, ssl.create_default_context(cafile=str(roots)))
        finally:
            process.kill()


if __name__ == "__main__":
    main()
