"""What an origin staples to its certificate counts for that certificate, and is missed where it must be there."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from proxy.revocation import Revocation
from proxy.rules import Rule
from tests.proxy.handshake import Pair, Presenter
from tests.proxy.responder import GOOD, REVOKED, UNKNOWN, Site, responder, rule

__all__ = ["responder"]
#: An alert (RFC 8446, 6).
BAD_CERTIFICATE_STATUS_RESPONSE = 113


@pytest.mark.parametrize(("state", "must_staple", "expected"), [
    pytest.param(GOOD, True, None, id="good, as demanded"),
    pytest.param(GOOD, False, None, id="good"),
    pytest.param(REVOKED, True, Rule.REVOKED, id="revoked, as demanded"),
    pytest.param(REVOKED, False, Rule.REVOKED, id="revoked"),
    pytest.param(UNKNOWN, True, Rule.MUST_STAPLE, id="of no use where one is demanded"),
    pytest.param(UNKNOWN, False, None, id="of no use"),
    pytest.param(None, True, Rule.MUST_STAPLE, id="none where one is demanded"),
    pytest.param(None, False, None, id="none"),
])
@pytest.mark.parametrize("mode", ["off", "stapled", "check", "require"])
def test_staples(responder, state, must_staple, expected, mode):
    site = Site(responder, must_staple=must_staple)
    staple = site.ca.answer(site.leaf, state) if state else b""
    refusal = Revocation().judge_staple(site.path, staple, mode)
    assert rule(refusal) == (None if mode == "off" else expected)
    assert refusal is None or refusal.reason.endswith(".")


def test_a_staple_counts_for_the_path_it_is_for(responder):
    site, other = Site(responder, must_staple=True), Site(responder)
    staple = other.ca.answer(other.leaf)
    assert rule(Revocation().judge_staple(site.path, staple)) == Rule.MUST_STAPLE
    assert rule(Revocation().judge_staple([site.leaf], site.ca.answer(site.leaf))) == Rule.MUST_STAPLE, "no issuer"


@pytest.mark.parametrize("junk", [b"\x30\x03\x0a\x01\x00", b"junk", b"\x30\x84\xff\xff\xff\xff", bytes(100_000)])
def test_a_staple_of_junk_counts_as_none(responder, junk):
    assert Revocation().judge_staple(Site(responder).path, junk) is None
    assert rule(Revocation().judge_staple(Site(responder, must_staple=True).path, junk)) == Rule.MUST_STAPLE


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["1.2", "1.3"])
@pytest.mark.parametrize(("must_staple", "state", "expected"), [
    (True, GOOD, None), (True, None, Rule.MUST_STAPLE), (False, REVOKED, Rule.REVOKED), (False, None, None)])
def test_a_handshake_ends_with_the_alert_for_it(responder, must_staple, state, expected, version):
    key = ec.generate_private_key(ec.SECP256R1())
    site = Site(responder, must_staple=must_staple, key=key)
    staple = site.ca.answer(site.leaf, state) if state else b""
    origin, refusals = Presenter.of(Pair(site.leaf, key), staple=staple, newest=version), []
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.get_cert_store().add_cert(SSL.X509.from_cryptography(site.ca.certificate))
    context.set_verify(SSL.VERIFY_PEER)

    def judge(connection, stapled, _):
        refusals.append(Revocation().judge_staple(connection.get_verified_chain(as_cryptography=True), stapled))
        return refusals[-1] is None

    context.set_ocsp_client_callback(judge)
    client = SSL.Connection(context)
    client.request_ocsp()
    client.set_connect_state()
    assert origin.meet(client) is (expected is None)
    assert [rule(each) for each in refusals] == [expected]
    assert origin.alert == (BAD_CERTIFICATE_STATUS_RESPONSE if expected else None)
