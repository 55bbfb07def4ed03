"""What `doctor` proves with a real worker: decrypt, block, stop a leak, fail closed; as root capture and loops too."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from proxy import destination
from proxy.demo import CARD, HOSTS, PLEASE_JSON, Origin, fetch
from proxy.launcher import Launch, Launcher
from redirector.nft import Tables
from redirector.plan import Plan

#: Seconds for a captured command: a start, a request, a stop.
CAPTURE_LIMIT = 30.0
POLICY = """\
version: 1
capture: {{loopback: true, ports: [{port}], quic: allow}}
tls: {{upstream: {{trusted_ca: {roots}}}}}
filters:
  - {{id: no-ads, use: blocklist.Hosts, with: {{hosts: [{blocked}]}}}}
  - {{id: cards, use: cards.Cards}}
  - {{id: broken, use: ./broken.py:Broken}}
"""
BROKEN = '''\
class Broken:
    def requestheaders(self, flow):
        if "broken" in flow.request.path:
            raise RuntimeError("as the self-test wants it")
'''
#: What a program does that knows nothing of us: it trusts its system, dials the address, and names the host.
ASK = """
import http.client, socket, ssl, sys
port, host = int(sys.argv[1]), sys.argv[2]
plain = socket.create_connection(("127.0.0.1", port), 10)
connection = http.client.HTTPConnection(host, port)
connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
connection.request("GET", "/")
print(connection.getresponse().status, dict(pair[0] for pair in connection.sock.getpeercert()["issuer"])["commonName"])
"""

#: One that knows nothing of certificates, and what another redirector does to us: it leads our connections back.
TRY = """
import http.client, ssl, sys
anyone = ssl._create_unverified_context()
connection = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), timeout=20, context=anyone)
connection.request("GET", "/")
print(connection.getresponse().status)
"""
ANOTHER = """\
table inet lockgate_another {{
  flags owner
  chain out {{
    type nat hook output priority -101
    meta skuid {uid} tcp dport {port} redirect to :{relay}
  }}
}}
"""

type Finding = tuple[str, bool, str]


def run(folder: Path, *, captured: bool) -> Iterator[Finding]:
    """Yield what was tried, whether it went well, and how; `folder` is empty, and others may pass it."""
    if captured:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)       # in this thread's network namespace
    origin = Origin(folder / "origin")
    with origin.serve():
        roots, policy = folder / "roots.pem", folder / "policy.yaml"
        roots.write_bytes(origin.roots.read_bytes())
        (folder / "broken.py").write_text(BROKEN)
        policy.write_text(POLICY.format(port=origin.port, roots=roots, blocked=HOSTS[1]))
        for path in (roots, policy, folder / "broken.py"):
            path.chmod(0o644)
        yield from _explicit(folder / "state", policy, origin)
        if captured:
            yield _captured(folder, policy, origin)
            yield _looped(folder, policy, origin)


def _explicit(state: Path, policy: Path, origin: Origin) -> Iterator[Finding]:
    launcher = Launcher(Launch(state, policy, [("127.0.0.1", 0)]))
    try:
        ready = launcher.start().ready
        proxy, root = tuple(ready["listen"][0][:2]), Path(ready["ca"])
        seen = fetch(proxy, origin, HOSTS[0], root)
        yield "decrypt", seen.status == 200, f"a request got {seen.status}, with a certificate by {seen.issuer}"
        before = len(origin.connections)
        seen = fetch(proxy, origin, HOSTS[1], root, headers=PLEASE_JSON)
        yield ("block", seen.status == 403 and len(origin.connections) == before,
               f"a blocked host got {seen.status}, {len(origin.connections) - before} connections reached it")
        body = b'{"card": "' + CARD + b'"}'
        seen = fetch(proxy, origin, HOSTS[0], root, method="POST", body=body, headers=PLEASE_JSON)
        yield "leak", seen.status == 403 and CARD not in b"".join(origin.bodies), f"a card number got {seen.status}"
        seen = fetch(proxy, origin, HOSTS[0], root, path="/broken", headers=PLEASE_JSON)
        why = json.loads(seen.body).get("detail", "the request passed")
        yield "fail mode", seen.status == 403, f"a filter that raises got {seen.status}: {why}"
    finally:
        launcher.stop()


def _captured(folder: Path, policy: Path, origin: Origin) -> Finding:
    command = [sys.executable, "-I", "-m", "proxy.cli", "run", "--policy", str(policy),
               "--state", str(folder / "state"), "--run-dir", str(folder / "run"), "--",
               sys.executable, "-I", "-c", ASK, str(origin.port), HOSTS[0]]
    environment = {key: value for key, value in os.environ.items() if key != "SUDO_USER"}   # it is no work of theirs
    done = subprocess.run(command, capture_output=True, text=True, timeout=CAPTURE_LIMIT, env=environment)
    said = (done.stdout + done.stderr).strip().partition("\n")[0]
    return "capture", done.stdout.startswith("200 lockgate"), f"a program that knows nothing of us got: {said}"


def _looped(folder: Path, policy: Path, origin: Origin) -> Finding:
    """Another redirector leads back to us what we send to the origin."""
    def plan(port: int, uid: int | None) -> Plan:
        return Plan((origin.port,), port, uid, quic="allow", fail="open", loopback=True)

    launcher = Launcher(Launch(folder / "state", policy, [("127.0.0.1", 0)], plan, instance="doctor",
                               run_dir=str(folder / "run"), log_level="CRITICAL"))
    with socket.create_server(("127.0.0.1", 0)) as relay, contextlib.closing(Tables()) as tables:
        threading.Thread(target=_lead_back, args=(relay,), daemon=True).start()
        try:
            launcher.start()
            tables.run(ANOTHER.format(uid=launcher.exempt_uid, port=origin.port, relay=relay.getsockname()[1]))
            done = subprocess.run([sys.executable, "-I", "-c", TRY, str(origin.port)], capture_output=True, text=True,
                                  timeout=CAPTURE_LIMIT)
        finally:
            launcher.stop()
            relay.shutdown(socket.SHUT_RDWR)
    said = (done.stdout + done.stderr).strip().rpartition("\n")[2]
    return "loop guard", said == "508", f"a connection that another redirector led back to us got {said}"


def _lead_back(relay: socket.socket) -> None:
    """One after another: the first words on, and the answer back."""
    with contextlib.suppress(OSError):
        while True:
            client, _ = relay.accept()
            with client, contextlib.suppress(OSError), socket.create_connection(destination.original(client), 10) as on:
                on.sendall(client.recv(65536))
                while data := on.recv(65536):
                    client.sendall(data)
