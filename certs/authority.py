"""The root and its key: made once, kept private, signs a short-lived leaf for each host."""

import fcntl
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from certs.files import replace
from certs.minting import leaf_certificate, leaf_period, root_certificate
from certs.names import general_name, text
from certs.root import Root

KEY_FILE, CERTIFICATE_FILE, LOCK_FILE = "ca-key.pem", "ca.pem", ".ca.lock"

#: Leaves kept. A browser's day touches a few hundred hosts; an entry is some 2 KB. The least recently used goes first.
MAX_CACHED = 1024

#: Names in one leaf. Origins carry up to some hundred; more would make every handshake carry and cache tens of KB.
MAX_NAMES = 1000


class AuthorityError(ValueError):
    """The root cannot be made or used; the message says what to do."""


@dataclass(frozen=True)
class Leaf:
    """A server certificate, its key, and the certificates between it and the root: none while the root itself signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    @property
    def chain_pem(self) -> bytes:
        """The leaf and what follows it, as TLS servers want it in one file."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.chain))

    @property
    def key_pem(self) -> bytes:
        return _key_pem(self.key)


class Authority:
    """A root and the leaves it has signed in this process. Not for use by several threads at once."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, pem_path: Path) -> None:
        self.certificate = certificate
        self.pem_path = pem_path
        self._key = key
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._cache: OrderedDict[_Wanted, tuple[Leaf, datetime]] = OrderedDict()

    @classmethod
    def create(cls, folder: Path) -> "Authority":
        """Make a root in `folder` (0700). Raises AuthorityError if it holds one already."""
        with _locked(folder):
            return cls._create(folder)

    @classmethod
    def load(cls, folder: Path) -> "Authority":
        """Read the root in `folder`. Raises AuthorityError if it is missing, expired, damaged or not private."""
        try:
            certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE_FILE).read_bytes())
            key = load_pem_private_key(_read_private(folder / KEY_FILE), password=None)
        except FileNotFoundError as error:
            raise AuthorityError(f"no root: {error.filename} is missing; `lockgate ca create` makes one") from None
        except OSError as error:
            raise AuthorityError(f"the root cannot be read: {error}") from error
        except AuthorityError:
            raise
        except (ValueError, TypeError) as error:  # TypeError: the key has a passphrase
            raise AuthorityError(f"the root in {folder} cannot be read ({error}); restore or remove it") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise AuthorityError(f"{KEY_FILE} is not the key of {CERTIFICATE_FILE} in {folder}; restore or remove both")
        _check_usable(certificate, folder)
        return cls(certificate, key, folder / CERTIFICATE_FILE)

    @classmethod
    def load_or_create(cls, folder: Path) -> "Authority":
        """Read the root in `folder`, made first if there is none. Of two processes at once, one makes it."""
        with _locked(folder):
            return cls.load(folder) if (folder / CERTIFICATE_FILE).exists() else cls._create(folder)

    @classmethod
    def _create(cls, folder: Path) -> "Authority":
        path = folder / CERTIFICATE_FILE
        if path.exists():
            raise AuthorityError(f"{path} exists; `lockgate ca uninstall` and move {folder} away to make a new root")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = root_certificate(key)
        # The certificate comes last: without it the key has certified nothing, and may be replaced.
        replace(folder / KEY_FILE, _key_pem(key), 0o600)
        replace(path, certificate.public_bytes(Encoding.PEM), 0o644)
        return cls(certificate, key, path)

    @property
    def root(self) -> Root:
        """The part that stores and clients may have."""
        return Root(self.certificate)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in colon notation."""
        return self.root.fingerprint

    def issue(
        self,
        names: Sequence[str | x509.GeneralName],
        *,
        not_after: datetime | None = None,
        common_name: str | None = None,
    ) -> Leaf:
        """Return a leaf for `names`: DNS names, wildcards, IP literals, or ready entries of those kinds.

        It ends after MAX_LEAF_LIFE at the latest, and never after `not_after` (aware; the end of the origin's own
        certificate) or the root. `common_name` defaults to the first name, and is left out when it is too long.
        Raises ValueError for no name, too many, one that cannot be expressed, or an end that has passed.
        """
        entries = tuple(dict.fromkeys(map(general_name, names)))
        if not 0 < len(entries) <= MAX_NAMES:
            raise ValueError(f"a leaf is for 1 to {MAX_NAMES} names, not {len(entries)}")
        wanted = _Wanted(entries, not_after, text(entries[0]) if common_name is None else common_name)
        cached = self._cache.get(wanted)
        if cached is None or cached[1] <= datetime.now(UTC):
            cached = self._cache[wanted] = self._sign(wanted)
        self._cache.move_to_end(wanted)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return cached[0]

    def _sign(self, wanted: "_Wanted") -> tuple[Leaf, datetime]:
        *period, renew = leaf_period(self.certificate, wanted.not_after, datetime.now(UTC))
        certificate = leaf_certificate(
            wanted.names,
            wanted.common_name,
            (period[0], period[1]),
            self._leaf_key.public_key(),
            (self.certificate, self._key),
        )
        return Leaf(certificate, self._leaf_key, ()), renew


@dataclass(frozen=True)
class _Wanted:
    """All that decides what a leaf says, and so the key of the cache: two requests share one only if all is equal."""

    names: tuple[x509.GeneralName, ...]
    not_after: datetime | None
    common_name: str


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _check_usable(certificate: x509.Certificate, folder: Path) -> None:
    now = datetime.now(UTC)
    try:
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        raise AuthorityError(f"{folder / CERTIFICATE_FILE} is not a root that lockgate made") from None
    if not Root(certificate).is_ca:
        raise AuthorityError(f"{folder / CERTIFICATE_FILE} is not a CA certificate")
    if certificate.not_valid_before_utc > now:
        raise AuthorityError(f"the root is valid from {certificate.not_valid_before_utc:%Y-%m-%d}; is the clock right?")
    if certificate.not_valid_after_utc <= now:
        raise AuthorityError(
            f"the root in {folder} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: "
            "`lockgate ca uninstall`, move the folder away, `lockgate ca create`, `lockgate ca install`"
        )


def _read_private(path: Path) -> bytes:
    """Read a key; the file that is checked is the one that is read."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise AuthorityError(f"{path} is not a file")
        if status.st_mode & 0o077:
            raise AuthorityError(
                f"{path} can be read by others (mode {status.st_mode & 0o777:o}): whoever has read it can pose as any "
                f"site. If nobody did, `chmod 600 {path}`; otherwise replace the root"
            )
        return file.read()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder, private and made if need be, against other processes that would make a root in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o022:
            raise AuthorityError(f"others can write to {folder}, so they could replace the key; `chmod 700 {folder}`")
        with (folder / LOCK_FILE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise AuthorityError(f"{folder} cannot be used: {error}") from error
