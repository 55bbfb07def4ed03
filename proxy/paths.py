"""Trusted roots, and the paths that lead to them through what an origin has sent (RFC 4158)."""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path as File

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from OpenSSL import crypto

log = logging.getLogger(__name__)

#: Certificates of an origin that are looked at; public chains have four, bridges between private PKIs some more.
MAX_CHAIN = 12
#: Signatures checked in search of paths, some 0.1 ms each: a hostile chain gets 64 of them, not for ever.
MAX_SIGNATURES = 64
#: Paths found for one chain; each costs both verifiers half a millisecond.
MAX_PATHS = 16

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

type Path = tuple[x509.Certificate, ...]


class Roots:
    """The trusted certificates of a bundle, for both verifiers.  Immutable: another bundle is another object."""

    def __init__(self, pem: bytes, without: x509.Certificate | None = None) -> None:
        """Certificates that cannot be read are left out and said so; ValueError if none is left."""
        self.certificates = tuple(each for each in _readable(pem) if each != without)
        if not self.certificates:
            raise ValueError("no certificate to trust in it: it should hold them as PEM")
        ders = (each.public_bytes(Encoding.DER) for each in self.certificates)
        self._openssl = [crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in ders]
        self._by_subject: dict[bytes, list[x509.Certificate]] = {}
        for each in self.certificates:
            self._by_subject.setdefault(each.subject.public_bytes(), []).append(each)

    @classmethod
    def read(cls, file: str | File, without: x509.Certificate | None = None) -> "Roots":
        """Read a PEM bundle, of which one may not be trusted; OSError, or ValueError that names the file."""
        try:
            return cls(File(file).read_bytes(), without)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None

    def named(self, name: x509.Name) -> Sequence[x509.Certificate]:
        """Return the roots with that subject."""
        return self._by_subject.get(name.public_bytes(), ())

    def fill(self, store: crypto.X509Store) -> None:
        """Make OpenSSL trust them too."""
        for each in self._openssl:
            store.add_cert(each)


def _readable(pem: bytes) -> list[x509.Certificate]:
    found = []
    with warnings.catch_warnings():     # serial numbers of 0: public roots have them
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for block in _PEM.findall(pem):
            try:
                found.append(x509.load_pem_x509_certificate(block))
            except ValueError as error:
                log.warning("a trusted certificate is left out, it cannot be read: %s", error)
    return found


def paths(presented: Sequence[x509.Certificate], roots: Roots) -> Iterator[Path]:
    """Yield paths from the leaf, which comes first, to a root, the shortest first; at most MAX_PATHS.

    Names and signatures fit on them, and nobody is on a path twice; no more is promised.  Both libraries' own
    search is not used: OpenSSL takes the first issuer that fits, and is stuck with it; pyca/cryptography tries all
    combinations, and four hostile certificates keep it busy for half a minute.
    """
    budget, found = [MAX_SIGNATURES], 0
    waiting: list[Path] = [(presented[0],)]
    for path in waiting:
        taken = {holder(each) for each in path}
        for root in roots.named(path[-1].issuer):
            if holder(root) not in taken and _issued(path[-1], root, budget):
                yield (*path, root)
                found += 1
                if found == MAX_PATHS:
                    return
        if len(path) < MAX_CHAIN:
            waiting.extend((*path, each) for each in presented[1:MAX_CHAIN]
                           if each.subject == path[-1].issuer and holder(each) not in taken
                           and _issued(path[-1], each, budget))


def holder(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    """Return whom a certificate is about: the name and the key."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.subject.public_bytes(), key


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, budget: list[int]) -> bool:
    budget[0] -= 1
    if budget[0] < 0:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
