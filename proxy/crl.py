"""Certificate revocation lists (RFC 5280, 5 and 6.3), up to many thousand entries, without an object for any of them.

A list is kept as it came.  A serial whose encoding does not occur in it is not listed, which takes a millisecond to see
in ten megabytes; only where it does occur is the list parsed, 50 ms for as many.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from cryptography import x509

from proxy.evidence import Status, Unusable, check_signature, extension, is_ca, revoked, usable_until

#: The largest lists of public CAs have some hundred thousand entries of 40 bytes; an unbounded one would fill memory.
MAX_LIST = 10 * 1024 * 1024
#: Bytes beside the entries, and fields of the signed part (RFC 5280, 5.1: seven): a forger may have put in more.
MAX_HEAD, MAX_FIELDS = 64 * 1024, 7
#: Tags of DER (X.690, 8.1.2): the two kinds of time, and SEQUENCE.
TIMES, SEQUENCE = (0x17, 0x18), 0x30
#: Extensions that `_scope` and `read` understand; any other critical one changes what the list means (RFC 5280, 5.2).
KNOWN = (x509.IssuingDistributionPoint, x509.CRLNumber, x509.AuthorityKeyIdentifier)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A list whose signature and dates have been verified; `scope` says for which certificates it speaks."""

    raw: bytes
    entries: slice
    scope: x509.IssuingDistributionPoint | None
    until: datetime

    def status(self, certificate: x509.Certificate, names: frozenset[str]) -> Status:
        """Return what the list says; `names` are those by which the certificate refers to it.

        Unusable if it is not the list for this certificate: another part of what the CA has revoked.
        """
        if self.scope is not None:
            _check_scope(self.scope, names, ca=is_ca(certificate))
        serial = certificate.serial_number
        if self.raw.find(_integer(serial), self.entries.start, self.entries.stop) < 0:
            return Status("", self.until)
        try:
            entry = x509.load_der_x509_crl(self.raw).get_revoked_certificate_by_serial_number(serial)
        except ValueError as error:
            raise Unusable(f"the revocation list cannot be read: {error}") from error
        return Status(revoked(entry.revocation_date_utc) if entry else "", self.until)


def read(data: bytes, issuer: x509.Certificate, now: datetime) -> RevocationList:
    """Return the list in DER that the CA `issuer` has signed.  20 ms for the largest: call it in a thread.

    Unusable if it is another's, out of date, or of a kind that says something else: delta, indirect, unknown.
    """
    try:
        return _read(data, issuer, now)
    except Unusable:
        raise
    except Exception as error:      # the parsers have many, some only at first use; what they reject says nothing
        raise Unusable(f"the revocation list cannot be read: {error}") from error


def _read(data: bytes, issuer: x509.Certificate, now: datetime) -> RevocationList:
    head, signed, entries = _outline(data)
    if head.issuer != issuer.subject or not _may_sign_lists(issuer):
        raise Unusable("the revocation list is another CA's")
    check_signature(issuer.public_key(), head.signature, memoryview(data)[signed.start : signed.end],
                    head.signature_hash_algorithm, head.signature_algorithm_parameters)
    if head.next_update_utc is None:
        raise Unusable("the revocation list does not say until when it counts")     # RFC 5280, 5.1.2.5: it must
    until = usable_until(head.last_update_utc, head.next_update_utc, now)
    if any(each.critical and not isinstance(each.value, KNOWN) for each in head.extensions):
        raise Unusable("the revocation list is of an unknown kind, such as a delta")
    scope = next((e.value for e in head.extensions if isinstance(e.value, x509.IssuingDistributionPoint)), None)
    return RevocationList(data, entries, scope, until)


def _check_scope(scope: x509.IssuingDistributionPoint, names: frozenset[str], *, ca: bool) -> None:
    """RFC 5280, 6.3.3 (b): a list may speak for a part of the certificates only, and must then say for ours."""
    if scope.indirect_crl or scope.only_some_reasons or scope.relative_name:
        raise Unusable("the revocation list is indirect or partial")
    if scope.only_contains_attribute_certs or (scope.only_contains_user_certs if ca else scope.only_contains_ca_certs):
        raise Unusable("the revocation list is for another kind of certificates")
    if scope.full_name and names.isdisjoint(str(each.value) for each in scope.full_name):
        raise Unusable("the revocation list is not the one that the certificate names")


def _may_sign_lists(issuer: x509.Certificate) -> bool:
    usage = extension(issuer, x509.KeyUsage)
    return usage is None or usage.crl_sign          # RFC 5280, 6.3.3 (f): asked of those that have the extension


# -- DER

class Element(NamedTuple):
    """Where an element of DER begins, its content begins, and both end (X.690, 8.1)."""

    tag: int
    start: int
    content: int
    end: int


def _outline(data: bytes) -> tuple[x509.CertificateRevocationList, Element, slice]:
    """Return the list as it would be without entries, the element that is signed, and where the entries are.

    cryptography's parser visits each entry and lets nobody else run meanwhile: 50 ms for ten megabytes.
    """
    outer, = _elements(data, 0, len(data))
    signed, *rest = _elements(data, outer.content, outer.end)
    dated, entries = False, slice(signed.end, signed.end)
    for element in _elements(data, signed.content, signed.end):
        if element.tag == SEQUENCE and dated:
            entries = slice(element.start, element.end)
            break
        dated = dated or element.tag in TIMES
    bare = data[signed.content : entries.start] + data[entries.stop : signed.end]
    if len(bare) > MAX_HEAD:
        raise ValueError("it has too much beside its entries")
    stub = _sequence(_sequence(bare) + b"".join(data[each.start : each.end] for each in rest))
    return x509.load_der_x509_crl(stub), signed, entries


def _elements(data: bytes, at: int, stop: int) -> list[Element]:
    """Return the elements there; ValueError if one goes beyond the end, or they are more than a list has."""
    found: list[Element] = []
    while at < stop:
        first = data[at + 1]
        content = at + 2 + (first & 0x7F if first & 0x80 else 0)
        size = int.from_bytes(data[at + 2 : content]) if first & 0x80 else first
        if content + size > stop or len(found) == MAX_FIELDS:
            raise ValueError("its outline is broken")
        found.append(Element(data[at], at, content, content + size))
        at = content + size
    return found


def _sequence(content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((SEQUENCE, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((SEQUENCE, 0x80 | len(octets))) + octets + content


def _integer(number: int) -> bytes:
    octets = number.to_bytes(number.bit_length() // 8 + 1, signed=True)
    return bytes((2, len(octets))) + octets
