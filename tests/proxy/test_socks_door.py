"""The explicit door by SOCKS: what HTTP's CONNECT gets, and the same refusals; and the file by which clients find us."""

import json
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from proxy import pac, socks
from proxy.socks import Reply
from tests.proxy.conftest import GET, read_answer, running
from tests.proxy.origin import Origin

POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 1, hello: 1}}
connections:
  - {{id: no-net, verdict: block, addresses: [127.0.0.9/32]}}
filters:
  - {{id: no-ads, use: blocklist.Hosts, with: {{hosts: [127.0.0.2]}}}}
  - {{id: no-secrets, use: secrets.Secrets}}
"""
HELLO = b"\x05\x01\x00"


@pytest.fixture(scope="module")
def http_origin(folder):
    with Origin(folder / "http", tls=False).serve() as served:
        yield served


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", POLICY.format(roots=origin.roots)) as started:
        yield started


def everything(sock):
    data = b""
    while more := sock.recv(4096):
        data += more
    return data


def socks5(proxy, host, port, pieces=1):
    """A tunnel by SOCKS 5; `pieces`: how many bytes each write has, 0 for all at once."""
    sock = proxy.plain()
    raw = HELLO + socks.our_request(host, port)
    for start in range(0, len(raw), pieces or len(raw)):
        sock.sendall(raw[start : start + (pieces or len(raw))])
    assert sock.recv(2, socket.MSG_WAITALL) == b"\x05\x00"
    assert sock.recv(10, socket.MSG_WAITALL)[:2] == b"\x05\x00"
    return sock


def socks4(proxy, host, port):
    sock = proxy.plain()
    place = socket.inet_aton(host) + b"me\0" if host[0].isdigit() else b"\0\0\0\1me\0" + host.encode() + b"\0"
    sock.sendall(b"\x04\x01" + port.to_bytes(2) + place)
    assert sock.recv(8, socket.MSG_WAITALL)[:2] == b"\0\x5a"
    return sock


@pytest.mark.parametrize(("tunnel", "host"), [
    pytest.param(socks5, "127.0.0.1", id="IPv4"),
    pytest.param(lambda proxy, *to: socks5(proxy, *to, 0), "localhost", id="name, all at once"),
    pytest.param(socks4, "127.0.0.1", id="version 4"),
    pytest.param(socks4, "localhost", id="version 4a"),
])
def test_plain_http_is_inspected(proxy, http_origin, tunnel, host):
    http_origin.record.clear()
    for path, status in (("/", 200), ("/?k=AKIA4QXB7ZKLMRTW2NPD", 403)):
        with tunnel(proxy, host, http_origin.port) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}:{http_origin.port}\r\n\r\n".encode())
            assert read_answer(sock).status == status
    assert b"AKIA" not in http_origin.record


@pytest.mark.parametrize("tunnel", [socks5, socks4])
def test_tls_is_inspected(proxy, origin, tunnel):
    context = ssl.create_default_context(cafile=str(proxy.ca))
    with context.wrap_socket(tunnel(proxy, "127.0.0.1", origin.port), server_hostname="origin.test") as sock:
        sock.sendall(GET)
        assert read_answer(sock).status == 200
    event = [each for each in proxy.events() if each["event_type"] == "http"][-1]
    assert (event["dest_ip"], event["http"]["hostname"]) == ("127.0.0.1", "origin.test")


def place5(kind, raw, port=80, command=1):
    return HELLO + bytes((5, command, 0, kind)) + raw + port.to_bytes(2)


def named(host, port=80):
    return place5(3, bytes((len(host),)) + host.encode(), port)


@pytest.mark.parametrize(("raw", "reply"), [
    pytest.param(place5(1, b"\xa9\xfe\xa9\xfe"), Reply.NOT_ALLOWED, id="metadata"),
    pytest.param(place5(4, bytes(10) + b"\xff\xff\xa9\xfe\xa9\xfe"), Reply.NOT_ALLOWED, id="metadata, mapped"),
    pytest.param(named("169.254.169.254"), Reply.NOT_ALLOWED, id="metadata, as a name"),
    pytest.param(named("0xa9fea9fe"), Reply.NOT_ALLOWED, id="metadata, written oddly"),
    pytest.param(named("169.254.169.254."), Reply.NOT_ALLOWED, id="metadata, with a dot"),
    pytest.param(place5(4, bytes.fromhex("fe80") + bytes(13) + b"\1"), Reply.NOT_ALLOWED, id="link-local"),
    pytest.param(place5(1, bytes(4)), Reply.NOT_ALLOWED, id="no address"),
    pytest.param(named("nowhere.invalid"), Reply.HOST_UNREACHABLE, id="no such host"),
    pytest.param(named(""), Reply.FAILED, id="an empty name"),
    pytest.param(named("a.test:80"), Reply.FAILED, id="a name with a port"),
    pytest.param(named("me@a.test"), Reply.FAILED, id="user information"),
    pytest.param(named("a\0.test"), Reply.FAILED, id="a name with a NUL"),
    pytest.param(named("a\r\nx"), Reply.FAILED, id="a name with a line end"),
    pytest.param(place5(1, b"\x7f\0\0\1", command=2), Reply.NO_SUCH_COMMAND, id="BIND"),
    pytest.param(place5(1, b"\x7f\0\0\1", command=3), Reply.NO_SUCH_COMMAND, id="UDP ASSOCIATE"),
    pytest.param(place5(9, b"\x7f\0\0\1"), Reply.NO_SUCH_ADDRESS_KIND, id="unknown kind of address"),
])
def test_refused(proxy, raw, reply):
    with proxy.plain() as sock:
        sock.sendall(raw)
        assert everything(sock) == b"\x05\x00" + socks.answer(reply)
    event = proxy.events()[-1]
    assert (event["event_type"], event["lockgate"]["filter"]) == ("alert", "lockgate")


@pytest.mark.parametrize(("raw", "answer"), [
    pytest.param(b"\x05\x01\x02", b"\x05\xff", id="a client that insists on a password"),
    pytest.param(b"\x05\x00", b"\x05\xff", id="no method"),
    pytest.param(b"\x04\x02\0\x50\x7f\0\0\1\0", socks.answer4(Reply.FAILED), id="BIND of version 4"),
    pytest.param(b"\x04\x01\0\x50\xa9\xfe\xa9\xfe\0", socks.answer4(Reply.FAILED), id="metadata by version 4"),
    pytest.param(b"\x04\x01\0\x50\0\0\0\1\0" + b"a" * 300, socks.answer4(Reply.FAILED), id="a name without end"),
])
def test_refused_before_a_request(proxy, raw, answer):
    with proxy.plain() as sock:
        sock.sendall(raw)
        assert everything(sock) == answer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_loop(proxy, host):
    with proxy.plain() as sock:
        sock.sendall(named(host, proxy.port))
        assert everything(sock)[2:4] == bytes((5, Reply.NOT_ALLOWED))


@pytest.mark.parametrize("host", ["127.0.0.9", "127.0.0.2"], ids=["by address", "by a filter"])
def test_a_block_is_told_in_the_tunnel(proxy, http_origin, host):
    """As with HTTP's CONNECT, the client gets a page that says why; nothing is dialled."""
    http_origin.connections = 0
    with socks5(proxy, host, http_origin.port) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nhost: {host}:{http_origin.port}\r\n\r\n".encode())
        answer = read_answer(sock)
    assert answer.status == 403
    assert "incident" in json.loads(answer.body)
    assert http_origin.connections == 0


@pytest.mark.parametrize("raw", [b"\x05", b"\x05\x01", HELLO, HELLO + b"\x05\x01\x00", b"\x04\x01"])
def test_slow_greeting(proxy, raw):
    started = time.monotonic()
    with proxy.plain() as sock:
        sock.sendall(raw)
        assert everything(sock) in (b"", b"\x05\x00")
    assert time.monotonic() - started < 4


def test_pac(proxy):
    """Served to whoever asks, with its type; it names the door as the client found it."""
    with proxy.plain() as sock:
        sock.sendall(b"GET /proxy.pac HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        answer = read_answer(sock)
    assert (answer.status, answer.ended, answer.headers["content-type"]) == (200, True, pac.TYPE)
    assert answer.body == pac.script("127.0.0.1", proxy.port)
    with proxy.plain() as sock:
        sock.sendall(b"HEAD /proxy.pac HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert everything(sock).endswith(b"\r\n\r\n")


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("option", ["--socks5", "--socks5-hostname", "--socks4", "--socks4a", "--proxy", "--preproxy"])
def test_curl(proxy, origin, option):
    """The same page by every way that curl knows."""
    done = subprocess.run(
        ["curl", "-sS", "-m", "20", "--cacert", str(proxy.ca), "-o", "/dev/null", "-w", "%{http_code}",
         "--noproxy", "", option, f"{'socks5://' if option == '--preproxy' else ''}127.0.0.1:{proxy.port}",
         "--connect-to", f"::127.0.0.1:{origin.port}", f"https://origin.test:{origin.port}/"], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stdout) == (0, "200"), done.stderr
