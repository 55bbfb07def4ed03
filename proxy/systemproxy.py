"""The system's proxy setting: shown, set, undone, and watched while an explicit proxy runs."""

import argparse
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from proxy import pac, running
from proxy.destination import Address, numeric, plain
from proxy.options import UsageError, state
from proxy.settingrecord import Change, SettingRecord, default_folder
from proxy.settings import ALL, USUAL, places

#: Seconds between two looks at the setting.
INTERVAL = 2.0
#: Repairs within REPAIR_WINDOW seconds.  Who sets it again as often is another program, and would win in the end: from
#: then on changes are only said.
MAX_REPAIRS, REPAIR_WINDOW = 5, 60.0

type Tell = Callable[[str], None]


def record(prefix: Path | None) -> SettingRecord:
    return SettingRecord(default_folder(prefix), places(prefix))


class Keeper:
    """Watches a setting that was made; says what others change, or sets it again."""

    def __init__(self, kept: SettingRecord, tell: Tell, *, repair: bool, interval: float = INTERVAL) -> None:
        self._kept, self._tell, self._repair, self._interval = kept, tell, repair, interval
        self._said: set[Change] = set()
        self._repairs: list[float] = []
        self._trouble = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="system-proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._interval):
            try:
                if not self._kept.noted():
                    self._tell("the system's proxy setting was undone; it is no longer watched")
                    return
                self.look()
                self._trouble = ""
            except (OSError, ValueError) as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    self._tell(f"the system's proxy setting cannot be watched: {error}")

    def look(self) -> None:
        """Compare once, and say or repair what differs.  Raises OSError and ValueError."""
        changes = set(self._kept.changes())
        new, self._said = changes - self._said, changes
        if not changes:
            return
        what = ", ".join(sorted(map(str, new)))
        if self._repair and self._may_repair():
            self._kept.repair(changes)
            self._said = set()
            self._tell(f"the system's proxy setting was changed by somebody else, and is set again: {what}")
        elif new:
            why = "; it is changed too often to be set again" if self._repair else ""
            self._tell(f"the system's proxy setting was changed by somebody else{why}: {what}")

    def _may_repair(self) -> bool:
        now = time.monotonic()
        self._repairs = [each for each in self._repairs if now - each < REPAIR_WINDOW]
        if len(self._repairs) >= MAX_REPAIRS:
            return False
        self._repairs.append(now)
        return True


@contextlib.contextmanager
def kept(proxy: Address, wish: str, prefix: Path | None, tell: Tell) -> Iterator[None]:
    """Set the system's proxy for a while, with `wish` watched ("watch") or repaired ("repair").

    Raises OSError and ValueError where it cannot be set.  After a kill -9, `lockgate system-proxy unset` undoes it.
    """
    setting = record(prefix)
    setting.set(proxy, [name for name in USUAL if name in places(prefix)])
    keeper = Keeper(setting, tell, repair=wish == "repair")
    keeper.start()
    try:
        yield
    finally:
        keeper.stop()
        _, left = setting.unset()
        for each in left:
            tell(f"the system's proxy setting was changed by somebody else since, and is left alone: {each}")


def loopback(listen: Address) -> Address:
    """The address by which this computer's programs reach a listener that is for them alone; UsageError for others."""
    host, port = listen
    if not numeric(host) or not (host == "::1" or plain(host).startswith("127.")):
        raise UsageError("--system-proxy: the setting names no password, so the proxy must listen on 127.0.0.1 or ::1")
    return host, port


# -- the command

def system_proxy(arguments: argparse.Namespace) -> int:
    """Show, set or undo the system's proxy setting: variables for logins and services, GNOME, a PAC file, apt.

    Programs that run keep what they were started with.  `unset` puts back what was there, byte for byte, also after a
    crash; what others have changed since is named and left alone: exit code 1, as for `show` where nothing is set.

    example:
      sudo lockgate system-proxy set --to 127.0.0.1:8080 --places environment,pac,apt
      lockgate system-proxy show --json
    """
    try:
        setting = record(arguments.prefix)
        if arguments.setting_action == "set":
            return _set(setting, arguments)
        if arguments.to or arguments.places:
            raise UsageError("--to and --places are for `set`; `unset` undoes all that is on record")
        return _unset(setting, arguments) if arguments.setting_action == "unset" else _show(setting, arguments)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None


def _set(setting: SettingRecord, arguments: argparse.Namespace) -> int:
    proxy = arguments.to or _running(arguments)
    here = places(arguments.prefix)
    names = arguments.places.split(",") if arguments.places else [name for name in USUAL if name in here]
    if unknown := [name for name in names if name not in here]:
        raise UsageError(f"{unknown[0]}: no such place on this system; there are: {', '.join(here)}"
                         + (f" (of {', '.join(ALL)})" if unknown[0] in ALL else ""))
    changed = setting.set(loopback(proxy), names)
    _say(arguments, {"proxy": pac.authority(*proxy), "changed": changed},
         [f"{key}: set to {pac.authority(*proxy)}" for key in changed] or ["it is all set already"])
    return 0


def _running(arguments: argparse.Namespace) -> Address:
    note = running.read(state(arguments), arguments.run_dir)
    if note is None or note.get("capture") != "explicit":
        raise UsageError("no explicit proxy runs here; name one with --to 127.0.0.1:8080")
    host, port = note["listen"][0][:2]
    return host, port


def _unset(setting: SettingRecord, arguments: argparse.Namespace) -> int:
    restored, left = setting.unset()
    away = setting.noted().get("places", {})
    lines = [f"{key}: as before" for key in restored]
    lines += [f"{each} by somebody else since: left alone" for each in left]
    lines += [f"{name}: not reachable now; log in there and undo it then" for name in away]
    _say(arguments, {"restored": restored, "left": [_plain(each) for each in left], "unreachable": [*away]},
         lines or ["nothing was set"])
    return 1 if left or away else 0


def _show(setting: SettingRecord, arguments: argparse.Namespace) -> int:
    noted, changes = setting.noted(), setting.changes()
    lines = ["the system's proxy is not set by lockgate"]
    if noted:
        lines = [f"set to {noted['proxy']} at {noted['at']}"]
        lines += [f"  {name}: {key}" for name, note in noted["places"].items() for key in note["after"]]
        lines += [f"{each} by somebody else since" for each in changes]
    found = {"proxy": noted.get("proxy"), "at": noted.get("at"), "changed": [_plain(each) for each in changes],
             "places": {name: [*note["after"]] for name, note in noted.get("places", {}).items()}}
    _say(arguments, found, lines)
    return 0 if noted and not changes else 1


def _plain(change: Change) -> dict[str, Any]:
    return {"place": change.place, "key": change.key, "now": change.now}


def _say(arguments: argparse.Namespace, found: dict[str, Any], lines: list[str]) -> None:
    print(json.dumps(found) if arguments.json else "\n".join(lines), file=sys.stdout)
