"""`python -I -O -m proxy.observer`: the unprivileged process behind `lockgate tap`.

It reads what a tapped program's TLS library was given, runs it through the policy's filters, and records what they
say. Nothing can be stopped any more, so every rule is in `mode: monitor`. Standard input: one line of JSON, the
configuration; then pieces, each a line of JSON (`Piece`) and that many bytes. It says on standard output, a JSON object
a line, when it is ready, and what filters find.
"""

# isort: off
from proxy import lean  # noqa: F401 before mitmproxy's addons
# isort: on

import asyncio
import json
import os
import resource
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mitmproxy import connection as ends
from mitmproxy import http

from addons.connection import Connection, Parent, Process
from addons.verdict import Action
from proxy import deadline
from proxy.chain import Chain, Decision
from proxy.events import incident
from proxy.gate import judge
from proxy.plaintext import Data, End, Event, Head, Plaintext, Unreadable
from proxy.policy import PolicyError, default_policy
from proxy.records import Records
from proxy.registry import build, load_all
from proxy.session import Rules, Session, Transfer

#: Connections that are followed at once; what else a program opens is said to be unread.
MAX_CONNECTIONS = 1000
#: Bytes of a line: what is known of a process has its own limits below it.
MAX_LINE = 1 << 16
#: What events carry, and rules can ask for by `~label`.
LABEL = "capture:tap"
BAD_POLICY = 2


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def _process(fields: dict[str, Any]) -> Process:
    """As `lockgate tap` describes it: JSON has no tuples."""
    parents = tuple(Parent(*parent) for parent in fields.get("parents", ()))
    lists = {name: tuple(fields.get(name, ())) for name in ("cmdline", "namespaces")}
    return Process(**fields | lists | {"parents": parents})


@dataclass(slots=True)
class Collected:
    """A message for filters that want it whole."""

    limit: int
    parts: list[bytes] = field(default_factory=list)
    size: int = 0


class Conversation:
    """One connection of the program, from its own point of view if it is the client, else from its clients'."""

    def __init__(self, rules: Rules, records: Records, about: dict[str, Any]) -> None:
        process = _process(about["process"])
        near, far = (tuple(about[name] or ("", 0)) for name in ("local", "peer"))
        client, server = (far, near) if about["server"] else (near, far)
        self._connection = Connection(about["name"], server, client, process, labels={LABEL})
        self._session = Session(self._connection, lambda: rules, records)
        self._records, self._server = records, about["server"]
        self._plaintext: Plaintext | None = Plaintext()
        self._transfers: dict[int, Transfer] = {}
        self._complete: set[tuple[int, bool]] = set()
        self._collected: dict[tuple[int, bool], Collected] = {}
        self._judge()

    def _judge(self) -> None:
        """What the policy would have done with the connection; where it would not have looked, nor do we."""
        connection = self._connection
        verdict, decision, _ = judge(self._session, connection, (connection.address,))
        if verdict == "bypass":
            self._plaintext = None
        elif verdict == "block" and decision is not None:
            alert = Decision(Action.ALERT, decision.rule, f"would block: {decision.reason}", decision.findings,
                             monitored=Action.BLOCK)
            self._records.connection(connection, "alert", alert, flow_id=self._session.flow_id)
            self._say(connection.host or connection.address[0], alert)

    async def feed(self, data: bytes, *, sent: bool) -> None:
        if self._plaintext is None:
            return
        try:
            for event in self._plaintext.feed(data, from_client=sent != self._server):
                await self._take(event)
        except Unreadable as error:
            self.lose(str(error))

    def lose(self, why: str) -> None:
        """No more of it will be read."""
        if self._plaintext is not None:
            self._plaintext = None
            reason = f"not read any further: {why}"
            self._records.connection(self._connection, "alert", Decision(Action.ALERT, "tap", reason),
                                     flow_id=self._session.flow_id)
            say(type="unread", host=self._connection.host or "", reason=reason)
        self.end(why)

    def end(self, why: str = "") -> None:
        for transfer in self._transfers.values():
            self._finish(transfer, why or "the connection ended")
        self._transfers.clear()

    async def _take(self, event: Event) -> None:
        match event:
            case Head(key, http.Request() as request):
                await self._request(key, request)
            case Head(key, http.Response() as response) if transfer := self._transfers.get(key):
                transfer.exchange.flow.response = response
                await transfer.exchange.ask("responseheaders")
                transfer.open_download()
                self._collect(key, transfer, "response")
            case Data(key, from_client, data) if transfer := self._transfers.get(key):
                await self._data(key, transfer, data, from_client=from_client)
            case End(key, from_client, error) if transfer := self._transfers.get(key):
                if not error:
                    await self._ended(key, transfer, from_client=from_client)
                self._complete.add((key, from_client))
                if error or (key, not from_client) in self._complete:       # a server may answer before it has all
                    self._complete -= {(key, True), (key, False)}
                    self._finish(self._transfers.pop(key), error)

    async def _request(self, key: int, request: http.Request) -> None:
        connection = self._connection
        flow = http.HTTPFlow(ends.Client(peername=connection.client, sockname=connection.address, timestamp_start=0),
                             ends.Server(address=connection.address))
        flow.request, flow.metadata["process"] = request, connection.process
        transfer = self._transfers[key] = Transfer(self._session.rules().chain.begin(flow), incident())
        transfer.host = connection.host or request.pretty_host
        request.host, request.port = transfer.host, connection.address[1] or 443
        self._session.transfers[flow.id] = transfer
        await transfer.exchange.ask("requestheaders")
        transfer.open_upload()
        self._collect(key, transfer, "request")

    def _collect(self, key: int, transfer: Transfer, hook: str) -> None:
        if rules := transfer.exchange.buffering(hook):
            self._collected[key, hook == "request"] = Collected(min(rule.buffer for rule in rules))

    async def _data(self, key: int, transfer: Transfer, data: bytes, *, from_client: bool) -> None:
        if from_client:
            transfer.sent += len(data)
        else:
            transfer.received += len(data)
        if body := transfer.upload if from_client else transfer.download:
            await body.show(data)
        if collected := self._collected.get((key, from_client)):
            collected.parts.append(data)
            collected.size += len(data)
            if collected.size > collected.limit:
                del self._collected[key, from_client]
                transfer.overflow("request" if from_client else "response")

    async def _ended(self, key: int, transfer: Transfer, *, from_client: bool) -> None:
        if body := transfer.upload if from_client else transfer.download:
            await body.show(None)
        if collected := self._collected.pop((key, from_client), None):
            flow = transfer.exchange.flow
            message = flow.request if from_client else flow.response
            assert message is not None
            message.raw_content = b"".join(collected.parts)
            await transfer.exchange.ask("request" if from_client else "response")

    def _finish(self, transfer: Transfer, error: str = "") -> None:
        for alert in transfer.exchange.alerts:
            self._say(transfer.host, alert)
        self._records.exchange(self._session, transfer, error)

    @staticmethod
    def _say(host: str, alert: Decision) -> None:
        say(type="alert", host=host, rule=alert.rule, reason=alert.reason)


class Observer:
    """All the connections of the tapped programs."""

    def __init__(self, rules: Rules, records: Records) -> None:
        self._rules, self._records = rules, records
        self._conversations: dict[tuple[int, str], Conversation] = {}

    async def piece(self, about: dict[str, Any], data: bytes) -> None:
        key = about["pid"], about["id"]
        conversation = self._conversations.get(key)
        match about["kind"]:
            case "data":
                if conversation is None:
                    if len(self._conversations) >= MAX_CONNECTIONS:
                        say(type="unread", host=about["name"] or "", reason=f"more than {MAX_CONNECTIONS} connections")
                        return
                    conversation = self._conversations[key] = Conversation(self._rules, self._records, about)
                await conversation.feed(data, sent=about["sent"])
            case "dropped" if conversation is not None:
                conversation.lose("the program was faster than its filters")
            case "end" if conversation is not None:
                self._conversations.pop(key).end()

    def end(self) -> None:
        for conversation in self._conversations.values():
            conversation.end()


async def observe(config: dict[str, Any]) -> None:
    """Serve until the end of input.  Raises PolicyError, OSError."""
    rules = observing(config)
    records = Records(Path(config["state"]), rules.policy.events)
    observer = Observer(rules, records)
    reader = asyncio.StreamReader(MAX_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say(type="ready")
    while line := await reader.readline():
        about = json.loads(line)
        await observer.piece(about, await reader.readexactly(about["size"]))
    observer.end()
    records.close()


def observing(config: dict[str, Any]) -> Rules:
    """The policy, with filters that can only look.  Raises PolicyError."""
    if config["policy"]:
        policy, loaded = load_all(Path(config["policy"]), strict=config["strict"])
    else:
        policy = default_policy()
        loaded = build(policy, Path())
    chain = Chain(loaded)
    for rule in chain.rules:
        rule.monitor = True
    return Rules(policy, chain)


def main() -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))        # a core would hold what people type
    os.umask(0o077)
    deadline.prepare()
    config = json.loads(os.read(0, MAX_LINE).split(b"\n")[0])
    try:
        asyncio.run(observe(config))
    except PolicyError as error:
        say(type="failed", errors=[str(e) for e in error.errors])
        return BAD_POLICY
    except OSError as error:
        say(type="failed", errors=[str(error)])
        return BAD_POLICY
    finally:
        deadline.rest()
    return 0


if __name__ == "__main__":
    sys.exit(main())
