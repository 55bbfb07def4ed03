"""Trust in our root for one command alone: variables, and in a mount namespace of its own the system's bundle and NSS.

Variables reach programs that bring bundles of their own (certifi, Node); the bundle reaches those that read the
system's (curl, OpenSSL, Python's ssl).  Some do only the one, some only the other, so both are done.

What lies in a user's home is read, made and named with that user's rights: root must not be led astray by their links,
nor load what their databases tell NSS to load.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from certs.bundles import SYSTEM_BUNDLES as SYSTEM_BUNDLES  # the doctor names them too
from certs.bundles import system_bundle
from certs.command import run
from certs.nss import CHROMIUM, FILES, TRUST
from certs.user import User
from proxy import confine

#: Variables that name one file with all the roots to trust.
BUNDLE_VARIABLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE",
                    "PIP_CERT", "CARGO_HTTP_CAINFO", "NIX_SSL_CERT_FILE", "HTTPLIB2_CA_CERTS",
                    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE")
#: Variables that name roots to trust besides the program's own.
EXTRA_VARIABLES = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
#: A folder of roots by hash: it would be read instead of the bundle.
FOLDER_VARIABLE = "SSL_CERT_DIR"
#: What programs of the Chromium family read, and GTK's; the first is made where a home has none.
DATABASES = CHROMIUM[:2]


class Trust:
    """Files for one command, in a folder that is ours, and in one within, `own`, that is the user's."""

    def __init__(self, folder: Path, user: User) -> None:
        self.user = user
        self.root, self.bundle, self.own = folder / "root.pem", folder / "bundle.pem", folder / "own"
        self.own.mkdir(mode=0o700)
        os.chown(self.own, user.uid, user.gid)
        folder.chmod(0o755)

    def write(self, root_pem: Path) -> None:
        """Write the root alone, and the system's bundle with it."""
        pem = root_pem.read_bytes()
        system = system_bundle()
        self.root.write_bytes(pem)
        self.bundle.write_bytes((system.read_bytes() if system else b"") + b"\n" + pem)
        for path in (self.root, self.bundle):
            path.chmod(0o644)

    def variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment with the variables that name our files."""
        kept = {key: value for key, value in environment.items() if key != FOLDER_VARIABLE}
        return kept | dict.fromkeys(BUNDLE_VARIABLES, str(self.bundle)) | dict.fromkeys(EXTRA_VARIABLES, str(self.root))

    @contextlib.contextmanager
    def databases(self, tell: Callable[[str], None]) -> Iterator[dict[Path, Path]]:
        """Copies of the user's NSS databases with our root in them, by the folder that each stands for; and one for the
        profile of a Firefox.  Without certutil there are none, and a database that cannot be read is told.

        A home without any gets an empty folder, as a mount needs a place; it goes afterwards.
        """
        copies: dict[Path, Path] = {}
        made: list[Path] = []
        try:
            with self.user.acting():
                if shutil.which("certutil") and self.user.home.is_dir():
                    places = [self.user.home / place for place in DATABASES if (self.user.home / place).is_dir()]
                    if not places:
                        places, made = [self.user.home / DATABASES[0]], _make(self.user.home / DATABASES[0])
                    for number, place in enumerate(places):
                        copies[place] = self._database(self.own / f"nss-{number}", place)
                    self._database(self.own / "profile", None)
        except (OSError, ValueError) as error:
            tell(f"browsers will not trust the proxy: {error}")
        try:
            yield copies
        finally:
            with self.user.acting(), contextlib.suppress(OSError):      # something has come to lie in it
                for folder in made:
                    folder.rmdir()

    def _database(self, target: Path, source: Path | None) -> Path:
        target.mkdir(mode=0o700)
        for name in FILES if source else ():
            with contextlib.suppress(FileNotFoundError):
                (target / name).write_bytes((source / name).read_bytes())   # type: ignore[operator]
        where = ["-d", f"sql:{target}"]
        if not (target / FILES[0]).exists():
            run(["certutil", "-N", "--empty-password", *where], home=self.user.home)
        run(["certutil", "-A", *where, "-n", "lockgate", "-t", TRUST, "-i", self.root], home=self.user.home)
        return target

    def enter(self, databases: Mapping[Path, Path]) -> None:
        """In a child before exec, as root: bundle and databases appear in place of the machine's own."""
        confine.private_mounts()
        for path in {os.path.realpath(path) for path in SYSTEM_BUNDLES if Path(path).is_file()}:
            confine.bind(str(self.bundle), path)
        for place, copy in databases.items():
            confine.bind(*(f"/proc/self/fd/{self._folder(path)}" for path in (copy, place)))

    def _folder(self, path: Path) -> int:
        """A descriptor of a folder that is the user's own: no link leads elsewhere between this look and the mount."""
        with self.user.acting():
            folder = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
        if os.fstat(folder).st_uid != self.user.uid:
            raise PermissionError(f"{path} is not the user's own")
        return folder


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above that are missing; returns what was made, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=stat.S_IRWXU)
    return missing
