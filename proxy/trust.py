"""Trust in our root for one command alone: variables, and in a mount namespace of its own the system's bundle and NSS.

Variables reach programs that bring bundles of their own (certifi, Node); the bundle reaches those that read the
system's (curl, OpenSSL, Python's ssl).  Some do only the one, some only the other, so both are done.
"""

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from proxy import confine
from proxy.tlsface import SYSTEM_BUNDLES

#: Variables that name one file with all the roots to trust.
BUNDLE_VARIABLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE", "PIP_CERT",
                    "CARGO_HTTP_CAINFO", "NIX_SSL_CERT_FILE", "HTTPLIB2_CA_CERTS", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
                    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE")
#: Variables that name roots to trust besides the program's own.
EXTRA_VARIABLES = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
#: Where Chromium and other programs with NSS keep a user's trust.
NSS_FOLDER = Path(".pki/nssdb")


@dataclass(frozen=True, slots=True)
class Trust:
    """Files in a folder of the command's own: the root alone, the system's bundle with it, an NSS database."""

    folder: Path
    root: Path
    bundle: Path

    @classmethod
    def make(cls, folder: Path, root_pem: Path) -> "Trust":
        system = next((Path(p) for p in SYSTEM_BUNDLES if Path(p).is_file()), None)
        root, bundle = folder / "root.pem", folder / "bundle.pem"
        pem = root_pem.read_bytes()
        root.write_bytes(pem)
        bundle.write_bytes((system.read_bytes() if system else b"") + b"\n" + pem)
        for path in (root, bundle):
            path.chmod(0o644)
        folder.chmod(0o755)
        return cls(folder, root, bundle)

    def variables(self) -> dict[str, str]:
        return dict.fromkeys(BUNDLE_VARIABLES, str(self.bundle)) | dict.fromkeys(EXTRA_VARIABLES, str(self.root))

    def nss(self, home: Path, uid: int, gid: int) -> Path | None:
        """A copy of the user's NSS database with our root in it; None without certutil.

        A user who has none gets an empty folder for it first: programs look nowhere else, and a mount needs a place.
        """
        if not shutil.which("certutil"):
            return None
        for place in ((home / NSS_FOLDER).parent, home / NSS_FOLDER):
            if not place.exists():
                place.mkdir(mode=0o700)
                os.chown(place, uid, gid)
        target = self.folder / "nssdb"
        with contextlib.suppress(FileNotFoundError):
            shutil.copytree(home / NSS_FOLDER, target)
        target.mkdir(exist_ok=True)
        database = f"sql:{target}"
        if not (target / "cert9.db").exists():
            subprocess.run(["certutil", "-N", "--empty-password", "-d", database], check=True, capture_output=True)
        subprocess.run(["certutil", "-A", "-d", database, "-n", "lockgate", "-t", "C,,", "-i", str(self.root)],
                       check=True, capture_output=True)
        for path in (target, *target.iterdir()):
            os.chown(path, uid, gid)
        return target

    def enter(self, home: Path, nss: Path | None) -> None:
        """In a child before exec, as root: the bundle and the database appear in place of the machine's own."""
        confine.private_mounts()
        for path in {os.path.realpath(p) for p in SYSTEM_BUNDLES if Path(p).is_file()}:
            confine.bind(str(self.bundle), path)
        if nss is None:
            return
        confine.bind(str(nss), str(home / NSS_FOLDER))

