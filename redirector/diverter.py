"""`python -I -m redirector.diverter ROLE`: the process with pydivert's handles, of the backend `divert` or its guard.

It reads a Start and an order, one line each, and answers `ready`, or why not. As `divert` it then reports on standard
output: an empty line five times a second while it turns packets round, and before the first packet of a flow goes on,
[client, port, server, port, alias]. It ends, and closes its handles, at the end of its input or at SIGTERM. As `guard`
it reports nothing, and only SIGTERM ends it. As `clean` it detaches what dead ones left, no more.
"""
import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

from redirector import answers, handles, programs, release
from redirector.deciding import Decider
from redirector.divert import DIVERT_PRIORITY, GUARD_PRIORITY, bind_filter, capture_filter, guard_filter
from redirector.flows import UDP, Action, Flow, FlowTable, ends_of, protocol
from redirector.plan import BackendError, Plan
from redirector.wire import Start, decode

#: Seconds between two signs of life; also how long one wait for a packet is, so how late an end may be noticed.
TICK = 0.2
#: Seconds between two looks for flows that have been silent for too long.
SWEEP = 5.0
#: Seconds between two looks whether our programs are still where we attached them: `tc qdisc del` takes them away.
LOOK = 0.4
#: Packets taken before the clock is looked at again, so that a flood does not silence us.
BURST = 64


def note(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"diverter: {text}\n".encode(errors="replace"))


class Diverter:
    """Takes packets from a handle and gives them back."""

    def __init__(self, plan: Plan, order: dict[str, Any], *, guard: bool) -> None:
        self._guard = guard
        self._plan, self._portable = plan, order["portable"]
        existing = order["existing"]
        older = None if existing is None else frozenset(((a, p), (b, q)) for a, p, b, q in existing)
        self._decider = Decider(plan, older, guard=self._guard)
        self._flows = FlowTable(plan.listen_port)
        self._role = "guard" if guard else "divert"
        self._interfaces = _interfaces()
        self._turn = 0
        self._handle = self._open()
        self._attached = _attached(self._role)
        self._failed = 0
        self.ended = False

    def _open(self) -> handles.Handle:
        rule = guard_filter(self._plan) if self._guard else capture_filter(self._plan)
        priority = GUARD_PRIORITY if self._guard else DIVERT_PRIORITY
        return handles.packets(rule, priority + self._turn, portable=self._portable)

    def close(self) -> None:
        self._handle.close()

    def run(self) -> None:
        """Until `ended`. Raises OSError when the handle breaks, BackendError when a new one cannot be had."""
        sweep = look = 0.0
        while not self.ended:
            now = time.monotonic()
            if now > sweep:
                self._flows.expire(now)
                sweep = now + SWEEP
            if not self._guard:
                _report(b"\n")
            if (there := _interfaces()) != self._interfaces:
                self._reopen(there)
            elif now > look:
                look = now + LOOK
                if not self._attached <= _attached(self._role):
                    note("somebody has removed our programs from an interface; they are attached again")
                    self._reopen(there)
            until = now + TICK
            while (left := until - time.monotonic()) > 0 and not self.ended:
                for _ in range(BURST):
                    if not (length := self._handle.receive(left)):
                        break
                    self._one(length, time.monotonic())

    def _reopen(self, interfaces: frozenset[tuple[int, str]]) -> None:
        """A handle holds the interfaces that were there when it was opened: another for those of now, then the old one
        is emptied and closed."""
        self._turn ^= 1
        old, new, self._interfaces = self._handle, self._open(), interfaces
        while length := old.receive(0):
            self._one(length, time.monotonic())
        self._handle = new
        old.close()
        self._attached = _attached(self._role)

    def _one(self, length: int, now: float) -> None:
        handle = self._handle
        packet = handle.packet
        action = self._refuse_quic(length) if protocol(packet) == UDP else self._flows.take(packet, now)
        if action is Action.ASK:
            action = self._begin(length, now)
        try:
            if action is Action.REFLECT:
                handle.send(inbound=True)
            elif action is Action.PASS:
                handle.send(inbound=False)
            elif action is Action.REFUSE:
                handle.inject(answers.reset(bytes(packet[:length])))
        except OSError as error:        # no room in a queue, an interface gone: lost on the way, as packets are
            self._failed += 1
            if self._failed & (self._failed - 1) == 0:
                note(f"{self._failed} packets could not be sent: {error}")

    def _begin(self, length: int, now: float) -> Action:
        packet = self._handle.packet
        action = self._decider.tcp(ends_of(packet))
        if action not in (Action.PASS, Action.REFLECT):
            return action
        flow = self._flows.begin(packet, now, divert=action is Action.REFLECT)
        if flow is None:
            return Action.DROP
        if action is Action.PASS:
            return action
        self._say(flow)
        return self._flows.reflect(packet, flow)

    def _say(self, flow: Flow) -> None:
        (client, port), (server, server_port), _ = flow.ends
        _report(json.dumps([client, port, server, server_port, flow.alias]).encode() + b"\n")

    def _refuse_quic(self, length: int) -> Action:
        packet = self._handle.packet
        if self._decider.udp(ends_of(packet)) is Action.PASS:
            return Action.PASS
        with suppress(OSError):
            self._handle.inject(answers.unreachable(bytes(packet[:length])))
        return Action.DROP


def _report(line: bytes) -> None:
    with suppress(BlockingIOError):     # a keeper that does not read: who asks it will not know this flow
        os.write(1, line)


def _interfaces() -> frozenset[tuple[int, str]]:
    return frozenset(socket.if_nameindex()) if sys.platform.startswith("linux") else frozenset()


def _elsewhere() -> bool:
    """Are we in a pid namespace that is not the kernel's first (PROC_PID_INIT_INO, linux/proc_ns.h)?"""
    with suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino != 0xEFFFFFFC  # noqa: PTH116
    return False


def _attached(role: str) -> frozenset[tuple[str, int]]:
    """Interfaces and directions that have programs of this role."""
    if not sys.platform.startswith("linux"):
        return frozenset()
    with suppress(OSError):
        return frozenset((each.interface, each.ident[2]) for each in programs.attached() if each.role == role)
    return frozenset()


def _refuse_borrowing(plan: Plan, stack: ExitStack) -> None:
    """Nobody but the proxy may bind its ports. On Linux the owner of each connection is asked as well (`deciding.py`),
    so where the kernel will not, as where control groups are hidden, that is enough."""
    if plan.exempt_ports is None or plan.exempt_pid is None:
        return
    if _elsewhere():
        note("in a container, where processes have other numbers: others may bind the proxy's ports, but not connect")
        return
    try:
        guard = handles.refuse_binding(bind_filter(plan.exempt_ports, plan.exempt_pid))
    except BackendError as error:
        if not sys.platform.startswith("linux"):
            raise
        note(f"others may bind the proxy's ports, but not connect from them: {error}")
        return
    stack.callback(guard.close)


def _serve(start: Start, order: dict[str, Any], *, guard: bool) -> None:
    assert start.plan is not None
    with ExitStack() as stack:
        table = "packets" if guard else "packets of the diverter"
        ends = order["existing"] or []
        record = release.write(start.run_dir, "guard" if guard else "diverter", start.instance, table,
                               start.plan.fail, ends if guard else [])
        stack.callback(record.unlink, missing_ok=True)
        _clean()
        diverter = Diverter(start.plan, order, guard=guard)
        stack.callback(diverter.close)
        if not guard:
            _refuse_borrowing(start.plan, stack)
            threading.Thread(target=_watch, args=(diverter,), daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: setattr(diverter, "ended", True))
        os.write(1, b"ready\n")
        if guard:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
        else:
            os.set_blocking(1, False)
        diverter.run()


def _clean() -> None:
    """Detach what dead ones left: by pydivert where it remembers them, and else by what they are."""
    handles.clean()
    if sys.platform.startswith("linux"):
        with suppress(OSError):
            programs.detach()


def _watch(diverter: Diverter) -> None:
    """The end of input, or a byte of it, is the end."""
    with suppress(OSError):
        os.read(0, 1)
    diverter.ended = True


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    role = sys.argv[1]
    if role == "clean":
        _clean()
        return 0
    lines = sys.stdin.buffer
    try:
        start, order = decode(lines.readline()), json.loads(lines.readline())
        assert isinstance(start, Start)
        _serve(start, order, guard=role == "guard")
    except (OSError, ValueError) as error:
        with suppress(OSError):
            os.write(1, str(error).replace("\n", " ").encode() + b"\n")
        note(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
