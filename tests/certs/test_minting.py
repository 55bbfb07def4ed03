"""What the certificates say, field by field."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.authority import Authority
from certs.minting import BACKDATE, MAX_LEAF_LIFE, ROOT_LIFE, leaf_period, root_certificate

DAY = timedelta(days=1)


def extension(certificate: x509.Certificate, kind):
    found = certificate.extensions.get_extension_for_class(kind)
    return found.value, found.critical


def test_root():
    """A root signs leaves of any name, but no other CA; it is P-256 and ends by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    root = root_certificate(key)
    usage, usage_critical = extension(root, x509.KeyUsage)
    assert extension(root, x509.BasicConstraints) == (x509.BasicConstraints(ca=True, path_length=0), True)
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature, usage_critical) == (True, True, False, True)
    assert extension(root, x509.SubjectKeyIdentifier)[0] == x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    assert root.not_valid_after_utc - root.not_valid_before_utc == ROOT_LIFE + BACKDATE
    assert root.subject == root.issuer
    assert root.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "lockgate"
    assert f"{datetime.now(UTC):%Y-%m-%d}" in root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    root.verify_directly_issued_by(root)


def test_leaf(authority: Authority):
    """A leaf serves TLS and nothing else, is signed by the root, and has another key."""
    leaf = authority.issue(["a.example", "*.a.example", "192.0.2.1", "::1"]).certificate
    usage, usage_critical = extension(leaf, x509.KeyUsage)
    names, _ = extension(leaf, x509.SubjectAlternativeName)
    assert [str(name.value) for name in names] == ["a.example", "*.a.example", "192.0.2.1", "::1"]
    assert extension(leaf, x509.BasicConstraints) == (x509.BasicConstraints(ca=False, path_length=None), True)
    assert (usage.digital_signature, usage.key_cert_sign, usage.key_encipherment, usage_critical) == (
        True,
        False,
        False,
        True,
    )
    assert list(extension(leaf, x509.ExtendedKeyUsage)[0]) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert (
        extension(leaf, x509.AuthorityKeyIdentifier)[0].key_identifier
        == extension(authority.certificate, x509.SubjectKeyIdentifier)[0].digest
    )
    assert leaf.public_key() != authority.certificate.public_key()
    assert isinstance(leaf.public_key().curve, ec.SECP256R1)
    leaf.verify_directly_issued_by(authority.certificate)


def test_serials_do_not_repeat(authority: Authority):
    serials = {authority.issue([f"{n}.serial.example"]).certificate.serial_number for n in range(20)}
    assert len(serials) == 20
    assert max(serials).bit_length() > 128


@pytest.mark.parametrize(
    ("names", "common_name", "expected"),
    [
        pytest.param(["a.example"], None, "a.example", id="the first name"),
        pytest.param(["192.0.2.1"], None, "192.0.2.1", id="an address"),
        pytest.param(["a.example"], "b.example", "b.example", id="as asked"),
        pytest.param(["a.example"], "", None, id="none"),
        pytest.param(["a" * 60 + ".example"], None, None, id="too long for the field"),
    ],
)
def test_common_name(authority: Authority, names, common_name, expected):
    """An empty subject makes the names critical (RFC 5280, 4.2.1.6)."""
    leaf = authority.issue(names, common_name=common_name).certificate
    assert [a.value for a in leaf.subject] == ([expected] if expected else [])
    assert extension(leaf, x509.SubjectAlternativeName)[1] is (expected is None)


@pytest.mark.parametrize(
    ("age", "origin_left", "life", "renew_in"),
    [
        pytest.param(30 * DAY, None, MAX_LEAF_LIFE, 3 * DAY, id="full life, made anew at half of what is left"),
        pytest.param(30 * DAY, 90 * DAY, MAX_LEAF_LIFE, 3 * DAY, id="the origin lives longer"),
        pytest.param(30 * DAY, 2 * DAY, 3 * DAY, 2 * DAY, id="the origin ends first; a newer leaf would end with it"),
        pytest.param(730 * DAY, None, 2 * DAY, 1 * DAY, id="the root ends first"),
        pytest.param(DAY / 2, None, MAX_LEAF_LIFE, 3.25 * DAY, id="a leaf is never older than its root"),
    ],
)
def test_period(authority: Authority, age, origin_left, life, renew_in):
    now = authority.certificate.not_valid_before_utc + age
    start, end, renew = leaf_period(authority.certificate, origin_left and now + origin_left, now)
    assert (end - start, renew - now) == (life, renew_in)
    assert start >= authority.certificate.not_valid_before_utc


@pytest.mark.parametrize(
    "not_after",
    [
        pytest.param(datetime(2020, 1, 1, tzinfo=UTC), id="the origin's certificate has expired"),
        pytest.param(datetime(2099, 1, 1), id="no time zone"),
    ],
)
def test_no_period(authority: Authority, not_after):
    with pytest.raises(ValueError, match=r"expired|time zone"):
        authority.issue(["a.example"], not_after=not_after)
