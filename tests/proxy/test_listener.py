"""The door: what is not HTTP over TLS, silence, garbage, and origins that do not answer in time."""

import contextlib
import socket
import ssl
import time

import pytest

from tests.proxy.conftest import read_answer, running
from tests.proxy.origin import Origin

POLICY = """\
version: 1
capture: {{other: {other}}}
tls: {{bypass: [bypass.wild.test], upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 1, hello: 1}}
connections:
  - {{id: no-way, verdict: block, hosts: [blocked.wild.test]}}
"""
GET = b"GET / HTTP/1.1\r\nhost: origin.test\r\n\r\n"


@pytest.fixture(scope="module", params=["block", "relay"])
def other(request):
    return request.param


@pytest.fixture(scope="module")
def proxy(folder, origin, other):
    with running(folder / f"worker-{other}", POLICY.format(roots=origin.roots, other=other)) as started:
        yield started


@pytest.fixture(scope="module")
def echo(folder):
    """Not HTTP: sends back what comes."""
    def act(sock):
        while data := sock.recv(65536):
            sock.sendall(data)

    with Origin(folder / "echo", on_connect=act).serve() as served:
        yield served


@pytest.fixture(scope="module")
def speaks_first(folder):
    def act(sock):
        sock.sendall(b"220 hello\r\n")
        while data := sock.recv(65536):
            served.record += data
            sock.sendall(b"250 " + data)

    with Origin(folder / "first", on_connect=act).serve() as served:
        yield served


def exchange(sock, data):
    """Send, and read what comes back; empty where it is closed."""
    with contextlib.suppress(OSError):
        sock.sendall(data)
        return sock.recv(65536)
    return b""


@pytest.mark.parametrize("data", [
    pytest.param(b"\0\0\0\x10binary protocol", id="binary"),
    pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n\r\n", id="SSH"),
    pytest.param(b"helo lower case to you all\r\n", id="lines"),
])
def test_not_tls(proxy, echo, other, data):
    with proxy.tunnel(echo) as sock:
        assert exchange(sock, data) == (data if other == "relay" else b"")


@pytest.mark.parametrize("data", [
    pytest.param(b"\x80\x2e\x01\x00\x02" + b"\0" * 60, id="SSLv2 hello"),
    pytest.param(b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000, id="oversized record"),
    pytest.param(b"\x16\x03\x01\x00\x20" + b"\x01\x00\x00\x1c" + b"\xff" * 28, id="hello of garbage"),
    pytest.param(b"\x16\x03\x03\x00\x04\x02\x00\x00\x00" * 9, id="another handshake message"),
])
def test_broken_tls_is_never_relayed(proxy, echo, other, data):
    with proxy.tunnel(echo) as sock:
        answer = exchange(sock, data)
    if data[0] == 0x16:
        assert answer[:1] == b"\x15"     # an alert
    else:
        assert answer == (data if other == "relay" else b"")


@pytest.mark.parametrize("size", [1, 5, 100])
def test_hello_in_pieces(proxy, origin, size):
    context = ssl.create_default_context(cafile=str(proxy.ca))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="origin.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    with proxy.tunnel(origin) as sock:
        for start in range(0, len(hello), size):
            sock.sendall(hello[start : start + size])
        while True:
            incoming.write(sock.recv(65536))
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            break
        sock.sendall(outgoing.read())
        tls.write(GET)
        sock.sendall(outgoing.read())
        assert sock.recv(100)


def test_half_a_hello(proxy, origin):
    started = time.monotonic()
    with proxy.tunnel(origin) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert sock.recv(100) == b""
    assert time.monotonic() - started < 4
    assert origin.connections == 0


def test_handshake_that_stalls(proxy, origin):
    """The client sends its hello and no more."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="origin.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    started = time.monotonic()
    with proxy.tunnel(origin) as sock, contextlib.suppress(OSError):
        sock.sendall(outgoing.read())
        while sock.recv(65536):
            """The server's part, then the end."""
    assert time.monotonic() - started < 5


def test_plain_http_on_any_port(proxy, folder):
    with Origin(folder / "plain", tls=False).serve() as http_origin, proxy.tunnel(http_origin) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nhost: 127.0.0.1:{http_origin.port}\r\n\r\n".encode())
        assert read_answer(sock).status == 200


def test_not_http_within_tls(proxy, folder, other):
    """With a protocol of its own by ALPN, or none."""
    def act(sock):
        while data := sock.recv(65536):
            sock.sendall(data)

    for alpn in (("imap",), ()):
        with Origin(folder / "origin", alpn=alpn or ("x",)).serve() as served:
            served._one_request = lambda sock: act(sock)
            context = ssl.create_default_context(cafile=str(proxy.ca))
            if alpn:
                context.set_alpn_protocols(list(alpn))
            with context.wrap_socket(proxy.tunnel(served), server_hostname="origin.test") as sock:
                data = b"\1\2\3 not http at all, really"
                assert exchange(sock, data) == (data if other == "relay" else b"")


def test_origin_that_speaks_first(proxy, speaks_first, other):
    speaks_first.record.clear()
    with proxy.tunnel(speaks_first) as sock:
        assert sock.recv(100) == (b"220 hello\r\n" if other == "relay" else b"")
        if other == "relay":
            assert exchange(sock, b"EHLO example.test and so on\r\n").startswith(b"250 EHLO")


@pytest.mark.parametrize("data", [GET, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET", b"POST / HTTP/1.1\r\n"])
def test_silence_is_no_way_round(proxy, speaks_first, other, data):
    """HTTP or TLS after it does not pass."""
    if other == "block":
        pytest.skip("nothing passes")
    speaks_first.record.clear()
    with proxy.tunnel(speaks_first) as sock:
        assert sock.recv(100) == b"220 hello\r\n"
        sock.settimeout(0.5)
        exchange(sock, data)
    assert speaks_first.record == b""


def test_relayed_half_closes(proxy, echo, other):
    if other == "block":
        pytest.skip("nothing passes")
    with proxy.tunnel(echo) as sock:
        sock.sendall(b"\0\0\0\x10binary protocol, then the end")
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while data := sock.recv(100):
            got += data
    assert got == b"\0\0\0\x10binary protocol, then the end"


def test_bypassed(proxy, origin):
    """The client sees the origin's own certificate."""
    context = ssl.create_default_context(cafile=str(origin.roots))
    with context.wrap_socket(proxy.tunnel(origin), server_hostname="bypass.wild.test") as sock:
        sock.sendall(GET)
        assert read_answer(sock).status == 200


def test_blocked_connection_is_never_dialled(proxy, origin):
    answer = proxy.ask(origin, GET.replace(b"origin.test", b"blocked.wild.test"), host="blocked.wild.test")
    assert (answer.status, origin.connections) == (403, 0)
    assert b"no-way" in answer.body


# -- origins that do not answer in time


def stalls(sock):
    time.sleep(3)


def hello_then_stalls(sock):
    sock.recv(65536)
    time.sleep(3)


def garbage(sock):
    sock.recv(65536)
    sock.sendall(b"no TLS here, sorry\r\n" * 10)


def closes(sock):
    sock.close()


@pytest.mark.parametrize("act", [stalls, hello_then_stalls, garbage, closes])
@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_bad_handshake_at_the_origin(proxy, folder, act, alpn):
    """The client gets a page that says so, soon."""
    with Origin(folder / "bad", on_connect=act).serve() as served:
        started = time.monotonic()
        if alpn == "h2":
            client = proxy.h2(served)
            answer = client.wait(client.request("/"))
        else:
            answer = proxy.ask(served, GET)
        assert (answer.status, answer.ended) == (502, True)
        assert time.monotonic() - started < 3


def test_certificate_that_does_not_verify(proxy, folder):
    with Origin(folder / "stranger").serve() as served:
        answer = proxy.ask(served, GET)
    assert answer.status == 502
    assert b"No trusted authority vouches for the certificate" in answer.body
    assert served.record == b""


def test_many_clients_that_vanish(proxy, origin):
    for sent in (b"", b"\x16\x03", GET):
        for _ in range(30):
            with proxy.tunnel(origin) as sock:
                sock.sendall(sent)
    assert proxy.ask(origin, GET).status == 200
