"""Uploads of any size: what is in their last bytes stops them, and the proxy stays as small as it was.

FULL=1 in the environment: 8 GiB.
"""

import contextlib
import json
import os
import time

import pytest

from tests.proxy.bulk import BODIES, CHUNK, PLACE
from tests.proxy.conftest import MIB, read_answer, running
from tests.proxy.sink import sinking

FULL = bool(os.environ.get("FULL"))
#: Bytes of text: what a proxy that keeps bodies would have to keep.
LARGE = 8192 * MIB if FULL else 64 * MIB
#: What an upload may cost the proxy, however large it is.
EXTRA = 32 * MIB
POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 30}}
filters:
  - {{id: no-secrets, use: secrets.Secrets}}
  - {{id: no-cards, use: cards.Cards}}
  - {{id: no-pii, use: pii.Pii}}
"""


@pytest.fixture(scope="module")
def sink(tmp_path_factory):
    with sinking(tmp_path_factory.mktemp("sink")) as started:
        yield started


@pytest.fixture(scope="module")
def proxy(sink, tmp_path_factory):
    with running(tmp_path_factory.mktemp("shown") / "worker", POLICY.format(roots=sink.roots)) as started:
        for way in WAYS.values():       # what is needed once is not what an upload costs
            for name in BODIES:
                way(started, sink, name, MIB, [])
        yield started


class Sent:
    """Counts what of a body has been made before the value, and how large the proxy is meanwhile."""

    def __init__(self, proxy, name, size, sizes):
        self.headers, maker = BODIES[name]
        self.place, self._made, self._proxy, self._sizes, self._maker = 0, 0, proxy, sizes, maker(size)

    def __iter__(self):
        for number, chunk in enumerate(self._maker):
            if chunk == PLACE:
                self.place = self._made
            self._made += len(chunk)
            if number % 64 == 0:
                self._sizes.append(self._proxy.memory())
            if chunk:
                yield chunk
        self._sizes.append(self._proxy.memory())


def http1(proxy, sink, name, size, sizes, length=None):
    """Chunked, unless a length is to be announced."""
    sent = Sent(proxy, name, size, sizes)
    fields = [*sent.headers, ("content-length", length) if length else ("transfer-encoding", "chunked")]
    head = "".join(f"{key}: {value}\r\n" for key, value in fields)
    with proxy.tls(sink.h1) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(f"POST /up HTTP/1.1\r\nhost: origin.test\r\naccept: application/json\r\n{head}\r\n".encode())
            for chunk in sent:
                sock.sendall(chunk if length else b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if not length:
                sock.sendall(b"0\r\n\r\n")
        return read_answer(sock, "POST"), sent.place


def announced(proxy, sink, name, size, sizes):
    return http1(proxy, sink, name, size, sizes, length=sum(map(len, BODIES[name][1](size))))


def http2(proxy, sink, name, size, sizes):
    client, sent = proxy.h2(sink.h2), Sent(proxy, name, size, sizes)
    stream = client.request("/up", "POST", end=False, headers=(*sent.headers, ("accept", "application/json")))
    for chunk in sent:
        client.send(stream, chunk)
    client.send(stream, b"", end=True)
    return client.wait(stream), sent.place


WAYS = {"chunked": http1, "length": announced, "HTTP/2": http2}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("way", WAYS)
def test_the_last_bytes_of_a_large_upload(proxy, sink, way, name):
    if LARGE > 64 * MIB and (way, name) not in [("length", "plain"), ("chunked", "gzip"), ("HTTP/2", "plain")]:
        pytest.skip("an hour, for what others show")
    before, sizes, began = proxy.memory(), [], time.monotonic()
    answer, place = WAYS[way](proxy, sink, name, LARGE, sizes)
    took = time.monotonic() - began
    print(f"{way}, {name}: {LARGE / MIB / took:.1f} MB/s, {(max(sizes) - before) / MIB:+.1f} MiB")
    assert answer.status == 403
    said = json.loads(answer.body)
    assert said["filter"] == "no-secrets", said
    assert place - CHUNK <= sink.seen() <= place + 4
    assert max(sizes) - before <= EXTRA
