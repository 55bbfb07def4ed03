"""What both libraries let pass, and no origin should get away with.

Keys and signatures: CA/Browser Forum Baseline Requirements 6.1.5, 7.1.3; wildcards: 3.2.2.6.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from publicsuffixlist import PublicSuffixList

from proxy.rules import Name, Refusal, Rule, broken, subject

#: Bits; what is shorter can be factored by those who have reason to.
MIN_RSA = 2048
#: Bits; P-192 and P-224 are below the strength of everything else in a handshake.
MIN_EC = 256

STRONG = (hashes.SHA256, hashes.SHA384, hashes.SHA512, hashes.SHA3_256, hashes.SHA3_384, hashes.SHA3_512)

#: SHA-256 of the public keys (SPKI) whose private halves are published, with which products are who made them known.
#: Derived from the certificates in badssl.com's repository (github.com/chromium/badssl.com, Apache-2.0), certs/src/crt.
KNOWN_BAD = {
    "4bb8f35ba1e126f8dde1b0c420625ed86dce61a7bddadbdea9aba578ff13145e": "Superfish",
    "cdee9f3305572a677e1a6c82dc1e02a35b11cae6a684338c9f37fe1ac8daec23": "eDellRoot",
    "130ad4e0633521290531b6651f5759b0bc7bc656709ff8f365c2143b0389b6f6": "DSDTestProvider",
    "9d40513f43991af39fe413aff7608fc56463827137166547de0a1828d524ae98": "BadSSL's interception software",
    "680971cb44b0fd56592102a256e85c58e87109ad8044c2b90d8f3c6e9eeab897": "preact-cli",
    "2bd1e667ec9ebbe02b9a7da264210c99b3eac1cc9141a0e30e3f623eaccec4e1": "webpack-dev-server",
}

type Path = Sequence[x509.Certificate]


def weaknesses(path: Path, name: Name) -> Iterator[Refusal]:
    """Yield what is wrong with a path, leaf first and anchor last, for an origin of that name.

    Raises what `cryptography` raises for certificates that it cannot read.
    """
    for certificate in path:
        if product := KNOWN_BAD.get(spki(certificate)):
            yield Refusal(Rule.KNOWN_BAD, f"Everybody has the private key of {product}, which vouches for this "
                                          "certificate. Remove that certificate from this computer.")
        if why := _weak_key(certificate):
            yield broken(Rule.WEAK, f"{subject(certificate)} has {why}")
    for certificate in path[:-1]:       # nobody relies on an anchor's signature
        if why := _weak_signature(certificate):
            yield broken(Rule.WEAK, f"{subject(certificate)} is signed with {why}")
    for certificate in path[1:]:
        if _uncritical(certificate):
            yield broken(Rule.PROFILE, f"the policy constraints of {subject(certificate)} are not marked critical")
    yield from _names(path[0], name)


def spki(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's public key, as SubjectPublicKeyInfo."""
    return hashlib.sha256(
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _uncritical(certificate: x509.Certificate) -> bool:
    """Has it limits that a verifier which does not know them may ignore (RFC 5280, 4.2.1.11)?"""
    return any(isinstance(each.value, x509.PolicyConstraints) and not each.critical for each in certificate.extensions)


def _weak_key(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case rsa.RSAPublicKey() as key:
            weak = key.key_size < MIN_RSA or key.key_size % 8
            return f"an RSA key of {key.key_size} bits" if weak else ""
        case ec.EllipticCurvePublicKey() as key:
            return f"a key on {key.curve.name}" if key.key_size < MIN_EC else ""
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return ""
        case other:
            return f"a key of a kind that nobody uses here ({type(other).__name__})"


def _weak_signature(certificate: x509.Certificate) -> str:
    digest = certificate.signature_hash_algorithm       # None: the algorithm has its own, as Ed25519
    return "" if digest is None or isinstance(digest, STRONG) else digest.name


def _names(leaf: x509.Certificate, name: Name) -> Iterator[Refusal]:
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        yield broken(Rule.NAME, "it names none at all, as subjectAltName")
        return
    hosts = {host.lower() for host in san.get_values_for_type(x509.DNSName)}
    if isinstance(name, x509.DNSName) and name.value not in hosts:
        above = name.value.partition(".")[2]
        if f"*.{above}" in hosts and is_public_suffix(above):
            yield Refusal(Rule.PUBLIC_SUFFIX, f"The certificate is for *.{above}, which is nobody's own domain.")


@functools.cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(only_icann=True)        # those of private owners, as github.io, have such certificates


def is_public_suffix(host: str) -> bool:
    """Are names registered under it by anybody?  Top-level domains that nobody knows count as well."""
    return host != "" and _suffixes().privatesuffix(host) is None
