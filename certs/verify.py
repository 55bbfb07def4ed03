"""Does a program really accept us? A server on loopback with a leaf of ours, and the programs as its clients."""

import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from certs.authority import Authority
from certs.command import StoreError, run

#: What is said when there is only the certificate: a handshake takes a leaf, and that takes the key.
NEEDS_KEY = "a real handshake needs the key; `lockgate ca verify` makes one"

#: Clients of ours answer at once; a stray one must not hold the server up.
CLIENT_TIME = 5.0

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

#: Debian's first: an interpreter that brings its own OpenSSL may not look where the system keeps its roots.
PYTHON = Path("/usr/bin/python3")

FETCH = "import sys, urllib.request as r; print(r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=5).status)"


class Server:
    """A TLS server on loopback whose leaf is for localhost."""

    def __init__(self, context: ssl.SSLContext, listener: socket.socket) -> None:
        self._context, self._listener = context, listener
        self.port: int = listener.getsockname()[1]
        self.url = f"https://localhost:{self.port}/"

    def serve(self) -> None:
        """Answer one client after another until the listener is closed."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(CLIENT_TIME)
            with client, suppress(OSError), self._context.wrap_socket(client, server_side=True) as tls:
                tls.recv(65_536)
                tls.sendall(ANSWER)
                tls.unwrap()


@contextmanager
def serving(authority: Authority) -> Iterator[Server]:
    """Run a server whose leaf the authority has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf = authority.issue(["localhost", "127.0.0.1"])
    with tempfile.NamedTemporaryFile(prefix="lockgate-") as pem:  # OpenSSL reads keys from files only; it is 0600
        pem.write(leaf.key_pem + leaf.chain_pem)
        pem.flush()
        context.load_cert_chain(pem.name)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(context, listener)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # a close alone does not wake accept()
            thread.join()


def curl(server: Server) -> str:
    """Fetch as curl would, without its configuration file. Raises StoreError if it does not accept us."""
    with tempfile.TemporaryDirectory() as home:
        run(["curl", "-q", "--silent", "--show-error", "--noproxy", "*", server.url], home=Path(home))
    return "curl accepts it"


def python(server: Server) -> str:
    """Fetch as a fresh Python would. Raises StoreError if it does not accept us."""
    program = PYTHON if PYTHON.exists() else Path(sys.executable)
    with tempfile.TemporaryDirectory() as home:
        try:
            run([program, "-I", "-c", FETCH, server.url], home=Path(home))
        except StoreError as error:
            raise StoreError(f"Python does not accept us: {str(error).splitlines()[-1]}") from None
    return "Python accepts it"


def nss(server: Server, files: dict[str, bytes]) -> str:
    """Connect as NSS would with a copy of these database files. Raises StoreError if it does not accept us."""
    with tempfile.TemporaryDirectory() as home:
        for name, data in files.items():
            (Path(home) / name).write_bytes(data)
        command = ["vfyserv", "-d", f"sql:{home}", "-p", str(server.port), "localhost"]
        output = run(command, home=Path(home), codes=(0, 1))  # its code tells nothing, in either direction
    if "Handshake Complete" not in output or "ERROR" in output:
        raise StoreError(f"NSS does not accept us:\n{output.strip()}")
    return "NSS accepts it"
