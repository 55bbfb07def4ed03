"""The commands that start, stop and watch."""

import argparse
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy import ports, running
from proxy.launcher import Launch, Launcher
from proxy.options import UsageError, refused, state, tell, uid_of
from proxy.recorder import recording
from proxy.secretfile import secret_files
from redirector import backends, cgroups
from redirector.plan import Plan, Scope

if TYPE_CHECKING:
    from proxy.schema import Policy

#: Does this computer pass on what is not for itself? (ip-sysctl)
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
#: Port 0: a free one, the same for both families.
LOOPBACK = [("127.0.0.1", 0), ("::1", 0)]
#: Diverted connections of others come to the address of the interface that they came by.
EVERYWHERE = [("0.0.0.0", 0), ("::", 0)]  # noqa: S104 the kernel keeps away who was not diverted
#: Where the explicit proxy listens unless told: nobody else's connections are served.
EXPLICIT = ("127.0.0.1", 8080)


def _launch(arguments: argparse.Namespace, policy: "Policy", listen: list[tuple[str, int]]) -> Launch:
    if arguments.user and os.geteuid() != 0:
        raise UsageError("--user needs root: only root can start the proxy as another user")
    path = arguments.policy and arguments.policy.absolute()
    return Launch(state(arguments), path, listen, user=arguments.user, run_dir=str(Path(arguments.run_dir).absolute()),
                  log_level="INFO" if arguments.verbose else "WARNING", readable=named_files(policy, path),
                  anyone=getattr(arguments, "allow_anyone", False), secrets=secret_files(policy.capture))


def policy_of(path: Path | None) -> "Policy":
    from proxy.policy import default_policy, load

    return load(path) if path else default_policy()


def named_files(policy: "Policy", path: Path | None) -> list[Path]:
    """The files that a policy names: filters, upstream roots, and whatever options of filters are files."""
    base = path.parent if path else Path()
    words = [rule.use.partition(":")[0] for rule in policy.filters]
    words += [word for rule in policy.filters for word in _texts(rule.options)]
    words += [str(policy.tls.upstream.trusted_ca or "")]
    return [base / word for word in words if "\0" not in word and (base / word).is_file()]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, str | Path):
            yield str(each)
        elif isinstance(each, dict | list | tuple):
            yield from _texts(each)


def run(arguments: argparse.Namespace) -> int:
    """Run one command and its children under inspection; its exit code is ours.

    As root, the kernel diverts what it sends; otherwise each connect() is redirected, whatever the program.  Where that
    cannot be had, programs are told of the proxy by variables.  What is chosen, and why, is said.

    example:
      lockgate run -- curl https://example.org/
      sudo lockgate run --policy policy.yaml -- chromium
    """
    from proxy import runner

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise UsageError("no command: lockgate run -- CMD ...")
    policy = policy_of(arguments.policy)
    with refused():
        return runner.run(_launch(arguments, policy, LOOPBACK), policy.capture, command, tell, arguments.capture)


def start(arguments: argparse.Namespace) -> int:
    """Inspect the whole computer, or what clients send to an explicit proxy, until stopped.

    example:
      sudo lockgate start --policy policy.yaml
      sudo lockgate start --forward docker0
      sudo lockgate start --capture divert
      lockgate start --capture explicit --listen 127.0.0.1:8080
    """
    policy = policy_of(arguments.policy)
    with refused():
        capture, why = backends.choose(arguments.capture)
    if capture == "nftables" and arguments.listen:
        raise UsageError("--listen is for --capture explicit; captured connections come to a port of their own")
    if capture != "explicit" and (arguments.system_proxy or arguments.allow_anyone):
        raise UsageError("--system-proxy and --allow-anyone are for --capture explicit")
    if arguments.system_proxy:
        from proxy import systemproxy

        systemproxy.loopback(arguments.listen or EXPLICIT)
    if capture == "explicit" and (arguments.only_user or arguments.only_cgroup):
        raise UsageError("--only-user and --only-cgroup are for --capture nftables or divert: clients choose an "
                         "explicit proxy")
    if capture != "nftables" and arguments.forward:
        raise UsageError("--forward is for --capture nftables: only that captures what passes through this computer")
    _check_forwarding(arguments.forward)
    with refused():
        if running.read(state(arguments), arguments.run_dir):
            raise UsageError(f"it runs already with this state folder: lockgate stop --state {state(arguments)}")
        captured = EVERYWHERE if arguments.forward else LOOPBACK
        launch = _launch(arguments, policy, captured if capture == "nftables" else [arguments.listen or EXPLICIT])
        if capture == "divert":
            ports.reflect(launch, arguments.listen)
        if capture != "explicit":
            backend = capture
            scope, forward = _scope(arguments), tuple(arguments.forward)
            launch.plan = lambda port, uid: replace(plan_of(policy, scope, port, uid), forward=forward, backend=backend,
                                                    exempt_ports=launch.ports)
        if arguments.capture == "auto" and not arguments.json:
            tell(f"capture by {capture}: {why}")
        with recording(launch.state, policy.events.history):
            return _serve(launch, capture, as_json=arguments.json, setting=arguments.system_proxy,
                          prefix=arguments.prefix)


def _scope(arguments: argparse.Namespace) -> Scope:
    return scope_of(arguments.only_user, arguments.only_cgroup)


def scope_of(user: str | None, group: str | None) -> Scope:
    """Whose connections: by the words of --only-user and --only-cgroup.  Raises UsageError."""
    if user and group:
        raise UsageError("--only-user or --only-cgroup, not both")
    if group:
        if not (path := group.removeprefix(cgroups.mount()).strip("/")):
            raise UsageError("--only-cgroup: the root of all groups is the whole computer; leave it out")
        return Scope(cgroup=f"/{path}")
    return Scope(uid=uid_of(user)) if user else Scope()


def _check_forwarding(interfaces: list[str]) -> None:
    """A name that is mistyped would leave what comes by it uncaptured; whether we forward is not ours to change."""
    here = {name for _, name in socket.if_nameindex()}
    for name in interfaces:
        if not name.endswith("*") and name not in here:
            raise UsageError(f"--forward: no interface {name} here, only {', '.join(sorted(here))}")
    if interfaces and FORWARDING.read_text().strip() == "0":
        tell("this computer forwards nothing by itself: what is captured gets through, all else will not until "
              "sysctl net.ipv4.ip_forward=1")


def plan_of(policy: "Policy", scope: Scope, port: int, uid: int | None) -> Plan:
    wanted = policy.capture
    return Plan(wanted.ports, port, uid, scope, wanted.quic, wanted.fail, wanted.loopback, wanted.lan, wanted.existing,
                quic_users=tuple(map(uid_of, wanted.quic_users)), encrypted_dns=wanted.encrypted_dns)


def _serve(launch: Launch, capture: str, *, as_json: bool, setting: str | None = None,
           prefix: Path | None = None) -> int:
    launcher, note = Launcher(launch), running.place(launch.state, launch.run_dir)
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    def report(message: dict[str, Any]) -> None:
        if message["type"] in ("ready", "restarted"):
            running.write(note, {**message, "capture": capture})
        for line in [json.dumps(message)] if as_json else _said(message, capture):
            with contextlib.suppress(OSError):      # nobody listening is no reason to stop serving
                os.write(1, f"{line}\n".encode())

    def warn(message: str) -> None:
        tell(message)
        launcher.note("system proxy", message)
        if as_json:
            report({"type": "system-proxy", "reason": message})

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, lambda *_: launcher.reload())
    try:
        report(ready := launcher.start().ready)
        with _as_the_systems(ready, setting, prefix, warn):
            launcher.supervise(report, lambda: stopped)
        return 0
    finally:
        launcher.stop(release_guard=stopped)
        note.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(launch.run_dir).rmdir()        # others may be running


def _as_the_systems(ready: dict[str, Any], setting: str | None, prefix: Path | None,
                    warn: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
    if setting is None:
        return contextlib.nullcontext()
    from proxy import systemproxy  # costs imports

    return systemproxy.kept(tuple(ready["listen"][0]), setting, prefix, warn)


def _said(message: dict[str, Any], capture: str) -> list[str]:
    match message["type"]:
        case "ready":
            where = ", ".join(f"{host}:{port}" for host, port in message["listen"])
            lines = [f"ready: {capture}, proxy at {where}, root certificate {message['ca']}"]
            if message.get("existing"):
                fate = "were ended" if message.get("cut") else "go on uninspected until they end"
                lines.append(f"{message['existing']} connections were open before: they {fate}")
            return [*lines, "stop with Ctrl-C, or `lockgate stop`"]
        case "reload-failed":
            return ["the new policy is not in force, the old one is:", *(f"  {error}" for error in message["errors"])]
        case kind:
            return [": ".join(filter(None, (kind, message.get("reason"), *message.get("errors", ()))))]
