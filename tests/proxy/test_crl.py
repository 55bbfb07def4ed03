"""What a revocation list says: only the CA's own, in date, complete, and the one that the certificate names."""

import contextlib
import random
import time

import pytest
from cryptography import x509

from proxy.crl import MAX_HEAD, read
from proxy.evidence import Unusable
from tests.proxy.responder import DAY, HOUR, NOW, Ca, addresses

CA, OTHER = Ca(), Ca()          # of one name, with keys of their own
WITHOUT_USAGE = Ca(usage=None)
CERTIFICATES_ONLY = Ca(usage=x509.KeyUsage(False, False, False, False, False, True, False, False, False))
LEAF, NEIGHBOUR = CA.leaf(), CA.leaf()
SUB = Ca("sub CA", CA).certificate
URL = "http://crl.test/1.crl"
NAMES = frozenset((URL, "ldap://crl.test/"))
REASONS = frozenset((x509.ReasonFlags.key_compromise,))
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
LARGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(MAX_HEAD))


def scope(*urls, users=False, cas=False, reasons=None, indirect=False, attributes=False, relative=None):
    names = addresses(urls) if urls else None
    return x509.IssuingDistributionPoint(names, relative, users, cas, reasons, indirect, attributes)


def judge(data, certificate=LEAF, issuer=CA):
    return read(data, issuer.certificate, NOW).status(certificate, NAMES).revoked


@pytest.mark.parametrize(("data", "certificate"), [
    pytest.param(CA.revocation_list([LEAF.serial_number]), LEAF, id="alone"),
    pytest.param(CA.revocation_list([*range(1, 2000), LEAF.serial_number]), LEAF, id="last of many"),
    pytest.param(CA.revocation_list([LEAF.serial_number], scope(URL)), LEAF, id="in the part it names"),
    pytest.param(CA.revocation_list([LEAF.serial_number], scope(users=True)), LEAF, id="among leaves"),
    pytest.param(CA.revocation_list([SUB.serial_number], scope(cas=True)), SUB, id="a CA among CAs"),
    pytest.param(CA.revocation_list([LEAF.serial_number], x509.CRLNumber(7)), LEAF, id="a numbered list"),
])
def test_listed(data, certificate):
    assert judge(data, certificate) == f"revoked on {NOW - DAY:%Y-%m-%d}"
    assert judge(data, NEIGHBOUR if certificate is LEAF else Ca("x", CA).certificate) == ""


@pytest.mark.parametrize(("data", "issuer"), [
    pytest.param(CA.revocation_list(), CA, id="empty"),
    pytest.param(CA.revocation_list([NEIGHBOUR.serial_number], scope("http://x.test/", URL)), CA, id="one of its names"),
    pytest.param(WITHOUT_USAGE.revocation_list(), WITHOUT_USAGE, id="a CA that may do anything"),
])
def test_not_listed(data, issuer):
    assert judge(data, issuer=issuer) == ""


@pytest.mark.parametrize(("data", "reason"), [
    pytest.param(OTHER.revocation_list(), "signature is wrong", id="signed by another key"),
    pytest.param(CA.revocation_list(name="another CA"), "another CA", id="another CA's name"),
    pytest.param(CA.revocation_list(made=NOW - 2 * DAY, end=NOW - HOUR), "ran out", id="out of date"),
    pytest.param(CA.revocation_list(made=NOW + HOUR), "still to come", id="from the future"),
    pytest.param(CA.revocation_list((), x509.DeltaCRLIndicator(1)), "delta", id="delta"),
    pytest.param(CA.revocation_list((), UNKNOWN), "unknown kind", id="a critical extension that we do not know"),
    pytest.param(CA.revocation_list((), scope(indirect=True)), "indirect", id="indirect"),
    pytest.param(CA.revocation_list((), scope(reasons=REASONS)), "partial", id="for some reasons"),
    pytest.param(CA.revocation_list((), scope(cas=True)), "another kind", id="for CAs"),
    pytest.param(CA.revocation_list((), scope(attributes=True)), "another kind", id="for attribute certificates"),
    pytest.param(CA.revocation_list((), scope("http://crl.test/2.crl")), "not the one", id="another part"),
    pytest.param(CA.revocation_list((), LARGE), "too much", id="more beside the entries than any has"),
    pytest.param(b"", "cannot be read", id="nothing"),
    pytest.param(b"<html>blocked</html>", "cannot be read", id="a page"),
    pytest.param(b"\x30\x84\xff\xff\xff\xff", "outline is broken", id="a length beyond the end"),
    pytest.param(b"\x30\x82\x10\x00" + bytes(0x1000), "outline is broken", id="fields without end"),
])
def test_what_says_nothing(data, reason):
    with pytest.raises(Unusable, match=reason):
        judge(data)


def test_a_list_of_leaves_says_nothing_of_a_ca():
    with pytest.raises(Unusable, match="another kind"):
        judge(CA.revocation_list((), scope(users=True)), SUB)


def test_a_ca_that_may_not_sign_lists():
    with pytest.raises(Unusable, match="another CA"):
        judge(CERTIFICATES_ONLY.revocation_list(), issuer=CERTIFICATES_ONLY)


def test_any_cut_of_a_list_says_nothing():
    data = CA.revocation_list([LEAF.serial_number])
    for size in range(len(data)):
        with pytest.raises(Unusable):
            judge(data[:size])


def test_no_changed_byte_frees_a_revoked_certificate():
    data = CA.revocation_list([LEAF.serial_number])
    for at in range(len(data)):
        with contextlib.suppress(Unusable):
            assert judge(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]), at


def test_serials_of_any_size_are_found_and_nothing_else():
    """Short ones occur by chance within others: what is found must be an entry."""
    dice = random.Random(1)
    serials = {dice.getrandbits(dice.choice([7, 8, 15, 16, 63, 64, 127, 128, 159])) + 1 for _ in range(300)}
    listed = read(CA.revocation_list(sorted(serials)), CA.certificate, NOW)
    for serial in serials | {dice.getrandbits(bits) + 1 for bits in (7, 8, 15, 16) for _ in range(20)}:
        assert bool(listed.status(CA.leaf(serial=serial), NAMES).revoked) == (serial in serials), serial


def test_a_large_list_takes_no_time_to_ask():
    serials = [random.getrandbits(150) + 1 for _ in range(50_000)]
    listed = read(CA.revocation_list(serials), CA.certificate, NOW)
    started = time.perf_counter()
    assert listed.status(LEAF, NAMES).revoked == ""
    assert time.perf_counter() - started < 0.02
