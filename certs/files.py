"""Files that are read or replaced whole, so that after a crash there is the old one or the new one."""

import os
from pathlib import Path


def look(path: Path) -> bytes | None:
    """Return what a file holds, or None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def replace(path: Path, data: bytes, mode: int) -> None:
    """Write a file beside `path`, then put it in its place."""
    sweep(path)
    with open(os.open(_part(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:  # noqa: PTH123
        os.fchmod(file.fileno(), mode)  # the umask had a say in the first one
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _part(path).replace(path)


def sweep(path: Path) -> None:
    """Remove what a `replace` left that was killed."""
    _part(path).unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.lockgate")
