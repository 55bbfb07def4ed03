"""Trust for one command: files, variables, and databases that are read with the user's rights alone."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from certs.authority import Authority
from certs.user import User
from proxy.trust import BUNDLE_VARIABLES, EXTRA_VARIABLES, Trust

needs_certutil = pytest.mark.skipif(
    not shutil.which("certutil"), reason="certutil is not installed: apt install libnss3-tools"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user takes root")
NOBODY = 61995


@pytest.fixture
def make(tmp_path):
    """Trust for a user with a home of the test's own, in folders that they can pass."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    pem = Authority.create(tmp_path / "ca").pem_path

    def make(uid: int = os.geteuid()) -> Trust:
        home, folder = tmp_path / "home", tmp_path / "folder"
        for each in (home, folder):
            each.mkdir(mode=0o700)
        gid = os.getegid() if uid == os.geteuid() else uid
        os.chown(home, uid, gid)
        trust = Trust(folder, User(uid, gid, home))
        trust.write(pem)
        return trust

    return make


def certificates(folder: Path) -> str:
    return subprocess.run(["certutil", "-L", "-d", f"sql:{folder}"], capture_output=True, text=True, check=True).stdout


def test_the_bundle_is_the_systems_and_our_root(make):
    trust = make()
    root = trust.root.read_bytes()
    assert trust.bundle.read_bytes().endswith(root)
    assert len(trust.bundle.read_bytes()) > len(root)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (trust.own, trust.root, trust.bundle)] == [
        0o700,
        0o644,
        0o644,
    ]


def test_variables_name_our_files_and_no_folder_is_read_instead(make):
    trust = make()
    variables = trust.variables({"SSL_CERT_DIR": "/etc/ssl/certs", "SSL_CERT_FILE": "/other", "PATH": "/bin"})
    assert variables == {
        "PATH": "/bin",
        **dict.fromkeys(BUNDLE_VARIABLES, str(trust.bundle)),
        **dict.fromkeys(EXTRA_VARIABLES, str(trust.root)),
    }


@needs_certutil
def test_a_home_without_a_database_gets_a_place_for_one_meanwhile(make):
    trust = make()
    with trust.databases(pytest.fail) as databases:
        ((place, copy),) = databases.items()
        assert place == trust.user.home / ".pki/nssdb"
        assert "lockgate" in certificates(copy)
        assert list(place.iterdir()) == []
        assert "lockgate" in certificates(trust.own / "profile")
    assert list(trust.user.home.iterdir()) == []


@needs_certutil
@needs_root
def test_a_database_is_copied_as_its_user(make):
    trust = make(NOBODY)
    place = trust.user.home / ".pki/nssdb"
    with trust.user.acting():
        place.mkdir(parents=True)
    subprocess.run(["certutil", "-N", "--empty-password", "-d", f"sql:{place}"], check=True, user=NOBODY, group=NOBODY)
    before = (place / "cert9.db").read_bytes()
    with trust.databases(pytest.fail) as databases:
        assert {path.stat().st_uid for path in (databases[place], *databases[place].iterdir())} == {NOBODY}
        assert "lockgate" in certificates(databases[place])
    assert (place / "cert9.db").read_bytes() == before


@needs_certutil
@needs_root
def test_links_of_the_user_do_not_lead_root_astray(make, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("root's alone")
    secret.chmod(0o600)
    trust, told = make(NOBODY), []
    place = trust.user.home / ".pki/nssdb"
    with trust.user.acting():
        place.mkdir(parents=True)
        (place / "pkcs11.txt").symlink_to(secret)
    with trust.databases(told.append) as databases:
        assert databases == {}
    assert "browsers will not trust the proxy" in told[0]
    assert not [
        path for path in trust.own.rglob("*") if path.is_file() and "root's" in path.read_text(errors="replace")
    ]


@needs_root
def test_a_folder_that_is_not_the_users_is_not_mounted_on(make, tmp_path):
    trust = make(NOBODY)
    with pytest.raises(OSError, match=r"not the user's own"):
        trust._folder(tmp_path)
    with trust.user.acting():
        (trust.user.home / "link").symlink_to("/etc")
    with pytest.raises(NotADirectoryError):
        trust._folder(trust.user.home / "link")
