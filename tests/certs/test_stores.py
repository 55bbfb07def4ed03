"""One operation on all stores: each has its say, whatever becomes of the others."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from certs import stores
from certs.authority import Authority
from certs.command import StoreError
from certs.record import Record
from certs.root import Root
from certs.stores import Result
from certs.user import User
from certs.verify import Server


@dataclass
class Memory:
    """A store that is a set of roots; or one that fails."""

    name: str
    error: Exception | None = None
    scope: str = "this test"

    def __post_init__(self) -> None:
        self.roots: set[Root] = set()

    def plan(self, root: Root) -> str:
        return "remember it"

    def check(self, root: Root) -> bool:
        if self.error:
            raise self.error
        return root in self.roots

    def install(self, root: Root) -> str | None:
        if self.check(root):
            return None
        self.roots.add(root)
        return "remembered"

    def uninstall(self, root: Root) -> str | None:
        if not self.check(root):
            return None
        self.roots.remove(root)
        return "forgotten"

    def verify(self, root: Root, server: Server | None) -> str:
        if not self.check(root):
            raise StoreError("not installed")
        return "present"


ERRORS = [
    pytest.param(StoreError("`certutil` failed"), "`certutil` failed", id="a command"),
    pytest.param(PermissionError(13, "Permission denied", "/etc/x"), "repeat it as root", id="no right"),
    pytest.param(OSError(28, "No space left on device"), "No space left", id="a full disk"),
    pytest.param(ValueError("record is damaged"), "record is damaged", id="a damaged record"),
]


@pytest.mark.parametrize(("error", "text"), ERRORS)
@pytest.mark.parametrize("action", [stores.plan, stores.install, stores.uninstall, stores.verify])
def test_one_broken_store_does_not_stop_the_others(authority: Authority, action, error, text):
    found = [Memory("a"), Memory("b", error), Memory("c")]
    results = list(action(authority.root, found))
    assert [result.store for result in results] == ["a", "b", "c"]
    assert (results[1].ok, text in results[1].text) == (False, True)
    assert results[0].ok == results[2].ok == (action is not stores.verify)


def test_a_life(authority: Authority):
    found = [Memory("a")]
    actions = [
        stores.plan,
        stores.install,
        stores.install,
        stores.plan,
        stores.verify,
        stores.uninstall,
        stores.uninstall,
    ]
    texts = [result.text for action in actions for result in action(authority.root, found)]
    assert texts == [
        "not installed; would remember it",
        "remembered",
        "already installed",
        "installed",
        "present",
        "forgotten",
        "was not installed",
    ]


def test_it_is_told_as_it_goes(authority: Authority):
    second = Memory("b")
    results = stores.install(authority.root, [Memory("a"), second])
    assert next(iter(results)) == Result("a", True, "remembered")
    assert not second.check(authority.root)


def test_an_expired_root_is_not_installed():
    key, end = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC) - timedelta(hours=1)
    builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1, end - timedelta(days=9), end)
    with pytest.raises(ValueError, match="expired on"):
        stores.install(Root(builder.sign(key, SHA256())), [])


@pytest.mark.parametrize(
    ("kinds", "allowed"),
    [
        pytest.param(["system"], {"system"}, id="system"),
        pytest.param(["nss"], {"nss"}, id="browsers"),
        pytest.param(["system", "nss"], {"system", "nss"}, id="both"),
        pytest.param([], set(), id="none"),
    ],
)
def test_detect(tmp_path: Path, record: Record, kinds, allowed):
    user = User(os.geteuid(), os.getegid(), tmp_path)
    (tmp_path / ".pki/nssdb").mkdir(parents=True)
    (tmp_path / ".pki/nssdb/cert9.db").touch()
    found = {store.name.partition(":")[0] for store in stores.detect(kinds, record=record, user=user)}
    assert found <= allowed
    assert ("nss" in found) == ("nss" in allowed)


def test_an_unknown_kind():
    with pytest.raises(ValueError, match=r"java.*there are system, nss"):
        stores.detect(["java", "nss"])
