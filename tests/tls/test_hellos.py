"""Odd ClientHellos before a real worker: what is good is served, whatever its shape; what is bad gets its alert, and
nothing of it reaches the origin."""

import os
import socket
import time

import pytest

from tests.tls import wire
from tests.tls.client import GREASE, SUITES, hello, server_name
from tests.tls.end import Ended
from tests.tls.server import Manner
from tests.tls.wire import extension, message, vector

#: Seconds in which a bad client has its answer.
SOON = 5.0
GREASED = {"ciphers": (GREASE, *SUITES), "versions": (GREASE, wire.TLS13, wire.TLS12), "groups": (GREASE, wire.X25519),
           "more": (extension(GREASE), extension(GREASE + 0x1010, b"\0"))}


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
