"""What the certificates say: the root and the leaves (RFC 5280), built and signed, nothing kept."""

import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: A root that is forgotten in some store must die by itself; renewing it more often would be skipped by people.
ROOT_LIFE = timedelta(days=730)

#: What a stolen leaf key is good for, at most. Counted from notBefore, so that no verifier finds more.
MAX_LEAF_LIFE = timedelta(days=7)

#: Clients whose clock is slow by a time zone must not see a certificate from the future.
BACKDATE = timedelta(days=1)

#: X.520's upper bound of commonName; OpenSSL and NSS refuse longer ones.
MAX_COMMON_NAME = 64


def root_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Return a self-signed root for this computer that can sign leaves only, not other CAs.

    Its name ends in 32 bits of its key: NSS files certificates by subject, and would take two of a day for one.
    """
    now = datetime.now(UTC)
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    common_name = f"lockgate root {socket.gethostname()[:28]} {now:%Y-%m-%d} {key_id.digest[:4].hex()}"
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "lockgate"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    return (
        _builder(subject, subject, key.public_key(), now - BACKDATE, now + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(key_id, critical=False)
        .sign(key, hashes.SHA256())
    )


def leaf_period(
    root: x509.Certificate, not_after: datetime | None, now: datetime
) -> tuple[datetime, datetime, datetime]:
    """Return the start and the end of a leaf made now, and the moment from which another could live longer.

    Raises ValueError if it would have ended already, or if `not_after` has no time zone.
    """
    if not_after is not None and not_after.tzinfo is None:
        raise ValueError("not_after needs a time zone")
    start = max(now - BACKDATE, root.not_valid_before_utc)
    full = start + MAX_LEAF_LIFE
    end = min(full, root.not_valid_after_utc, not_after or full)
    if end <= now:
        raise ValueError(f"a leaf that ends at {end:%Y-%m-%d %H:%M} UTC would have expired")
    return start, end, end if end < full else now + (end - now) / 2


def leaf_certificate(
    names: Sequence[x509.GeneralName],
    common_name: str,
    period: tuple[datetime, datetime],
    key: ec.EllipticCurvePublicKey,
    root: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
) -> x509.Certificate:
    """Return a certificate for TLS servers of these names, without a commonName if that is empty or too long."""
    issuer, issuer_key = root
    fits = 0 < len(common_name) <= MAX_COMMON_NAME
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if fits else [])
    authority_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(subject, issuer.subject, key, *period)
        # RFC 5280, section 4.2.1.6: critical if the subject is empty.
        .add_extension(x509.SubjectAlternativeName(names), critical=not fits)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_key), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())  # 159 random bits
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
