"""The explicit door: tunnels and plain requests, and destinations that no proxy leads to."""

import json
import socket
import time

import h11
import pytest

from proxy import explicit
from tests.proxy.conftest import read_answer, running
from tests.proxy.origin import Origin

POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 1, hello: 1}}
connections:
  - {{id: no-net, verdict: block, addresses: [127.0.0.9/32]}}
  - {{id: leave-alone, verdict: bypass, hosts: [localhost]}}
filters:
  - {{id: no-ads, use: blocklist.Hosts, with: {{hosts: [127.0.0.2]}}}}
  - {{id: no-secrets, use: secrets.Secrets}}
"""
KEY = b"AKIA" + b"4QXB7ZKLMRTW2NPD"


@pytest.fixture(scope="module")
def http_origin(folder):
    with Origin(folder / "http", tls=False).serve() as served:
        yield served


@pytest.fixture(autouse=True)
def _forget_plain(http_origin):
    http_origin.record.clear()
    http_origin.connections = 0


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", POLICY.format(roots=origin.roots)) as started:
        yield started


def ask(proxy, raw):
    with proxy.plain() as sock:
        sock.sendall(raw)
        return read_answer(sock)


def get(host, port, path="/", *headers, named=None):
    lines = [f"GET http://{host}:{port}{path} HTTP/1.1", f"host: {named or f'{host}:{port}'}", *headers, "", ""]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(("raw", "status"), [
    pytest.param(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", 400, id="a page of ours"),
    pytest.param(b"garbage\r\n\r\n", 400, id="garbage"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n" * 9, 400, id="TLS"),
    pytest.param(b"GET http://a.test/ HTTP/1.1\r\nx: " + b"y" * 200_000, 431, id="a long head"),
    pytest.param(b"CONNECT a.test HTTP/1.1\r\nhost: a.test\r\n\r\n", 400, id="no port"),
    pytest.param(b"CONNECT a@b.test:443 HTTP/1.1\r\nhost: a.test\r\n\r\n", 400, id="user information"),
    pytest.param(b"CONNECT nowhere.invalid:443 HTTP/1.1\r\nhost: a.test\r\n\r\n", 502, id="no such host"),
    pytest.param(b"CONNECT a..test:443 HTTP/1.1\r\nhost: a.test\r\n\r\n", 502, id="an empty label"),
    pytest.param(b"CONNECT " + b"a" * 64 + b".test:443 HTTP/1.1\r\nhost: a\r\n\r\n", 502, id="a long label"),
    pytest.param(b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nhost: a.test\r\n\r\n", 403, id="metadata"),
    pytest.param(b"CONNECT [fe80::1]:80 HTTP/1.1\r\nhost: a.test\r\n\r\n", 403, id="link-local"),
    pytest.param(b"CONNECT 0.0.0.0:80 HTTP/1.1\r\nhost: a.test\r\n\r\n", 403, id="no address"),
    pytest.param(get("169.254.169.254", 80), 403, id="metadata, plain"),
    pytest.param(get("0xa9fea9fe", 80), 403, id="metadata, written oddly"),
    pytest.param(get("a..test", 80), 400, id="an empty label, plain"),
    pytest.param(get("nowhere.invalid", 80), 502, id="no such host, plain"),
    pytest.param(b"GET https://a.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n", 400, id="https without a tunnel"),
])
def test_refusal(proxy, raw, status):
    answer = ask(proxy, raw)
    assert (answer.status, answer.ended) == (status, True)
    document = json.loads(answer.body)
    assert document["status"] == status
    (event,) = [each for each in proxy.events() if each["lockgate"].get("incident") == document["incident"]]
    assert (event["event_type"], event["lockgate"]["filter"]) == ("alert", "lockgate")
    assert event["lockgate"]["reason"] == document["detail"]
    assert event.get("dest_ip") != ""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1"])
def test_no_loop(proxy, host):
    assert ask(proxy, f"CONNECT {host}:{proxy.port} HTTP/1.1\r\nhost: a\r\n\r\n".encode()).status == 403
    assert ask(proxy, get(host, proxy.port)).status == 403


def test_plain_requests(proxy, http_origin):
    """One connection to the proxy, many origins; the origin sees the origin form."""
    with proxy.plain() as sock:
        for path in ("/a", "/b"):
            sock.sendall(get("localhost", http_origin.port, path))
            assert read_answer(sock).body == b"ok"
    assert b"GET /a HTTP/1.1" in http_origin.record
    assert b"http://" not in http_origin.record


@pytest.mark.parametrize(("raw", "status"), [
    pytest.param(lambda port: get("127.0.0.1", port, "/?k=" + KEY.decode()), 403, id="secret"),
    pytest.param(lambda port: get("127.0.0.2", port), 403, id="blocked host"),
    pytest.param(lambda port: get("127.0.0.9", port), 403, id="blocked address"),
    pytest.param(lambda port: get("localhost", port, named="other.test"), 400, id="Host against the target"),
    pytest.param(lambda port: get("127.0.0.1", port, "/", "connection: x", "x: y"), 200, id="good"),
    pytest.param(lambda port: get("localhost", port, "/?k=" + KEY.decode()), 200, id="bypassed"),
    pytest.param(lambda _: get("localhost", 9), 502, id="nobody there"),
])
def test_plain_verdicts(proxy, http_origin, raw, status):
    assert ask(proxy, raw(http_origin.port)).status == status
    assert (http_origin.record != b"") == (status == 200)


def test_plain_requests_are_recorded_with_where_they_went(proxy, http_origin):
    """Each of one connection with its own, also where a connection with the origin is used again."""
    with Origin(proxy.folder / "second", tls=False).serve() as second, proxy.plain() as sock:
        said = [("localhost", http_origin, "/a"), ("127.0.0.1", second, "/b"), ("localhost", http_origin, "/c")]
        for host, to, path in said:
            sock.sendall(get(host, to.port, f"/where{path}"))
            assert read_answer(sock).status == 200
    found = {event["http"]["url"]: event for event in proxy.events() if "/where" in event.get("http", {}).get("url", "")}
    assert len({event["flow_id"] for event in found.values()}) == 1
    for host, to, path in said:
        event = found[f"/where{path}"]
        assert (event["dest_ip"], event["dest_port"], event["http"]["hostname"]) == ("127.0.0.1", to.port, host)


@pytest.mark.parametrize(("host", "places"), [
    pytest.param("127.0.0.9", {"127.0.0.9"}, id="a blocked address"),
    pytest.param("localhost", {"127.0.0.1", "::1"}, id="a name where nobody answers"),
])
def test_plain_refusals_are_recorded_with_where_they_would_have_gone(proxy, host, places):
    number = json.loads(ask(proxy, get(host, 9)).body)["incident"]
    (event,) = [each for each in proxy.events() if each["lockgate"].get("incident") == number]
    assert event["dest_ip"] in places
    assert event["dest_port"] == 9


def test_plain_tunnel(proxy, http_origin):
    with proxy.tunnel(http_origin) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nhost: 127.0.0.1:{http_origin.port}\r\n\r\n".encode())
        assert read_answer(sock).status == 200
        sock.sendall(b"GET / HTTP/1.1\r\nhost: other.test\r\n\r\n")
        assert read_answer(sock).status == 421


def test_connect_after_a_request(proxy, http_origin):
    with proxy.plain() as sock:
        sock.sendall(get("localhost", http_origin.port))
        assert read_answer(sock).status == 200
        sock.sendall(f"CONNECT localhost:{http_origin.port} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        assert read_answer(sock).status == 400


def test_tunnel_to_one_name_with_tls_for_another(proxy, origin):
    """The handshake is for the name asked for, and the answer says why not."""
    import ssl

    context = ssl.create_default_context(cafile=str(proxy.ca))
    with context.wrap_socket(proxy.tunnel(origin, "localhost"), server_hostname="origin.test") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: origin.test\r\n\r\n")
        answer = read_answer(sock)
    assert answer.status == 403
    assert b"tunnel to localhost" in answer.body
    assert origin.connections == 0


def test_slow_first_request(proxy):
    started = time.monotonic()
    with proxy.plain() as sock:
        sock.sendall(b"CONN")
        assert sock.recv(100) == b""
    assert time.monotonic() - started < 4


def test_greet_leaves_what_follows():
    """Bytes sent behind a CONNECT belong to the tunnel."""
    import asyncio

    async def run():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for sock in (ours, theirs):
                sock.setblocking(False)
            ours.sendall(b"CONNECT 127.0.0.1:443 HTTP/1.1\r\nhost: a\r\n\r\nhello")
            return await explicit.greet(theirs)

    target = asyncio.run(run())
    assert (target.host, target.address, target.rest) == ("127.0.0.1", ("127.0.0.1", 443), b"hello")


def test_refusal_is_a_response():
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    connection.receive_data(explicit.Refusal(403, "no ☃").answer("INCIDENT01"))
    assert connection.next_event().status_code == 403
