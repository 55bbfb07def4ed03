"""What happens at each of mitmproxy's hooks: one host, the filter chain, and the choice between stream and buffer."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from mitmproxy import http

from addons.connection import Connection
from addons.verdict import Action
from proxy import answers, disclosure
from proxy.bypass import Bypasses
from proxy.chain import Decision
from proxy.destination import Address
from proxy.dnsmessage import MAX_MESSAGE
from proxy.engine import Hook
from proxy.events import incident
from proxy.explicit import Refusal
from proxy.hosts import agreed_host
from proxy.layers import next_layer
from proxy.normal import Malformed, normalize_request, stay_captured
from proxy.session import Session, Transfer
from proxy.tlsface import Tls
from proxy.websocket import offer_only_deflate


def requestheaders(session: Session, flow: http.HTTPFlow) -> Awaitable[None] | None:
    """Nothing of the request has left yet; after this it streams, is collected, or is refused."""
    rules = session.rules()
    number, session.incident = session.incident or incident(), ""
    transfer = Transfer(rules.chain.begin(flow), number)
    session.transfers[flow.id] = transfer
    flow.metadata["process"] = session.connection.process      # `~app` reads it
    flow.request.stream = True
    try:
        transfer.host = _acceptable(session, flow.request)
        process = session.connection.process
        transfer.exchange.note(disclosure.question(session.rules().policy, process, flow.request))
    except Malformed as error:
        transfer.refusal = (error.status, str(error))
    else:
        if session.find is not None and session.refused is None and not transfer.stopped:
            return _judge_request(session, transfer)
        transfer.exchange.note(session.refused)
    return _ask_first(transfer)


def _ask_first(transfer: Transfer) -> Awaitable[None] | None:
    waiting = None if transfer.stopped else transfer.exchange.ask_now("requestheaders")
    if waiting is not None:
        return _then(waiting, _prepare_request, transfer)
    _prepare_request(transfer)
    return None


def _prepare_request(transfer: Transfer) -> None:
    request = transfer.exchange.flow.request
    if transfer.stopped:
        request.headers.pop("expect", None)     # the answer is there: mitmproxy must not ask for the body
        return
    collect = transfer.exchange.buffering("request")
    transfer.buffer_request = min((rule.buffer for rule in collect), default=0)
    request.stream = not collect


async def _then(waiting: Awaitable[None], act: Callable[[Transfer], None], transfer: Transfer) -> None:
    await waiting
    act(transfer)


def _acceptable(session: Session, request: http.Request) -> str:
    """Return the one host; raise `Malformed` for a request that no filter is to see."""
    if not session.recorder.healthy:
        raise Malformed(503, "Decisions cannot be recorded, and the policy asks to refuse requests then.")
    if request.method.upper() == "CONNECT":     # its parsers take every spelling for the one
        raise Malformed(400, "CONNECT is only understood as the first request to the proxy.")
    host = agreed_host(request, session.connection)
    normalize_request(request)
    offer_only_deflate(request)
    return host


async def _judge_request(session: Session, transfer: Transfer) -> None:
    """Each request of a plain connection through the explicit door names its own destination, whose verdict holds."""
    assert session.find is not None
    exchange = transfer.exchange
    request = exchange.flow.request
    asked = transfer.asked = _copy(session.connection, (request.host, request.port), transfer.host)
    verdict, decision = "inspect", blocked_by_name(session, asked)
    try:
        if decision is None:
            verdict, decision, routes = judge(session, asked, await session.find(*asked.address))
            session.routes = {asked.address: routes}        # one request at a time comes this way
            asked.address = routes[0]
            if why := await session.came_round(asked):
                transfer.refusal = (508, why)
    except Refusal as error:
        transfer.refusal = (error.status, str(error))
    if verdict == "bypass":
        exchange.rules = ()
    else:
        exchange.note(decision)
    if (waiting := _ask_first(transfer)) is not None:
        await waiting


def blocked_by_name(session: Session, connection: Connection) -> Decision | None:
    """The block that holds wherever the name may lead: such a name is not even looked up.

    Filters will be asked again with the address, so that only what they really said counts, no failure and no alert.
    """
    rules = session.rules()
    if not rules.policy.waits_for_address(connection):
        verdict, rule, reason = rules.policy.connection_verdict(connection)
        if verdict == "block":
            return Decision(Action.BLOCK, rule, reason)
    decision, _ = rules.chain.connection(connection)
    return None if decision is None or decision.action is Action.ALLOW or decision.failed else decision


def judge(session: Session, connection: Connection,
          addresses: Sequence[Address]) -> tuple[str, Decision | None, tuple[Address, ...]]:
    """The verdict on a connection: `inspect`, `bypass` or `block`, the decision behind it, and where it may go.

    Where a name has several addresses, a block of one does not touch the others, and none is dialled under the
    verdict on another: the first that is not blocked decides, and those are returned that share its verdict.
    """
    asked = [_copy(connection, address, connection.host) for address in addresses]
    found = [(each, *_judge_one(session, each)) for each in asked]
    first, verdict, decision, alerts = next((each for each in found if each[1] != "block"), found[0])
    connection.labels = first.labels
    for alert in alerts:
        session.recorder.connection(first, "alert", alert, flow_id=session.flow_id)
    return verdict, decision, tuple(each.address for each, its, _, _ in found if its == verdict)


def _copy(connection: Connection, address: Address, host: str | None) -> Connection:
    """The same but for where it goes; what filters find out about the one is not said of the other."""
    return replace(connection, host=host, address=address, labels=set(connection.labels))


def _judge_one(session: Session, connection: Connection) -> tuple[str, Decision | None, list[Decision]]:
    """The policy's own rules speak first, then the filters that look at connections; a block by either holds."""
    rules = session.rules()
    verdict, rule, reason = rules.policy.connection_verdict(connection)
    if verdict == "block":
        return "block", Decision(Action.BLOCK, rule, reason), []
    decision, alerts = rules.chain.connection(connection)
    if decision is not None and decision.action is not Action.ALLOW:
        return "block", decision, alerts
    if not rule and connection.labels:      # `tls.bypass` may name what a filter has just found out
        verdict, rule, reason = rules.policy.connection_verdict(connection)
    return verdict, Decision(Action.ALLOW, rule, reason) if verdict == "bypass" else None, alerts


def request(session: Session, flow: http.HTTPFlow) -> Awaitable[None] | None:
    """The whole request is here; called for streamed ones too, when it has gone."""
    transfer = session.of(flow)
    return None if flow.request.stream or transfer.stopped else _collected_request(transfer, flow)


async def _collected_request(transfer: Transfer, flow: http.HTTPFlow) -> None:
    await transfer.exchange.ask("request")
    _act(transfer, flow)


def responseheaders(session: Session, flow: http.HTTPFlow) -> Awaitable[None] | None:
    transfer = session.of(flow)
    if transfer.stopped:
        return None
    if flow.response is not None:
        capture, process = session.rules().policy.capture, session.connection.process
        if not capture.allows_quic(process):
            stay_captured(flow.response)
        transfer.rewrite = disclosure.rewriting(session.rules().policy, process, flow.response)
    waiting = transfer.exchange.ask_now("responseheaders")
    if waiting is not None:
        return _then(waiting, _prepare_response, transfer)
    _prepare_response(transfer)
    return None


def _prepare_response(transfer: Transfer) -> None:
    exchange = transfer.exchange
    response = exchange.flow.response
    if exchange.stopped or response is None:
        return
    collect = exchange.buffering("response")
    bounds = [rule.buffer for rule in collect] + ([MAX_MESSAGE] if transfer.rewrite else [])
    transfer.buffer_response = min(bounds, default=0)
    transfer.open_download()
    response.stream = not bounds


def response(session: Session, flow: http.HTTPFlow) -> Awaitable[None] | None:
    transfer = session.of(flow)
    assert flow.response is not None
    if not (flow.response.stream or transfer.stopped):
        return _collected_response(session, transfer, flow)
    if flow.websocket is None:
        session.recorder.exchange(session, transfer)
    return None


async def _collected_response(session: Session, transfer: Transfer, flow: http.HTTPFlow) -> None:
    await transfer.exchange.ask("response")
    _act(transfer, flow)
    _rewrite(transfer, flow)
    if flow.websocket is None:
        session.recorder.exchange(session, transfer)


def _rewrite(transfer: Transfer, flow: http.HTTPFlow) -> None:
    if transfer.rewrite is None or transfer.stopped or flow.response is None:
        return
    try:
        transfer.rewrite(flow.response)
    except ValueError as error:
        transfer.refusal = (502, f"The origin's answer cannot be read: {error}.")
        flow.response = answers.refusal(flow.request, *transfer.refusal, incident=transfer.incident, host=transfer.host)


def _act(transfer: Transfer, flow: http.HTTPFlow) -> None:
    """Where mitmproxy asks with the whole message in hand, its own means do: a response, or a kill."""
    decision = transfer.exchange.decision
    if decision is None or decision.action is Action.ALLOW or decision.answered:
        return
    if decision.action is Action.KILL or transfer.exchange.manner == "reset":
        if flow.killable:
            flow.kill()
        return
    flow.response = answers.refusal(flow.request, 403, decision.told, incident=transfer.incident,
                                    rule=decision.rule, host=transfer.host, manner=transfer.exchange.manner)


async def observe(session: Session, hook: str, flow: http.HTTPFlow) -> None:
    """For filters that only want to know; it is too late for a verdict."""
    if transfer := session.transfers.get(flow.id):
        await transfer.exchange.ask(hook)


async def websocket_message(session: Session, flow: http.HTTPFlow) -> None:
    """A whole message is here; what stops it also ends the connection (see `RefusingStream.passthrough`)."""
    assert flow.websocket is not None
    transfer = session.of(flow)
    await transfer.exchange.ask("websocket_message")
    message = flow.websocket.messages[-1]
    if body := transfer.message(from_client=message.from_client):
        chunks, stop = await body.show(message.content)
        if stop is None:
            chunks += (await body.show(None))[0]
            if (content := b"".join(chunks)) != message.content and not transfer.exchange.stopped:
                message.content = content       # what was to be masked is
    if transfer.exchange.stopped:
        message.drop()
    if message.from_client:
        transfer.sent += len(message.content)
    else:
        transfer.received += len(message.content)
    del flow.websocket.messages[:-1]    # mitmproxy keeps them all, for ever


async def websocket_end(session: Session, flow: http.HTTPFlow) -> None:
    await observe(session, "websocket_end", flow)
    session.recorder.exchange(session, session.of(flow))


def hooks(tls: Tls, bypasses: Bypasses) -> dict[str, Hook]:
    """The table of all the hooks that do something here."""
    return {
        "next_layer": next_layer,
        "tls_clienthello": lambda session, data: tls.client_hello(data, dial=session.refused is None),
        "tls_start_client": tls.tls_start_client,
        "tls_start_server": tls.tls_start_server,
        "tls_established_server": tls.tls_established_server,
        "tls_failed_client": lambda session, data: bypasses.client_failed(session, data.conn.error or ""),
        "tls_failed_server": lambda session, data: session.recorder.unverified(session, data.conn.error or ""),
        "requestheaders": requestheaders, "request": request,
        "responseheaders": responseheaders, "response": response,
        "error": lambda session, flow: observe(session, "error", flow),
        "websocket_start": lambda session, flow: observe(session, "websocket_start", flow),
        "websocket_message": websocket_message, "websocket_end": websocket_end,
    }
