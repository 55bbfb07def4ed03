"""Many uploads at once: what the scanners keep of each, and that others are served meanwhile.

FULL=1 in the environment: a thousand.
"""

import contextlib
import os
import time

import pytest

from tests.proxy.bulk import BODIES, CHUNK, VALUE
from tests.proxy.conftest import read_answer, running
from tests.proxy.ping import pinging
from tests.proxy.sink import sinking

MANY = 1000 if os.environ.get("FULL") else 60
#: Bytes that the worker may grow by for one upload that goes on: connections, TLS and held bytes, scanners and views.
EACH = 96 * 1024
#: Bytes of each that have been sent when the worker is measured.
SENT = 4 * CHUNK
POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 120}}
filters:
"""
FILTERS = """\
  - {{id: secrets, use: secrets.Secrets}}
  - {{id: cards, use: cards.Cards}}
  - {{id: pii, use: pii.Pii}}
"""


@pytest.fixture(scope="module")
def sink(tmp_path_factory):
    with sinking(tmp_path_factory.mktemp("sink")) as started:
        yield started


def begin(proxy, sink, name):
    """Send the beginning of an upload; return the connection, on which it goes on."""
    headers, maker = BODIES[name]
    sock = proxy.tls(sink.h1)
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers)
    sock.sendall(f"POST / HTTP/1.1\r\nhost: origin.test\r\ntransfer-encoding: chunked\r\n{lines}\r\n".encode())
    sent = 0
    for piece in maker(16 * SENT):
        if piece:
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            sent += len(piece)
        if sent >= SENT:
            return sock
    return sock


def grown(proxy, sink, name, stack):
    """How much larger the worker is for each of the uploads that go on; and these."""
    for _ in range(3):
        begin(proxy, sink, name).close()
    time.sleep(0.5)
    before = proxy.memory()
    sockets = [stack.enter_context(begin(proxy, sink, name)) for _ in range(MANY)]
    time.sleep(1)
    return (proxy.memory() - before) / MANY, sockets


@pytest.mark.parametrize("name", ["plain", "multipart", "zip", "base64 in JSON"])
def test_many_at_once(sink, tmp_path, name):
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(running(tmp_path / "worker", (POLICY + FILTERS).format(roots=sink.roots)))
        each, sockets = grown(proxy, sink, name, stack)
        with pinging(proxy.port, sink.h1, proxy.ca) as pings:
            time.sleep(1)
        print(f"{name}: {each / 1024:.1f} KiB each; ping {pings}")
        assert each <= EACH
        if name == "plain":
            ended = [end(sock) for sock in sockets]
            assert set(ended) == {403}


def end(sock):
    """The value comes at last."""
    with contextlib.suppress(OSError):
        piece = b" key = " + VALUE + b"\n"
        sock.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece))
    return read_answer(sock, "POST").status
