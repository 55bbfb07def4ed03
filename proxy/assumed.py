"""The process that a dry run assumes, from what an operator says of it."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from addons.connection import Parent, Process


def process(app: str | None, user: str | None, parents: Sequence[str], service: str | None,
            container: str | None) -> Process | None:
    """Return a process like that, None where nothing is said; `parents` are executables, the nearest first."""
    if not (app or user or parents or service or container):
        return None
    name, uid = _user(user or "")
    return Process(0, app or "", user=name, uid=uid, parents=tuple(Parent(0, exe) for exe in parents),
                   service=service or "", container=container or "")


def given(request: Mapping[str, Any]) -> tuple[str | None, str | None, tuple[str, ...], str | None, str | None]:
    """Return what `process` takes, from a line of many requests.  Raises TypeError."""
    parents = request.get("parents", [])
    if not isinstance(parents, list):
        raise TypeError("parents is not a list")
    app, user, service, container = (
        None if request.get(name) is None else str(request[name]) for name in ("app", "user", "service", "container"))
    return app, user, tuple(map(str, parents)), service, container


def _user(text: str) -> tuple[str, int | None]:
    """Return name and uid as a real connection has them, as far as this computer knows both."""
    with contextlib.suppress(ImportError, KeyError, OverflowError):
        import pwd

        found = pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)
        return found.pw_name, found.pw_uid
    return text, int(text) if text.isdecimal() else None
