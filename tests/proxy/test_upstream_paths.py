"""Whole handshakes with chains in which one certificate is of no use, with roots of one's own, and exemptions."""

import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from proxy import upstream
from proxy.paths import Roots
from proxy.rules import Rule
from proxy.upstream import Exemption, Upstream
from tests.proxy.handshake import CA, UNREADABLE, Presenter, authority, certify, origin, san, verdict

ROOT, STRANGER, NAMESAKE = authority("root"), authority("stranger"), authority("root")
MIDDLE = authority("middle", ROOT)
SMALL = rsa.generate_private_key(65537, 1024)  # noqa: S505
CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
ELSEWHERE = x509.NameConstraints([x509.DNSName("other.example")], None)


@pytest.fixture(scope="module")
def origins():
    return Upstream(Roots(ROOT.pem))


KEY = ec.generate_private_key(ec.SECP256R1())
GOOD = authority("twin", ROOT, key=KEY)
TWINS = {
    "untrusted": authority("twin", STRANGER, key=KEY),
    "wrong signature": authority("twin", ROOT, key=KEY, signer=NAMESAKE.key),
    "for clients": authority("twin", ROOT, CLIENTS, key=KEY),
    "not a CA": authority("twin", ROOT, x509.BasicConstraints(False, None), key=KEY),
    "not said to be a CA": authority("twin", ROOT, key=KEY, without=[x509.BasicConstraints]),
    "for other names": authority("twin", ROOT, ELSEWHERE, key=KEY),
    "expired": authority("twin", ROOT, key=KEY, valid=(-9, -1)),
    "weakly signed": authority("twin", ROOT, key=KEY, digest=hashes.SHA224()),
    "without its issuer's key": authority("twin", ROOT, key=KEY, without=[x509.AuthorityKeyIdentifier]),
}


@pytest.mark.parametrize("first", ["good", "unusable"])
@pytest.mark.parametrize("why", TWINS)
def test_an_unusable_twin_does_no_harm(origins, why, first):
    leaf = origin(GOOD)
    sent = (leaf, GOOD, TWINS[why]) if first == "good" else (leaf, TWINS[why], GOOD)
    connection = origins.connect("a.example")
    assert verdict(connection, Presenter.of(*sent)) is None
    assert upstream.path(connection) == (leaf.certificate, GOOD.certificate, ROOT.certificate)


def test_only_unusable_ones(origins):
    assert verdict(origins.connect("a.example"), Presenter.of(origin(GOOD), *TWINS.values())) is not None


@pytest.mark.parametrize("twins", [3, 11, 40, 100])
@pytest.mark.parametrize("trusted", [False, True])
def test_hostile_chains_cost_little(twins, trusted):
    """pyca/cryptography alone needs half a minute for four."""
    lasting = authority("twin", key=KEY)
    sent = [origin(lasting), *(authority("twin", lasting, key=KEY) for _ in range(twins)), *([GOOD] if trusted else [])]
    presenter, connection = Presenter.of(*sent), Upstream(Roots(ROOT.pem)).connect("a.example")
    before = time.process_time()
    accepted = presenter.meet(connection)
    assert time.process_time() - before < 0.1
    assert accepted == (trusted and twins < 11)


@pytest.mark.parametrize("trusted", [
    pytest.param(MIDDLE, id="an intermediate is trusted as it is"),
    pytest.param(authority("root", without=[x509.KeyUsage]), id="what openssl req -x509 makes"),
])
def test_roots_of_ones_own(trusted):
    connection = Upstream(Roots(trusted.pem)).connect("a.example")
    assert verdict(connection, Presenter.of(origin(trusted))) is None


def test_an_origin_s_own_certificate_can_be_trusted():
    own = certify("origin", None, [san(["a.example"]), CA])
    assert verdict(Upstream(Roots(own.pem)).connect("a.example"), Presenter.of(own)) is None


# -- exemptions

OLD = origin(ROOT, valid=(-9, -1))
FINGERPRINT = OLD.certificate.fingerprint(hashes.SHA256()).hex()
ODD = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")     # critical
OLD_STRANGE = origin(STRANGER, ["b.example"], valid=(-9, -1))


@pytest.mark.parametrize(("sent", "rules", "fingerprint", "expected"), [
    pytest.param(OLD, {Rule.EXPIRED}, None, None, id="the rule that is broken"),
    pytest.param(OLD, {Rule.NAME}, None, Rule.EXPIRED, id="another rule"),
    pytest.param(OLD, {Rule.EXPIRED}, FINGERPRINT, None, id="that certificate"),
    pytest.param(OLD, {Rule.EXPIRED}, "0" * 64, Rule.EXPIRED, id="another certificate"),
    pytest.param(OLD_STRANGE, {Rule.EXPIRED}, None, Rule.UNTRUSTED, id="one of three"),
    pytest.param(OLD_STRANGE, {Rule.EXPIRED, Rule.UNTRUSTED}, None, Rule.NAME, id="two of three"),
    pytest.param(OLD_STRANGE, {Rule.EXPIRED, Rule.UNTRUSTED, Rule.NAME}, None, None, id="all three"),
    pytest.param(origin(None), {Rule.UNTRUSTED}, None, None, id="self-signed"),
    pytest.param(origin(None, key=SMALL), {Rule.UNTRUSTED}, None, Rule.WEAK, id="self-signed and weak"),
    pytest.param(certify("a.example", ROOT, []), {Rule.NAME, Rule.PROFILE}, None, None, id="no names"),
    pytest.param(origin(ROOT, ["a.example"], ODD), {Rule.PROFILE}, None, None, id="profile"),
    pytest.param(origin(ROOT, ["*.co.uk"]), {Rule.NAME}, None, None, id="a wildcard that does not match"),
    pytest.param(origin(ROOT, ["a.example"], UNREADABLE), set(Rule), None, Rule.MALFORMED, id="not what is unreadable"),
])
def test_exemptions(origins, sent, rules, fingerprint, expected):
    connection = origins.connect("a.example", exemption=Exemption(frozenset(rules), fingerprint))
    refused = verdict(connection, Presenter.of(sent))
    assert (refused and refused.rule) == expected
    if expected is None:
        assert {each.rule for each in upstream.tolerated(connection)} <= rules
        assert upstream.tolerated(connection)


def test_an_exemption_is_for_one_connection(origins):
    assert verdict(origins.connect("a.example", exemption=Exemption(frozenset({Rule.EXPIRED}))), Presenter.of(OLD)) is None
    assert verdict(origins.connect("a.example"), Presenter.of(OLD)) is not None
