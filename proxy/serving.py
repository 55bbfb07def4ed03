"""What the service manager runs: `python -I -m proxy.serving plan | run | record | stopped` (`units.py` has the units).

    plan      as root, before each start: the policy's `capture` becomes the Start that every redirector reads
    run       as the proxy's user, without rights: the launcher; its redirectors are started by the manager
    record    as root: the history of connections
    stopped   as root, after the end: an orderly one lifts the guard too, any other leaves it to refuse
"""

import argparse
import json
import os
import pwd
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxy import recorder
from proxy.commands import named_files, plan_of, policy_of
from proxy.launcher import Launch, Launcher
from proxy.notify import Notify
from proxy.options import UsageError
from proxy.units import STATE
from redirector import release, wire
from redirector.activated import read_start
from redirector.plan import Scope

#: Names of the service's own, in the run folder.
START, SOCKET, INSTANCE = "start.json", "redirector.sock", "service"
#: Above the ports that the kernel gives to clients (`ip_local_port_range` ends at 60999): nobody's connection has it.
PORTS = range(61000, 65536)


class Arguments(argparse.Namespace):
    """What the units say."""

    policy: Path | None
    state: Path
    run_dir: str
    user: str


def plan(arguments: Arguments) -> int:
    """Write the Start.  Raises UsageError, PolicyError, OSError."""
    who = pwd.getpwnam(arguments.user)
    port, folder = _free_port(), Path(arguments.run_dir)
    start = wire.Start(INSTANCE, str(folder), plan_of(policy_of(arguments.policy), Scope(), port, who.pw_uid))
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    release.check_folder(str(folder))
    draft = folder / f".{START}"
    draft.write_bytes(wire.encode(start))
    draft.chmod(0o644)
    draft.replace(folder / START)
    return 0


def _free_port() -> int:
    """A port that nobody listens on; which one, no other user can know before."""
    for port in (PORTS[int.from_bytes(os.urandom(4)) % len(PORTS)] for _ in range(100)):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise UsageError("no free port on 127.0.0.1 for the proxy")


def run(arguments: Arguments) -> int:
    """Serve until told to stop.  Raises PolicyError, OSError, ValueError."""
    notify = Notify.take()
    folder = Path(arguments.run_dir)
    start = read_start(str(folder / START))
    assert start.plan is not None
    captured, policy = start.plan, policy_of(arguments.policy)
    listen = [("127.0.0.1", captured.listen_port), ("::1", captured.listen_port)]
    launcher = Launcher(Launch(
        arguments.state, arguments.policy, listen, lambda *_: captured, instance=INSTANCE, run_dir=str(folder),
        redirector=folder / SOCKET, readable=named_files(policy, arguments.policy)))
    serving = Serving(launcher, notify)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, serving.stop)
    signal.signal(signal.SIGHUP, serving.reload)
    try:
        serving.tell(launcher.start().ready)
        launcher.supervise(serving.tell, serving.stopped)
    finally:
        notify.stopping()
        launcher.stop(release_guard=False)
    return 0


class Serving:
    """A launcher's words for the service manager and its journal."""

    def __init__(self, launcher: Launcher, notify: Notify) -> None:
        self._launcher, self._notify = launcher, notify
        self._stopped = False

    def stop(self, *_: object) -> None:
        self._stopped = True

    def reload(self, *_: object) -> None:
        self._notify.reloading()
        self._launcher.reload()

    def stopped(self) -> bool:
        """Asked several times a minute, as long as the launcher gets on."""
        self._notify.alive()
        return self._stopped

    def tell(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind in ("ready", "restarted", "reloaded", "reload-failed"):
            self._notify.ready("the new policy has mistakes, the old one is in force" if kind == "reload-failed"
                               else "inspecting")
        elif kind in ("restarting", "restart-failed"):
            self._notify.status(f"{kind}: {message.get('reason', '')}")
        print(json.dumps(message), flush=True)


def record(arguments: Arguments) -> int:
    """Write the history of connections, if the policy wants one, until the manager ends it."""
    settings = policy_of(arguments.policy).events.history
    if not settings.max_days:
        return 0
    silent, _ = os.pipe()       # nobody ends it but by a signal
    return recorder.run(recorder.Order.of(arguments.state, settings), silent)


def stopped(arguments: Arguments) -> int:
    """After the end: `$SERVICE_RESULT` says how it came (systemd.exec(5))."""
    if os.environ.get("SERVICE_RESULT") == "success":
        release.release(arguments.run_dir, INSTANCE)
    return 0


def main(argv: Sequence[str]) -> int:
    """Returns the exit code; says on standard error why it is not 0."""
    parser = argparse.ArgumentParser(prog="python -m proxy.serving", allow_abbrev=False)
    parser.add_argument("action", choices=("plan", "run", "record", "stopped"))
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument("--run-dir", default=release.RUN_DIR)
    parser.add_argument("--user", default="lockgate")
    arguments = parser.parse_args(argv, Arguments())
    try:
        actions = {"plan": plan, "run": run, "record": record, "stopped": stopped}
        return actions[arguments.action](arguments)
    except (UsageError, OSError, ValueError, KeyError) as error:
        print(*getattr(error, "errors", [f"lockgate: {error}"]), sep="\n", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
