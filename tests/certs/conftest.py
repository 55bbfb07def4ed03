"""Roots to test with, and a system store that is this test's own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from certs.authority import Authority
from certs.debian import HASHED, LOCAL
from certs.record import Record

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


#: Runs the command line of certs.install, and kills itself before the n-th change to the file system or child.
KILLED = """
import os, signal, sys
from certs.install import main
left = int(sys.argv[1])
def hook(event, args):
    global left
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or event in ("os.rename", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "subprocess.Popen"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
sys.exit(main(sys.argv[2:]))
"""


def killed_at(step: int, *arguments: str | Path) -> bool:
    """Run `certs.install` until just before its n-th change; False if it came to a good end before."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(step), *map(str, arguments)], stdout=subprocess.PIPE)
    assert done.returncode in (0, -signal.SIGKILL), done
    return done.returncode != 0


def system_tree() -> dict[str, str]:
    return tree(HASHED, LOCAL)
