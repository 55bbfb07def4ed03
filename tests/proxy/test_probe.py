"""Our own handshake with an origin: what proves that an address is a name's, what does not, how often it is asked."""

import asyncio
import contextlib
import socket
import ssl
import time
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.authority import Authority
from proxy import probe as module
from proxy.origins import Origins
from proxy.paths import Roots
from proxy.probe import Probe
from proxy.revocation import Revocation
from proxy.rules import Refusal, Rule
from proxy.tlspolicy import Exempt, Upstream
from tests.accepting import accepting
from tests.live import pki
from tests.proxy.origin import Origin

LIMIT = 2.0


@pytest.fixture(scope="module")
def roots(origin):
    return Roots.read(origin.roots)


@pytest.fixture(scope="module")
def origins(roots):
    return Origins(roots, Upstream, Revocation())


@pytest.fixture
def heard():
    """What the origins' sides of handshakes came to: `done`, or the alert."""
    return []


@contextlib.contextmanager
def listening(act):
    """A server on loopback that does this with each connection."""
    def one(sock):
        with sock, contextlib.suppress(OSError):
            act(sock)

    with accepting(lambda sock: partial(one, sock)) as port:
        yield "127.0.0.1", port


def speaking(folder, heard, names=("bank.test",), *, newest=ssl.TLSVersion.TLSv1_3, ask=False):
    """TLS by an authority in `folder`; with `ask` it wants a certificate of the client."""
    authority = Authority.load_or_create(folder)
    leaf = authority.issue(names)
    pair = folder / f"{names[0]}.pem"
    pair.write_bytes(leaf.chain_pem + leaf.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    context.load_cert_chain(pair)
    if ask:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(str(authority.pem_path))

    def act(sock):
        try:
            with context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as end:
                heard.append(end.recv(100) or "closed politely")
        except ssl.SSLError as error:
            heard.append(error.reason)

    return act


def ask(origins, address, name="bank.test", *, limit=LIMIT):
    return asyncio.run(Probe(origins).verified(address, name, limit))


def soon(heard):
    until = time.monotonic() + 2
    while not heard and time.monotonic() < until:
        time.sleep(0.01)
    return heard


OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(("newest", "wants"), [
    pytest.param(NEW, False, id="TLS 1.3"),
    pytest.param(OLD, False, id="TLS 1.2"),
    pytest.param(NEW, True, id="TLS 1.3, for clients with a certificate"),
    pytest.param(OLD, True, id="TLS 1.2, for clients with a certificate"),
])
def test_proved(folder, origins, heard, newest, wants):
    with listening(speaking(folder / "origin", heard, newest=newest, ask=wants)) as address:
        assert ask(origins, address) is None
        assert soon(heard) == ["PEER_DID_NOT_RETURN_A_CERTIFICATE" if wants else "closed politely"]


@pytest.mark.parametrize(("authority", "names", "options", "said", "alert"), [
    pytest.param("mine", ("bank.test",), {}, "No trusted authority", "TLSV1_ALERT_UNKNOWN_CA",
                 id="a bank's name, a certificate of one's own"),
    pytest.param("mine", ("bank.test",), {"newest": OLD}, "No trusted authority", "TLSV1_ALERT_UNKNOWN_CA",
                 id="TLS 1.2"),
    pytest.param("mine", ("bank.test",), {"newest": OLD, "ask": True}, "No trusted authority",
                 "TLSV1_ALERT_UNKNOWN_CA", id="that wants a certificate of us"),
    pytest.param("origin", ("other.test",), {}, "for another name", "ALERT_BAD_CERTIFICATE",
                 id="a good certificate for another name"),
])
def test_not_proved(folder, origins, heard, authority, names, options, said, alert):
    with listening(speaking(folder / authority, heard, names, **options)) as address:
        assert said in ask(origins, address)
        assert alert in soon(heard)[0]


def test_verified_but_revoked(folder, roots, heard):
    class Revoked(Revocation):
        async def check(self, path, mode):
            return Refusal(Rule.REVOKED, f"revoked: {len(path)} certificates, {mode}")

    with listening(speaking(folder / "origin", heard)) as address:
        assert "revoked: " in ask(Origins(roots, Upstream, Revoked()), address)


def test_without_a_signature_only_the_whole_handshake_counts(folder):
    """Old suites show the key with Finished only; a certificate is no secret, so an alert before it proves nothing."""
    root, key = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    identifier = x509.SubjectKeyIdentifier.from_public_key(root.public_key())
    names = x509.SubjectAlternativeName([x509.DNSName("bank.test")])
    of = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    trusted = pki.builder(pki.NAME, root, x509.BasicConstraints(True, None), pki.USAGE, identifier)
    leaf = pki.builder(x509.Name([]), key, names, of).sign(root, hashes.SHA256())
    pair = folder / "rsa.pem"
    pair.write_bytes(leaf.public_bytes(Encoding.PEM) + key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    context.maximum_version, context.verify_mode = OLD, ssl.CERT_REQUIRED
    context.set_ciphers("AES128-SHA")

    def act(sock):
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(sock, server_side=True):
            pass

    policy = Upstream(exceptions=(Exempt(("bank.test",), min_version="1.0"),))
    roots = Roots(trusted.sign(root, hashes.SHA256()).public_bytes(Encoding.PEM))
    with listening(act) as address:
        assert "the TLS handshake failed" in ask(Origins(roots, lambda: policy, Revocation()), address)
        context.verify_mode = ssl.CERT_NONE
        assert ask(Origins(roots, lambda: policy, Revocation()), address) is None


def test_what_the_policy_tolerates_proves_nothing(folder, roots, heard):
    """It is inspected, and tolerated there."""
    policy = Upstream(exceptions=(Exempt(("bank.test",), ("untrusted",)),))
    with listening(speaking(folder / "mine", heard)) as address:
        assert "No trusted authority" in ask(Origins(roots, lambda: policy, Revocation()), address)
    assert soon(heard) == ["closed politely"]


ALERT = b"\x15\x03\x03\x00\x02\x02\x28"     # handshake_failure


@pytest.mark.parametrize(("act", "said"), [
    pytest.param(lambda sock: sock.recv(9), "", id="closes"),
    pytest.param(lambda sock: sock.recv(65536), "closed during the TLS handshake", id="closes after the hello"),
    pytest.param(lambda sock: time.sleep(1), "no handshake within 0.3 s", id="says nothing"),
    pytest.param(lambda sock: (sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), sock.recv(65536)),
                 "the TLS handshake failed", id="speaks no TLS"),
    pytest.param(lambda sock: (sock.recv(65536), sock.sendall(ALERT)), "the TLS handshake failed", id="refuses"),
])
def test_no_handshake(origins, act, said):
    with listening(act) as address:
        began = time.monotonic()
        answer = ask(origins, address, limit=0.3)
    assert answer
    assert said in answer
    assert time.monotonic() - began < 1


def test_nobody_there(origins):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    assert ask(origins, address) == "Connection refused"


def test_a_name_that_nothing_can_have(origins):
    assert "no host name" in ask(origins, ("127.0.0.1", 1), "*.test")


def counting(origins, origin, *steps):
    """Run steps with one probe; return how many connections the origin got after each."""
    async def run():
        probe, seen = Probe(origins), []
        for step in steps:
            await step(probe)
            await asyncio.sleep(0.05)
            seen.append(origin.connections)
        return seen

    return asyncio.run(run())


def probing(*names, times=1, port=None):
    """A step: ask for each of these names that often, all at once."""
    async def step(probe):
        await asyncio.gather(*(probe.verified(("127.0.0.1", port), name, LIMIT) for name in names * times))

    return step


@pytest.mark.parametrize(("steps", "expected"), [
    pytest.param([(("origin.test",), 10)], [1], id="who asks at once shares one handshake"),
    pytest.param([(("origin.test",), 1), (("origin.test",), 3)], [1, 1], id="an answer is remembered"),
    pytest.param([(("wrong.test",), 1), (("wrong.test",), 1)], [1, 1], id="a refusal too"),
    pytest.param([(("origin.test", "other.test"), 1)], [2], id="each name for itself"),
    pytest.param([(("origin.test",), 1), (("other.test", "a.wild.test"), 1), (("origin.test",), 1)], [1, 3, 4],
                 id="the oldest is forgotten"),
])
def test_how_often(origin, origins, monkeypatch, steps, expected):
    monkeypatch.setattr(module, "MAX_ANSWERS", 2)
    made = [probing(*names, times=times, port=origin.port) for names, times in steps]
    assert counting(origins, origin, *made) == expected
    assert not origin.record


@pytest.mark.parametrize(("name", "limit"), [("origin.test", "GOOD_FOR"), ("wrong.test", "BAD_FOR")])
def test_answers_expire(origin, origins, monkeypatch, name, limit):
    monkeypatch.setattr(module, limit, 0.01)
    step = probing(name, port=origin.port)
    assert counting(origins, origin, step, step) == [1, 2]


def test_a_new_policy_asks_anew(origin, origins):
    async def forget(probe):
        probe.forget()

    step = probing("origin.test", port=origin.port)
    assert counting(origins, origin, step, forget, step) == [1, 1, 2]


def test_what_began_under_the_old_one_is_not_remembered(origin, origins):
    async def run():
        probe, address = Probe(origins), ("127.0.0.1", origin.port)
        early = asyncio.ensure_future(probe.verified(address, "origin.test", LIMIT))
        await asyncio.sleep(0)
        probe.forget()
        late = asyncio.ensure_future(probe.verified(address, "origin.test", LIMIT))
        await early
        await late
        return await probe.verified(address, "origin.test", LIMIT)

    assert asyncio.run(run()) is None
    assert origin.connections == 2


def test_who_stops_waiting_does_not_end_it_for_others(origin, origins):
    async def run():
        probe, address = Probe(origins), ("127.0.0.1", origin.port)
        first = asyncio.ensure_future(probe.verified(address, "origin.test", LIMIT))
        second = asyncio.ensure_future(probe.verified(address, "origin.test", LIMIT))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(run()) is None
    assert origin.connections == 1


def test_no_request_byte_leaves(folder, origins):
    with Origin(folder / "origin").serve() as served:
        assert ask(origins, ("127.0.0.1", served.port), "origin.test") is None
        assert not served.record
