"""Tickets over real handshakes: whom they are for, how long, and that they are used once."""

import contextlib
import time
from datetime import UTC, datetime, timedelta

import pytest
from OpenSSL import SSL

from addons.connection import Connection, Process
from certs.authority import Authority
from proxy import resumption
from proxy.hello import parse
from proxy.mirror import TLS1_2, TLS1_3, apply, offer
from proxy.resumption import LIFETIME, Key, Sessions, accept_tickets, bind, partition

NAME, EARLY_DATA = "origin.test", 42
ANN, BOB = (1000, 4711, 1e9, "/usr/bin/browser"), (1001, 4712, 1e9, "/usr/bin/browser")
KEY = Key(("192.0.2.1", 443), NAME, offer(None), ANN, 1, "system")


class Clock:
    def __init__(self):
        self.now = datetime.now(UTC).timestamp()

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("ca") / "ca")


def server(authority, newest=TLS1_3, **leaf):
    context, leaf = SSL.Context(SSL.TLS_SERVER_METHOD), authority.issue([NAME], **leaf)
    context.use_certificate(leaf.certificate)
    context.use_privatekey(leaf.key)
    for issuer in leaf.chain:
        context.add_extra_chain_cert(issuer)
    context.set_max_proto_version(newest)
    context.set_session_id(b"origin")
    return context


@pytest.fixture(scope="module")
def trusting(authority):
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    apply(offer(None), context)
    context.load_verify_locations(str(authority.pem_path))
    context.set_verify(SSL.VERIFY_PEER, None)
    return context


def exchange(end, other):
    with contextlib.suppress(SSL.WantReadError):
        other.bio_write(end.bio_read(1 << 20))


def meet(client, server_context):
    """A handshake and the first data from the server, which the tickets precede; return the server's end."""
    peer = SSL.Connection(server_context)
    peer.set_accept_state()
    for _ in range(3):
        for end, other in ((client, peer), (peer, client)):
            with contextlib.suppress(SSL.WantReadError):
                end.do_handshake()
            exchange(end, other)
    peer.send(b"hello")
    exchange(peer, client)
    assert client.recv(10) == b"hello"
    return peer


def dial(trusting, session=None):
    client = SSL.Connection(trusting)
    client.set_tlsext_host_name(NAME.encode())
    client.set_connect_state()
    if session:
        client.set_session(session)
    return client


def reused(connection):
    return bool(SSL._lib.SSL_session_reused(connection._ssl))


# -- towards clients

@pytest.fixture(params=[pytest.param(TLS1_2, id="TLS 1.2"), pytest.param(TLS1_3, id="TLS 1.3")])
def face(authority, request):
    context = server(authority, request.param)
    accept_tickets(context)
    return context


@pytest.mark.parametrize(("first", "then", "expected"), [
    pytest.param((ANN, NAME, 1), (ANN, NAME, 1), True, id="the same program"),
    pytest.param((ANN, NAME, 1), (BOB, NAME, 1), False, id="another user"),
    pytest.param((ANN, NAME, 1), ((*ANN[:1], 5, *ANN[2:]), NAME, 1), False, id="another process of the user"),
    pytest.param((ANN, NAME, 1), ((*ANN[:2], 2e9, *ANN[3:]), NAME, 1), False, id="another with the same pid"),
    pytest.param((ANN, NAME, 1), (ANN, NAME, 2), False, id="after a reload of the policy"),
    pytest.param((ANN, NAME, 1), (ANN, "other.test", 1), False, id="another name"),
    pytest.param((None, NAME, 1), (None, NAME, 1), False, id="nobody knows who"),
    pytest.param((ANN, NAME, 1), (None, NAME, 1), False, id="the second unknown"),
])
def test_faces_resume_for_their_owner_only(face, trusting, first, then, expected):
    bind(face, *first)
    client = dial(trusting)
    meet(client, face)
    bind(face, *then)
    again = dial(trusting, client.get_session())
    assert reused(meet(again, face)) is expected
    assert reused(again) is expected


def test_a_face_keeps_no_sessions_of_its_own(face, trusting):
    """Clients that know no tickets do a full handshake; OpenSSL's cache would hold 20 000 sessions a context."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(TLS1_2)
    context.set_options(SSL.OP_NO_TICKET)
    bind(face, ANN, NAME, 1)
    client = dial(context)
    held = meet(client, face)       # OpenSSL forgets the session of a connection that is dropped
    again = dial(context, client.get_session())
    meet(again, face)
    assert held
    assert not reused(again)


def test_a_face_forgets(authority, trusting, monkeypatch):
    monkeypatch.setattr(resumption, "LIFETIME", 1)
    face = server(authority)
    accept_tickets(face)
    bind(face, ANN, NAME, 1)
    client = dial(trusting)
    meet(client, face)
    time.sleep(2.1)     # OpenSSL counts in whole seconds
    again = dial(trusting, client.get_session())
    meet(again, face)
    assert not reused(again)


def test_another_face_cannot_read_the_ticket(authority, face, trusting):
    other = server(authority)
    for context in (face, other):
        bind(context, ANN, NAME, 1)
    client = dial(trusting)
    meet(client, face)
    again = dial(trusting, client.get_session())
    meet(again, other)
    assert not reused(again)


@pytest.mark.parametrize(("process", "expected"), [
    pytest.param(Process(5, "/bin/a", uid=1000, started=1e9), (1000, 5, 1e9, "/bin/a"), id="known"),
    pytest.param(Process(5, "/bin/a", uid=0), (0, 5, 0.0, "/bin/a"), id="root"),
    pytest.param(Process(5, "/bin/a"), None, id="of unknown user"),
    pytest.param(Process(5, uid=1000, ended=True), None, id="ended"),
    pytest.param(None, None, id="none"),
])
def test_partition(process, expected):
    assert partition(Connection(NAME, ("192.0.2.1", 443), ("127.0.0.1", 5), process)) == expected


# -- towards origins

def verified(client):
    return tuple(client.get_verified_chain(as_cryptography=True) or ())


def visit(sessions, trusting, origin, key=KEY, *, resume=True, keep=True):
    """One connection with an origin, as the proxy makes it; return the attempt and the hello that was sent."""
    client = dial(trusting)
    attempt = sessions.begin(key, client, resume=resume)
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    flight = client.bio_read(1 << 20)
    peer = SSL.Connection(origin)
    peer.set_accept_state()
    peer.bio_write(flight)
    for end, other in ((peer, client), (client, peer), (peer, client)):
        with contextlib.suppress(SSL.WantReadError):
            end.do_handshake()
        exchange(end, other)
    peer.send(b"hello")
    exchange(peer, client)
    assert client.recv(10) == b"hello"
    if keep:
        attempt.keep(verified(client))
    client.shutdown()
    return attempt, parse(flight)


def test_resumed(authority, trusting):
    """The second connection resumes, and the third with the ticket of the second; the chain is still known."""
    origin, sessions = server(authority), Sessions()
    full, hello = visit(sessions, trusting, origin)
    path = verified(full.connection)
    assert (full.path, hello.resumes) == ((), False)
    for _ in range(2):
        attempt, hello = visit(sessions, trusting, origin)
        assert (attempt.path, hello.resumes) == (path, True)
        assert EARLY_DATA not in hello.extensions
        assert attempt.connection.get_peer_cert_chain(as_cryptography=True) == [*path[:-1]]     # to mint a leaf by
        assert attempt.connection.get_group_name() == "X25519MLKEM768"     # a fresh secret, not the ticket's alone


@pytest.mark.parametrize("other", [
    pytest.param(KEY._replace(partition=BOB), id="another user"),
    pytest.param(KEY._replace(generation=2), id="a reloaded policy"),
    pytest.param(KEY._replace(roots="mine"), id="other roots"),
    pytest.param(KEY._replace(name="other.test"), id="another name"),
    pytest.param(KEY._replace(address=("192.0.2.2", 443)), id="another address"),
    pytest.param(KEY._replace(offer=offer(None, 0x0301)), id="another offer"),
])
def test_never_offered_for(authority, trusting, other):
    """Not even the ticket is sent: it would tell the origin who comes again."""
    origin, sessions = server(authority), Sessions()
    visit(sessions, trusting, origin)
    attempt, hello = visit(sessions, trusting, origin, other)
    assert (attempt.path, hello.resumes) == ((), False)
    assert visit(sessions, trusting, origin)[0].path


def test_never_for_a_client_that_does_not_resume(authority, trusting):
    """A private window of the same browser has no ticket of ours."""
    origin, sessions = server(authority), Sessions()
    visit(sessions, trusting, origin)
    assert not visit(sessions, trusting, origin, resume=False)[1].resumes


@pytest.mark.parametrize(("ends", "wait", "resumes"), [
    pytest.param(timedelta(days=5), LIFETIME - 5, True, id="within the lifetime"),
    pytest.param(timedelta(days=5), LIFETIME + 1, False, id="beyond the lifetime"),
    pytest.param(timedelta(minutes=10), 590, True, id="a certificate about to expire"),
    pytest.param(timedelta(minutes=10), 601, False, id="expired since"),
])
def test_for_how_long(authority, trusting, ends, wait, resumes):
    clock = Clock()
    origin = server(authority, not_after=datetime.now(UTC) + ends)
    sessions = Sessions(clock)
    visit(sessions, trusting, origin)
    clock.now += wait
    assert visit(sessions, trusting, origin)[1].resumes is resumes


def test_resuming_does_not_prolong(authority, trusting):
    """An hour after the full handshake there is another one, however often it was resumed in between."""
    clock, origin = Clock(), server(authority)
    sessions = Sessions(clock)
    resumed = []
    for _ in range(4):
        resumed.append(bool(visit(sessions, trusting, origin)[0].path))
        clock.now += LIFETIME * 0.4
    assert resumed == [False, True, True, False]


def test_used_once(authority, trusting):
    """Two connections at once: one ticket, so one of them does a full handshake."""
    origin, sessions = server(authority), Sessions()
    visit(sessions, trusting, origin)
    assert [visit(sessions, trusting, origin, keep=False)[1].resumes for _ in range(2)] == [True, False]


def test_a_ticket_is_not_kept_again(authority, trusting):
    """An origin that resumes without giving a new ticket: the used one is not offered again."""
    origin, sessions = server(authority), Sessions()
    visit(sessions, trusting, origin)
    client = dial(trusting)
    attempt, peer = sessions.begin(KEY, client, resume=True), SSL.Connection(origin)
    peer.set_accept_state()
    for end, other in ((client, peer), (peer, client), (client, peer)):
        with contextlib.suppress(SSL.WantReadError):
            end.do_handshake()
        exchange(end, other)
    assert attempt.path
    attempt.keep(attempt.path)
    assert len(sessions) == 0


def test_what_nobody_verified_is_not_kept(authority, trusting):
    origin, sessions = server(authority), Sessions()
    visit(sessions, trusting, origin, keep=False)[0].keep(())
    assert len(sessions) == 0


def test_an_origin_that_has_forgotten(authority, trusting):
    """Restarted, say: a full handshake, verified, and its ticket from then on."""
    sessions = Sessions()
    visit(sessions, trusting, server(authority))
    restarted = server(authority)
    attempt, hello = visit(sessions, trusting, restarted)
    assert (hello.resumes, attempt.path) == (True, ())
    assert attempt.connection.get_verified_chain() is not None
    assert visit(sessions, trusting, restarted)[0].path


def test_an_impostor_cannot_resume(authority, trusting, tmp_path):
    """Who does not have the origin's ticket key must show a certificate, and it is verified."""
    sessions = Sessions()
    visit(sessions, trusting, server(authority))
    client = dial(trusting)
    attempt = sessions.begin(KEY, client, resume=True)
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        meet(client, server(Authority.create(tmp_path / "ca")))
    assert not attempt.path


def test_tls12_is_not_resumed(authority, trusting):
    origin, sessions = server(authority, TLS1_2), Sessions()
    visit(sessions, trusting, origin)
    assert len(sessions) == 0


def test_bounded(authority, trusting, monkeypatch):
    monkeypatch.setattr(resumption, "MAX_SESSIONS", 3)
    origin, sessions = server(authority), Sessions()
    for generation in range(5):
        visit(sessions, trusting, origin, KEY._replace(generation=generation))
    assert len(sessions) == 3
    assert [visit(sessions, trusting, origin, KEY._replace(generation=g), keep=False)[1].resumes for g in range(5)] == \
        [False, False, True, True, True]


def test_cleared(authority, trusting):
    origin, sessions = server(authority), Sessions()
    visit(sessions, trusting, origin)
    sessions.clear()
    assert not visit(sessions, trusting, origin)[1].resumes
