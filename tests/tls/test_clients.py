"""Odd clients before a real worker: what is good is served, whatever its shape; what is bad gets its alert, and nothing
of it reaches the origin."""

import contextlib
import os
import socket
import ssl
import struct
import time

import pytest
from OpenSSL import SSL

from tests.proxy.conftest import running
from tests.tls import wire
from tests.tls.client import GREASE, SUITES, Client, hello, server_name
from tests.tls.end import Ended
from tests.tls.peer import flip
from tests.tls.server import Manner
from tests.tls.wire import Reader, extension, message, vector

POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 2, hello: 1}}
"""
#: Seconds in which a bad client has its answer.
SOON = 5.0
GET = b"GET / HTTP/1.1\r\nhost: %b\r\n\r\n"
GREASED = {"ciphers": (GREASE, *SUITES), "versions": (GREASE, wire.TLS13, wire.TLS12), "groups": (GREASE, wire.X25519),
           "more": (extension(GREASE), extension(GREASE + 0x1010, b"\0"))}


@pytest.fixture(scope="module")
def proxy(folder, peer):
    with running(folder / "worker", POLICY.format(roots=peer.roots)) as started:
        yield started


@pytest.fixture
def client(proxy, peer):
    peer.behave(Manner())
    with proxy.tunnel(peer.port) as sock:
        yield Client(sock)


# -- shapes of hellos


@pytest.mark.parametrize(("options", "size"), [
    pytest.param({}, 2**14, id="plain"),
    pytest.param(GREASED, 2**14, id="GREASE"),
    pytest.param({}, 1, id="records of one byte"),
    pytest.param({}, 100, id="records of 100 bytes"),
    pytest.param({"more": (extension(21, bytes(20_000)),)}, 2**14, id="20 kB"),
    pytest.param({"names": (server_name(b"origin.test."),)}, 2**14, id="trailing dot"),
    pytest.param({"names": (server_name(b"ORIGIN.Test"),)}, 2**14, id="upper case"),
    pytest.param({"alpn": ()}, 2**14, id="no ALPN"),
    pytest.param({"alpn": (b"\x2a\x2a", b"http/1.1")}, 2**14, id="GREASE in ALPN"),
    pytest.param({"session_id": bytes(32)}, 2**14, id="session of TLS 1.2"),
    pytest.param({"more": (extension(0xFE0D, bytes(200)),)}, 2**14, id="GREASE ECH"),
    pytest.param({"more": (extension(0x7A7B, bytes(300)),)}, 2**14, id="unknown extension"),
    pytest.param({"versions": (wire.TLS13,), "ciphers": SUITES[:1]}, 2**14, id="TLS 1.3 alone"),
    pytest.param({"names": (), "host": b"127.0.0.1"}, 2**14, id="no name"),
    pytest.param({"names": (server_name(b"127.0.0.1"),), "host": b"127.0.0.1"}, 2**14, id="an address for a name"),
    pytest.param({"names": (server_name(b"xn--a"),), "host": b"127.0.0.1"}, 2**14, id="a name that is no IDNA"),
])
def test_shapes(client, options, size):
    options = dict(options)
    host = options.pop("host", b"origin.test")
    client.shake(hello(shares=client.shares, **options), size=size)
    client.settle()
    assert client.ask(host).endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("options", [
    pytest.param({"names": (server_name(b"origin.test"), server_name(b"other.test"))}, id="two names"),
    pytest.param({"names": (server_name(b"origin.test", 1),)}, id="a name of another kind"),
    pytest.param({"names": (server_name(b""),)}, id="an empty name"),
    pytest.param({"names": (server_name(b"a" * 300),)}, id="a long name"),
    pytest.param({"names": (server_name(b"origin.test\0.example"),)}, id="NUL in the name"),
    pytest.param({"more": (extension(wire.SERVER_NAME, vector(2, server_name(b"other.test"))),)}, id="two lists of names"),
])
def test_names_that_nobody_should_send(client, peer, options):
    """Either an end, or an answer that is not from the origin of a name which nobody can have asked for."""
    try:
        client.shake(hello(shares=client.shares, **options))
        client.settle()
        assert client.ask(b"other.test").startswith((b"HTTP/1.1 4", b"HTTP/1.1 502"))
    except Ended:
        """An alert, or a close."""
    assert all(server.data == b"" for server in peer.met)


# -- what is refused


LEGACY = {"versions": (), "shares": None}
TLS12_SUITE = (wire.ECDHE_ECDSA_AES_128_GCM_SHA256,)


@pytest.mark.parametrize(("options", "alert"), [
    pytest.param({**LEGACY, "legacy": wire.TLS11}, wire.PROTOCOL_VERSION, id="TLS 1.1"),
    pytest.param({**LEGACY, "legacy": wire.TLS10}, wire.PROTOCOL_VERSION, id="TLS 1.0"),
    pytest.param({**LEGACY, "legacy": 0x0300}, wire.PROTOCOL_VERSION, id="SSL 3.0"),
    pytest.param({"versions": (wire.TLS11, wire.TLS10)}, wire.PROTOCOL_VERSION, id="TLS 1.1 in the list"),
    pytest.param({**LEGACY, "ciphers": (*TLS12_SUITE, wire.FALLBACK)}, wire.INAPPROPRIATE_FALLBACK, id="a fallback"),
    pytest.param({**LEGACY, "ciphers": (0x009C, 0x009D)}, wire.HANDSHAKE_FAILURE, id="static RSA"),
    pytest.param({**LEGACY, "ciphers": (0xC009, 0xC00A, 0xC013, 0x002F)}, wire.HANDSHAKE_FAILURE, id="CBC"),
    pytest.param({**LEGACY, "ciphers": (0x0005, 0xC007)}, wire.HANDSHAKE_FAILURE, id="RC4"),
    pytest.param({**LEGACY, "ciphers": (0x000A, 0xC008)}, wire.HANDSHAKE_FAILURE, id="3DES"),
    pytest.param({**LEGACY, "ciphers": (0x0001, 0xC006)}, wire.HANDSHAKE_FAILURE, id="NULL"),
    pytest.param({**LEGACY, "ciphers": (0x0003, 0x0008)}, wire.HANDSHAKE_FAILURE, id="export"),
    pytest.param({**LEGACY, "ciphers": (0x0034, 0xC018)}, wire.HANDSHAKE_FAILURE, id="anonymous"),
    pytest.param({**LEGACY, "ciphers": (0x009E, 0x0033)}, wire.HANDSHAKE_FAILURE, id="finite-field DH"),
    pytest.param({"versions": (wire.TLS13,), "ciphers": (0x1399,)}, wire.HANDSHAKE_FAILURE, id="no suite in common"),
    pytest.param({"versions": (wire.TLS13,), "groups": (0x7A7B,), "shares": ((0x7A7B, bytes(32)),)},
                 wire.HANDSHAKE_FAILURE, id="no group in common"),
    pytest.param({"versions": (wire.TLS13,), "groups": (), "shares": None}, wire.MISSING_EXTENSION, id="no groups"),
    pytest.param({"versions": (wire.TLS13,), "schemes": ()}, wire.MISSING_EXTENSION, id="no signature algorithms"),
    pytest.param({"compression": b"\1\0"}, wire.ILLEGAL_PARAMETER, id="compression in TLS 1.3"),
    pytest.param({**LEGACY, "ciphers": TLS12_SUITE, "compression": b"\1"}, wire.ILLEGAL_PARAMETER,
                 id="nothing but compression"),
])
def test_refused(client, peer, options, alert):
    client.greet(hello(**{"shares": client.shares, **options}))
    started = time.monotonic()
    chosen = client.answer()
    client.listen()
    assert time.monotonic() - started < SOON
    assert (chosen, client.alerts) == (None, [(wire.FATAL, alert)])
    assert all(server.data == b"" for server in peer.met)


def test_a_fallback_to_what_the_origin_has_is_none(client, peer):
    """TLS 1.2 is all that this origin would have spoken with TLS 1.3 on offer, too (RFC 7507, 3)."""
    peer.behave(Manner(version=wire.TLS12))
    client.greet(hello(**LEGACY, ciphers=(*TLS12_SUITE, wire.FALLBACK)))
    chosen = client.answer()
    assert chosen is not None
    assert chosen.version == wire.TLS12


@pytest.mark.parametrize("data", [
    pytest.param(wire.record(wire.HANDSHAKE, b"\1\0\0\4abcd"), id="no hello"),
    pytest.param(wire.record(wire.HANDSHAKE, message(wire.SERVER_HELLO, bytes(40))), id="a ServerHello"),
    pytest.param(wire.record(wire.HANDSHAKE, hello()[:-1]), id="cut"),
    pytest.param(wire.record(wire.HANDSHAKE, b""), id="an empty record"),
    pytest.param(b"\x16\3\1\xff\xff" + bytes(70_000), id="a record too long"),
    pytest.param(wire.records(wire.HANDSHAKE, b"\1\xff\xff\xff" + bytes(100_000)), id="a hello of 16 MB"),
    pytest.param(b"\x80\x2e\1\3\1" + bytes(46), id="a hello of SSL 2.0"),
    pytest.param(wire.record(wire.ALERT, b"\2\x28"), id="an alert"),
    pytest.param(wire.record(wire.APPLICATION_DATA, bytes(40)), id="data"),
    pytest.param(os.urandom(500), id="noise"),
])
def test_garbage(client, peer, data):
    started = time.monotonic()
    try:
        client.raw(data)
        client.sock.shutdown(socket.SHUT_WR)
    except (Ended, OSError):
        """Closed already."""
    assert client.answer() is None
    assert time.monotonic() - started < SOON
    assert all(server.data == b"" for server in peer.met)


def test_a_hello_without_a_share_is_asked_for_one(client):
    client.greet(hello())
    chosen = client.answer()
    assert chosen is not None
    assert chosen.random == wire.RETRY


def test_compression_is_not_taken(client):
    """TLS 1.2 with DEFLATE on offer (CRIME)."""
    client.greet(hello(**LEGACY, ciphers=TLS12_SUITE, compression=b"\1\0"))
    _, body = client.message(wire.SERVER_HELLO)
    after_session = body[35 + body[34] :]
    assert after_session[2] == 0


# -- dishonest clients


@pytest.mark.parametrize(("edit", "alert"), [
    pytest.param(flip, wire.DECRYPT_ERROR, id="corrupted"),
    pytest.param(lambda body: body[:4] + bytes(32), wire.DECRYPT_ERROR, id="zeros"),
    pytest.param(lambda body: message(wire.FINISHED, body[4:-1]), wire.DECODE_ERROR, id="too short"),
    pytest.param(lambda _: message(wire.CERTIFICATE, b"\0", vector(3)), wire.UNEXPECTED_MESSAGE, id="a certificate unasked"),
])
def test_bad_finished(client, peer, edit, alert):
    client.shake(hello(shares=client.shares))
    client.send(wire.HANDSHAKE, edit(client.finished()))
    client.listen()
    assert client.alerts[-1:] == [(wire.FATAL, alert)]
    assert all(server.data == b"" for server in peer.met)


def test_request_before_finished(client, peer):
    client.shake(hello(shares=client.shares))
    client.ask()
    assert client.alerts[-1:] == [(wire.FATAL, wire.UNEXPECTED_MESSAGE)]
    assert all(server.data == b"" for server in peer.met)


def early():
    """What offers 0-RTT: with a pre-shared key that we never gave out; the binder is not looked at then."""
    key = vector(2, vector(2, b"a ticket of nobody"), bytes(4))
    return (extension(wire.PSK_MODES, vector(1, b"\1")), extension(wire.EARLY_DATA),
            extension(wire.PRE_SHARED_KEY, key, vector(2, vector(1, bytes(32)))))


def test_early_data_is_never_taken(client, peer):
    """A request as 0-RTT could be replayed: it is passed over, and the handshake goes on without it (RFC 8446, 8)."""
    client.greet(hello(shares=client.shares, more=early()))
    client.raw(wire.record(wire.APPLICATION_DATA, os.urandom(100)))
    client.shake(b"")
    client.settle()
    assert client.ask().endswith(b"ok")
    assert [server.data.count(b"GET") for server in peer.met] == [1]


def test_no_ticket_invites_early_data(client):
    """Not one that we gave out ourselves (RFC 8446, 4.2.10)."""
    client.shake(hello(shares=client.shares, more=(extension(wire.PSK_MODES, vector(1, b"\1")),)))
    client.settle()
    client.ask()
    tickets = [Reader(data) for kind, data in client.strays if kind == wire.HANDSHAKE]
    assert tickets
    for ticket in tickets:
        assert ticket.number(1) == wire.NEW_SESSION_TICKET
        ticket.take(3 + 4 + 4)      # length, lifetime, age
        ticket.vector(1), ticket.vector(2)
        assert wire.EARLY_DATA not in ticket.extensions()


def test_endless_early_data(client, peer):
    """It is passed over up to a limit."""
    client.greet(hello(shares=client.shares, more=early()))
    client.shake(b"")
    with contextlib.suppress(Ended):
        for _ in range(100):
            client.raw(wire.record(wire.APPLICATION_DATA, os.urandom(2**14)))
    client.listen()
    assert client.alerts[-1:] == [(wire.FATAL, wire.UNEXPECTED_MESSAGE)]
    assert all(server.data == b"" for server in peer.met)


def test_renegotiation_is_refused(proxy, peer):
    """A client of TLS 1.2 that asks for it hears no_renegotiation and may go on (RFC 5246, 7.2.2)."""
    peer.behave(Manner())
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with proxy.tunnel(peer.port) as sock:
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
        client = SSL.Connection(context, sock)
        client.set_tlsext_host_name(b"origin.test")
        client.set_connect_state()
        client.do_handshake()
        client.renegotiate()
        with pytest.raises(SSL.Error, match="no renegotiation"):
            client.do_handshake()
    assert all(server.data == b"" for server in peer.met)


@pytest.mark.parametrize(("origin", "client", "seen"), [
    (wire.TLS13, "TLSv1_3", "TLSv1.3"), (wire.TLS12, "TLSv1_3", "TLSv1.2"), (None, "TLSv1_2", "TLSv1.2"),
    (wire.TLS12, "TLSv1_2", "TLSv1.2")], ids=["1.3 and 1.3", "origin 1.2", "client 1.2", "1.2 and 1.2"])
def test_the_version_is_the_older_one(proxy, peer, origin, client, seen):
    """Nobody is shown a security that is only half there (Killed by Proxy, 2016)."""
    peer.behave(Manner(version=origin))
    context = ssl.create_default_context(cafile=str(proxy.ca))
    context.maximum_version = ssl.TLSVersion[client]
    with context.wrap_socket(proxy.tunnel(peer.port), server_hostname="origin.test") as sock:
        assert sock.version() == seen
        sock.sendall(GET % b"origin.test")
        assert sock.recv(4096).split()[1] == b"200"


# -- clients that stop


@pytest.mark.parametrize("close", [False, True], ids=["silent", "closes"])
@pytest.mark.parametrize("step", ["half a hello", "hello", "half a Finished", "Finished"])
def test_a_client_that_stops(client, peer, step, close):
    """It is let go, and the origin with it."""
    started = time.monotonic()
    body = hello(shares=client.shares)
    if step == "half a hello":
        client.raw(wire.record(wire.HANDSHAKE, body)[:100])
    else:
        client.shake(body)
    if step == "half a Finished":
        client.raw(client.sealed(wire.HANDSHAKE, client.finished())[:20])
    if step == "Finished":
        client.settle()
    if close:
        client.finish()
    client.listen()
    client.sock.close()
    assert time.monotonic() - started < SOON
    for server in peer.met:
        assert server.over.wait(SOON)
        assert server.data == b""


BAD = Manner(edits={"CertificateVerify": flip, "ServerKeyExchange": flip})


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize(("name", "manner", "status", "resumed"), [
    pytest.param("origin.test", Manner(), 200, {True}, id="the same origin"),
    pytest.param("origin.test", BAD, 502, {True, False}, id="the same name, and now a bad origin"),
    pytest.param("other.test", Manner(), 502, {False}, id="another name"),
])
def test_a_session_is_no_way_round_the_verdict(proxy, peer, version, name, manner, status, resumed):
    """A client that resumes gets what a new one gets: the origin is looked at again, under the name asked for now."""
    context = ssl.create_default_context(cafile=str(proxy.ca))
    context.maximum_version = version
    peer.behave(Manner())
    with context.wrap_socket(proxy.tunnel(peer.port), server_hostname="origin.test") as sock:
        sock.sendall(GET % b"origin.test")
        assert sock.recv(4096).split()[1] == b"200"
        session = sock.session
    peer.behave(manner)
    with context.wrap_socket(proxy.tunnel(peer.port), server_hostname=name, session=session) as sock:
        sock.sendall(GET % name.encode())
        assert int(sock.recv(4096).split()[1]) == status
        assert sock.session_reused in resumed
    assert [server.established for server in peer.met] == [status == 200]
