"""Whole handshakes with origins whose certificates are good, bad, exempted, and in the wrong order."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from proxy import upstream, weaknesses
from proxy.paths import Roots
from proxy.rules import Refusal, Rule
from proxy.upstream import Exemption, Upstream
from tests.proxy.handshake import SPEAKS, UNREADABLE, Presenter, authority, by_sha1, certify, origin, verdict

ROOT = authority("root")
STRANGER = authority("stranger")
NAMESAKE = authority("root")
MIDDLE = authority("middle", ROOT)
RSA_ROOT = authority("rsa root", key=rsa.generate_private_key(65537, 2048))
UNEVEN = rsa.generate_private_key(65537, 2047)  # noqa: S505
SMALL = rsa.generate_private_key(65537, 1024)  # noqa: S505
CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
ELSEWHERE = x509.NameConstraints([x509.DNSName("other.example")], None)
ODD = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")

LAX = authority("m", ROOT, x509.PolicyConstraints(0, None), uncritical=[x509.PolicyConstraints])


@pytest.fixture(scope="module")
def origins():
    return Upstream(Roots(ROOT.pem + RSA_ROOT.pem))


def chain(*intermediates, leaf=None, host="a.example"):
    """A leaf of the last one, or the given one, with the others in the order of sending."""
    return [leaf or origin(intermediates[0] if intermediates else ROOT, [host]), *intermediates]


def endless(count):
    """So many authorities, each of the next, the last of the root."""
    found = [authority("0", ROOT)]
    for number in range(1, count):
        found.append(authority(str(number), found[-1]))
    return reversed(found)


@pytest.mark.parametrize(("names", "host"), [
    pytest.param(["a.example"], "a.example", id="a name"),
    pytest.param(["A.Example"], "a.eXample", id="letters of either size"),
    pytest.param(["b.example", "a.example"], "a.example.", id="one of several, asked for with a dot at its end"),
    pytest.param(["*.b.example"], "a.b.example", id="a wildcard"),
    pytest.param(["*.github.io"], "a.github.io", id="a wildcard of a private owner of a suffix"),
    pytest.param(["xn--bcher-kva.example"], "bücher.example", id="IDNA"),
    pytest.param(["192.0.2.1"], "192.0.2.1", id="an address"),
    pytest.param(["2001:db8::1"], "2001:0db8::0001", id="an address of version 6"),
])
@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_names_that_match(origins, names, host, newest):
    connection = origins.connect(host)
    leaf = origin(MIDDLE, names)
    assert verdict(connection, Presenter.of(leaf, MIDDLE, newest=newest)) is None
    assert upstream.path(connection) == (leaf.certificate, MIDDLE.certificate, ROOT.certificate)
    assert upstream.tolerated(connection) == ()


@pytest.mark.parametrize(("rule", "sent"), [
    pytest.param(Rule.UNTRUSTED, chain(STRANGER), id="unknown root"),
    pytest.param(Rule.UNTRUSTED, [origin(None)], id="self-signed"),
    pytest.param(Rule.UNTRUSTED, chain(leaf=origin(MIDDLE)), id="its issuer is missing"),
    pytest.param(Rule.UNTRUSTED, chain(NAMESAKE), id="a root of the same name"),
    pytest.param(Rule.SIGNATURE, [origin(ROOT, signer=NAMESAKE.key)], id="wrong signature"),
    pytest.param(Rule.SIGNATURE, chain(authority("middle", ROOT, signer=NAMESAKE.key)), id="of its issuer"),
    pytest.param(Rule.EXPIRED, [origin(ROOT, valid=(-9, -1))], id="expired"),
    pytest.param(Rule.EXPIRED, chain(authority("middle", ROOT, valid=(-9, -1))), id="expired issuer"),
    pytest.param(Rule.NOT_YET_VALID, [origin(ROOT, valid=(1, 2))], id="not yet valid"),
    pytest.param(Rule.NOT_YET_VALID, chain(authority("middle", ROOT, valid=(1, 2))), id="its issuer not yet"),
    pytest.param(Rule.NAME, [origin(ROOT, ["b.example"])], id="another name"),
    pytest.param(Rule.NAME, [origin(ROOT, ["*.a.example"])], id="a wildcard stands for a label"),
    pytest.param(Rule.NAME, [origin(ROOT, ["a*.example"])], id="half a wildcard"),
    pytest.param(Rule.NAME, [origin(ROOT, ["192.0.2.1"])], id="an address for a name"),
    pytest.param(Rule.NAME, [certify("a.example", ROOT, [])], id="the common name alone"),
    pytest.param(Rule.USAGE, [origin(ROOT, ["a.example"], CLIENTS)], id="for clients"),
    pytest.param(Rule.USAGE, chain(authority("middle", ROOT, CLIENTS)), id="its issuer is for clients"),
    pytest.param(Rule.CONSTRAINTS, chain(authority("middle", ROOT, SPEAKS)), id="its issuer may not sign"),
    pytest.param(Rule.CONSTRAINTS, chain(authority("middle", ROOT, x509.BasicConstraints(False, None))), id="not a CA"),
    pytest.param(Rule.CONSTRAINTS, chain(authority("m", ROOT, without=[x509.BasicConstraints])), id="not said to be"),
    pytest.param(Rule.CONSTRAINTS, chain(authority("below", short := authority(
        "short", ROOT, x509.BasicConstraints(True, 0))), short), id="a path too long for one on it"),
    pytest.param(Rule.CONSTRAINTS, chain(authority("middle", ROOT, ELSEWHERE)), id="names it may not certify"),
    pytest.param(Rule.TOO_LONG, chain(*endless(14)), id="fourteen authorities"),
    pytest.param(Rule.WEAK, [origin(ROOT, key=SMALL)], id="RSA of 1024 bits"),
    pytest.param(Rule.WEAK, chain(authority("middle", ROOT, key=SMALL)), id="of its issuer"),
    pytest.param(Rule.WEAK, chain(authority("middle", ROOT, key=UNEVEN)), id="2047 bits"),
    pytest.param(Rule.WEAK, chain(authority("m", ROOT, key=ec.generate_private_key(ec.SECP224R1()))), id="P-224"),
    pytest.param(Rule.WEAK, [by_sha1(origin(RSA_ROOT), RSA_ROOT)], id="SHA-1"),
    pytest.param(Rule.WEAK, [origin(ROOT, digest=hashes.SHA224())], id="SHA-224"),
    pytest.param(Rule.PROFILE, [origin(ROOT, ["a.example"], ODD)], id="an unknown critical extension"),
    pytest.param(Rule.PROFILE, chain(LAX), id="constraints not critical"),
    pytest.param(Rule.MALFORMED, [origin(ROOT, ["a.example"], UNREADABLE)], id="names that only OpenSSL can read"),
])
def test_what_is_refused(origins, rule, sent):
    refused = verdict(origins.connect("a.example"), Presenter.of(*sent))
    assert refused is not None
    assert refused.rule == rule, refused.reason
    assert refused.reason.endswith(".")


@pytest.mark.parametrize(("names", "host", "rule"), [
    pytest.param(["*.co.uk"], "a.co.uk", Rule.PUBLIC_SUFFIX, id="wildcard of a registry"),
    pytest.param(["*.example.ck"], "a.example.ck", Rule.PUBLIC_SUFFIX, id="of a registry's wildcard"),
    pytest.param(["*.test"], "a.test", Rule.NAME, id="of a top-level domain"),
    pytest.param(["a.example", "192.0.2.2"], "192.0.2.1", Rule.NAME, id="another address"),
])
def test_names_that_do_not_match(origins, names, host, rule):
    refused = verdict(origins.connect(host), Presenter.of(origin(ROOT, names)))
    assert refused is not None
    assert refused.rule == rule


@pytest.mark.parametrize(("sent", "alert"), [
    pytest.param(chain(STRANGER), 48, id="untrusted"),
    pytest.param([origin(ROOT, valid=(-9, -1))], 45, id="expired"),
    pytest.param([origin(ROOT, ["b.example"])], 42, id="name"),
    pytest.param([origin(ROOT, ["a.example"], CLIENTS)], 43, id="usage"),
    pytest.param(chain(LAX), 42, id="by the second verifier"),
])
@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_the_origin_is_told(origins, sent, alert, newest):
    presenter = Presenter.of(*sent, newest=newest)
    assert not presenter.meet(origins.connect("a.example"))
    assert presenter.alert == alert


def test_known_bad_whatever_is_trusted(origins, monkeypatch):
    monkeypatch.setitem(weaknesses.KNOWN_BAD, weaknesses.spki(ROOT.certificate), "a test")
    fresh = Upstream(Roots(ROOT.pem))
    exempt = Exemption(frozenset(Rule))
    for exemption in (None, exempt):
        refused = verdict(fresh.connect("a.example", exemption=exemption), Presenter.of(origin(ROOT)))
        assert refused is not None
        assert refused.rule == Rule.KNOWN_BAD


@pytest.mark.parametrize("host", ["", "*.example", "a..example", "a b.example", "127.1", "fe80::1%eth0"])
def test_what_is_no_name(origins, host):
    with pytest.raises(ValueError, match=r"host name|address|zone"):
        origins.connect(host)


STAPLE = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER)

@pytest.mark.parametrize(("answer", "alert"), [
    pytest.param(None, None, id="good"),
    pytest.param(Refusal(Rule.REVOKED, "The CA says so."), 113, id="revoked"),
    pytest.param(ZeroDivisionError(), 113, id="a fault of ours"),
])
@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize("stapled", [pytest.param(b"", id="nothing"), pytest.param(STAPLE, id="a response")])
def test_what_is_stapled_is_judged(answer, alert, newest, stapled):
    seen = []

    def judge(path, staple):
        seen.append((path, staple))
        if isinstance(answer, Exception):
            raise answer
        return answer

    leaf = origin(ROOT)
    connection = Upstream(Roots(ROOT.pem), staple=judge).connect("a.example")
    presenter = Presenter.of(leaf, newest=newest, staple=stapled)
    assert (verdict(connection, presenter) is None) == (answer is None)
    assert seen == [((leaf.certificate, ROOT.certificate), stapled)]
    assert presenter.alert == alert


@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_an_origin_that_asks_who_we_are(origins, newest, tmp_path):
    ours = certify("client", ROOT, [CLIENTS, SPEAKS])
    file = tmp_path / "client.pem"
    file.write_bytes(ours.pem + ours.key_pem)
    presenter = Presenter.of(origin(ROOT), newest=newest, asks=True)
    assert not presenter.meet(origins.connect("a.example"))
    assert verdict(origins.connect("a.example", identity=file), presenter) is None
    assert presenter.server.get_peer_certificate(as_cryptography=True) == ours.certificate
    renewed = certify("client", ROOT, [CLIENTS, SPEAKS])
    file.write_bytes(renewed.pem + renewed.key_pem)
    assert verdict(origins.connect("a.example", identity=file), presenter) is None
    assert presenter.server.get_peer_certificate(as_cryptography=True) == renewed.certificate


@pytest.mark.parametrize("content", [
    pytest.param(None, id="no file"),
    pytest.param(b"", id="nothing in it"),
    pytest.param(ROOT.pem, id="no key"),
    pytest.param(ROOT.pem + STRANGER.key_pem, id="another's key"),
    pytest.param(ROOT.pem + ROOT.key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")), id="a password"),
])
def test_an_identity_that_cannot_be_used(origins, content, tmp_path):
    file = tmp_path / "client.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r"client\.pem"):
        origins.connect("a.example", identity=file)


def test_a_late_refusal(origins):
    connection = origins.connect("a.example", exemption=Exemption(frozenset({Rule.UNCHECKED})))
    assert verdict(connection, Presenter.of(origin(ROOT))) is None
    assert not upstream.refuse(connection, Refusal(Rule.UNCHECKED, "Nobody says."))
    assert upstream.refusal(connection) is None
    assert upstream.refuse(connection, Refusal(Rule.REVOKED, "The CA says so."))
    assert upstream.refusal(connection) == (Rule.REVOKED, "The CA says so.")
    assert upstream.tolerated(connection) == ((Rule.UNCHECKED, "Nobody says."),)


def test_a_verdict_ends_with_the_certificate():
    now = datetime.now(UTC)
    origins = Upstream(Roots(ROOT.pem), clock=lambda: now)
    presenter = Presenter.of(origin(ROOT, valid=(-1, 1)))
    assert verdict(origins.connect("a.example"), presenter) is None
    now += timedelta(days=1, minutes=1)
    refused = verdict(origins.connect("a.example"), presenter)
    assert refused is not None
    assert refused.rule == Rule.EXPIRED


def test_a_verdict_is_for_one_name_and_one_chain(origins):
    two = origin(ROOT, ["a.example", "b.example"])
    assert verdict(origins.connect("a.example"), Presenter.of(two)) is None
    assert verdict(origins.connect("b.example"), Presenter.of(two)) is None
    assert verdict(origins.connect("c.example"), Presenter.of(two)) is not None
    assert verdict(origins.connect("a.example"), Presenter.of(origin(STRANGER))) is not None


def test_a_fault_of_ours_lets_nobody_in(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError

    origins = Upstream(Roots(ROOT.pem))
    monkeypatch.setattr(origins._verifier, "second", fail)
    refused = verdict(origins.connect("a.example"), Presenter.of(origin(ROOT)))
    assert refused is not None
    assert refused.rule == Rule.MALFORMED


@pytest.mark.parametrize(("host", "asked"), [("a.example", b"a.example"), ("192.0.2.1", None)])
def test_which_server_is_asked_for(origins, host, asked):
    presenter = Presenter.of(origin(ROOT, [host]))
    assert verdict(origins.connect(host), presenter) is None
    assert presenter.server.get_servername() == asked


def test_no_other_certificate_later(origins):
    """A renegotiation (RFC 5246, 7.4.1.1) is answered with no_renegotiation."""
    presenter = Presenter.of(origin(ROOT), newest=SSL.TLS1_2_VERSION)
    connection = origins.connect("a.example")
    assert verdict(connection, presenter) is None
    presenter.server.renegotiate()
    presenter.go_on(connection)
    assert presenter.alert == 100
    assert upstream.path(connection) != ()


def test_nobody_is_met_below_tls_1_2(origins):
    assert not Presenter.of(origin(ROOT), newest=SSL.TLS1_1_VERSION).meet(origins.connect("a.example"))
