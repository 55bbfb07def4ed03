"""What the second verifier remembers, and for how long; and what its verdict may not be taken for."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from proxy import verify
from proxy.paths import Roots
from proxy.rules import Rule
from proxy.upstream import server_name
from proxy.verify import GOOD_FOR, Verifier, openssl_accepts
from tests.proxy.handshake import authority, certify, origin

ROOT = authority("root")
CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
ELSEWHERE = x509.NameConstraints([x509.DNSName("other.example")], None)
HOST = server_name("a.example")


class Clock:
    def __init__(self):
        self.now = datetime.now(UTC)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def verifier(clock):
    return Verifier(Roots(ROOT.pem), clock)


def ders(*pairs):
    return [each.der for each in pairs]


@pytest.mark.parametrize(("life", "until"), [
    pytest.param(timedelta(days=7), GOOD_FOR, id="some minutes"),
    pytest.param(timedelta(seconds=30), timedelta(seconds=30), id="not longer than the certificate"),
])
def test_good_ones_are_remembered(verifier, clock, life, until, monkeypatch):
    asked = []
    real = verify.weaknesses
    monkeypatch.setattr(verify, "weaknesses", lambda *args: asked.append(1) or real(*args))
    path = ders(origin(ROOT, valid=(-1, life / timedelta(days=1))), ROOT)
    begin = clock.now
    for later, expected in ((timedelta(0), 1), (until - timedelta(seconds=2), 1), (until + timedelta(seconds=1), 2)):
        clock.now = begin + later
        verifier.second(path, HOST)
        assert len(asked) == expected


def test_bad_ones_are_not(verifier):
    lax = authority("m", ROOT, x509.PolicyConstraints(0, None), uncritical=[x509.PolicyConstraints])
    path = ders(origin(lax), lax, ROOT)
    assert [fault.rule for fault in verifier.second(path, HOST)[1]] == [Rule.PROFILE]
    assert [fault.rule for fault in verifier.second(path, HOST)[1]] == [Rule.PROFILE]
    assert verifier.second(path, HOST, profile=False)[1] == []
    assert [fault.rule for fault in verifier.second(path, HOST)[1]] == [Rule.PROFILE]


def test_no_more_than_some(verifier, monkeypatch):
    monkeypatch.setattr(verify, "MAX_VERDICTS", 2)
    for _ in range(4):
        verifier.second(ders(origin(ROOT), ROOT), HOST)
    assert len(verifier._good) == 2


def test_one_verifier_s_word_is_not_both_s(verifier, monkeypatch):
    """The same certificates as OpenSSL's path, then as a chain that was sent, of which OpenSSL thinks otherwise."""
    middle = authority("middle", ROOT)
    sent = ders(origin(middle), middle, ROOT)
    assert verifier.second(sent, HOST)[1] == []
    monkeypatch.setattr(verify, "openssl_accepts", lambda *_: False)
    assert verifier.repair(sent, HOST) is None


def test_constraints_are_not_compared_for_ever(verifier):
    """Both libraries would compare some sixteen times as many."""
    limits = x509.NameConstraints([x509.DNSName("example"), *(x509.DNSName(f"{n}.test") for n in range(299))], None)
    middle = authority("middle", ROOT, limits)
    leaf = origin(middle, ["a.example", *(f"{n}.example" for n in range(299))])
    faults = verifier.second(ders(leaf, middle, ROOT), HOST)[1]
    assert [fault.rule for fault in faults] == [Rule.CONSTRAINTS]


def test_nobody_is_on_a_path_twice(verifier):
    """OpenSSL walks from one to the next; pyca/cryptography would try all orders, with a fourth for half a minute."""
    lasting = authority("twin", ROOT, without=[x509.AuthorityKeyIdentifier])
    twins = [lasting, *(authority("twin", lasting, key=lasting.key) for _ in range(2))]
    before = time.process_time()
    faults = verifier.second(ders(origin(lasting), *reversed(twins), ROOT), HOST)[1]
    assert time.process_time() - before < 0.1
    assert [fault.rule for fault in faults] == [Rule.PROFILE]


MIDDLE = authority("middle", ROOT)


@pytest.mark.parametrize(("path", "accepted"), [
    pytest.param((origin(MIDDLE), MIDDLE, ROOT), True, id="good"),
    pytest.param((origin(MIDDLE), ROOT), False, id="one is missing"),
    pytest.param((origin(MIDDLE, ["b.example"]), MIDDLE, ROOT), False, id="name"),
    pytest.param((origin(MIDDLE, ["a*.example"]), MIDDLE, ROOT), False, id="half a wildcard"),
    pytest.param((certify("a.example", MIDDLE, []), MIDDLE, ROOT), False, id="common name"),
    pytest.param((origin(MIDDLE, ["a.example"], CLIENTS), MIDDLE, ROOT), False, id="for clients"),
    pytest.param((origin(MIDDLE, valid=(-3, -1)), MIDDLE, ROOT), False, id="expired"),
    pytest.param((origin(limited := authority("limited", ROOT, ELSEWHERE)), limited, ROOT), False, id="constraints"),
])
def test_openssl_on_one_path(path, accepted):
    assert openssl_accepts(tuple(each.certificate for each in path), HOST, datetime.now(UTC)) == accepted
