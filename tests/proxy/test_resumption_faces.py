"""Tickets that clients get from us, over real handshakes: they are for one process, name and policy, and for an hour."""

import time

import pytest
from OpenSSL import SSL

from addons.connection import Connection, Process
from proxy import resumption
from proxy.mirror import TLS1_2, TLS1_3
from proxy.resumption import accept_tickets, bind, partition
from tests.proxy.resuming import ANN, BOB, NAME, dial, meet, server, trusting

__all__ = ["trusting"]


def reused(connection):
    return bool(SSL._lib.SSL_session_reused(connection._ssl))


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
