"""Files with secrets in them, read once by whoever may: the launcher, as the worker's user should not be able to.

They go to the worker by its standard input, never by an argument, an environment variable, a log or an event.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.schema import Capture

#: Bytes of such a file; a hundred thousand users would need some more.
MAX_SECRET = 1 << 20


def secret_files(capture: "Capture") -> list[tuple[Path, bool]]:
    """The files that the launcher must read for the worker, and whether nobody else may read them."""
    found = [(capture.proxy_users, False), (capture.upstream_proxy_password_file, True)]
    return [(path, private) for path, private in found if path is not None]


def read_secret(path: Path, *, private: bool = True) -> str:
    """Return the text of a file that, if `private`, nobody but its owner may read.

    Raises OSError, and ValueError for a file that is not fit.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ValueError(f"{path}: not a regular file")
        if os.geteuid() == 0 and info.st_uid not in (0, int(os.environ.get("SUDO_UID", "0"))):
            raise ValueError(f"{path} belongs to user {info.st_uid}, and root trusts no such file: chown root {path}")
        if private and info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValueError(f"{path}: other users may read or write it; chmod 600 {path}")
        if not private and info.st_mode & stat.S_IWOTH:
            raise ValueError(f"{path}: every user may write it; chmod o-w {path}")
        data = file.read(MAX_SECRET + 1)
    if len(data) > MAX_SECRET:
        raise ValueError(f"{path}: larger than {MAX_SECRET} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8") from None


def read_secrets(paths: Iterable[tuple[Path, bool]]) -> dict[str, str]:
    """Read each (path, private), for the worker's configuration.  Raises OSError and ValueError."""
    return {str(path): read_secret(path, private=private) for path, private in paths}


def secret(path: Path, given: Mapping[str, str], *, private: bool = True) -> str:
    """The worker's view: what it may read itself, as it is now; else what it was given at its start.

    Raises OSError where neither is there, ValueError for a file that is not fit.
    """
    try:
        return read_secret(path, private=private)
    except OSError:
        if str(path) in given:
            return given[str(path)]
        raise
