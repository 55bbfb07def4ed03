"""What the proxy setting was before us, and its exact undo: also after a crash, and with care for what others changed.

The record is written before anything is changed, with what will be there.  So each value can be told by itself: still
ours, as before, or somebody else's since.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from certs.files import look, replace, sweep
from proxy import pac
from proxy.destination import Address
from proxy.settings import Place, Values


def default_folder(prefix: Path | None = None) -> Path:
    """With the computer's state for root, with the user's for anybody else; see certs/record.py."""
    if os.geteuid() == 0:
        return (prefix or Path("/")) / "var/lib/lockgate/system-proxy"
    if prefix is not None:
        return prefix / "system-proxy"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "lockgate/system-proxy"


@dataclass(frozen=True, slots=True)
class Change:
    """A value that is not as we set it: `now` is what it is."""

    place: str
    key: str
    now: str | None

    def __str__(self) -> str:
        return f"{self.key} was {'removed or reset' if self.now is None else 'changed'}"


class SettingRecord:
    """One file.  All that reads it raises ValueError where that is damaged; what touches places, OSError."""

    def __init__(self, folder: Path, places: Mapping[str, Place]) -> None:
        self.path, self._places = folder / "record.json", places

    def noted(self) -> dict[str, Any]:
        """What is on record: `proxy`, `at`, and for each place `before`, `after` and `made`; empty if nothing is."""
        if (data := look(self.path)) is None:
            return {}
        try:
            found = json.loads(data)
            if not isinstance(found["places"], dict):
                raise TypeError("its places are none")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path} is damaged ({error}): undo by hand what it names, then remove it") from None
        return found  # type: ignore[no-any-return]

    def set(self, proxy: Address, names: Iterable[str]) -> list[str]:
        """Point these places to the proxy; return what was changed.  What is there on record is taken over."""
        noted = self.noted()
        places: dict[str, Any] = noted.get("places", {})
        work: list[tuple[Place, Values]] = []
        for name in names:
            place, old = self._places[name], places.get(name, {"before": {}, "after": {}, "made": []})
            after = place.wanted(proxy)
            now = place.read(after)
            ours = {key for key in after if key in old["after"] and now[key] in (old["after"][key], old["before"][key])}
            before = {key: old["before"][key] if key in ours else now[key] for key in after}
            made = [*dict.fromkeys([*old["made"], *place.made(after)])]
            places[name] = {"before": before, "after": after, "made": made}
            work.append((place, {key: value for key, value in after.items() if now[key] != value}))
        self._write({"proxy": pac.authority(*proxy), "at": datetime.now(UTC).isoformat(timespec="seconds"),
                     "places": places})
        for place, values in work:
            place.write(values)
        return [key for _, values in work for key in values]

    def changes(self) -> list[Change]:
        """Values that somebody else has changed since."""
        found = []
        for name, note in self.noted().get("places", {}).items():
            if (place := self._places.get(name)) is not None:
                now = place.read(note["after"])
                found += [Change(name, key, now[key]) for key, value in note["after"].items() if now[key] != value]
        return found

    def repair(self, changes: Iterable[Change]) -> None:
        """Set these values again; what others put there is not kept."""
        places = self.noted().get("places", {})     # none, where somebody has undone it meanwhile
        for each in changes:
            if (note := places.get(each.place)) is not None:
                self._places[each.place].write({each.key: note["after"][each.key]})

    def unset(self) -> tuple[list[str], list[Change]]:
        """Put back what was there before; return what was put back, and what others have changed, which stays.

        A place that cannot be reached, as a desktop that nobody is logged in to, stays on record.
        """
        restored: list[str] = []
        left: list[Change] = []
        noted, unreachable = self.noted(), {}
        for name, note in noted.get("places", {}).items():
            if (place := self._places.get(name)) is None:
                unreachable[name] = note
                continue
            before, after = note["before"], note["after"]
            now = place.read(after)
            values = {key: before[key] for key in after if now[key] == after[key] != before[key]}
            place.write(values)
            restored += values
            left += [Change(name, key, now[key]) for key in after if now[key] not in (after[key], before[key])]
            _remove(note["made"])
        if unreachable:
            self._write(noted | {"places": unreachable})
        elif noted:
            self._forget()
        return restored, left

    def _write(self, note: dict[str, Any]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(self.path, json.dumps(note, indent=1).encode(), 0o600)

    def _forget(self) -> None:
        self.path.unlink(missing_ok=True)
        sweep(self.path)
        _remove([str(self.path.parent), str(self.path.parent.parent)])


def _remove(folders: list[str]) -> None:
    """Those that are empty; innermost first."""
    for folder in sorted(folders, key=len, reverse=True):
        try:
            Path(folder).rmdir()
        except OSError:
            continue
