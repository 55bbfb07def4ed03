"""What we offer an origin: what the client offers us, as far as it is strong and this OpenSSL knows it.

An origin should meet the client's own preferences, not ours: versions, suites, groups, key shares, signatures and
ALPN follow the ClientHello, in its order.  Where nothing of a kind is left, ours stands in, so that an old client
never makes the session with the origin a weak one.

Sources: IANA TLS parameters; RFC 8446 4.2; RFC 9325 (suites); SSL_CTX_set1_groups_list(3) for `?` and `*`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from OpenSSL import SSL

from proxy.hello import ClientHello

TLS1, TLS1_1, TLS1_2, TLS1_3 = 0x0301, 0x0302, 0x0303, 0x0304

#: Authenticated encryption with forward secrecy, for TLS 1.2.
CIPHERS = {
    0xC02B: "ECDHE-ECDSA-AES128-GCM-SHA256", 0xC02F: "ECDHE-RSA-AES128-GCM-SHA256",
    0xCCA9: "ECDHE-ECDSA-CHACHA20-POLY1305", 0xCCA8: "ECDHE-RSA-CHACHA20-POLY1305",
    0xC02C: "ECDHE-ECDSA-AES256-GCM-SHA384", 0xC030: "ECDHE-RSA-AES256-GCM-SHA384"}

#: What hosts have that know nothing newer than TLS 1.1: offered where the policy's floor for the host is that low.
OLD_CIPHERS = {
    0xC009: "ECDHE-ECDSA-AES128-SHA", 0xC013: "ECDHE-RSA-AES128-SHA",
    0xC00A: "ECDHE-ECDSA-AES256-SHA", 0xC014: "ECDHE-RSA-AES256-SHA", 0x002F: "AES128-SHA", 0x0035: "AES256-SHA"}

TLS13 = {0x1301: "TLS_AES_128_GCM_SHA256", 0x1302: "TLS_AES_256_GCM_SHA384", 0x1303: "TLS_CHACHA20_POLY1305_SHA256"}

#: Post-quantum ones first.
GROUPS = {
    0x11EC: "X25519MLKEM768", 0x11EB: "SecP256r1MLKEM768", 0x11ED: "SecP384r1MLKEM1024", 0x11EE: "curveSM2MLKEM768",
    0x0200: "MLKEM512", 0x0201: "MLKEM768", 0x0202: "MLKEM1024",
    29: "X25519", 23: "P-256", 30: "X448", 24: "P-384", 25: "P-521", 41: "curveSM2",
    26: "brainpoolP256r1", 27: "brainpoolP384r1", 28: "brainpoolP512r1",
    31: "brainpoolP256r1tls13", 32: "brainpoolP384r1tls13", 33: "brainpoolP512r1tls13",
    256: "ffdhe2048", 257: "ffdhe3072", 258: "ffdhe4096", 259: "ffdhe6144", 260: "ffdhe8192"}

#: Drafts of a hybrid that no library speaks any more: the client wants post-quantum, so the origin is offered it.
SUCCESSORS = {0x6399: 0x11EC}

#: Without SHA-1 and SHA-224, which clients still name.
SIGNATURES = {
    0x0403: "ecdsa_secp256r1_sha256", 0x0503: "ecdsa_secp384r1_sha384", 0x0603: "ecdsa_secp521r1_sha512",
    0x0807: "ed25519", 0x0808: "ed448",
    0x0804: "rsa_pss_rsae_sha256", 0x0805: "rsa_pss_rsae_sha384", 0x0806: "rsa_pss_rsae_sha512",
    0x0809: "rsa_pss_pss_sha256", 0x080A: "rsa_pss_pss_sha384", 0x080B: "rsa_pss_pss_sha512",
    0x0401: "rsa_pkcs1_sha256", 0x0501: "rsa_pkcs1_sha384", 0x0601: "rsa_pkcs1_sha512",
    0x081A: "ecdsa_brainpoolP256r1tls13_sha256", 0x081B: "ecdsa_brainpoolP384r1tls13_sha384",
    0x081C: "ecdsa_brainpoolP512r1tls13_sha512", 0x0904: "mldsa44", 0x0905: "mldsa65", 0x0906: "mldsa87"}

#: TLS_FALLBACK_SCSV, and SSL_MODE_SEND_FALLBACK_SCSV of openssl/ssl.h.
FALLBACK, _SEND_FALLBACK = 0x5600, 0x80

#: Offered in place of groups of which none is known; in the order of browsers.
OUR_GROUPS, OUR_SHARES = (0x11EC, 29, 23, 24), (0x11EC, 29)


_lib, _assert = cast(Any, SSL)._lib, cast(Any, SSL)._openssl_assert


#: Hellos whose offers are remembered: each program sends the same one again and again.
MAX_OFFERS = 256


@dataclass(frozen=True, slots=True)
class Offer:
    """The terms of our ClientHello, which make a key for caches: equal offers may share a context.

    Versions are wire numbers (0x0303 is TLS 1.2), the rest OpenSSL's names in the order offered.  `groups` has a `*`
    before each group that a key share is sent for.  `fallback`: the client says that it once offered more (RFC 7507).
    """

    min_version: int
    max_version: int
    ciphers: tuple[str, ...]
    tls13: tuple[str, ...]
    groups: tuple[str, ...]
    signatures: tuple[str, ...]
    alpn: tuple[bytes, ...]
    fallback: bool = False


@lru_cache(MAX_OFFERS)
def offer(hello: ClientHello | None, floor: int = TLS1_2) -> Offer:
    """Return what is offered to the origin on behalf of this client; None: of one that speaks no TLS itself.

    `floor` is the oldest version that the policy accepts from this host.  Of a client that has no version from there
    on, nothing newer than the floor is said; its own handshake will fail, as it should.
    """
    versions = [v for v in (hello.versions if hello else (floor, TLS1_3)) if floor <= v <= TLS1_3]
    oldest, newest = min(versions, default=floor), max(versions, default=floor)
    suites = CIPHERS | OLD_CIPHERS if oldest < TLS1_2 else CIPHERS
    ciphers = hello.ciphers if hello else ()
    return Offer(
        oldest, newest,
        ciphers=_known(suites, ciphers) or tuple(suites.values()),
        tls13=_known(TLS13, ciphers) or tuple(TLS13.values()),
        groups=_groups(hello),
        signatures=_known(SIGNATURES, hello.signature_algorithms if hello else ()) or tuple(SIGNATURES.values()),
        alpn=tuple(name.encode("latin-1") for name in hello.alpn if name) if hello else (),
        fallback=FALLBACK in ciphers,
    )


def _known(names: dict[int, str], codes: Iterable[int]) -> tuple[str, ...]:
    """Return the names of the codes that have one, each once."""
    return tuple(dict.fromkeys(names[code] for code in codes if code in names))


def _groups(hello: ClientHello | None) -> tuple[str, ...]:
    codes, shares = (hello.groups, hello.key_shares) if hello else (OUR_GROUPS, OUR_SHARES)
    names = _known(GROUPS, (SUCCESSORS.get(code, code) for code in codes))
    if not names:
        return _groups(None)
    shared = _known(GROUPS, (SUCCESSORS.get(code, code) for code in shares))
    return tuple(f"*{name}" if name in shared else name for name in names)


def apply(offer: Offer, context: SSL.Context) -> None:
    """Make the context, which no connection may have used yet, offer this; `SSL.Error` if OpenSSL cannot.

    All of it belongs to contexts: suites, versions and signatures cannot be set on a connection.
    """
    # Below TLS 1.2 signatures are by SHA-1, which OpenSSL refuses at any level above 0 (SSL_CTX_set_security_level(3)).
    level = ("@SECLEVEL=0",) if offer.min_version < TLS1_2 else ()
    context.set_min_proto_version(offer.min_version)
    context.set_max_proto_version(offer.max_version)
    context.set_cipher_list(":".join((*offer.ciphers, *level)).encode())
    context.set_tls13_ciphersuites(":".join(offer.tls13).encode())
    if offer.fallback:
        context.set_mode(_SEND_FALLBACK)
    if offer.alpn:
        context.set_alpn_protos(list(offer.alpn))
    # pyOpenSSL has no methods for these two. `?`: a name that an older OpenSSL lacks is passed over.
    raw = cast(Any, context)._context
    _assert(_lib.SSL_CTX_set1_curves_list(raw, ":".join(f"?{name}" for name in offer.groups).encode()) == 1)
    _assert(_lib.SSL_CTX_set1_sigalgs_list(raw, ":".join(f"?{name}" for name in offer.signatures).encode()) == 1)
