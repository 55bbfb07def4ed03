"""`lockgate pins`: which programs pass unread with which hosts, and until when."""

import argparse
import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from proxy.options import UsageError, state
from proxy.patterns import host_pattern
from proxy.pins import LIFE
from proxy.pinstore import MAX_LIFE, Full, Pin, Store

#: Seconds that a change waits for another's to end.
PATIENCE = 5.0
UNITS = {"m": 60, "h": 3600, "d": 86400}


def pins(arguments: argparse.Namespace) -> int:
    """Show which programs pass unread with which hosts, let one pass for a while, or end that.

    A running proxy follows within a second; connections that are open go on as they began.  A rule of the policy that
    says `inspect` or `block` wins over a pin, and a host has to prove its name to us first.

    example:
      lockgate pins                                      # those in force
      sudo lockgate pins add /opt/app/app api.example --for 12h
      sudo lockgate pins revoke /opt/app/app api.example # or --all
    """
    store = Store(state(arguments))
    with _told(store.state):
        match arguments.action:
            case "add":
                return _add(store, *_pair(arguments), _lifetime(arguments.lifetime))
            case "revoke":
                return _revoke(store, arguments)
            case _:
                if arguments.app:
                    raise UsageError("`list` takes no program")
                return _list(store, as_json=arguments.json)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise UsageError(f"{folder} belongs to another user: with sudo?") from None
    except (OSError, Full) as error:
        raise UsageError(str(error)) from None


def _pair(arguments: argparse.Namespace) -> tuple[str, str]:
    """The program, its links followed as the kernel does, and the host in the form of a ClientHello."""
    if not (arguments.app and arguments.host):
        raise UsageError(f"which? lockgate pins {arguments.action} /path/of/program host.example")
    app = Path(arguments.app)
    try:
        host = host_pattern(arguments.host)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not app.is_absolute() or host.startswith("*"):
        raise UsageError("a pin is the absolute path of one program and the name of one host; "
                         "for more, write a connection rule")
    return str(app.resolve()), host


def _lifetime(text: str | None) -> float:
    """Seconds of `90m`, `12h`, `7d`."""
    if text is None:
        return LIFE
    match = re.fullmatch(r"([1-9][0-9]{0,6})([mhd])", text)
    if match is None or (seconds := int(match[1]) * UNITS[match[2]]) > MAX_LIFE:
        raise UsageError(f"--for {text}: write it as 90m, 12h or 7d; at most {MAX_LIFE // 86400}d")
    return float(seconds)


def _add(store: Store, app: str, host: str, life: float) -> int:
    if not Path(app).is_file():
        raise UsageError(f"{app} is not a program on this computer")
    now = time.time()
    store.put(Pin(app, host, "added by hand", learned=False, since=now, until=now + life), PATIENCE)
    print(f"{app} passes unread with {host} until {_time(now + life)}")
    return 0


def _revoke(store: Store, arguments: argparse.Namespace) -> int:
    if arguments.all == bool(arguments.app):
        raise UsageError("either a program and a host, or --all")
    pair = None if arguments.all else _pair(arguments)
    gone = store.drop(lambda key: pair is None or key == pair, PATIENCE)
    for pin in gone:
        print(_plain(f"{pin.app} is inspected with {pin.host} again"))
    if any(pin.learned for pin in gone):
        print("the policy lets them be learned again: a connection rule with `verdict: inspect` would not")
    if not gone:
        print("there is no such pin; `lockgate pins` lists them")
    return 0 if gone else 1


def _list(store: Store, *, as_json: bool) -> int:
    found = sorted(store.read().values(), key=lambda pin: pin.key)
    if as_json:
        for pin in found:
            print(json.dumps(asdict(pin) | {"since": _iso(pin.since), "until": _iso(pin.until)}))
    elif found:
        rows = [("PROGRAM", "HOST", "UNTIL", "WHY")]
        rows += [(pin.app, pin.host, _time(pin.until), pin.cause) for pin in found]
        widths = [max(map(len, column)) for column in zip(*rows)]
        for row in rows:
            print(_plain("  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip()))
    else:
        print("no pins: every program is inspected, but for what the policy says")
    return 0


def _plain(text: str) -> str:
    """A path may hold what a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M}"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")
