"""Tickets that origins give us, over real handshakes: whom they are for, how long, and that they are used once."""

from datetime import UTC, datetime, timedelta

import pytest
from OpenSSL import SSL

from certs.authority import Authority
from proxy import resumption
from proxy.hello import parse
from proxy.mirror import TLS1_2, offer
from proxy.resumption import LIFETIME, Key, Sessions
from tests.proxy.handshake import shake
from tests.proxy.resuming import ANN, BOB, NAME, accepted, dial, meet, server, trusting

__all__ = ["trusting"]
EARLY_DATA = 42
KEY = Key(("192.0.2.1", 443), NAME, offer(None), ANN, 1, "system")


class Clock:
    def __init__(self):
        self.now = datetime.now(UTC).timestamp()

    def __call__(self):
        return self.now


def verified(client):
    return tuple(client.get_verified_chain(as_cryptography=True) or ())


def visit(sessions, trusting, origin, key=KEY, *, resume=True, keep=True):
    """One connection with an origin, as the proxy makes it; return the attempt and the hello that was sent."""
    client = dial(trusting)
    attempt = sessions.begin(key, client, resume=resume)
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    flight = client.bio_read(1 << 20)
    meet(client, origin, flight)
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
    attempt = sessions.begin(KEY, client, resume=True)
    shake(client, accepted(origin))     # and nothing is read, which the ticket would precede
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
