"""Dishonest and hesitant clients before a real worker: nothing that they should not have sent reaches the origin."""

import contextlib
import os
import socket
import ssl
import struct
import time

import pytest
from OpenSSL import SSL

from tests.tls import wire
from tests.tls.client import hello
from tests.tls.end import Ended
from tests.tls.peer import flip
from tests.tls.server import Manner
from tests.tls.wire import Reader, extension, message, vector

#: Seconds in which a bad client has its answer.
SOON = 5.0
GET = b"GET / HTTP/1.1\r\nhost: %b\r\n\r\n"


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
