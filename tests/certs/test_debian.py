"""The system store gets our root in the way update-ca-certificates would, and gets its own bytes back."""

import subprocess
from pathlib import Path

import pytest

from certs import stores, verify
from certs.authority import Authority
from certs.command import StoreError
from certs.debian import BUNDLE, HASHED, LOCAL, Debian
from certs.record import Record
from tests.certs.conftest import killed_at, namesake, needs_root, system_tree

pytestmark = [
    needs_root,
    pytest.mark.skipif(not Debian.present(), reason="not a Debian store"),
    pytest.mark.usefixtures("system_store"),
]


@pytest.fixture
def store(record: Record) -> Debian:
    return Debian(record)


def test_there_and_back(store: Debian, authority: Authority):
    before = system_tree()
    assert not store.check(authority.root)
    assert store.install(authority.root)
    assert store.check(authority.root)
    between = system_tree()
    assert store.install(authority.root) is None
    assert system_tree() == between
    assert "byte for byte" in str(store.uninstall(authority.root))
    assert system_tree() == before
    assert store.uninstall(authority.root) is None
    assert system_tree() == before


def test_programs_accept_us_only_between(store: Debian, authority: Authority):
    with verify.serving(authority) as server:
        with pytest.raises(StoreError, match="not installed"):
            store.verify(authority.root, server)
        store.install(authority.root)
        assert store.verify(authority.root, server) == "curl accepts it; Python accepts it"
        (result,) = stores.verify(authority.root, [store], authority)
        assert (result.ok, result.text) == (True, "curl accepts it; Python accepts it")
        found = subprocess.run(
            ["openssl", "verify", "-CApath", HASHED, authority.pem_path], capture_output=True, text=True, check=False
        )
        assert found.stdout.strip().endswith("OK")
        assert verify.NEEDS_KEY in store.verify(authority.root, None)
        store.uninstall(authority.root)
        for client in (verify.curl, verify.python):
            with pytest.raises(StoreError, match="certificate"):
                client(server)


def test_it_outlives_a_rebuild(store: Debian, authority: Authority, tmp_path: Path):
    """When a package rebuilds the store, we stay in; afterwards we leave nothing of ours behind."""
    store.install(authority.root)
    (tmp_path / "hooks").mkdir()
    subprocess.run(
        ["update-ca-certificates", "--fresh", "--hooksdir", tmp_path / "hooks"], check=True, capture_output=True
    )
    assert store.check(authority.root)
    rebuilt = system_tree()
    assert store.uninstall(authority.root)
    ours = {path for path in rebuilt if authority.root.name in path + rebuilt[path]}
    assert {path for path in rebuilt if rebuilt[path] != system_tree().get(path)} == ours | {str(BUNDLE)}
    assert authority.root.pem not in BUNDLE.read_bytes()


def test_certificates_added_by_hand_stay(store: Debian, authority: Authority):
    BUNDLE.write_bytes(BUNDLE.read_bytes() + b"# by hand\n")
    store.install(authority.root)
    assert BUNDLE.read_bytes().endswith(b"# by hand\n" + authority.root.pem)
    store.uninstall(authority.root)
    assert BUNDLE.read_bytes().endswith(b"# by hand\n")


def test_two_roots_of_one_subject(store: Debian, authority: Authority):
    """OpenSSL stops at the first missing number, so a root that goes must not hide the next."""
    before, other = system_tree(), namesake(authority.root)
    for root in (authority.root, other):
        store.install(root)
    store.uninstall(authority.root)
    assert (store.check(authority.root), store.check(other)) == (False, True)
    store.uninstall(other)
    assert system_tree() == before


@pytest.mark.parametrize("interrupted", ["install", "uninstall"])
def test_killed_at_every_step(interrupted: str, authority: Authority, tmp_path: Path):
    """Wherever kill -9 comes, an uninstall ends where we began."""
    before, step = system_tree(), 1
    record, always = tmp_path / "record", ("--yes", "--stores", "system", "--record", tmp_path / "record")
    store = Debian(Record(record))
    while True:
        if interrupted == "uninstall":
            store.install(authority.root)
        if not killed_at(step, interrupted, authority.pem_path, *always):
            break
        store.uninstall(authority.root)
        assert system_tree() == before, f"killed before change {step}"
        assert not record.exists()
        step += 1
    assert step > 5


def test_an_interrupted_install_is_completed(authority: Authority, tmp_path: Path):
    before = system_tree()
    record, always = tmp_path / "record", ("--yes", "--stores", "system", "--record", tmp_path / "record")
    assert killed_at(8, "install", authority.pem_path, *always)
    store = Debian(Record(record))
    assert not store.check(authority.root)
    assert store.install(authority.root)
    assert store.check(authority.root)
    assert "byte for byte" in str(store.uninstall(authority.root))
    assert system_tree() == before


def test_a_bundle_that_is_cut_off_is_left_alone(store: Debian, authority: Authority):
    BUNDLE.write_bytes(BUNDLE.read_bytes()[:-1])
    before = system_tree()
    with pytest.raises(StoreError, match="update-ca-certificates"):
        store.install(authority.root)
    assert system_tree() == before


@pytest.mark.parametrize("installed", [True, False])
def test_what_others_put_there_is_not_ours_to_remove(store: Debian, authority: Authority, installed):
    """An administrator has added the very root by hand, under another name."""
    (LOCAL / "theirs.crt").write_bytes(authority.root.pem)
    BUNDLE.write_bytes(authority.root.pem + BUNDLE.read_bytes())
    before = system_tree()
    if installed:
        store.install(authority.root)
    assert bool(store.uninstall(authority.root)) is installed
    assert system_tree() == before
