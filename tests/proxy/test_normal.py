"""The normal form of messages: what is refused, what goes no further, and what nobody touches."""

import h2.events
import pytest
from mitmproxy import http

from proxy.normal import Malformed, normalize_request, normalize_response, stay_captured
from tests.proxy.conftest import running
from tests.proxy.corpora.requests import HOST, head
from tests.proxy.test_h2_framing import Listening

POLICY = "version: 1\ntls: {{upstream: {{trusted_ca: {roots}}}}}\nlimits: {{answer: 1, hello: 1}}\n"


def request(*fields, method=b"GET", path=b"/", version=b"HTTP/2.0"):
    return http.Request("origin.test", 443, method, b"https", b"origin.test", path, version, http.Headers(fields), None, None, 0, 0)


def response(status, *fields):
    return http.Response(b"HTTP/1.1", status, b"", http.Headers(fields), None, None, 0, 0)


@pytest.mark.parametrize("asked", [
    pytest.param(request((b"x", b"a\rb")), id="a bare CR"),
    pytest.param(request((b"x", b"a\r\n b")), id="a folded line"),
    pytest.param(request((b"x\0", b"a")), id="a NUL in a name"),
    pytest.param(request((b"x\n", b"a")), id="a line end at a name's end"),
    pytest.param(request((b"x", b"a\n")), id="a line end at a value's end"),
    pytest.param(request(path=b"/a\0"), id="a NUL in the target"),
    pytest.param(request(path=b"/a b"), id="a space in the target"),
    pytest.param(request(path=b"/\n"), id="a line end at the target's end"),
    pytest.param(request(method=b"GET\n"), id="a line end at the method's end"),
    pytest.param(request(method=b"GET / HTTP/1.1\r\nx:"), id="a request in the method"),
    pytest.param(request((b"content-length", b"1\n")), id="a line end at a length's end"),
    pytest.param(request((b"content-length", b"\xb2")), id="a digit that is not ASCII"),
])
def test_malformed(asked):
    """Whatever the protocol's own checks let through, for both versions alike."""
    with pytest.raises(Malformed) as error:
        normalize_request(asked)
    assert error.value.status == 400


@pytest.mark.parametrize(("given", "left"), [
    pytest.param(response(204, (b"Transfer-Encoding", b"chunked"), (b"x", b"y")), ((b"x", b"y"),), id="204 has no coding"),
    pytest.param(response(304, (b"content-length", b"5")), ((b"content-length", b"5"),), id="304 may have a length"),
    pytest.param(response(200, (b"Content-Length", b"5, 5")), ((b"Content-Length", b"5"),), id="one length"),
    pytest.param(response(200, (b"content-length", b"5, 6")), ((b"content-length", b"5, 6"),), id="two, refused later"),
    pytest.param(response(200, (b"x ", b"a\r\n b")), ((b"x", b"a b"),), id="unfolded"),
    pytest.param(response(200, (b"transfer-encoding", b"Identity")), (), id="identity is no coding"),
    pytest.param(response(200, (b"Connection", b"x, CLOSE")), ((b"Connection", b"close"),), id="one way to say close"),
])
def test_responses(given, left):
    normalize_response(given)
    assert given.headers.fields == left


@pytest.mark.parametrize(("fields", "left"), [
    ((), ()),
    (((b"alt-svc", b'h3=":443"; ma=86400'),), ((b"alt-svc", b"clear"),)),
    (((b"Alt-Svc", b'h2="elsewhere.test:8443"'), (b"alt-svc", b'h3-29=":8443"')), ((b"Alt-Svc", b"clear"),)),
])
def test_alternative_services(fields, left):
    given = response(200, *fields)
    stay_captured(given)
    assert given.headers.fields == left


# -- through a worker

UNTOUCHED = [
    ("strict-transport-security", "max-age=63072000; includeSubDomains; preload"),
    ("content-security-policy", "default-src 'self'; script-src 'nonce-r4nd0m' 'strict-dynamic'; report-uri /csp"),
    ("content-security-policy-report-only", "default-src https:"),
    ("set-cookie", "__Host-a=b; Path=/; Secure; HttpOnly; SameSite=Strict"),
    ("set-cookie", "c=\"d, e\"; Expires=Wed, 21 Oct 2099 07:28:00 GMT; Domain=origin.test"),
    ("set-cookie", "f=g; Partitioned; Secure"),
    ("access-control-allow-origin", "https://other.test"),
    ("access-control-allow-credentials", "true"),
    ("access-control-expose-headers", "etag, x-total"),
    ("vary", "origin, accept-encoding"),
    ("etag", 'W/"a,b c"'),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("permissions-policy", "geolocation=()"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("expect-ct", "max-age=0"),
    ("content-type", "text/html; charset=\"utf-8\""),
    ("www-authenticate", 'Basic realm="a, b", Bearer error="x"'),
    ("cache-control", "private, max-age=0"),
]
REQUESTED = [
    ("origin", "https://other.test"), ("cookie", "a=b; c=d"), ("authorization", "Bearer x.y.z"), ("if-none-match", 'W/"a,b c"'),
    ("sec-fetch-site", "cross-site"), ("access-control-request-method", "PUT"), ("range", "bytes=0-4, 9-"),
]


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", POLICY.format(roots=origin.roots)) as started:
        yield started


def test_http1_fields_pass_byte_for_byte(proxy, origin):
    block = "".join(f"{name.title()}: {value}\r\n" for name, value in UNTOUCHED).encode()
    origin.paths["/"] = b"HTTP/1.1 200 OK\r\n" + block + b"Content-Length: 2\r\n\r\nok"
    sent = head(HOST, *(f"{name}: {value}" for name, value in REQUESTED))
    with proxy.tls(origin) as sock:
        sock.sendall(sent)
        got = b""
        while not got.endswith(b"ok"):
            got += sock.recv(4096)
    assert got == origin.paths.pop("/")
    assert origin.record == sent


def test_http2_fields_pass_byte_for_byte(proxy, h2_origin):
    h2_origin.h2_paths["/"] = lambda server, stream: server.answer(stream, headers=tuple(UNTOUCHED))
    client = Listening(proxy.tls(h2_origin, alpn=("h2",)), "origin.test")
    assert client.wait(client.request("/", headers=tuple(REQUESTED))).body == b"ok"
    got = next(event.headers for event in client.heard if isinstance(event, h2.events.ResponseReceived))
    assert [tuple(field) for field in got] == [(":status", "200"), *UNTOUCHED]
    for name, value in REQUESTED:
        assert f"{name}: {value}\n".encode() in h2_origin.record
    del h2_origin.h2_paths["/"]


@pytest.mark.parametrize("policy", ["reject", "allow"])
def test_no_silent_way_to_http3(proxy, origin, policy):
    """Port 443 of UDP is refused where `quic` says so; an origin may name any other port, and any other host."""
    proxy.reload(POLICY.format(roots=origin.roots) + f"capture: {{quic: {policy}}}\n")
    proxy.said("reloaded")
    value = 'h3=":8443"; ma=86400, h2="elsewhere.test:443"'
    origin.paths["/alt"] = f"HTTP/1.1 200 OK\r\nalt-svc: {value}\r\ncontent-length: 2\r\n\r\nok".encode()
    answer = proxy.ask(origin, head(HOST, target="/alt"))
    assert answer.headers["alt-svc"] == (value if policy == "allow" else "clear")
