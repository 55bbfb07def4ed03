"""What OCSP answers and revocation lists have in common: who signed them, how long they count, what they say."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, utils

#: Clocks of responders may be ahead of ours by this much.
SKEW = timedelta(minutes=5)
#: Evidence is looked for anew after a day, however long its issuer lets it count: lists of CAs may run for a year.
KEEP = timedelta(days=1)
#: SHA-1 and MD5 are left out: collisions can be made, and no public CA may use them any more.
HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


class Unusable(ValueError):
    """What came says nothing about the certificate.  The message completes "it could not be checked: ..."."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a certificate until a moment; `revoked` is empty, or says when and why."""

    revoked: str
    until: datetime


def revoked(since: datetime | None, reason: x509.ReasonFlags | None = None) -> str:
    """Say it in words: `revoked on 2026-01-31 (key_compromise)`."""
    when = f" on {since:%Y-%m-%d}" if since else ""
    return f"revoked{when}" + (f" ({reason.value})" if reason else "")


def usable_until(this_update: datetime, end: datetime, now: datetime) -> datetime:
    """Return until when evidence made at `this_update` is kept; Unusable if it does not count now."""
    if this_update > now + SKEW:
        raise Unusable(f"it is dated {this_update:%Y-%m-%d %H:%M} UTC, which is still to come")
    if end <= now:
        raise Unusable(f"it ran out at {end:%Y-%m-%d %H:%M} UTC")
    return min(end, now + KEEP)


def utc_now() -> datetime:
    return datetime.now(UTC)


def extension[T: x509.ExtensionType](certificate: x509.Certificate, kind: type[T]) -> T | None:
    """Return what it says; None also if the extensions cannot be read, on which the verification has its say."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None


def is_ca(certificate: x509.Certificate) -> bool:
    constraints = extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def check_signature(key: object, signature: bytes, message: bytes | memoryview,
                    algorithm: hashes.HashAlgorithm | None, scheme: object = None) -> None:
    """Raise Unusable unless `key` made the signature.  `scheme` is RSA's padding, PKCS #1 v1.5 if it is none.

    The digest is made here, since hashlib lets other threads run meanwhile; cryptography does not.
    """
    try:
        if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, message)
            return
        if not isinstance(algorithm, HASHES):
            raise Unusable("its signature uses a hash that is not accepted")
        digest = hashlib.new(algorithm.name, message).digest()
        if isinstance(key, rsa.RSAPublicKey):
            pad = scheme if isinstance(scheme, padding.PSS) else padding.PKCS1v15()
            key.verify(signature, digest, pad, utils.Prehashed(algorithm))
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, digest, ec.ECDSA(utils.Prehashed(algorithm)))
        else:
            raise Unusable("its signer has a kind of key that is not accepted")
    except InvalidSignature:
        raise Unusable("its signature is wrong") from None
