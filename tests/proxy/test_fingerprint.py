"""JA3, JA4 and JA3S of flights as they come: real ones from OpenSSL, odd ones built here."""

import contextlib
from hashlib import md5

import pytest
from OpenSSL import SSL

from certs.authority import Authority
from proxy.fingerprint import MAX_FLIGHT, RETRY, client_fingerprint, server_fingerprint
from proxy.hello import parse
from tests.proxy.test_hello import extension, python_hello, records, vector


@pytest.fixture(scope="module")
def leaf(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("ca") / "ca").issue(["host.example"])


def flight(leaf, newest, groups):
    """All bytes that a server sends in a handshake."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(leaf.certificate)
    context.use_privatekey(leaf.key)
    context.set_max_proto_version(newest)
    assert SSL._lib.SSL_CTX_set1_curves_list(context._context, groups)
    client, server = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD)), SSL.Connection(context)
    client.set_connect_state()
    server.set_accept_state()
    sent = b""
    for end, other in ((client, server), (server, client)) * 2:
        with contextlib.suppress(SSL.WantReadError):
            end.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            data = end.bio_read(1 << 20)
            other.bio_write(data)
            sent += data if end is server else b""
    return sent


def ja3s(text):
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def server_hello(random=bytes(32), extensions=b"", version=b"\x03\x03", kind=2):
    body = version + random + vector(b"id", 1) + b"\xc0\x2f\0" + extensions
    return bytes([kind]) + vector(body, 3)


@pytest.mark.parametrize(("newest", "groups", "expected"), [
    pytest.param(SSL.TLS1_3_VERSION, b"X25519", "771,4866,43-51", id="TLS 1.3"),
    pytest.param(SSL.TLS1_3_VERSION, b"P-384", "771,4866,43-51", id="TLS 1.3 after a retry"),
    pytest.param(SSL.TLS1_3_VERSION, b"X25519MLKEM768", "771,4866,43-51", id="post-quantum"),
    pytest.param(SSL.TLS1_2_VERSION, b"X25519", "771,49196,65281-11-35-23", id="TLS 1.2"),
])
def test_real_servers(leaf, newest, groups, expected):
    assert server_fingerprint(flight(leaf, newest, groups)) == ja3s(expected)


EXTENSIONS = vector(extension(0xFF01, b"\0") + extension(0, b"") + extension(16, b"\0\3\2h2"), 2)


@pytest.mark.parametrize(("data", "expected"), [
    pytest.param(records(server_hello(extensions=EXTENSIONS)), "771,49199,65281-0-16", id="extensions in their order"),
    pytest.param(records(server_hello()), "771,49199,", id="no extensions"),
    pytest.param(records(server_hello(version=b"\3\1")), "769,49199,", id="TLS 1.0"),
    pytest.param(records(server_hello(extensions=EXTENSIONS), 3), "771,49199,65281-0-16", id="in tiny records"),
    pytest.param(records(server_hello(RETRY)) + b"\x14\3\3\0\1\1" + records(server_hello()), "771,49199,", id="retry"),
    pytest.param(records(server_hello() + b"\x0b\0\0\1x"), "771,49199,", id="more messages in the record"),
    pytest.param(records(server_hello(RETRY)), None, id="retry alone"),
    pytest.param(records(server_hello())[:-3], None, id="cut short"),
    pytest.param(records(server_hello(kind=11)), None, id="another message"),
    pytest.param(b"\x15\3\3\0\2\2\x28", None, id="an alert"),
    pytest.param(records(server_hello(extensions=b"\0\5\0\0\0")), None, id="extensions cut short"),
    pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", None, id="HTTP"),
    pytest.param(b"", None, id="nothing"),
    pytest.param(records(bytes(MAX_FLIGHT + 9)), None, id="a flood of empty messages"),
])
def test_server(data, expected):
    assert server_fingerprint(data) == (expected and ja3s(expected))


@pytest.mark.parametrize(("data", "known"), [
    pytest.param(python_hello(), True, id="a hello"),
    pytest.param(python_hello() + b"\x17\3\3\0\0", True, id="more behind it"),
    pytest.param(python_hello()[:-1], False, id="cut short"),
    pytest.param(b"\x16\3\1\0\0", False, id="malformed"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", False, id="HTTP"),
])
def test_client(data, known):
    found = parse(data) if known else None
    assert client_fingerprint(data) == (found and (found.ja3, found.ja4))
