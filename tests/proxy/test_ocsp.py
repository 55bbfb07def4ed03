"""What an OCSP answer says: only the CA, or whom it has charged with it, is believed, and only while it counts."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from proxy.evidence import KEEP, SKEW, Unusable
from proxy.ocsp import MAX_AGE, MAX_ANSWER, question, read
from tests.proxy.responder import DAY, DER, HOUR, NOW, Ca, named, sign

CA, OTHER = Ca(), Ca()          # of one name, with keys of their own
LEAF, NEIGHBOUR = CA.leaf(), CA.leaf()
KEY = ec.generate_private_key(ec.SECP256R1())
GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN
BY_NAME = ocsp.OCSPResponderEncoding.NAME
SIGNS_OCSP = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
SERVES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def delegated(*extensions, issuer=CA, name="", life=DAY, **changes):
    delegate = sign(issuer, named("responder"), KEY, *extensions, life=life)
    return CA.answer(LEAF, delegate=delegate, key=KEY, **changes)


def altered(answer):
    """The last byte of it is the signature's."""
    return answer[:-1] + bytes((answer[-1] ^ 1,))


def refusal():
    return ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(DER)


@pytest.mark.parametrize(("answer", "expected"), [
    pytest.param(CA.answer(LEAF), "", id="good"),
    pytest.param(CA.answer(LEAF, REVOKED), f"revoked on {NOW - DAY:%Y-%m-%d} (keyCompromise)", id="revoked"),
    pytest.param(delegated(SIGNS_OCSP), "", id="by a responder of the CA's"),
    pytest.param(CA.answer(LEAF, names_signer=BY_NAME), "", id="by the CA, by name"),
    pytest.param(CA.answer(LEAF, end=None), "", id="without an end: a week"),
    pytest.param(CA.answer(LEAF, made=NOW + SKEW - HOUR / 60), "", id="by a clock that is a little ahead"),
    pytest.param(CA.answer(LEAF, nonce=b"someone else's"), "", id="a nonce that was not asked for means nothing"),
])
def test_what_counts(answer, expected):
    assert read(answer, LEAF, CA.certificate, NOW).revoked == expected


@pytest.mark.parametrize(("answer", "reason"), [
    pytest.param(CA.answer(LEAF, UNKNOWN), "does not know", id="unknown"),
    pytest.param(CA.answer(NEIGHBOUR), "another certificate", id="of a neighbour"),
    pytest.param(CA.answer(LEAF, issuer=OTHER.certificate), "another certificate", id="the same serial of another CA"),
    pytest.param(OTHER.answer(LEAF, issuer=CA.certificate, names_signer=BY_NAME), "signature is wrong", id="signed by another key"),
    pytest.param(altered(CA.answer(LEAF)), "signature is wrong", id="altered"),
    pytest.param(CA.answer(LEAF, made=NOW - 2 * DAY, end=NOW - HOUR), "ran out", id="out of date"),
    pytest.param(CA.answer(LEAF, made=NOW - MAX_AGE, end=NOW + DAY), "ran out", id="older than any may be"),
    pytest.param(CA.answer(LEAF, made=NOW - MAX_AGE, end=None), "ran out", id="older, without an end"),
    pytest.param(CA.answer(LEAF, made=NOW + HOUR), "still to come", id="from the future"),
    pytest.param(delegated(), "may not sign", id="by a responder without a usage"),
    pytest.param(delegated(SERVES), "may not sign", id="by a server of the CA's"),
    pytest.param(delegated(SIGNS_OCSP, issuer=OTHER), "signature is wrong", id="by a responder of another CA's"),
    pytest.param(delegated(SIGNS_OCSP, life=HOUR / 2), "run out", id="by a responder that has run out"),
    pytest.param(OTHER.answer(LEAF, issuer=CA.certificate), "somebody unknown", id="by nobody in sight"),
    pytest.param(refusal(), "try later", id="none now"),
    pytest.param(b"", "cannot be read", id="nothing"),
    pytest.param(b"<html>blocked</html>", "cannot be read", id="a page"),
    pytest.param(bytes(MAX_ANSWER + 1), "too long", id="too long"),
])
def test_what_does_not(answer, reason):
    with pytest.raises(Unusable, match=reason):
        read(answer, LEAF, CA.certificate, NOW)


@pytest.mark.parametrize("end", [NOW + HOUR, NOW + 5 * DAY])
def test_it_is_kept_until_its_end_but_a_day_at_most(end):
    assert read(CA.answer(LEAF, end=end), LEAF, CA.certificate, NOW).until == min(end, NOW + KEEP)


def test_a_ca_with_an_rsa_key():
    ca = Ca(key=rsa.generate_private_key(65537, 2048))
    leaf = ca.leaf()
    assert read(ca.answer(leaf), leaf, ca.certificate, NOW).revoked == ""
    with pytest.raises(Unusable, match="signature is wrong"):
        read(altered(ca.answer(leaf)), leaf, ca.certificate, NOW)


def test_what_is_asked():
    asked = ocsp.load_der_ocsp_request(question(LEAF, CA.certificate))
    assert asked.serial_number == LEAF.serial_number
    assert not list(asked.extensions)


def test_any_cut_of_an_answer_says_nothing():
    answer = CA.answer(LEAF)
    for size in range(len(answer)):
        with pytest.raises(Unusable):
            read(answer[:size], LEAF, CA.certificate, NOW)
