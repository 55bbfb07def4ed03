"""`lockgate redirect`: the redirector alone, towards any server on this computer.

The command plays the proxy's part on the control channel: it beats as long as the server listens, and says Stop at an
orderly end.  So what holds for a proxy holds for any server: where it stops listening, or another process comes in its
place, the rules go with the beat, or the guard refuses (`--fail closed`), until a new redirector has set the new one
apart.  The redirector finds the server's process and leaves its connections alone (`redirector/exempt.py`).
"""

import argparse
import contextlib
import ipaddress
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from proxy.commands import scope_of
from proxy.launcher import Launcher
from proxy.options import UsageError
from redirector import exempt, release, wire
from redirector.channel import Channel, PeerGone
from redirector.nft import Tables
from redirector.plan import BackendError, Endpoint, Plan

#: Seconds for the redirector to install its rules.
READY_LIMIT = 15.0
#: Seconds for it to end in order, and to take its rules away.
STOP_LIMIT = 5.0
#: Seconds between two looks whether a server has come; and between two counts, where something has changed.
LOOK, COUNT = 0.1, 2.0
#: Seconds to wait where the redirector failed, before the next: it will most likely fail again.
PAUSE = 2.0
#: Addresses of which a rule needs no mention, and the one that means all of IPv4's.
LOOPBACK, ANY4 = frozenset(("", "127.0.0.1", "::1")), "0.0.0.0"  # noqa: S104
#: What an nftables counter says.
_COUNTER = re.compile(r"counter packets (\d+)")


class Gone(Exception):
    """The server, or the redirector, is not what it was."""


@dataclass(slots=True)
class Redirection:
    """One `lockgate redirect`, from its options to its end."""

    plan: Plan
    run_dir: str
    tell: Callable[..., None]
    stopped: Callable[[], bool]
    redirected: int = 0

    @property
    def instance(self) -> str:
        """Names its table, record and control group; one for each port that is led to."""
        return f"redirect_{self.plan.listen_port}"

    @property
    def server(self) -> Endpoint:
        return self.plan.listen_host, self.plan.listen_port

    def run(self) -> None:
        """Until `stopped`.  Raises BackendError where the first start fails."""
        exempt.sweep(self.instance)
        first = True
        try:
            while not self.stopped():
                if not exempt.listening(self.server):
                    self.tell("waiting", server=exempt.shown(self.server), fail="" if first else self.plan.fail)
                    self._wait()
                    continue
                try:
                    self._hold()
                except Gone as error:
                    self.tell("interrupted", reason=str(error), redirected=self.redirected)
                except BackendError as error:
                    if first:
                        raise
                    self.tell("failed", reason=str(error))
                    self._wait(PAUSE)
                first = False
        finally:
            with contextlib.suppress(ValueError, OSError):
                release.release(self.run_dir, self.instance)
                exempt.sweep(self.instance)

    def _wait(self, limit: float | None = None) -> None:
        until = None if limit is None else time.monotonic() + limit
        while not self.stopped() and (time.monotonic() < until if until else not exempt.listening(self.server)):
            time.sleep(LOOK)

    def _hold(self) -> None:
        """One redirector for one server, from its start to the end of either."""
        sockets = exempt.listening(self.server)
        served = families(set(sockets.values()), self.server)
        plan = replace(self.plan, families=tuple(each for each in served if each in self.plan.families) or served)
        process, channel = self._start(plan)
        with contextlib.closing(channel):
            talk = Channel(channel.fileno(), channel.fileno())
            try:
                ready = _ready(talk)
                self.tell("ready", server=exempt.shown(self.server), **_served(self.instance), families=plan.families,
                          fail=plan.fail, existing=ready.existing)
                self._beat(talk, set(sockets))
                talk.send(wire.Stop())
                process.wait(STOP_LIMIT)
            except (PeerGone, wire.ProtocolError, subprocess.TimeoutExpired) as error:
                raise Gone(f"the redirector failed: {error}") from error
            finally:
                channel.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_LIMIT)        # it takes its rules away
                process.kill()
                process.wait()
                exempt.sweep(self.instance)

    def _start(self, plan: Plan) -> tuple[subprocess.Popen[bytes], socket.socket]:
        start = wire.Start(self.instance, self.run_dir, plan)
        ours, theirs = socket.socketpair()
        with theirs:
            return Launcher.start_redirector(theirs, start), ours

    def _beat(self, talk: Channel, sockets: set[int]) -> None:
        before, counted, said = self.redirected, 0, time.monotonic()
        tables = Tables()
        with contextlib.closing(tables):
            while not self.stopped():
                talk.send(wire.Heartbeat())
                talk.messages(0)
                if time.monotonic() - said > COUNT:
                    said, last, counted = time.monotonic(), counted, _count(tables, self.instance)
                    self.redirected = before + counted
                    if counted != last:
                        self.tell("count", redirected=self.redirected)
                if (now := set(exempt.listening(self.server))) != sockets:
                    raise Gone("the server does not listen any more" if not now else "another server listens now")
                time.sleep(wire.HEARTBEAT_INTERVAL)
            self.redirected = before + _count(tables, self.instance)


def _ready(talk: Channel) -> wire.Ready:
    until = time.monotonic() + READY_LIMIT
    while time.monotonic() < until:
        talk.send(wire.Heartbeat())
        for message in talk.messages(wire.HEARTBEAT_INTERVAL):
            match message:
                case wire.Ready():
                    return message
                case wire.Failed():
                    raise BackendError(message.reason)
    raise BackendError(f"the redirector was not ready within {READY_LIMIT:.0f} s")


def _served(instance: str) -> dict[str, object]:
    """Which process that is; of several, the first."""
    pid = min(exempt.members(instance), default=0)
    with contextlib.suppress(OSError):
        return {"pid": pid, "exe": wire.clip(os.readlink(f"/proc/{pid}/exe"), wire.MAX_EXE)}  # noqa: PTH115
    return {"pid": pid, "exe": ""}


def _count(tables: Tables, instance: str) -> int:
    with contextlib.suppress(BackendError):
        return sum(map(int, _COUNTER.findall(tables.run(f"list chain inet lockgate_{instance} divert"))))
    return 0


def families(hosts: Collection[str], server: Endpoint) -> tuple[int, ...]:
    """The versions of IP that a server serves which listens at these addresses."""
    if server[0]:
        return (ipaddress.ip_address(server[0]).version,)
    four = bool({"127.0.0.1", ANY4} & set(hosts)) or ("::" in hosts and _taken(server[1]))
    six = bool({"::1", "::"} & set(hosts))
    return ((4,) if four else ()) + ((6,) if six else ())


def _taken(port: int) -> bool:
    """Does a listener on `::` take what is sent to 127.0.0.1 (ipv6(7), IPV6_V6ONLY)?  Then we cannot have it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


# -- the command

def redirect(arguments: argparse.Namespace) -> int:
    """Lead connections to these ports to a server on this computer, which need know nothing of it, until stopped.

    The server's own connections, and its children's, are left alone; all else that goes to the ports comes to it.  It
    may be started later, or again.  Needs root.

    example:
      sudo lockgate redirect --ports 80 --to 127.0.0.1:55555
      sudo lockgate redirect --ports 80,8080 --to 127.0.0.1:3128 --only-user alice --fail closed
    """
    if os.geteuid() != 0:
        raise UsageError("redirecting other programs' connections needs root: sudo lockgate redirect ...")
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    def tell(kind: str, **more: object) -> None:
        for line in [json.dumps({"type": kind, **more})] if arguments.json else said(kind, plan, more):
            with contextlib.suppress(OSError):      # nobody listening is no reason to stop
                os.write(1, f"{line}\n".encode())

    try:
        plan = _plan(arguments)
        Path(arguments.run_dir).mkdir(mode=0o755, parents=True, exist_ok=True)
        if any(each.instance == f"redirect_{plan.listen_port}" for each in release.status(arguments.run_dir)):
            raise UsageError(f"port {plan.listen_port} is led to already: `lockgate status` shows by whom")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, stop)
        redirection = Redirection(plan, arguments.run_dir, tell, lambda: stopped)
        redirection.run()
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    finally:
        with contextlib.suppress(OSError):
            Path(arguments.run_dir).rmdir()         # others may be running
    tell("stopped", redirected=redirection.redirected)
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    """Raises ValueError, UsageError."""
    host, port = arguments.to
    host = "" if host == "localhost" else str(ipaddress.ip_address(host))
    if host and not _is_here(host):
        raise UsageError(f"--to {host}: no address of this computer; the server must run on it")
    apart = host not in LOOPBACK
    family = (ipaddress.ip_address(host).version,) if apart else (4, 6)
    quic: Literal["reject", "allow"] = "reject" if 443 in arguments.ports else "allow"
    scope = scope_of(arguments.only_user, arguments.only_cgroup)
    return Plan(arguments.ports, port, None, scope, quic, arguments.fail, lan=arguments.lan, own_server=True,
                families=family, listen_host=host if apart else "")


def _is_here(host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.bind((host, 0))
        return not ipaddress.ip_address(host).is_unspecified
    return False


def said(kind: str, plan: Plan, more: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    ports = ", ".join(map(str, plan.ports))
    match kind:
        case "ready":
            yield (f"redirecting TCP {ports} to {more['server']}: {more['exe']} (pid {more['pid']}), "
                   "whose own connections are left alone")
            for family in {4, 6} - set(more["families"]):
                fate = "are refused" if plan.fail == "closed" else "go on as before"
                yield f"IPv{family} is not led there, as the server does not serve it: such connections {fate}"
            if more["existing"]:
                yield f"{more['existing']} connections were open before: they go on"
            yield "stop with Ctrl-C"
        case "waiting":
            meanwhile = {"closed": ", meanwhile connections are refused", "open": ", meanwhile all goes on as before"}
            yield f"nothing listens at {more['server']}; waiting for it{meanwhile.get(more['fail'], '')}"
        case "count" | "stopped":
            yield f"{'' if kind == 'count' else 'stopped: '}{more['redirected']} connections redirected"
        case _:
            yield f"{kind}: {more['reason']}"
