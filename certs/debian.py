"""The trust store of Debian and its kin: /etc/ssl/certs, as curl, git, Python, OpenSSL and GnuTLS read it.

It ends in the state that update-ca-certificates(8) makes of a file in /usr/local/share/ca-certificates, so that the
package system keeps us when it rebuilds the store. But that program is not run: it would drop certificates that were
added to the bundle by hand and carry out what others have left pending, and neither could be undone.
Java's keystore, which its hooks maintain, is another store.
"""

from functools import cache
from pathlib import Path

from certs import verify
from certs.command import StoreError, run
from certs.files import look, replace, sweep
from certs.record import AS_BEFORE, Contents, Record
from certs.root import Root

LOCAL = Path("/usr/local/share/ca-certificates")
HASHED = Path("/etc/ssl/certs")
BUNDLE = HASHED / "ca-certificates.crt"


class Debian:
    """The system store. Each step may be repeated, and is whole or not done after a crash."""

    name = "system"
    scope = "all users of this computer: curl, git, Python, OpenSSL, GnuTLS"

    def __init__(self, record: Record) -> None:
        self._record = record

    @staticmethod
    def present() -> bool:
        return LOCAL.is_dir() and BUNDLE.is_file()

    def plan(self, root: Root) -> str:
        return f"add {_source(root)}, link it in {HASHED}, append it to {BUNDLE}"

    def check(self, root: Root) -> bool:
        """Is the root in the bundle, and found by its hash?"""
        return look(_source(root)) == root.pem and root.pem in (look(BUNDLE) or b"") and _is_hashed(root)

    def install(self, root: Root) -> str | None:
        """Add the root. Returns None if it is there already. Raises StoreError or OSError."""
        if self.check(root):
            return None
        bundle = _bundle()
        self._record.begin(root, self.name, _contents(root))
        replace(_source(root), root.pem, 0o644)
        if not _link(root).is_symlink():
            _link(root).symlink_to(_source(root))
        if not _is_hashed(root):
            _free_hash(root).symlink_to(_link(root).name)
        if root.pem not in bundle:
            replace(BUNDLE, bundle + root.pem, BUNDLE.stat().st_mode & 0o777)
        self._record.finish(root, self.name, _contents(root))
        return self.plan(root)

    def uninstall(self, root: Root) -> str | None:
        """Remove the root. Returns None if there is no trace of it. Raises StoreError or OSError."""
        known = self._record.knows(root, self.name)
        traces = look(_source(root)) is not None or _link(root).is_symlink() or _is_hashed(root)
        _drop_hash_links(root)
        for path in (_link(root), _source(root)):
            path.unlink(missing_ok=True)
        for path in (BUNDLE, _source(root)):
            sweep(path)
        if (known or traces) and not self._record.same(root, self.name, _contents(root)):
            # Otherwise it is in the bundle by someone else's doing, or not at all.
            replace(BUNDLE, _bundle().replace(root.pem, b""), BUNDLE.stat().st_mode & 0o777)
        exact = self._record.same(root, self.name, _contents(root))
        self._record.forget(root, self.name)
        if not traces and not known:
            return None
        return AS_BEFORE if exact else "removed; the rest is left as it is"

    def verify(self, root: Root, server: verify.Server | None) -> str:
        """Say what was proven. Raises StoreError if the root is not there or a program does not accept it."""
        if not self.check(root):
            raise StoreError("not installed, or only in part; `install` completes it")
        if server is None:
            return f"present; {verify.NEEDS_KEY}"
        return f"{verify.curl(server)}; {verify.python(server)}"


def _source(root: Root) -> Path:
    return LOCAL / f"{root.name}.crt"


def _link(root: Root) -> Path:
    return HASHED / f"{root.name}.pem"


def _contents(root: Root) -> Contents:
    links = [link for link in (_link(root), *_hash_links(root)) if link.is_symlink()]
    return {_source(root): look(_source(root)), BUNDLE: look(BUNDLE)} | {link: bytes(link.readlink()) for link in links}


def _bundle() -> bytes:
    data = BUNDLE.read_bytes()
    if not data.endswith(b"\n"):
        raise StoreError(f"{BUNDLE} is cut off: it does not end with a line; `update-ca-certificates --fresh` mends it")
    return data


@cache
def _subject_hash(root: Root) -> str:
    return run(["openssl", "x509", "-noout", "-subject_hash"], home=HASHED, given=root.pem).strip()


def _hash_links(root: Root) -> list[Path]:
    """Return the links of all roots with our subject, in the order in which OpenSSL looks: until one is missing."""
    subject, links = _subject_hash(root), list[Path]()
    while (link := HASHED / f"{subject}.{len(links)}").is_symlink():
        links.append(link)
    return links


def _is_hashed(root: Root) -> bool:
    return any(link.readlink() == Path(_link(root).name) for link in _hash_links(root))


def _free_hash(root: Root) -> Path:
    return HASHED / f"{_subject_hash(root)}.{len(_hash_links(root))}"


def _drop_hash_links(root: Root) -> None:
    """Remove our link, and let the last one take its place: a gap would hide those behind it."""
    links = _hash_links(root)
    for link in links:
        if link.readlink() == Path(_link(root).name):
            if link != links[-1]:
                links[-1].replace(link)
            else:
                link.unlink()
            return
