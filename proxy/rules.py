"""The rules of verification: what an origin's certificates can break, by the names that pages, events and policies use.

OpenSSL's numbers: X509_verify_cert_error_string(3); their alerts: RFC 8446, 6.2.
"""

from enum import StrEnum
from typing import NamedTuple

from cryptography import x509

type Name = x509.DNSName | x509.IPAddress


class Rule(StrEnum):
    """What a chain must keep."""

    UNTRUSTED = "untrusted"
    SIGNATURE = "signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    NAME = "name"
    PUBLIC_SUFFIX = "public-suffix"
    USAGE = "usage"
    CONSTRAINTS = "constraints"
    WEAK = "weak"
    PROFILE = "profile"
    TOO_LONG = "chain-too-long"
    KNOWN_BAD = "known-bad"
    MALFORMED = "malformed"
    REVOKED = "revoked"
    MUST_STAPLE = "must-staple"
    UNCHECKED = "unchecked"


class Refusal(NamedTuple):
    """The rule that is broken, and a sentence for whoever wanted to go there."""

    rule: Rule
    reason: str


#: Names of a certificate that a sentence lists.
NAMED = 5

#: Rules that no policy can except: of what cannot be read nothing is known, and keys that everybody has prove nothing.
ABSOLUTE = frozenset((Rule.MALFORMED, Rule.KNOWN_BAD))

SENTENCES = {
    Rule.UNTRUSTED: "No trusted authority vouches for the certificate",
    Rule.SIGNATURE: "A signature in the certificate chain is wrong",
    Rule.EXPIRED: "A certificate has expired",
    Rule.NOT_YET_VALID: "A certificate is not valid yet; or the clock of this computer is wrong",
    Rule.NAME: "The certificate is for another name",
    Rule.USAGE: "A certificate is used for what it was not issued for",
    Rule.CONSTRAINTS: "An authority certified what it may not certify",
    Rule.WEAK: "A key or a signature in the certificate chain is too weak",
    Rule.PROFILE: "The certificate chain breaks a rule that public authorities keep",
    Rule.TOO_LONG: "The certificate chain is too long",
    Rule.MALFORMED: "A certificate cannot be read",
    Rule.REVOKED: "The certificate has been revoked",
}

#: The X509_V_ERR_ numbers of each rule.  A number that is not here is about reading certificates, or not about them.
_NUMBERS = {
    Rule.UNTRUSTED: (2, 18, 19, 20, 21, 27, 28),
    Rule.SIGNATURE: (7,),
    Rule.EXPIRED: (10,),
    Rule.NOT_YET_VALID: (9,),
    Rule.NAME: (62, 64),
    Rule.USAGE: (26, 32, 37, 39),
    Rule.CONSTRAINTS: (25, 47, 48, 49, 51, 52, 53, 79),
    Rule.WEAK: (66, 67, 68),
    Rule.PROFILE: (29, 30, 31, 34, 41, 42, 43, 77, 78),
    Rule.TOO_LONG: (22,),
}
_OF_OPENSSL = {number: rule for rule, numbers in _NUMBERS.items() for number in numbers}

#: The error that is reported to OpenSSL for what it has not found itself: its alert tells the origin what is wrong.
_TO_OPENSSL = {Rule.UNTRUSTED: 20, Rule.EXPIRED: 10, Rule.NOT_YET_VALID: 9, Rule.NAME: 62, Rule.USAGE: 26,
               Rule.SIGNATURE: 7, Rule.TOO_LONG: 22, Rule.REVOKED: 23}
#: X509_V_ERR_CERT_REJECTED: alert bad_certificate.
_REJECTED = 28


def of_openssl(code: int) -> Rule:
    """Return the rule that stands for an X509_V_ERR_ number."""
    return _OF_OPENSSL.get(code, Rule.MALFORMED)


def to_openssl(rule: Rule) -> int:
    """Return the X509_V_ERR_ number whose alert fits the rule."""
    return _TO_OPENSSL.get(rule, _REJECTED)


def broken(rule: Rule, detail: str) -> Refusal:
    """Return the refusal with the rule's own sentence and what it is about here."""
    return Refusal(rule, f"{SENTENCES[rule]}: {detail}.")


def detail(rule: Rule, der: bytes, name: Name) -> str:
    """Say what it is about in this certificate; nothing where it cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        match rule:
            case Rule.EXPIRED:
                return f"{subject(certificate)} was valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            case Rule.NOT_YET_VALID:
                return f"{subject(certificate)} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            case Rule.NAME:
                return f"{name.value} is not among {_names(certificate)}"
            case Rule.UNTRUSTED:
                return f"{subject(certificate)} was issued by {certificate.issuer.rfc4514_string() or 'nobody named'}"
    except Exception:       # what a parser raises for bytes of a stranger has no common class
        """OpenSSL's words must do."""
    return ""


def subject(certificate: x509.Certificate) -> str:
    """Return a certificate's subject for people; its serial number if it has none."""
    return certificate.subject.rfc4514_string() or f"the certificate {certificate.serial_number:x}"


def _names(certificate: x509.Certificate) -> str:
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "its names: it has none"
    named = [str(each.value) for each in san]
    return ", ".join(named[:NAMED]) + (f" and {len(named) - NAMED} more" if len(named) > NAMED else "")
