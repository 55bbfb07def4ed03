"""What a trust store can do, which ones this computer has, and one operation on all of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

from certs import nss
from certs.authority import Authority
from certs.debian import Debian
from certs.record import Record, default_folder
from certs.root import Root
from certs.user import User, invoking
from certs.verify import Server, serving

#: How the kinds are called on a command line.
KINDS = ("system", "nss")


class Store(Protocol):
    """One place where programs look up whom to trust. Every operation may be repeated, also after a crash.

    They raise StoreError or OSError.
    """

    name: str
    scope: str

    def plan(self, root: Root) -> str:
        """Say what `install` would do."""

    def check(self, root: Root) -> bool:
        """Is the root there, and trusted?"""

    def install(self, root: Root) -> str | None:
        """Add the root, and say what was done; None: it was there already."""

    def uninstall(self, root: Root) -> str | None:
        """Remove the root, and say how far that took us back; None: it was not there."""

    def verify(self, root: Root, server: Server | None) -> str:
        """Say what was proven; a handshake takes the server. Raises StoreError if the root is not trusted."""


@dataclass(frozen=True)
class Result:
    """What became of one store."""

    store: str
    ok: bool
    text: str


def detect(kinds: Sequence[str] = KINDS, *, record: Record | None = None, user: User | None = None) -> list[Store]:
    """Return the trust stores of this computer and of the user who called. Raises ValueError for an unknown kind."""
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"no such kind of store: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    record = record or Record(default_folder())
    found: list[Store] = []
    if "system" in kinds and Debian.present():
        found.append(Debian(record))
    if "nss" in kinds:
        found += nss.detect(user or invoking(), record)
    return found


def plan(root: Root, stores: Sequence[Store], command: str = "install") -> Iterator[Result]:
    """Say for each store what `install` or `uninstall` would do. Changes nothing."""
    if command == "uninstall":
        return _each(stores, lambda store: "would remove it" if store.check(root) else "would remove what there is")
    return _each(stores, lambda store: "installed" if store.check(root) else f"not installed; would {store.plan(root)}")


def install(root: Root, stores: Sequence[Store]) -> Iterator[Result]:
    """Add the root to each store, whatever becomes of the others. Yields as it goes."""
    if root.days_left < 0:
        raise ValueError(f"{root.subject} expired on {root.certificate.not_valid_after_utc:%Y-%m-%d}; make a new root")
    return _each(stores, lambda store: store.install(root) or "already installed")


def uninstall(root: Root, stores: Sequence[Store]) -> Iterator[Result]:
    """Remove the root from each store, whatever becomes of the others. Yields as it goes."""
    return _each(stores, lambda store: store.uninstall(root) or "was not installed")


def verify(root: Root, stores: Sequence[Store], authority: Authority | None = None) -> Iterator[Result]:
    """Ask of each store whether its programs accept the root; by a handshake if `authority` has its key.

    Yields as it goes.
    """
    with serving(authority) if authority else nullcontext() as server:
        yield from _each(stores, lambda store: store.verify(root, server))


def _each(stores: Sequence[Store], action: Callable[[Store], str]) -> Iterator[Result]:
    for store in stores:
        try:
            yield Result(store.name, True, action(store))
        except (OSError, ValueError) as error:
            yield Result(store.name, False, _advice(error))


def _advice(error: Exception) -> str:
    return f"{error}; repeat it as root (sudo)" if isinstance(error, PermissionError) else str(error)
