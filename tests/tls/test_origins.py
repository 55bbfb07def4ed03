"""Origins with bad manners, behind a real worker: the client reads what failed, the origin gets its alert and not a
byte of the request, and nobody waits long."""

import time

import pytest

from tests.tls import wire
from tests.tls.manners import BAD, ENDINGS, ENDLESS, GOOD, STEPS, key_update, renegotiates
from tests.tls.server import Manner, Stop

GET = b"GET / HTTP/1.1\r\nhost: origin.test\r\n\r\n"
#: Seconds: the limit on answers, and as much again for a computer with other things to do.
SOON = 4.0


def ask(proxy, peer, manner):
    """The client's answer, which comes soon, and the peer's first connection, which ends soon."""
    peer.behave(manner)
    started = time.monotonic()
    answer = proxy.ask(peer.port, GET)
    assert time.monotonic() - started < SOON
    return answer, peer.first(SOON)


def refused(answer, peer, status=502):
    """A page that says what failed; not a byte of the request went to any connection."""
    assert (answer.status, answer.ended) == (status, True)
    assert b"lockgate" in answer.body or b'"incident"' in answer.body
    assert [server.data for server in peer.met] == [b""] * len(peer.met)


@pytest.mark.parametrize("manner", GOOD.values(), ids=GOOD)
def test_good_manners(proxy, peer, manner):
    answer, server = ask(proxy, peer, manner)
    assert (answer.status, answer.body, answer.ended) == (200, b"ok", True)
    assert b"host: origin.test" in server.data
    assert all(level == wire.WARNING for level, _ in server.alerts)


@pytest.mark.parametrize(("manner", "alert"), BAD.values(), ids=BAD)
def test_bad_manners(proxy, peer, manner, alert):
    answer, server = ask(proxy, peer, manner)
    refused(answer, peer)
    if alert is not None:
        assert server.alerts[-1:] == [(wire.FATAL, alert)]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("version", "step", "half"), STEPS, ids=lambda value: {True: "half", False: "none"}.get(value))
def test_an_origin_that_stops(proxy, peer, version, step, half, ending):
    answer, server = ask(proxy, peer, Manner(version=version, stop=Stop(step, ENDINGS[ending], half=half)))
    if step == "answer":
        assert (answer.status, answer.ended) == (504 if ending == "silence" else 502, True)
    else:
        refused(answer, peer)
    assert server.ended == "as planned"


@pytest.mark.parametrize("act", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("step", ["ServerHello", "EncryptedExtensions"])
def test_an_origin_that_never_ends(proxy, peer, step, act):
    """Bytes buy no time."""
    before = proxy.memory()
    answer, _ = ask(proxy, peer, Manner(stop=Stop(step, act)))
    refused(answer, peer)
    assert proxy.memory() - before < 20 * 2**20


def test_a_client_of_http2_reads_it_too(proxy, peer):
    peer.behave(BAD["CertificateVerify corrupted"][0])
    client = proxy.h2(peer.port)
    answer = client.wait(client.request())
    refused(answer, peer)


# -- once the handshake is over


@pytest.mark.parametrize("version", [wire.TLS12, wire.TLS13], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("delay", [0, 0.01, 0.1])
@pytest.mark.parametrize("attempt", range(4))
def test_an_origin_that_wants_a_certificate(proxy, peer, version, delay, attempt):
    """With TLS 1.3 its refusal comes when the client's side of the handshake is over: before a request or after."""
    answer, _ = ask(proxy, peer, Manner(version=version, wants_certificate=True, delay=delay))
    assert (answer.status, answer.ended) == (502, True)
    assert (b"certificate required" if version == wire.TLS13 else b"handshake failure") in answer.body


def test_renegotiation_is_refused(proxy, peer):
    """The exchange goes on (RFC 5246, 7.4.1.1)."""
    answer, server = ask(proxy, peer, Manner(version=wire.TLS12, settled=renegotiates))
    assert (answer.status, answer.body) == (200, b"ok")
    assert server.alerts[0] == (wire.WARNING, wire.NO_RENEGOTIATION)
    assert wire.HANDSHAKE not in dict(server.strays)


@pytest.mark.parametrize(("kind", "data"), [
    pytest.param(wire.HANDSHAKE, wire.message(wire.HELLO_REQUEST), id="HelloRequest in TLS 1.3"),
    pytest.param(wire.HANDSHAKE, wire.message(wire.KEY_UPDATE, b"\2"), id="KeyUpdate that is none"),
    pytest.param(wire.HANDSHAKE, wire.message(wire.FINISHED, bytes(32)), id="a second Finished"),
    pytest.param(99, b"what is this", id="a record of no kind"),
    pytest.param(wire.ALERT, bytes([wire.FATAL, wire.INTERNAL_ERROR]), id="an alert"),
])
def test_nonsense_after_the_handshake(proxy, peer, kind, data):
    answer, server = ask(proxy, peer, Manner(settled=lambda server: server.send(kind, data)))
    assert (answer.status, answer.ended) == (502, True)
    if kind != wire.ALERT:
        assert server.alerts[-1] == (wire.FATAL, wire.UNEXPECTED_MESSAGE) or server.alerts[-1][1] == wire.ILLEGAL_PARAMETER


def test_a_record_that_was_tampered_with(proxy, peer):
    def tamper(server):
        server.raw(server.sealed(wire.APPLICATION_DATA, b"HTTP/1.1 200 OK\r\n\r\n")[:-1] + b"!")

    answer, server = ask(proxy, peer, Manner(settled=tamper))
    assert (answer.status, answer.ended) == (502, True)
    assert server.alerts[-1] == (wire.FATAL, wire.BAD_RECORD_MAC)


HALF = b"HTTP/1.1 200 OK\r\n%bhalf of it"


@pytest.mark.parametrize("version", [wire.TLS12, wire.TLS13], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("framing", [b"content-length: 100\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n64\r\n", b"\r\n"],
                         ids=["length", "chunked", "until the end"])
def test_truncation_is_seen(proxy, peer, version, framing):
    """An end without close_notify is nobody's wish but the network's (RFC 8446, 6.1)."""
    answer, _ = ask(proxy, peer, Manner(version=version, answer=HALF % framing, goodbye=False))
    assert not (answer.status == 200 and answer.ended)


@pytest.mark.parametrize("version", [wire.TLS12, wire.TLS13], ids=["TLS 1.2", "TLS 1.3"])
def test_an_end_that_is_meant(proxy, peer, version):
    answer, _ = ask(proxy, peer, Manner(version=version, answer=HALF % b"\r\n"))
    assert (answer.status, answer.body, answer.ended) == (200, b"half of it", True)


def test_many_key_updates(proxy, peer):
    """They cost work and bring nothing; each asks for one in return."""
    def act(server):
        for _ in range(1000):
            key_update(server)

    answer, _ = ask(proxy, peer, Manner(settled=act))
    assert (answer.status, answer.body) == (200, b"ok")
