"""The commands about a lockgate that runs, or did: stop it, show it, lift its rules, list what it decided."""

import argparse
import json
import os
import signal
import time
from collections.abc import Iterable
from typing import Any

from proxy import running
from proxy.options import UsageError, refused, refused_reading, state, tell
from redirector import release as redirector

#: Seconds that `stop` waits for the launcher.
STOP_LIMIT = 15.0

def stop(arguments: argparse.Namespace) -> int:
    """End a running lockgate in order: rules, guard and proxy go.  Exit code 1: it was not running.

    example:
      sudo lockgate stop
    """
    note = running.read(state(arguments), arguments.run_dir)
    if note is None:
        print(f"it is not running with the state folder {state(arguments)}")
        return 1
    for number in (signal.SIGTERM, signal.SIGCONT):     # a stopped one hears the first after the second
        os.kill(note["pid"], number)
    until = time.monotonic() + STOP_LIMIT
    while (alive := redirector.started(note["pid"]) == note["started"]) and time.monotonic() < until:
        time.sleep(0.05)
    if alive:
        tell(f"process {note['pid']} has not ended within {STOP_LIMIT:.0f} s; `lockgate release` lifts the rules")
        return 1
    print("stopped")
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Is it on, what does it capture, and what holds in the kernel?  Exit code 1: it is not running.

    example:
      sudo lockgate status
      lockgate status --json
    """
    with refused():
        note = running.read(state(arguments), arguments.run_dir)
        held = redirector.status(arguments.run_dir)
    if arguments.json:
        shown = ("role", "instance", "pid", "table", "fail")
        print(json.dumps({"running": note, "kernel": [{name: getattr(each, name) for name in shown} for each in held]}))
        return 0 if note else 1
    if note:
        where = ", ".join(f"{host}:{port}" for host, port in note["listen"])
        print(f"running: pid {note['pid']}, {note['capture']}, proxy at {where}")
    else:
        print(f"not running with the state folder {state(arguments)}")
    for record in held:
        print(f"in the kernel: {record}, fail {record.fail}")
    if not note and any(record.role == "guard" for record in held):
        print("a guard holds the captured ports closed; `lockgate release` lifts it")
    return 0 if note else 1


def release(arguments: argparse.Namespace) -> int:
    """Lift every rule and guard at once, whatever has happened.

    Without the environment: sudo python3 redirector/release.py

    example:
      sudo lockgate release
    """
    return redirector.main([arguments.run_dir])


def events(arguments: argparse.Namespace) -> int:
    """What was decided, and why.

    example:
      lockgate events --verdict block --since 1h
      lockgate events --tree /opt/agent --user ann
      lockgate events --follow --json
    """
    from proxy import sinks
    from proxy.events import line

    if arguments.follow and arguments.limit:
        raise UsageError("--limit takes the newest of what there is; --follow goes on with what comes: not both")
    wanted = {"since": arguments.since, "host": arguments.host, "app": arguments.app, "tree": arguments.tree,
              "user": arguments.user, "service": arguments.service, "container": arguments.container,
              "verdict": arguments.verdict, "filter": arguments.filter, "incident": arguments.incident}
    with refused_reading():
        found: Iterable[dict[str, Any]] = sinks.read(state(arguments), limit=arguments.limit, **wanted)
        if arguments.follow:
            found = sinks.follow(state(arguments), **wanted)
        for event in found:
            print(json.dumps(event) if arguments.json else line(event), flush=arguments.follow)
    return 0
