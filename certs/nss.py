"""The databases of NSS: Chromium's ~/.pki/nssdb and the profiles of Firefox, changed with Mozilla's certutil.

certutil and a running browser share a database under SQLite's locks, so it is changed in place. It is put back byte
for byte when nothing but our certificate has come since and no program has it open; otherwise our certificate is
deleted and the rest left alone.
"""

import configparser
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from cryptography import x509

from certs import verify
from certs.command import StoreError, run
from certs.files import look, replace, sweep
from certs.record import AS_BEFORE, Contents, Record
from certs.root import Root
from certs.user import User

FILES = ("cert9.db", "key4.db", "pkcs11.txt")

#: Trusted to sign certificates of TLS servers, and for nothing else (certutil(1), -t).
TRUST = "C,,"

#: Below a home. The first is made when it is missing and a program of its family is there; the others must exist.
CHROMIUM = (
    ".pki/nssdb",
    ".local/share/pki/nssdb",
    "snap/chromium/current/.pki/nssdb",
    ".var/app/org.chromium.Chromium/.pki/nssdb",
    ".var/app/com.google.Chrome/.pki/nssdb",
)
CHROMIUM_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "brave-browser")

#: Below a home: folders with a profiles.ini.
FIREFOX = (
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
)


class Nss:
    """One database. What it holds is read and written with the rights of the user whose it is."""

    def __init__(self, folder: Path, scope: str, user: User, record: Record) -> None:
        self.name = f"nss:{folder}"
        self.scope = scope
        self._folder, self._user, self._record = folder, user, record

    def plan(self, root: Root) -> str:
        made = "" if (self._folder / FILES[0]).exists() else "make the database, "
        return f'{made}certutil -A -d sql:{self._folder} -n {root.name} -t "{TRUST}"'

    def check(self, root: Root) -> bool:
        """Is the root there, and trusted for servers?"""
        with self._user.acting():
            if not (self._folder / FILES[0]).exists():
                return False
            trust = [line.split()[-1] for line in self._certutil("-L").splitlines() if line.startswith(f"{root.name} ")]
            return trust[:1] == [TRUST] and self._named(root) == [root.certificate]

    def install(self, root: Root) -> str | None:
        """Add the root. Returns None if it is there already. Raises StoreError or OSError; then nothing is changed."""
        if self.check(root):
            return None
        done = self.plan(root)
        with self._user.acting():
            before = self._contents()
        self._record.begin(root, self.name, before, keep=True)
        try:
            with self._user.acting():
                if not (self._folder / FILES[0]).exists():
                    self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._certutil("-N", "--empty-password")
                self._certutil("-A", "-a", "-n", root.name, "-t", TRUST, given=root.pem)
                after = self._contents()
        except StoreError as error:
            self.uninstall(root)
            if "PASSWORD" in str(error) or "NOT_LOGGED_IN" in str(error):
                raise StoreError(f"{self._folder} has a password; import the root in the browser itself") from error
            raise
        self._record.finish(root, self.name, after)
        return done

    def uninstall(self, root: Root) -> str | None:
        """Remove the root. Returns None if there is no trace of it. Raises StoreError or OSError."""
        kept = self._record.kept(root, self.name)
        with self._user.acting():
            removed = self._delete(root, kept)
            text = self._put_back(kept) if kept else "removed; nothing is on record, so the rest is left as it is"
        known = self._record.knows(root, self.name)
        self._record.forget(root, self.name)
        return text if removed or known else None

    def verify(self, root: Root, server: verify.Server | None) -> str:
        """Say what was proven. Raises StoreError if the root is not there or NSS does not accept it."""
        if not self.check(root):
            raise StoreError("not installed")
        if server is None:
            return f"present; {verify.NEEDS_KEY}"
        with self._user.acting():
            files = {path.name: data for path, data in self._contents().items() if data is not None}
        return verify.nss(server, files)

    def _delete(self, root: Root, kept: Contents) -> bool:
        """Delete our certificate, unless all that matters is as it was: a database half made cannot be opened."""
        if not (self._folder / FILES[0]).exists() or (kept and self._means_the_same(kept)):
            return False
        if not any(line.startswith(f"{root.name} ") for line in self._certutil("-L").splitlines()):
            return False
        if self._named(root) != [root.certificate]:
            raise StoreError(f"{self._folder} has other certificates of the same subject; remove ours in the browser")
        self._certutil("-D", "-n", root.name)
        return True

    def _named(self, root: Root) -> list[x509.Certificate]:
        """Return the certificates with our nickname; NSS gives it to all that have the same subject."""
        return x509.load_pem_x509_certificates(self._certutil("-L", "-n", root.name, "-a").encode())

    def _put_back(self, kept: Contents) -> str:
        if _now(kept) != kept:
            if not self._means_the_same(kept):
                return "removed; the database has changed since, so the rest is left as it is"
            if _is_open(self._folder / FILES[0]):
                return "removed; a running browser has the database open, so its files keep traces of the change"
            _restore(kept)
        return AS_BEFORE

    def _means_the_same(self, kept: Contents) -> bool:
        """Do the databases hold the rows they held? Their bytes differ after any change that was taken back."""
        now = _now(kept)
        for path, before in kept.items():
            if now[path] == before:
                continue
            if path.suffix != ".db":
                if before is not None:
                    return False
            elif before is None:
                if _rows(path).keys() - {"metaData"}:  # which holds the salt of any database that certutil makes
                    return False
            elif _rows(path) != _rows_of(before):
                return False
        return True

    def _contents(self) -> dict[Path, bytes | None]:
        """Return the files, and as None the folders that would have to be made."""
        missing = [folder for folder in (self._folder, *self._folder.parents) if not folder.exists()]
        return {self._folder / name: look(self._folder / name) for name in FILES} | dict.fromkeys(missing)

    def _certutil(self, *arguments: str, given: bytes = b"") -> str:
        return run(["certutil", *arguments, "-d", f"sql:{self._folder}"], home=self._user.home, given=given)


def detect(user: User, record: Record) -> list[Nss]:
    """Return the databases of a user's browsers, and the one that a Chromium without any would look for."""
    with user.acting():
        found = {user.home / path: "Chromium" for path in CHROMIUM if (user.home / path / FILES[0]).is_file()}
        if not found and any(map(shutil.which, CHROMIUM_PROGRAMS)):
            found[user.home / CHROMIUM[0]] = "Chromium"
        for path in FIREFOX:
            found |= dict.fromkeys(_profiles(user.home / path), "Firefox")
    return [Nss(folder, f"{program} of {user.home.name}", user, record) for folder, program in found.items()]


def _profiles(folder: Path) -> Iterator[Path]:
    parser = configparser.ConfigParser(interpolation=None)
    with suppress(OSError, configparser.Error, UnicodeDecodeError):  # a Firefox that cannot read it has no profiles
        parser.read(folder / "profiles.ini", encoding="utf-8")
    for section in parser.values():
        if path := section.get("Path"):
            profile = folder / path  # an absolute one, IsRelative=0, stands for itself
            if (profile / FILES[0]).is_file():
                yield profile


type _Rows = dict[str, list[str]]


def _now(kept: Contents) -> dict[Path, bytes | None]:
    return {path: b"" if path.is_dir() else look(path) for path in kept}


def _rows(path: Path) -> _Rows:
    """Return what a database file holds. SQLite first takes back what a killed writer has left half done."""
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path)) as database:
        return _dump(database)


def _rows_of(data: bytes) -> _Rows:
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(data)
        return _dump(database)


def _dump(database: sqlite3.Connection) -> _Rows:
    """Return the rows of each table that has any, in an order that does not depend on where they lie."""
    try:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: sorted(map(repr, database.execute(f'SELECT * FROM "{name}"'))) for name in tables}  # noqa: S608
    except sqlite3.Error as error:
        raise StoreError(f"the database cannot be read: {error}; close the browser and repeat") from error
    return {name: found for name, found in rows.items() if found}


def _restore(kept: Contents) -> None:
    for path, data in sorted(kept.items(), reverse=True):  # what lies in a folder goes before the folder
        sweep(path)
        if data is not None:
            if look(path) != data:
                replace(path, data, path.stat().st_mode & 0o777)
        elif path.is_dir():
            with suppress(OSError):  # a browser has put something of its own into it
                path.rmdir()
        else:
            path.unlink(missing_ok=True)


def _is_open(path: Path) -> bool:
    """Has any process the file open? Of others' processes only root can tell."""
    if not path.exists():
        return False
    status = path.stat()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.path.samestat(link.stat(), status):
                return True
    return False
