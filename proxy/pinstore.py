"""Where pins are kept: one small file in a folder of its own within the state folder.

The worker and `lockgate pins` both change it, the latter as root in a folder that belongs to the worker's user.  So a
change is made under a lock, by replacing the file, and by descriptors: a link laid there leads root nowhere.
"""

import contextlib
import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from proxy.patterns import NAME

log = logging.getLogger(__name__)

FOLDER, FILE, PART, DAMAGED = "pins", "pins.json", ".pins.json.part", "pins.json.damaged"
#: Pins in force at once.  A computer has a handful; beyond this something learns what it should not.
MAX_PINS = 256
#: Bytes of the file: MAX_PINS with paths as long as Linux allows.
MAX_FILE = 2 * 1024 * 1024
#: Seconds that a pin may last.
MAX_LIFE = 90 * 86400
APP = re.compile(r"/[^\0]{1,4095}")

type Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Pin:
    """`app` is an executable's path, `host` a name as in a ClientHello; times are seconds of the epoch.

    `cause` says why, for people; `learned` that no person decided on it.  ValueError for what cannot be one.
    """

    app: str
    host: str
    cause: str
    learned: bool
    since: float
    until: float

    def __post_init__(self) -> None:
        if not (isinstance(self.app, str) and APP.fullmatch(self.app)):
            raise ValueError(f"{self.app!r} is not the absolute path of an executable")
        if not (isinstance(self.host, str) and NAME.fullmatch(self.host)):
            raise ValueError(f"{self.host!r} is not a host name")
        if not (isinstance(self.cause, str) and isinstance(self.learned, bool)):
            raise ValueError("its cause is not text")
        if not 0 <= self.until - self.since <= MAX_LIFE:
            raise ValueError(f"it lasts longer than {MAX_LIFE // 86400} days")

    @property
    def key(self) -> Key:
        return self.app, self.host


class Full(ValueError):
    """There are as many pins as there may be."""


class Busy(OSError):
    """Somebody else is changing the file."""


class Store:
    """`clock` is `time.time`, or a test's."""

    def __init__(self, state: Path, clock: Callable[[], float] = time.time) -> None:
        self.state = state
        self._clock = clock

    def stamp(self) -> tuple[int, ...]:
        """Differs after each change."""
        try:
            info = (self.state / FOLDER / FILE).lstat()
        except OSError:
            return ()
        return info.st_ino, info.st_mtime_ns, info.st_size

    def read(self) -> dict[Key, Pin]:
        """The pins in force.  A damaged file is set aside and said: no pin is then in force.  Raises OSError."""
        with contextlib.suppress(FileNotFoundError), _opened(self.state / FOLDER) as folder:
            return self._read(folder)
        return {}

    def put(self, pin: Pin, limit: float) -> None:
        """Add a pin, or replace the same one.  Raises Full, Busy after `limit` seconds, OSError."""
        with self._changing(limit) as pins:
            if pin.key not in pins and len(pins) >= MAX_PINS:
                raise Full(f"there are {MAX_PINS} pins already; `lockgate pins revoke` makes room")
            pins[pin.key] = pin

    def drop(self, keys: Callable[[Key], bool], limit: float) -> list[Pin]:
        """Take those pins away; return them.  Raises as `put` does."""
        with self._changing(limit) as pins:
            return [pins.pop(key) for key in list(pins) if keys(key)]

    def _read(self, folder: int) -> dict[Key, Pin]:
        now = self._clock()
        try:
            pins = _parse(_load(folder))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            os.replace(FILE, DAMAGED, src_dir_fd=folder, dst_dir_fd=folder)
            log.error("%s is damaged (%s): it is now %s beside it, and nothing that it said holds",
                      self.state / FOLDER / FILE, error, DAMAGED)
            return {}
        return {pin.key: pin for pin in pins if pin.since <= now < pin.until or now < pin.since < now + 60}

    @contextlib.contextmanager
    def _changing(self, limit: float) -> Iterator[dict[Key, Pin]]:
        with self._locked(limit) as folder:
            pins = self._read(folder)
            yield pins
            _save(folder, json.dumps([asdict(pin) for pin in pins.values()], indent=1).encode())

    @contextlib.contextmanager
    def _locked(self, limit: float) -> Iterator[int]:
        self.state.mkdir(0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (self.state / FOLDER).mkdir(0o700)
        with _opened(self.state / FOLDER) as folder:
            _give(folder, self.state.stat())
            until = time.monotonic() + limit
            while True:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise Busy(f"{self.state / FOLDER} is locked by another process") from None
                    time.sleep(0.05)
            yield folder


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)        # the lock goes with it


def _load(folder: int) -> bytes:
    with open(os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder), "rb") as file:  # noqa: PTH123
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError("too long")
    return data


def _parse(data: bytes) -> list[Pin]:
    try:
        return [Pin(**entry) for entry in json.loads(data)]
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _save(folder: int, data: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):        # of one who was killed
        os.unlink(PART, dir_fd=folder)
    made = os.open(PART, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    with open(made, "wb") as file:  # noqa: PTH123
        _give(made, os.fstat(folder))
        file.write(data)
        file.flush()
        os.fsync(made)
    os.replace(PART, FILE, src_dir_fd=folder, dst_dir_fd=folder)


def _give(descriptor: int, like: os.stat_result) -> None:
    """What root makes for another user's proxy must be that user's, or the proxy could not read it."""
    if os.geteuid() == 0 and os.fstat(descriptor).st_uid != like.st_uid:
        os.fchown(descriptor, like.st_uid, like.st_gid)
