"""What a policy would do with an exchange that is not taking place: `explain`, `replay` and the tests of filters.

It is judged by the code that judges in the proxy, with a proof that every address would give: whether one really does
is only known when it is met.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from mitmproxy import http
from mitmproxy.websocket import WebSocketMessage

from addons.connection import Connection
from addons.verdict import Finding, labels
from proxy import gate
from proxy.body import Body
from proxy.bypass import Bypasses
from proxy.chain import Chain, Decision, Exchange
from proxy.destination import Address
from proxy.hello import ClientHello
from proxy.pins import Pins
from proxy.probe import Probe
from proxy.session import Recorder, Rules, Session, Transfer

#: Bytes of a body shown to the filters at once, as they would come from the network.
CHUNK = 64 * 1024


@dataclass(slots=True)
class Outcome:
    """`verdict` is pass, or what the deciding rule said: allow, block, kill, bypass.  `proved` says that a bypass by
    name was taken for earned.  `exchange` is None where the connection alone was judged."""

    verdict: str
    rule: str
    reason: str
    alerts: list[Decision] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    labels: frozenset[str] = frozenset()
    proved: bool = False
    exchange: Exchange | None = None


class Assumed(Probe):
    """Takes every address for the name's, and remembers that it was asked."""

    def __init__(self) -> None:
        self.asked = False

    async def verified(self, address: Address, name: str, limit: float) -> str | None:
        self.asked = True
        return None


class Alerts:
    """Keeps what would be recorded of a connection."""

    def __init__(self) -> None:
        self.heard: list[Decision] = []

    def connection(self, connection: Connection, verdict: str, decision: Decision, *, flow_id: int,
                   incident: str = "") -> None:
        self.heard.append(decision)


async def judge(rules: Rules, connection: Connection, flow: http.HTTPFlow, pins: Pins) -> Outcome:
    """Judge the connection, then what is sent on it: all that the flow has, which is taken from it on the way."""
    probe, alerts = Assumed(), Alerts()
    session = Session(connection, lambda: rules, cast(Recorder, alerts), _hello(connection) if connection.tls else None)
    verdict, decision, _ = gate.judge(session, connection, [connection.address])
    verdict, decision = await Bypasses(probe, pins).settle(session, session.hello, verdict, decision)
    if decision is not None:
        return Outcome(verdict, decision.rule, decision.reason, alerts.heard, labels=frozenset(connection.labels),
                       proved=probe.asked)
    exchange = await through(rules.chain, flow, alerts.heard)
    return outcome(exchange, frozenset(connection.labels))


def outcome(exchange: Exchange, known: frozenset[str] = frozenset()) -> Outcome:
    final = exchange.decision
    findings = [f for d in (*exchange.alerts, *([final] if final else [])) for f in d.findings]
    return Outcome(str(final.action) if final else "pass", final.rule if final else "",
                   final.reason if final else "no filter objects", exchange.alerts, findings,
                   labels(exchange.flow) | known, exchange=exchange)


async def through(chain: Chain, flow: http.HTTPFlow, alerts: Sequence[Decision] = (), chunk: int = CHUNK) -> Exchange:
    """Show a flow to a chain, in the order of the network: head, body, response, messages, until one is stopped."""
    exchange = chain.begin(flow)
    exchange.alerts.extend(alerts)
    transfer = Transfer(exchange, "")
    body, response, socket = flow.request.raw_content or b"", flow.response, flow.websocket
    flow.request.raw_content, flow.response, flow.websocket = None, None, None
    await exchange.ask("requestheaders")
    await _message(transfer, "request", body, chunk)
    if response is not None and not exchange.stopped:
        flow.response, body = response, response.raw_content or b""
        response.raw_content = None
        await exchange.ask("responseheaders")
        await _message(transfer, "response", body, chunk)
    if socket is not None and not exchange.stopped:
        messages, flow.websocket = socket.messages, socket
        await exchange.ask("websocket_start")
        for message in messages:
            await _websocket(transfer, flow, message, chunk)
    return exchange


def fill(message: http.Message, body: bytes) -> None:
    """Give a message its body as it travels: mitmproxy's `content` would encode it once more."""
    message.raw_content = body
    message.headers.pop("content-length", None)
    if body:
        message.headers["content-length"] = str(len(body))


async def _message(transfer: Transfer, side: str, body: bytes, chunk: int) -> None:
    """The body streams to those who scan, then those that collect get it whole, if it is not too large for them."""
    exchange = transfer.exchange
    if body and not exchange.stopped:
        transfer.open_upload() if side == "request" else transfer.open_download()
        await _show(transfer.upload if side == "request" else transfer.download, body, chunk)
    collecting = [] if exchange.stopped else exchange.buffering(side)
    if collecting and len(body) > min(rule.buffer for rule in collecting) and transfer.overflow(side):
        return
    message = exchange.flow.request if side == "request" else exchange.flow.response
    assert message is not None
    message.raw_content = body
    if collecting:
        await exchange.ask(side)


async def _show(shown: Body | None, body: bytes, chunk: int) -> None:
    if shown is None:
        return
    for start in range(0, len(body), chunk):
        if (await shown.show(body[start : start + chunk]))[1]:
            return
    await shown.show(None)


async def _websocket(transfer: Transfer, flow: http.HTTPFlow, message: WebSocketMessage, chunk: int) -> None:
    if transfer.exchange.stopped or flow.websocket is None:
        return
    flow.websocket.messages = [message]
    await transfer.exchange.ask("websocket_message")
    await _show(transfer.message(from_client=message.from_client), message.content, chunk)


def _hello(connection: Connection) -> ClientHello:
    """The least that a client says who asks for that name."""
    return ClientHello(connection.host, False, (), 0, (), (), (), (), (), (), (), False, False)
