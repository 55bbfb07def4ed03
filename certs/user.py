"""Whose browsers are meant: under sudo the person who called, otherwise whoever runs us."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class User:
    """A user of this computer and the folder where their programs keep their files."""

    uid: int
    gid: int
    home: Path

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Do what follows with this user's rights: root must not follow links that a user has laid in their home."""
        if os.geteuid() == self.uid:
            yield
            return
        was, groups = (os.geteuid(), os.getegid()), os.getgroups()
        os.setgroups([self.gid])
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(was[0])
            os.setegid(was[1])
            os.setgroups(groups)


def invoking() -> User:
    """Return the user that sudo was called by, or else the one that we are, whose home HOME may name."""
    name = os.environ.get("SUDO_USER", "root")
    if os.geteuid() == 0 and name != "root":
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise ValueError(f"SUDO_USER names {name!r}, who is not a user of this computer") from None
        return User(entry.pw_uid, entry.pw_gid, Path(entry.pw_dir))
    return User(os.geteuid(), os.getegid(), Path.home())
