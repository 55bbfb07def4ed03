"""The commands that start, stop and watch."""

import argparse
import inspect
import itertools
import json
import os
import pwd
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from proxy import runner, sinks
from proxy.events import line
from proxy.launcher import Launch, Launcher, LaunchError
from proxy.options import UsageError, state
from proxy.policy import default_policy, load
from proxy.registry import BUILT_IN, build, import_built_in
from proxy.schema import Policy
from redirector import release as redirector
from redirector.plan import Plan, Scope

#: In the state folder, while a proxy runs: the launcher's pid and start time, and what it serves.
RUNNING = "running.json"
#: Seconds that `stop` waits for the launcher.
STOP_LIMIT = 15.0
LOOPBACK = [("127.0.0.1", 0), ("::1", 0)]


def _policy(path: Path | None) -> Policy:
    return load(path) if path else default_policy()


def _tell(message: str) -> None:
    print(f"lockgate: {message}", file=sys.stderr)


def run(arguments: argparse.Namespace) -> int:
    """Run one command and its children under inspection; its exit code is ours.

    example:
      lockgate run -- curl https://example.org/
      sudo lockgate run --policy policy.yaml -- chromium
    """
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise UsageError("no command: lockgate run -- CMD ...")
    launch = Launch(state(arguments), arguments.policy and arguments.policy.absolute(), LOOPBACK, user=arguments.user,
                    log_level="INFO" if arguments.verbose else "WARNING")
    try:
        return runner.run(launch, _policy(arguments.policy), command, _tell)
    except (LaunchError, OSError, ValueError) as error:
        raise UsageError(str(error)) from None


def start(arguments: argparse.Namespace) -> int:
    """Inspect the whole computer, or what clients send to an explicit proxy, until stopped.

    example:
      sudo lockgate start --policy policy.yaml
      lockgate start --capture explicit --listen 127.0.0.1:8080
    """
    policy_path = arguments.policy and arguments.policy.absolute()
    policy = _policy(policy_path)
    root = os.geteuid() == 0
    capture = arguments.capture if arguments.capture != "auto" else "nftables" if root else "explicit"
    if capture == "nftables" and not root:
        raise UsageError("capturing other programs' connections needs root: sudo lockgate start, or --capture explicit")
    if capture == "explicit":
        listen = [arguments.listen or ("127.0.0.1", 8080)]
        launch = Launch(state(arguments), policy_path, listen)
    else:
        scope = _scope(arguments)
        launch = Launch(state(arguments), policy_path, LOOPBACK, plan=lambda port, uid: _plan(policy, scope, port, uid))
    launch.user, launch.run_dir = arguments.user, arguments.run_dir
    launch.log_level = "INFO" if arguments.verbose else "WARNING"
    return _serve(launch, capture, arguments.json)


def _scope(arguments: argparse.Namespace) -> Scope:
    if arguments.only_user and arguments.only_cgroup:
        raise UsageError("--only-user or --only-cgroup, not both")
    if arguments.only_user:
        try:
            return Scope(uid=pwd.getpwnam(arguments.only_user).pw_uid)
        except KeyError:
            raise UsageError(f"there is no user {arguments.only_user!r}") from None
    return Scope(cgroup=arguments.only_cgroup)


def _plan(policy: Policy, scope: Scope, port: int, uid: int | None) -> Plan:
    capture = policy.capture
    return Plan(capture.ports, port, uid, scope, capture.quic, capture.fail, capture.loopback, capture.lan, capture.existing)


def _serve(launch: Launch, capture: str, as_json: bool) -> int:
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    def tell(message: dict[str, Any]) -> None:
        if as_json:
            print(json.dumps(message), flush=True)
        else:
            _say(message, capture)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        launcher = Launcher(launch)
        if _alive(launch.state):
            raise UsageError(f"it runs already with this state folder: lockgate stop --state {launch.state}")
        pair = launcher.start()
    except (LaunchError, OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    signal.signal(signal.SIGHUP, lambda *_: launcher.pair and launcher.pair.worker.send_signal(signal.SIGHUP))
    note = launch.state / RUNNING
    note.write_text(json.dumps({"pid": os.getpid(), "started": redirector.started(os.getpid()), "capture": capture,
                                **pair.ready}))
    try:
        tell(pair.ready)
        launcher.supervise(tell, lambda: stopped)
        return 0
    except LaunchError as error:
        _tell(str(error))
        return 2
    finally:
        launcher.stop(release_guard=stopped)
        note.unlink(missing_ok=True)


def _say(message: dict[str, Any], capture: str) -> None:
    match message["type"]:
        case "ready":
            where = ", ".join(f"{host}:{port}" for host, port in message["listen"])
            print(f"ready: {capture}, proxy at {where}, root certificate {message['ca']}")
            if message.get("existing"):
                fate = "were ended" if message.get("cut") else "go on uninspected until they end"
                print(f"{message['existing']} connections were open before: they {fate}")
            print("stop with Ctrl-C, or `lockgate stop`", flush=True)
        case "reload-failed":
            print("the new policy is not in force, the old one is:", *message["errors"], sep="\n  ", flush=True)
        case kind:
            print(f"{kind}: {message.get('reason', '')}".rstrip(": "), flush=True)


def _alive(folder: Path) -> dict[str, Any] | None:
    try:
        note: dict[str, Any] = json.loads((folder / RUNNING).read_text())
    except (OSError, ValueError):
        return None
    return note if redirector.started(note["pid"]) == note["started"] else None


def stop(arguments: argparse.Namespace) -> int:
    """End a running lockgate in order: rules, guard and proxy go."""
    note = _alive(state(arguments))
    if note is None:
        print("it is not running")
        return 1
    os.kill(note["pid"], signal.SIGTERM)
    until = time.monotonic() + STOP_LIMIT
    while _alive(state(arguments)) and time.monotonic() < until:
        time.sleep(0.05)
    if _alive(state(arguments)):
        _tell(f"process {note['pid']} has not ended within {STOP_LIMIT:.0f} s; `lockgate release` lifts the rules")
        return 1
    print("stopped")
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Is it on, what does it capture, and what holds in the kernel?  Exit code 1: it is not running."""
    note = _alive(state(arguments))
    held = redirector.status(arguments.run_dir)
    if arguments.json:
        print(json.dumps({"running": note, "kernel": [str(record) for record in held]}))
        return 0 if note else 1
    if note:
        print(f"running: pid {note['pid']}, {note['capture']}, at "
              + ", ".join(f"{host}:{port}" for host, port in note["listen"]))
    else:
        print("not running")
    for record in held:
        print(f"in the kernel: {record}, fail {record.fail}")
    if held and not note and any(record.role == "guard" for record in held):
        print("a guard holds the captured ports closed; `lockgate release` lifts it")
    return 0 if note else 1


def release(arguments: argparse.Namespace) -> int:
    """Lift every rule and guard at once, whatever has happened (also: sudo python3 redirector/release.py)."""
    return redirector.main([arguments.run_dir])


def check(arguments: argparse.Namespace) -> int:
    """Is the policy valid, do its lists and filters load?  All mistakes are named at once; exit code 2 with any."""
    policy = load(arguments.policy)
    loaded = build(policy, arguments.policy.absolute().parent)
    if arguments.json:
        print(json.dumps({"ok": True, "filters": [item.rule.id for item in loaded]}))
        return 0
    for item in loaded:
        hooks = [name for name, _ in inspect.getmembers(item.filter, callable) if name in ("request", "response")]
        buffers = f"; collects whole messages ({', '.join(hooks)}), up to {item.rule.buffer} bytes" if hooks else ""
        print(f"{item.rule.id}: {item.rule.use}, {item.rule.mode}, on error {item.rule.on_error}{buffers}")
    print(f"{arguments.policy} is valid: {len(policy.connections)} connection rules, {len(loaded)} filters")
    return 0


def events(arguments: argparse.Namespace) -> int:
    """What was decided, and why.

    example:
      lockgate events --verdict block --since 1h
      lockgate events --follow --json
    """
    wanted = {"since": arguments.since, "host": arguments.host, "app": arguments.app, "verdict": arguments.verdict,
              "filter": arguments.filter, "incident": arguments.incident}
    try:
        found: Iterable[dict[str, Any]] = sinks.read(state(arguments), limit=arguments.limit, **wanted)
        if arguments.follow:
            found = sinks.follow(state(arguments), **wanted)
        for event in found:
            print(json.dumps(event) if arguments.json else line(event), flush=arguments.follow)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from None
    return 0


def filters(arguments: argparse.Namespace) -> int:
    """The built-in filters, what they do and their options."""
    for name in sorted(BUILT_IN):
        found = import_built_in(name)
        options = [(f.name, f.default if f.default is not f.default_factory else ()) for f in
                   itertools.chain(found.__dataclass_fields__.values()) if f.init and not f.name.startswith("_")]
        text = inspect.getdoc(found) or ""
        if arguments.json:
            print(json.dumps({"use": name, "doc": text, "options": {key: str(default) for key, default in options}}))
        else:
            print(f"{name}\n  " + text.replace("\n", "\n  "))
            for key, default in options:
                print(f"    {key}: {default!r}")
            print()
    return 0
