"""Capture by packets: pydivert takes them, `diverter.py` turns them round, and this keeps that process or cleans up.

One way for Windows (WinDivert) and Linux (eBPF). This process never loads pydivert: it starts the diverter, hears from
it five times a second, and when it dies or hangs has what it left behind detached. A diverter whose keeper has gone
closes its handles itself. `fail: closed`: a second process, of lower priority, refuses what no diverter takes.
"""
import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar

from redirector import programs, sockets
from redirector.flows import MAX_FLOWS
from redirector.plan import LAN, BackendError, Connection, Declaration, Endpoint, Plan
from redirector.programs import MODULE, PRIORITIES
from redirector.wire import Start, encode

#: Seconds for a diverter to start Python and open its handles; 0.4 on an idle machine.
START_LIMIT = 10.0
#: Seconds of silence after which a diverter counts as hung; the kernel's programs let packets pass after two.
SILENCE_LIMIT = 1.0
#: Seconds for one to close its handles when told to, and for `clean`.
END_LIMIT = 3.0
#: Seconds for a diverter to notice that its redirector has died.
ORPHAN_LIMIT = 1.0
#: The kernel gives packets to the higher first. The guard gets what no diverter has taken.
DIVERT_PRIORITY, GUARD_PRIORITY = PRIORITIES["divert"], PRIORITIES["guard"]
#: Bytes of the diverter's report that are read at once.
_CHUNK = 1 << 16
_MS_REC_PRIVATE = 0x4000 | 0x40000
_BPFFS = "/sys/fs/bpf"


def capture_filter(plan: Plan) -> str:
    """Which packets are taken, in WinDivert's filter language: those to captured ports, and the proxy's answers.

    Of the proxy's own ports only a SYN.
    """
    first, last = plan.exempt_ports or (1, 0)
    new = "(tcp.Syn and not tcp.Ack)"
    to_ports = " or ".join(f"tcp.DstPort == {port}" for port in plan.ports)
    taken = f"tcp and ({to_ports}) and (tcp.SrcPort < {first} or tcp.SrcPort > {last} or {new}) and {_far(plan)}"
    quic = f" or (udp and udp.DstPort == 443 and {_far(plan)})" if plan.quic == "reject" else ""
    return f"outbound and not loopback and ((tcp and tcp.SrcPort == {plan.listen_port}) or ({taken}){quic})"


def guard_filter(plan: Plan) -> str:
    """The same for the guard: there is no proxy."""
    return capture_filter(plan).replace(f"(tcp and tcp.SrcPort == {plan.listen_port}) or ", "")


def bind_filter(ports: tuple[int, int], pid: int) -> str:
    """Attempts, anywhere on the computer, to bind one of the proxy's own ports."""
    return (f"event == BIND and protocol == 6 and localPort >= {ports[0]} and localPort <= {ports[1]} "
            f"and processId != {pid}")


def _far(plan: Plan) -> str:
    if plan.lan:
        return "true"
    sides = []
    for name, version in (("ip", 4), ("ipv6", 6)):
        ranges = [f"({name}.DstAddr < {net[0]} or {name}.DstAddr > {net[-1]})" for net in LAN if net.version == version]
        sides.append(f"({name} and {' and '.join(ranges)})")
    return f"({' or '.join(sides)})"


class Divert:
    """The backend. `portable` uses pydivert's public interface only, as on Windows."""

    declaration: ClassVar = Declaration(
        "divert", rights="root (CAP_NET_ADMIN, CAP_BPF, CAP_NET_RAW), Administrator",
        systems=("Linux 5.10 with BTF", "Windows 10 (not run)"), ipv6=True, udp=True, everything=True, users=True,
        groups=True, trees=True, existing=True, closed=True, open=True, transparent=True, peername=True,
        lan=True)

    def __init__(self, start: Start, *, portable: bool = False) -> None:
        self._start, self._portable = start, portable
        self._child: subprocess.Popen[bytes] | None = None
        self._enter: Callable[[], None] | None = None
        self._origins: dict[tuple[str, int, str], tuple[Endpoint, Endpoint]] = {}
        self._rest, self._heard = b"", 0.0

    # -- contract

    def install(self, plan: Plan, existing: Collection[Connection]) -> None:
        if plan.loopback:
            raise BackendError("divert does not take packets on loopback: capture.loopback needs --capture nftables")
        self._prepare()
        self._alone()
        self._child = self._run("divert", plan, existing)
        self._heard = time.monotonic()
        if plan.existing == "cut":
            for connection in existing:
                sockets.destroy(connection)

    def remove(self) -> None:
        if (child := self._child) is None:
            return
        self._child = None
        assert child.stdin is not None
        with contextlib.suppress(OSError):
            child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(END_LIMIT)
        if child.returncode != 0:
            child.kill()
            child.wait()
            self._clean()
        if child.stdout is not None:
            child.stdout.close()

    def tend(self) -> None:
        """Hear the diverter. Raises BackendError when it has died or hangs: all is removed."""
        self._hear()
        if self._child is not None and time.monotonic() - self._heard > SILENCE_LIMIT:
            self._child.kill()
            self._lost("has been silent for a second")

    def original(self, client: Endpoint, server: Endpoint) -> tuple[Endpoint, Endpoint] | None:
        """Both ends of a connection as its client made it, of which the proxy sees these: `client` has the server's
        address, and `server`, the proxy's own end, the client's.

        None for one that was not diverted. Raises BackendError as `tend` does.
        """
        self._hear()
        return self._origins.get((str(sockets.plain(server[0])), client[1], str(sockets.plain(client[0]))))

    def start_guard(self, plan: Plan, existing: Collection[Connection]) -> subprocess.Popen[bytes]:
        """A process that refuses what no diverter takes, and outlives us. Raises BackendError."""
        self._prepare()
        child = self._run("guard", plan, existing)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        child.stdout.close()
        return child

    # -- the diverter

    def _run(self, role: str, plan: Plan, existing: Collection[Connection]) -> subprocess.Popen[bytes]:
        child = self._spawn([role, self._start.instance], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdin is not None
        assert child.stdout is not None
        ends = [[*c.client, *c.server] for c in existing]
        order = {"existing": ends, "portable": self._portable}
        start = Start(self._start.instance, self._start.run_dir, plan)
        with contextlib.suppress(OSError):      # it ended; its last line says why
            child.stdin.write(encode(start) + json.dumps(order).encode() + b"\n")
            child.stdin.flush()
        ready = select.select([child.stdout], [], [], START_LIMIT)[0]
        answer = child.stdout.readline() if ready else b"no answer in time"
        if answer != b"ready\n":
            child.kill()
            child.wait()
            child.stdout.close()
            with contextlib.suppress(OSError):
                child.stdin.close()
            self._clean()
            raise BackendError(answer.decode(errors="replace").strip() or "the diverter ended without a word")
        os.set_blocking(child.stdout.fileno(), False)
        return child

    def _alone(self) -> None:
        """One that is kept would take our packets, or we its; one whose keeper has died is about to end."""
        until = time.monotonic() + ORPHAN_LIMIT
        while others := programs.running("divert", self._start.instance):
            for pid, kept in others:
                if kept:
                    raise BackendError(f"divert is already there (pid {pid}): `lockgate status` says whose it is, "
                                       "`lockgate stop` or `lockgate release` ends it")
                if time.monotonic() > until:        # it hangs
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def _spawn(self, words: list[str], **more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-I", "-m", MODULE, *words], cwd="/",
                                start_new_session=True, preexec_fn=self._enter, **more)

    def _hear(self) -> None:
        """Take in what the diverter has reported: its heartbeats, and flows before their first packet went on."""
        if self._child is None:
            return
        assert self._child.stdout is not None
        output = self._child.stdout.fileno()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(output, _CHUNK):
                self._heard = time.monotonic()
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in filter(None, lines):
                    self._note(*json.loads(line))
            self._lost("ended")

    def _note(self, client: str, port: int, server: str, server_port: int, alias: int) -> None:
        key = client, alias, server
        self._origins.pop(key, None)
        if len(self._origins) >= MAX_FLOWS:
            del self._origins[next(iter(self._origins))]
        self._origins[key] = (client, port), (server, server_port)

    def _lost(self, why: str) -> None:
        child, self._child = self._child, None
        assert child is not None
        child.kill()
        child.wait()
        self._clean()
        raise BackendError(f"the diverter {why}")

    def _clean(self) -> None:
        """Have what the dead left behind detached; another process does it, so that this one stays small."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            cleaner = self._spawn(["clean"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            try:
                cleaner.wait(END_LIMIT)
            finally:
                cleaner.kill()
                cleaner.wait()

    # -- where it runs

    def _prepare(self) -> None:
        """pydivert finds what dead processes left by a map pinned below /sys/fs/bpf. Where no BPF filesystem is mounted
        there, its processes get one in a mount namespace of their own."""
        if self._enter is None and sys.platform.startswith("linux") and not bpffs():
            self._enter = _private_bpffs()


def bpffs() -> bool:
    """Is a BPF filesystem where pydivert looks for it?"""
    with contextlib.suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
        return any(line.split()[4] == _BPFFS and " - bpf " in line for line in mounts)
    return False


def _private_bpffs() -> Callable[[], None] | None:
    """Make a mount namespace with one; returns how a child enters it, or None where that cannot be."""
    made: list[int] = []

    def make() -> None:         # in a thread of its own: the namespace is the thread's alone
        libc = ctypes.CDLL(None, use_errno=True)
        with contextlib.suppress(OSError):
            os.unshare(os.CLONE_NEWNS)
            if (libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None) == 0
                    and libc.mount(b"none", _BPFFS.encode(), b"bpf", ctypes.c_ulong(0), None) == 0):
                made.append(os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if not made:
        return None
    return lambda: os.setns(made[0], os.CLONE_NEWNS)
