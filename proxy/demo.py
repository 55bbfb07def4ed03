"""`lockgate demo`: the whole story on loopback, with an origin of its own; no root, no internet."""

import argparse
import gzip
import http.client
import http.server
import json
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from certs.authority import Authority
from proxy import sinks
from proxy.launcher import Launch, Launcher

POLICY = """\
version: 1
tls:
  bypass: [bank.demo.test]
  upstream: {{trusted_ca: {roots}}}
filters:
  - id: no-ads
    use: blocklist.Hosts
    with: {{hosts: [ads.demo.test]}}
  - id: classes
    use: classify.Http
  - id: no-secrets
    use: secrets.Secrets
  - id: no-cards
    use: cards.Cards
"""
#: Bait: AWS's form of a key, made up; and the test number that card schemes publish.
SECRET = b"AKIA" + b"4QXB7ZKLMRTW2NPD"
CARD = b"4111 1111 1111 1111"
PLEASE_JSON = {"accept": "application/json"}
HOSTS = ("api.demo.test", "ads.demo.test", "bank.demo.test")


@dataclass(slots=True)
class Origin:
    """A web server that remembers what reached it."""

    folder: Path
    port: int = 0
    connections: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    roots: Path = Path()

    @contextmanager
    def serve(self) -> Iterator[None]:
        authority = Authority.create(self.folder)
        self.roots = authority.pem_path
        leaf = authority.issue(HOSTS)
        pair = self.folder / "pair.pem"
        pair.write_bytes(leaf.chain_pem + leaf.key_pem)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair)
        context.sni_callback = lambda _, name, __: self.connections.append(name)
        server = _Server(("127.0.0.1", 0), _handler(self))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A request cut in the middle is what the demo shows, no mishap."""


def _handler(origin: Origin) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b'{"hello": "from the origin"}')

        def do_POST(self) -> None:
            left, position = int(self.headers["content-length"]), len(origin.bodies)
            origin.bodies.append(b"")
            while left and (data := self.rfile.read1(min(left, 65536))):
                origin.bodies[position] += data
                left -= len(data)
            if not left:
                self._answer(b'{"stored": true}')

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client got."""

    status: int
    body: bytes
    issuer: str


def fetch(proxy: tuple[str, int], origin: Origin, host: str, root: Path, *, trust: Path | None = None,
          method: str = "GET", path: str = "/", body: bytes = b"", headers: dict[str, str] | None = None) -> Seen:
    """One request as an application makes it that knows the proxy; it trusts `root` alone."""
    context = ssl.create_default_context(cafile=str(trust or root))
    with socket.create_connection(proxy, timeout=15) as plain:
        plain.sendall(f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\nhost: 127.0.0.1:{origin.port}\r\n\r\n".encode())
        if b" 200 " not in plain.recv(4096).partition(b"\r\n")[0]:
            raise OSError("the proxy refused the tunnel")
        with context.wrap_socket(plain, server_hostname=host) as tls:
            issuer = dict(pair[0] for pair in tls.getpeercert()["issuer"])  # type: ignore[index, misc]
            connection = http.client.HTTPConnection(host, origin.port)
            connection.sock = tls
            connection.request(method, path, body or None, headers or {})
            response = connection.getresponse()
            return Seen(response.status, response.read(), str(issuer["commonName"]))


def demo(_: argparse.Namespace) -> int:
    """See the main job in a minute: decrypt, classify, block, stop a leak, leave alone.  Needs nothing but itself.

    example:
      lockgate demo
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lockgate-demo-") as name:
        folder = Path(name)
        folder.chmod(0o755)     # the proxy reads the policy there as another user
        origin = Origin(folder / "origin")
        with origin.serve():
            roots, policy = folder / "origin-root.pem", folder / "policy.yaml"
            roots.write_bytes(origin.roots.read_bytes())
            policy.write_text(POLICY.format(roots=roots))
            for path in (roots, policy):
                path.chmod(0o644)
            launcher = Launcher(Launch(folder / "state", policy, [("127.0.0.1", 0)]))
            pair = launcher.start()
            try:
                ok = _story(pair.ready, origin)
                time.sleep(0.3)     # the writer of events works in batches
            finally:
                launcher.stop()
            _events(folder / "state")
    print(f"\n{'All as promised' if ok else 'NOT as promised: see above'}, in {time.monotonic() - started:.1f} s. "
          "Next: README.md, `lockgate run -- CMD`.")
    return 0 if ok else 1


def _story(ready: dict[str, Any], origin: Origin) -> bool:
    proxy, root = tuple(ready["listen"][0][:2]), Path(ready["ca"])
    oks = []

    def show(title: str, lines: list[str], ok: bool) -> None:
        oks.append(ok)
        print(f"\n{'ok ' if ok else 'BAD'} {title}", *(f"      {text}" for text in lines), sep="\n")

    print("lockgate demo: an application, the proxy and an origin, all on this computer's loopback.")
    seen = fetch(proxy, origin, HOSTS[0], root)
    show("1. An ordinary request is decrypted, classified and answered by the origin.",
         [f"GET https://{HOSTS[0]}/ -> {seen.status} {seen.body.decode()}",
          f"the certificate that the client saw was made for this host by: {seen.issuer}"], seen.status == 200)

    before = len(origin.connections)
    seen = fetch(proxy, origin, HOSTS[1], root, headers=PLEASE_JSON)
    problem = json.loads(seen.body)
    show("2. A host on the block list gets an answer with the reason, and the origin gets nothing.",
         [f"GET https://{HOSTS[1]}/ -> {seen.status} {problem['detail']} (incident {problem['incident']})",
          f"connections that reached the origin: {len(origin.connections) - before}"],
         seen.status == 403 and len(origin.connections) == before)

    leak = gzip.compress(b'{"note": "deploy with ' + SECRET + b'"}')
    seen = fetch(proxy, origin, HOSTS[0], root, method="POST", path="/upload", body=leak,
                 headers={"content-encoding": "gzip", **PLEASE_JSON})
    show("3. A cloud key in a compressed upload is found.",
         [f"POST with gzip -> {seen.status} {json.loads(seen.body)['detail']}",
          f"bytes of the body that reached the origin: {sum(map(len, origin.bodies))}"],
         seen.status == 403 and not any(origin.bodies))

    upload = b"x" * 300_000 + b" card " + CARD + b" " + b"y" * 300_000
    seen = fetch(proxy, origin, HOSTS[0], root, method="POST", path="/upload", body=upload, headers=PLEASE_JSON)
    arrived = b"".join(origin.bodies)
    show("4. A payment card in the middle of a streamed upload stops it there.",
         [f"POST of {len(upload)} bytes -> {seen.status} {json.loads(seen.body)['detail']}",
          f"{len(arrived)} bytes had reached the origin; of the number: {len(_prefix(arrived))} characters"],
         seen.status == 403 and len(_prefix(arrived)) <= 4)

    seen = fetch(proxy, origin, HOSTS[2], root, trust=origin.roots)
    show("5. A bypassed host is left alone: the client sees the origin's own certificate.",
         [f"GET https://{HOSTS[2]}/ -> {seen.status}, certificate by: {seen.issuer} (the origin's authority)"],
         seen.status == 200)
    return all(oks)


def _prefix(arrived: bytes) -> bytes:
    """The longest beginning of the card number at the end of what arrived."""
    return next((CARD[:n] for n in range(len(CARD), 0, -1) if CARD[:n] in arrived), b"")


def _events(state: Path) -> None:
    from proxy.events import line

    print("\n    What `lockgate events` says of it:")
    for event in sinks.read(state):
        if event.get("event_type") != "lockgate":
            print("     ", line(event))
    sys.stdout.flush()
