"""Is a chain good for a name?  Two verifiers must say so, and of the same path.

OpenSSL has judged the path that it found within the handshake; `Verifier.second` asks pyca/cryptography about that very
path, and adds rules of ours (`weaknesses.py`).  Where OpenSSL found none that is good, `Verifier.repair` looks for one
that all three accept.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)
from OpenSSL import SSL, crypto

from proxy.paths import MAX_CHAIN, Path, Roots, holder, paths
from proxy.rules import Name, Refusal, Rule, broken
from proxy.weaknesses import weaknesses

#: How long a path that was found good is taken for good, while all its certificates are valid.
GOOD_FOR = timedelta(minutes=5)
#: Verdicts kept, some 300 bytes each and the certificates, which several share.
MAX_VERDICTS = 2000
#: Names compared with name constraints, 0.1 us each; beyond 2**20 both libraries give up, after 0.1 s.
MAX_COMPARISONS = 2 ** 16
#: X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT (X509_check_host(3)).
_HOST_FLAGS = 0x4 | 0x20
#: X509_PURPOSE_SSL_SERVER of openssl/x509v3.h.
_SERVER = 2

#: By which key it is signed is a hint for whoever looks for the issuer (RFC 5280, 4.2.1.1), whom we have found; private
#: authorities often leave it out, as `openssl x509 -req` does.
_ORIGINS = ExtensionPolicy.webpki_defaults_ee().may_be_present(
    x509.AuthorityKeyIdentifier, Criticality.NON_CRITICAL, None)

_lib = cast(Any, SSL)._lib

type _Key = tuple[str, bytes, Name]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Verifier:
    """Judges paths to a set of roots, and remembers for a while which were good."""

    def __init__(self, roots: Roots, clock: Callable[[], datetime] = utc_now) -> None:
        self.roots = roots
        self.clock = clock
        self._good: OrderedDict[_Key, tuple[datetime, Path]] = OrderedDict()

    def second(self, ders: Sequence[bytes], name: Name, *, profile: bool = True) -> tuple[Path, list[Refusal]]:
        """Return the path that OpenSSL accepts, leaf first and root last, and what is wrong with it all the same.

        Without `profile`, by our own rules only.
        """
        key = _key("path", ders, name)
        if profile and (known := self._remembered(key)):
            return known, []
        try:
            path = tuple(map(x509.load_der_x509_certificate, ders))
            found = list(self._faults(path, name, profile=profile))
        except Exception as error:      # what a parser raises for bytes of a stranger has no common class
            return (), [broken(Rule.MALFORMED, str(error) or type(error).__name__)]
        if profile and not found:
            self._remember(key, path)
        return path, found

    def repair(self, ders: Sequence[bytes], name: Name) -> Path | None:
        """Return a path that all accept, if the chain that an origin sent, leaf first, has one."""
        key = _key("chain", ders[:MAX_CHAIN], name)
        if known := self._remembered(key):
            return known
        presented = list(_readable(ders[:MAX_CHAIN]))
        if not presented:
            return None
        for path in paths(presented, self.roots):
            if openssl_accepts(path, name, self.clock()) and not self._broken(path, name):
                self._remember(key, path)
                return path
        return None

    def _faults(self, path: Path, name: Name, *, profile: bool) -> Iterator[Refusal]:
        yield from (fault for fault in weaknesses(path, name) if profile or fault.rule is not Rule.PROFILE)
        if (comparisons := _comparisons(path)) > MAX_COMPARISONS:
            yield broken(Rule.CONSTRAINTS, f"its names would need {comparisons} comparisons with those permitted")
        elif len(set(map(holder, path))) < len(path):       # its search would try all their orders
            yield broken(Rule.PROFILE, "an authority is on the path twice")
        elif profile and len(path) > 1:       # an origin's own certificate, trusted as a root, has no chain to judge
            try:
                _profile(path, name, self.clock())
            except VerificationError as error:
                words = _words(error)
                yield broken(Rule.CONSTRAINTS if "name constraint" in words else Rule.PROFILE, words)

    def _broken(self, path: Path, name: Name) -> bool:
        try:
            return any(self._faults(path, name, profile=True))
        except Exception:       # as in `second`
            return True

    def _remembered(self, key: _Key) -> Path | None:
        until, path = self._good.get(key, (None, None))
        return path if until is not None and self.clock() < until else None

    def _remember(self, key: _Key, path: Path) -> None:
        """Never beyond the first end of a certificate on it."""
        until = min(self.clock() + GOOD_FOR, *(each.not_valid_after_utc for each in path))
        self._good[key] = until, path
        self._good.move_to_end(key)
        if len(self._good) > MAX_VERDICTS:
            self._good.popitem(last=False)


def constrain(param: Any, name: Name, moment: datetime) -> None:
    """Make OpenSSL's X509_VERIFY_PARAM ask for a name, subjectAltName only, at a time."""
    if isinstance(name, x509.DNSName):
        host = name.value.encode()
        done = _lib.X509_VERIFY_PARAM_set1_host(param, host, len(host))
    else:
        address = cast(Any, name.value).packed
        done = _lib.X509_VERIFY_PARAM_set1_ip(param, address, len(address))
    if done != 1:       # a certificate for any name would do
        raise ValueError(f"OpenSSL cannot look for {name.value}")
    _lib.X509_VERIFY_PARAM_set_hostflags(param, _HOST_FLAGS)
    # What is trusted need not be self-signed: cross-signed roots, an intermediate that an operator trusts.
    _lib.X509_VERIFY_PARAM_set_flags(param, crypto.X509StoreFlags.PARTIAL_CHAIN)
    _lib.X509_VERIFY_PARAM_set_time(param, int(moment.timestamp()))


def openssl_accepts(path: Path, name: Name, moment: datetime) -> bool:
    """Ask OpenSSL about exactly this path, as for a TLS server; strength of keys is for `weaknesses`."""
    store = crypto.X509Store()
    store.add_cert(crypto.X509.from_cryptography(path[-1]))
    param = cast(Any, SSL)._ffi.gc(_lib.X509_VERIFY_PARAM_new(), _lib.X509_VERIFY_PARAM_free)
    constrain(param, name, moment)
    raw = cast(Any, store)._store
    _lib.X509_STORE_set1_param(raw, param)
    _lib.X509_STORE_set_purpose(raw, _SERVER)
    leaf, *between = map(crypto.X509.from_cryptography, path[:-1] or path)
    try:
        crypto.X509StoreContext(store, leaf, between).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True


def _profile(path: Path, name: Name, moment: datetime) -> None:
    builder = PolicyBuilder().time(moment).store(Store([path[-1]])).max_chain_depth(MAX_CHAIN)
    builder = builder.extension_policies(ca_policy=_authorities(path[-1]), ee_policy=_ORIGINS)
    builder.build_server_verifier(name).verify(path[0], list(path[1:-1]))


def _comparisons(path: Path) -> int:
    """How many comparisons of names the constraints on a path ask for."""
    names = limits = 0
    for certificate in path:
        for extension in certificate.extensions:
            match extension.value:
                case x509.SubjectAlternativeName() as value:
                    names += len(list(value))
                case x509.NameConstraints() as value:
                    limits += len(value.permitted_subtrees or ()) + len(value.excluded_subtrees or ())
    return names * limits


def _authorities(anchor: x509.Certificate) -> ExtensionPolicy:
    """What is asked of authorities: of the anchor less, since it is trusted as it is (RFC 5280, 6.1.1 d).

    It may lack what old public roots lack, and those that `openssl req -x509` makes.
    """
    def key_usage(_: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
        if usage is None and certificate != anchor:
            raise ValueError("an authority without key usage")
        if usage is not None and not usage.key_cert_sign:
            raise ValueError("an authority that may not sign certificates")

    def own_key(_: Policy, certificate: x509.Certificate, own: x509.SubjectKeyIdentifier | None) -> None:
        if own is None and certificate != anchor:
            raise ValueError("an authority whose certificate does not name its key")

    def issuer_key(_: Policy, certificate: x509.Certificate, issuer: x509.AuthorityKeyIdentifier | None) -> None:
        if issuer is None and certificate != anchor:
            raise ValueError("an authority whose certificate does not name its issuer's key")
        if issuer is not None and certificate == anchor and certificate.subject == certificate.issuer:
            own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            serial = issuer.authority_cert_serial_number
            if issuer.key_identifier != own.digest or serial not in (None, certificate.serial_number):
                raise ValueError("a root that names another issuer than itself")

    return (ExtensionPolicy.webpki_defaults_ca()
            .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, key_usage)
            .may_be_present(x509.SubjectKeyIdentifier, Criticality.NON_CRITICAL, own_key)
            .may_be_present(x509.AuthorityKeyIdentifier, Criticality.NON_CRITICAL, issuer_key))


def _key(kind: Literal["path", "chain"], ders: Sequence[bytes], name: Name) -> _Key:
    """OpenSSL's path and a chain as sent may be the same bytes, and what was found of each is not."""
    digest = hashlib.sha256()
    for der in ders:
        digest.update(der)      # DER says how long it is: no two lists give the same bytes
    return kind, digest.digest(), name


def _readable(ders: Sequence[bytes]) -> Iterator[x509.Certificate]:
    """The leaf, and those of the others that can be read; nothing if the leaf cannot."""
    for index, der in enumerate(ders):
        try:
            certificate = x509.load_der_x509_certificate(der)
            certificate.public_key()
        except Exception:       # as in `second`
            if not index:
                return
        else:
            yield certificate


def _words(error: VerificationError) -> str:
    words = str(error)
    for prefix in ("validation failed: ", "candidates exhausted: ", "Python extension validator failed: ValueError: "):
        words = words.removeprefix(prefix)
    return words
