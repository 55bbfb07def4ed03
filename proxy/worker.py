"""The unprivileged process that does the work: `python -I -m proxy.worker`, configuration on standard input.

It says what it does on standard output, one JSON object a line: `listening`, `ready`, `reloaded`, `failed`.  It ends
when the launcher's end of standard input closes.
"""

# isort: off
from proxy import lean  # noqa: F401 before mitmproxy's addons
# isort: on

import asyncio
import contextlib
import gc
import json
import logging
import os
import resource
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from addons import keeping
from certs.authority import Authority, AuthorityError
from proxy import deadline, ports
from proxy.bypass import Bypasses
from proxy.chain import Chain
from proxy.channel import Channel, Lost, own_lookup
from proxy.config import Config
from proxy.destination import Address
from proxy.engine import lean_options
from proxy.gate import hooks
from proxy.listener import MAX_CONNECTIONS, Door
from proxy.origins import Origins
from proxy.paths import Roots
from proxy.pins import Pins
from proxy.policy import PolicyError, Problem, default_policy
from proxy.probe import Probe
from proxy.records import Records
from proxy.registry import build, load_all
from proxy.reloading import Reloading, adopt
from proxy.revocation import Revocation
from proxy.session import Rules
from proxy.sessions import Desk
from proxy.tlsface import Tls, upstream_roots
from proxy.watch import Watch
from proxy.ways import Ways

log = logging.getLogger(__name__)

#: Seconds between two looks at the policy file, and at what it and its filters have read.
WATCH_INTERVAL = 1.0
#: Objects made before a collection, and younger collections before an older one: larger than Python's own, as each
#: connection leaves cycles of layers and generators, and a collection may fall into a filter's call and its deadline.
GC_THRESHOLDS = 20_000, 20, 50
#: Seconds that open connections are given to end at an orderly stop.
DRAIN_LIMIT = 2.0
#: Exit codes: a usage or policy error, a redirector that is gone, a launcher that is.
BAD_POLICY, REDIRECTOR_LOST, LAUNCHER_LOST = 2, 3, 4


def say(**message: object) -> None:
    """One line to the launcher; nobody listening is no reason to stop serving."""
    with contextlib.suppress(OSError):
        print(json.dumps(message), flush=True)


class Worker:
    """One proxy: the rules in force, the engine, the doors."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.state = Path(config.state)
        self.policy_path = Path(config.policy) if config.policy else None
        self.own: set[Address] = set()
        keeping.use(self.state / "filter-state")
        self.rules = self._build()
        self.watch = Watch(self.policy_path, self.rules)
        self.stopping = asyncio.Event()
        self.exit_code = 0
        self.channel: Channel | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._reloading = Reloading(self._reload)

    # -- rules

    def _build(self) -> Rules:
        strict, path = self.config.strict, self.policy_path
        if path is None:
            policy = default_policy()
            loaded = build(policy, Path())
        else:
            policy, loaded = load_all(path, strict=strict)
        ways = Ways(self.config, policy.capture, self.own)
        try:
            return Rules(policy, Chain(loaded), ways.admission(), ways.out())
        except (OSError, ValueError) as error:
            raise PolicyError([Problem(str(path or "(no policy file)"), 1, "capture", str(error))]) from None

    def _roots(self, rules: Rules) -> Roots:
        """What origins are verified by.  Raises PolicyError."""
        given = rules.policy.tls.upstream.trusted_ca
        try:
            return upstream_roots(self._own_root, given)
        except (OSError, ValueError) as error:
            raise PolicyError([Problem(str(self.policy_path), 1, "tls.upstream.trusted_ca", str(error))]) from None

    def reload(self) -> None:
        self._reloading.ask()

    async def _reload(self) -> None:
        """Put new rules in force when they are wholly built; until then, and if they are bad, the old ones hold."""
        self.watch.mark()
        try:
            rules = await asyncio.to_thread(self._build)
            roots = self._roots(rules)
            adopt(self.master, rules)
        except PolicyError as error:
            log.error("the policy was not reloaded, the old one stays in force:\n%s", error)
            say(type="reload-failed", errors=[str(e) for e in error.errors])
            self.records.lifecycle("reload failed", str(error))
            return
        self.rules = rules
        self.origins.trust(roots)
        self.probe.forget()
        self.watch.follow(rules)
        say(type="reloaded")
        self.records.lifecycle("reloaded", str(self.policy_path))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            if self.watch.due():
                self.reload()

    # -- life

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        authority = Authority.load_or_create(self.state / "ca")
        policy = self.rules.policy
        self._own_root = authority.certificate
        self.origins = Origins(self._roots(self.rules), lambda: self.rules.policy.tls.upstream,
                               Revocation(via=lambda: self.rules.via))
        self.records = Records(self.state, policy.events)
        self.master, opts = lean_options()
        adopt(self.master, self.rules)
        self.probe = Probe(self.origins, lambda: self.rules.via)
        bypasses = Bypasses(self.probe, Pins(self.state))
        table = hooks(Tls(authority, self.origins), bypasses)
        door = Door(opts, table, lambda: self.rules, self.records, own_lookup, self.config.explicit, bypasses,
                    own=self.own)
        if self.config.ports is not None:
            ports.use(self.config.ports)
            door.reflected = True
        sockets = self._listen(door)
        say(type="listening", listen=[s.getsockname()[:2] for s in sockets], ca=str(authority.pem_path))
        if self.config.channel is not None:
            self.channel = Channel(socket.socket(fileno=self.config.channel))
            door.owner = self.channel.owner
            door.origin = self.channel.origin if self.config.asks else None
            self.channel.ready.add_done_callback(
                lambda done: None if done.cancelled() else self._ready(sockets, authority, **asdict(done.result())))
        for number, act in {signal.SIGTERM: self.stopping.set, signal.SIGINT: self.stopping.set,
                            signal.SIGHUP: self.reload}.items():
            loop.add_signal_handler(number, act)
        loop.add_reader(0, self._launcher_spoke)
        gc.collect()
        gc.freeze()     # what is there now stays: no collection need look at it again
        gc.set_threshold(*GC_THRESHOLDS)
        self._tasks = [loop.create_task(door.accept(s)) for s in sockets] + [loop.create_task(self._watch())]
        if self.channel is None:
            self._ready(sockets, authority)
        desk = await self._answer_monitors(door)
        await self.stopping.wait()
        desk.close()
        if self.channel is not None and not self.exit_code:
            self.channel.stop()
        await self._drain(door)
        deadline.rest()
        self.records.close()
        return self.exit_code

    async def _answer_monitors(self, door: Door) -> Desk:
        """Without it the proxy works as well; only `lockgate connections` knows less."""
        desk = Desk(self.records.sessions, self.state, lambda: sorted(door.own))
        try:
            await desk.open()
        except OSError as error:
            log.warning("`lockgate connections` will not know of captured connections: %s", error)
        return desk

    def _ready(self, sockets: list[socket.socket], authority: Authority, **more: object) -> None:
        listen = [list(s.getsockname()[:2]) for s in sockets]
        say(type="ready", listen=listen, ca=str(authority.pem_path), **more)
        before = f"; {more['existing']} connections were open before" if more.get("existing") else ""
        self.records.lifecycle("started", f"listening at {listen}{before}")

    def _listen(self, door: Door) -> list[socket.socket]:
        sockets: list[socket.socket] = []
        port = 0
        for host, wanted in self.config.listen:     # the same port for both families where it is ours to choose
            try:
                sockets.append(door.listen(host, wanted or port))
            except OSError:
                if not sockets or wanted:
                    raise
                log.warning("no listener on %s: this machine has no such address", host)
                continue
            port = sockets[0].getsockname()[1]
        return sockets

    def _launcher_spoke(self) -> None:
        """A word means that the redirector has its Start, so that heartbeats may begin; others are to be recorded; the
        end, that the launcher has gone.  That is no orderly stop, so a guard stays."""
        loop = asyncio.get_running_loop()
        if words := os.read(0, 4096):
            if words.startswith(b"go\n"):
                assert self.channel is not None
                self._tasks.append(loop.create_task(self._attend(self.channel)))
            for word in words.removeprefix(b"go\n").splitlines():
                with contextlib.suppress(ValueError, KeyError):     # one that was cut in two
                    note = json.loads(word)
                    self.records.lifecycle(note["note"], note["detail"])
            return
        loop.remove_reader(0)
        self.exit_code = LAUNCHER_LOST
        self.stopping.set()

    async def _attend(self, channel: Channel) -> None:
        try:
            await channel.run()
        except Lost as error:
            if not self.stopping.is_set():
                say(type="failed", errors=[str(error)])
                self.exit_code = REDIRECTOR_LOST
                self.stopping.set()

    async def _drain(self, door: Door) -> None:
        self._reloading.cancel()
        for task in self._tasks:
            task.cancel()
        if door.tasks:
            await asyncio.wait(door.tasks, timeout=DRAIN_LIMIT)
        for task in list(door.tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *door.tasks, return_exceptions=True)


def _prepare() -> None:
    logging.basicConfig(level=os.environ.get("LOCKGATE_LOG", "WARNING"), stream=sys.stderr,
                        format="lockgate: %(levelname)s: %(message)s")
    logging.getLogger("hpack").setLevel(logging.WARNING)     # writes every header it sees
    logging.getLogger("mitmproxy").setLevel(logging.ERROR)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS + 256
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))         # a core would hold keys and what people type
    os.umask(0o077)
    deadline.prepare()


def main() -> int:
    _prepare()
    fields: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    fields["listen"] = [tuple(pair) for pair in fields["listen"]]
    fields["ports"] = fields["ports"] and tuple(fields["ports"])

    async def serve() -> int:
        return await Worker(Config(**fields)).run()

    try:
        return asyncio.run(serve())
    except PolicyError as error:
        say(type="failed", errors=[str(e) for e in error.errors])
    except (AuthorityError, OSError) as error:
        say(type="failed", errors=[str(error)])
    return BAD_POLICY


if __name__ == "__main__":
    sys.exit(main())


