"""What would fill the memory or never end: refused with the reason, in bounded memory and time, and others are served."""

import contextlib
import json
import threading
import time

import pytest

from tests.proxy import bombs, holds
from tests.proxy.conftest import MIB, read_answer, running
from tests.proxy.ping import pinging

#: Seconds until the answer must be there, on a busy machine; what PATIENCE of the PDF reader is comes on top.
SOON, PAPER = 30, 40
#: A document is collected, and what is read of it.
EXTRA, EXTRA_PAPER = 32 * MIB, 96 * MIB
POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 60}}
filters:
""" + holds.RULE + """\
  - {{id: no-secrets, use: secrets.Secrets}}
  - {{id: no-cards, use: cards.Cards}}
"""
BOMBS = bombs.all_of_them()


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", POLICY.format(roots=origin.roots), holds.FILTER) as started:
        started.upload(origin, bombs.pdf(b"BT /F 1 Tf (a b) Tj ET"), headers="content-type: application/pdf\r\n")
        yield started


@contextlib.contextmanager
def watched(proxy):
    """The resident bytes of the worker, now and then, while the block runs."""
    sizes, over = [proxy.memory()], threading.Event()

    def watch():
        while not over.wait(0.02):
            sizes.append(proxy.memory())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield sizes
    finally:
        over.set()
        thread.join()


def send(proxy, origin, headers, body):
    with proxy.tls(origin) as sock:
        sock.settimeout(60)
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        with contextlib.suppress(OSError):
            sock.sendall(f"POST /bomb HTTP/1.1\r\nhost: origin.test\r\naccept: application/json\r\n{lines}"
                         f"content-length: {len(body)}\r\n\r\n".encode() + body)
        return read_answer(sock, "POST")


@pytest.mark.parametrize("name", BOMBS)
def test_bomb(proxy, origin, name):
    headers, body = BOMBS[name]
    paper = name.startswith("PDF")
    holds.noted(proxy, origin)
    with pinging(proxy.port, origin.port, proxy.ca) as idle:
        time.sleep(1)
    with watched(proxy) as sizes, pinging(proxy.port, origin.port, proxy.ca) as pings:
        began = time.monotonic()
        answer = send(proxy, origin, headers, body)
        took = time.monotonic() - began
        time.sleep(0.2)
    noted = holds.noted(proxy, origin)
    said = json.loads(answer.body) if answer.status == 403 else {}
    print(f"{name}: {answer.status} {said.get('detail')}; {took:.1f} s, {(max(sizes) - sizes[0]) / MIB:+.1f} MiB, "
          f"ping {pings} idle {idle}, holds {({k: round(v * 1000, 2) if k != 'calls' else v for k, v in noted.items()})}")
    assert answer.status == 403
    assert "unscannable" in said["detail"]
    assert took < (PAPER if paper else SOON)
    assert max(sizes) - sizes[0] <= (EXTRA_PAPER if paper else EXTRA)
    assert any(event["lockgate"].get("incident") == said["incident"] and "unscannable" in event["lockgate"]["reason"]
               for event in proxy.events())
