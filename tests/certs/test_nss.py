"""Browser databases get our root, get their own bytes back, and are touched with their user's rights only."""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from certs import nss, verify
from certs.authority import Authority
from certs.command import StoreError
from certs.nss import FILES, Nss
from certs.record import Record
from certs.user import User
from tests.certs.conftest import killed_at, namesake, needs_root, tree

pytestmark = pytest.mark.skipif(not shutil.which("certutil"), reason="certutil is not installed")

NOBODY = 65_534


def certutil(folder: Path, *arguments: str) -> str:
    command = ["certutil", *arguments, "-d", f"sql:{folder}"]
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a Firefox profile, whose database holds a certificate of its owner."""
    home, profile = tmp_path / "home", tmp_path / "home/.mozilla/firefox/abc.default"
    profile.mkdir(parents=True)
    (profile.parent / "profiles.ini").write_text("[Profile0]\nName=default\nIsRelative=1\nPath=abc.default\n")
    certutil(profile, "-N", "--empty-password")
    theirs = Authority.create(tmp_path / "theirs")
    certutil(profile, "-A", "-n", "theirs", "-t", "C,,", "-i", str(theirs.pem_path))
    return home


@pytest.fixture
def profile(home: Path) -> Path:
    return home / ".mozilla/firefox/abc.default"


@pytest.fixture
def user(home: Path) -> User:
    return User(os.geteuid(), os.getegid(), home)


@pytest.fixture
def chromium(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nss, "CHROMIUM_PROGRAMS", ("sh",))


@pytest.fixture
def stores(user: User, record: Record, chromium: None) -> list[Nss]:
    return nss.detect(user, record)


def test_there_and_back(stores: list[Nss], authority: Authority, home: Path, record: Record):
    """Firefox's database is put back, Chromium's, which we had to make, is gone with its folders."""
    before = tree(home)
    assert [store.name.removeprefix(f"nss:{home}/") for store in stores] == [
        ".pki/nssdb",
        ".mozilla/firefox/abc.default",
    ]
    for store in stores:
        assert not store.check(authority.root)
        assert store.install(authority.root)
        assert store.check(authority.root)
    between = tree(home)
    assert [store.install(authority.root) for store in stores] == [None, None]
    assert [store.verify(authority.root, None) for store in stores] == [f"present; {verify.NEEDS_KEY}"] * 2
    assert tree(home) == between
    assert record.folder.stat().st_mode & 0o777 == 0o700
    for store in stores:
        assert "byte for byte" in str(store.uninstall(authority.root))
    assert tree(home) == before
    assert [store.uninstall(authority.root) for store in stores] == [None, None]
    assert tree(home) == before


def test_nss_accepts_us_only_between(stores: list[Nss], authority: Authority, profile: Path):
    files = {name: (profile / name).read_bytes() for name in FILES}
    with verify.serving(authority) as server:
        with pytest.raises(StoreError, match="does not accept us"):
            verify.nss(server, files)
        for store in stores:
            store.install(authority.root)
            assert store.verify(authority.root, server) == "NSS accepts it"
            store.uninstall(authority.root)
            with pytest.raises(StoreError, match="not installed"):
                store.verify(authority.root, server)


def test_what_came_since_stays(stores: list[Nss], authority: Authority, profile: Path, tmp_path: Path):
    store, later = stores[-1], Authority.create(tmp_path / "later")
    store.install(authority.root)
    certutil(profile, "-A", "-n", "later", "-t", "C,,", "-i", str(later.pem_path))
    assert "changed since" in str(store.uninstall(authority.root))
    listed = certutil(profile, "-L")
    assert ("theirs" in listed, "later" in listed, authority.root.name in listed) == (True, True, False)


def test_another_of_the_same_subject_is_not_deleted(
    stores: list[Nss], authority: Authority, profile: Path, tmp_path: Path
):
    """NSS gives all certificates of one subject one nickname, and certutil would delete either."""
    stores[-1].install(authority.root)
    (tmp_path / "other.pem").write_bytes(namesake(authority.root).pem)
    certutil(profile, "-A", "-n", authority.root.name, "-t", "C,,", "-i", str(tmp_path / "other.pem"))
    with pytest.raises(StoreError, match="same subject"):
        stores[-1].uninstall(authority.root)


def test_a_new_database_that_is_in_use_stays(stores: list[Nss], authority: Authority, home: Path, tmp_path: Path):
    store, later = stores[0], Authority.create(tmp_path / "later")
    store.install(authority.root)
    certutil(home / ".pki/nssdb", "-A", "-n", "later", "-t", "C,,", "-i", str(later.pem_path))
    assert "changed since" in str(store.uninstall(authority.root))
    assert "later" in certutil(home / ".pki/nssdb", "-L")


def test_a_file_that_a_browser_has_open_is_not_replaced(stores: list[Nss], authority: Authority, profile: Path):
    """The browser would go on writing to the file that is no longer there."""
    stores[-1].install(authority.root)
    with (profile / "cert9.db").open("rb") as file:
        assert "running browser" in str(stores[-1].uninstall(authority.root))
        assert os.path.samestat(os.fstat(file.fileno()), (profile / "cert9.db").stat())
    assert authority.root.name not in certutil(profile, "-L")


def test_without_a_record_only_our_certificate_goes(
    stores: list[Nss], authority: Authority, user: User, tmp_path: Path
):
    stores[-1].install(authority.root)
    found = nss.detect(user, Record(tmp_path / "another"))
    assert "nothing is on record" in str(found[-1].uninstall(authority.root))
    assert not stores[-1].check(authority.root)


def test_a_password_is_not_asked_for(home: Path, profile: Path, user: User, record: Record, authority: Authority):
    """certutil then leaves the certificate in without trust; we take it out again."""
    (home / "password").write_text("primary-pw")
    shutil.rmtree(profile)
    profile.mkdir()
    certutil(profile, "-N", "-f", str(home / "password"))
    before = tree(home)
    with pytest.raises(StoreError, match="has a password"):
        nss.detect(user, record)[-1].install(authority.root)
    assert tree(home) == before
    assert not record.folder.exists()


def test_a_damaged_database_is_told_with_the_command(profile: Path, stores: list[Nss], authority: Authority):
    (profile / "cert9.db").write_bytes(b"garbage" * 1000)
    before = tree(profile)
    with pytest.raises(StoreError, match=r"certutil.* failed with"):
        stores[-1].install(authority.root)
    assert tree(profile) == before


@pytest.mark.parametrize("which", [pytest.param(0, id="made"), pytest.param(-1, id="existing")])
@pytest.mark.parametrize("interrupted", ["install", "uninstall"])
def test_killed_in_between(interrupted, which, home, authority, record, user, chromium, monkeypatch, tmp_path):
    """Wherever kill -9 comes, an uninstall ends where we began."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SUDO_USER", "root")
    before = tree(home)
    always = ("--yes", "--stores", "nss", "--record", record.folder)
    for step in itertools.count(1, 3):  # every third: each takes certutil a while
        found = nss.detect(user, record)
        if interrupted == "uninstall":
            found[which].install(authority.root)
        killed = killed_at(step, interrupted, authority.pem_path, *always)
        for store in {store.name: store for store in [*found, *nss.detect(user, record)]}.values():
            store.uninstall(authority.root)
        assert tree(home) == before, f"killed before change {step}"
        if not killed:
            assert step > 5
            return


INI = (
    "[Install4F96]\nDefault=a\n\n[Profile1]\nIsRelative=0\nPath={absolute}\n\n[Profile0]\nIsRelative=1\nPath=in/side\n"
)


@pytest.mark.parametrize(
    ("folder", "ini", "found"),
    [
        pytest.param(".mozilla/firefox", INI, ["in/side", "out"], id="relative and absolute"),
        pytest.param("snap/firefox/common/.mozilla/firefox", INI, ["in/side", "out"], id="snap"),
        pytest.param(".var/app/org.mozilla.firefox/.mozilla/firefox", INI, ["in/side", "out"], id="flatpak"),
        pytest.param(".mozilla/firefox", "[Profile0]\nPath=never-started\n", [], id="no database yet"),
        pytest.param(".mozilla/firefox", "no section\n", [], id="not an ini file"),
        pytest.param(".mozilla/firefox", "[General]\nVersion=2\n", [], id="no profiles"),
    ],
)
def test_firefox_profiles(tmp_path: Path, record: Record, monkeypatch, folder, ini, found):
    monkeypatch.setattr(nss, "CHROMIUM_PROGRAMS", ())
    places = {"in/side": tmp_path / folder / "in/side", "out": tmp_path / "out"}
    for place in places.values():
        place.mkdir(parents=True)
        (place / "cert9.db").touch()
    (tmp_path / folder / "profiles.ini").write_text(ini.format(absolute=places["out"]))
    stores = nss.detect(User(os.geteuid(), os.getegid(), tmp_path), record)
    assert {store.name for store in stores} == {f"nss:{places[name]}" for name in found}


@pytest.fixture
def nobodys_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


@needs_root
def test_under_sudo_all_belongs_to_the_user(nobodys_home: Path, record: Record, authority: Authority, chromium: None):
    user = User(NOBODY, NOBODY, nobodys_home)
    (store,) = nss.detect(user, record)
    store.install(authority.root)
    assert {path.stat().st_uid for path in nobodys_home.rglob("*")} == {NOBODY}
    with verify.serving(authority) as server:
        assert store.verify(authority.root, server) == "NSS accepts it"
    store.uninstall(authority.root)
    assert list(nobodys_home.iterdir()) == []
    assert os.geteuid() == 0


@needs_root
def test_a_users_link_does_not_lead_root_astray(
    nobodys_home: Path, record: Record, authority, tmp_path, chromium: None
):
    """Whoever may write to a home could point it at a folder of root's."""
    (tmp_path / "roots").mkdir(mode=0o700)
    (nobodys_home / ".pki").symlink_to(tmp_path / "roots")
    store = Nss(nobodys_home / ".pki/nssdb", "Chromium", User(NOBODY, NOBODY, nobodys_home), record)
    with pytest.raises(PermissionError):
        store.install(authority.root)
    assert list((tmp_path / "roots").iterdir()) == []
