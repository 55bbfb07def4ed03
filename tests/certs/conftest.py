"""Roots to test with, and a system store that is this test's own."""

import contextlib
import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from certs.authority import Authority
from certs.debian import HASHED, LOCAL
from certs.install import main
from certs.record import Record
from certs.root import Root

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a private mount namespace or another user takes root")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "record")


@pytest.fixture
def system_store(tmp_path: Path) -> Iterator[None]:
    """Show this process, and those it starts, copies in place of the machine's store, until the test is over."""
    outside, cwd = os.open("/proc/self/ns/mnt", os.O_RDONLY), Path.cwd()
    os.unshare(os.CLONE_NEWNS)
    try:
        _mount("--make-rprivate", "/")
        for number, folder in enumerate((HASHED, LOCAL)):
            copy = tmp_path / f"store{number}"
            shutil.copytree(folder, copy, symlinks=True)
            _mount("--bind", copy, folder)
        yield
    finally:
        os.setns(outside, os.CLONE_NEWNS)
        os.chdir(cwd)
        os.close(outside)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def tree(*folders: Path) -> dict[str, str]:
    """Return what each path below is: a link's target, a file's hash and mode, a folder's mode."""
    found = {}
    for path in (path for folder in folders for path in (folder, *folder.rglob("*"))):
        if path.is_symlink():
            found[str(path)] = f"-> {path.readlink()}"
        elif path.is_file():
            found[str(path)] = f"{sha256(path.read_bytes()).hexdigest()} {path.stat().st_mode:o}"
        elif path.is_dir():
            found[str(path)] = f"{path.stat().st_mode:o}"
    return found


def namesake(root: Root) -> Root:
    """Return another root with the same subject."""
    key, old = ec.generate_private_key(ec.SECP256R1()), root.certificate
    start, end = old.not_valid_before_utc, old.not_valid_after_utc
    builder = x509.CertificateBuilder(old.subject, old.subject, key.public_key(), 1, start, end)
    return Root(builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True).sign(key, SHA256()))


CHANGES = ("os.rename", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "subprocess.Popen")


def killed_at(step: int, *arguments: str | Path) -> bool:
    """Run `certs.install` until just before its n-th change; False if it came to a good end before."""
    pid = os.fork()
    if pid == 0:
        _kill_before(step)
        with contextlib.redirect_stdout(io.StringIO()):
            os._exit(main([str(argument) for argument in arguments]))
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


def _kill_before(step: int) -> None:
    """Have this process killed before its n-th change to the file system or start of a program."""
    countdown = itertools.count(1)

    def hook(event: str, args: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and next(countdown) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def system_tree() -> dict[str, str]:
    return tree(HASHED, LOCAL)
