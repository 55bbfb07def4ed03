"""What happens at each of mitmproxy's hooks: one host, the filter chain, and the choice between stream and buffer."""

from dataclasses import replace

from mitmproxy import http

from addons.verdict import Action
from proxy import answers
from proxy.chain import Decision
from proxy.engine import Hook
from proxy.hosts import Disagreement, agreed_host
from proxy.layers import next_layer
from proxy.events import incident
from proxy.session import Session, Transfer
from proxy.tlsface import Tls


async def requestheaders(session: Session, flow: http.HTTPFlow) -> None:
    """Nothing of the request has left yet; after this it streams, is collected, or is refused."""
    rules = session.rules()
    transfer = Transfer(rules.chain.begin(flow), incident())
    session.transfers[flow.id] = transfer
    flow.metadata["process"] = session.connection.process      # `~app` reads it
    if flow.error:      # mitmproxy found it malformed and answers 400 itself
        return
    if not session.recorder.healthy:
        transfer.refusal = (503, "Decisions cannot be recorded, and the policy asks to refuse requests then.")
        return
    try:
        transfer.host = agreed_host(flow.request, session.connection)
    except Disagreement as error:
        transfer.refusal = (error.status, str(error))
        return
    exchange = transfer.exchange
    if session.refused is not None or (refused := _of_its_own(session, transfer)) is not None:
        exchange.note(session.refused or refused)
        return
    await exchange.ask("requestheaders")
    collect = exchange.buffering("request")
    transfer.buffer_request = min((rule.buffer for rule in collect), default=0)
    flow.request.stream = not collect


def _of_its_own(session: Session, transfer: Transfer) -> Decision | None:
    """A plain request through the explicit door names its destination only now."""
    connection = session.connection
    if connection.tls or connection.address[0]:
        return None
    request = transfer.exchange.flow.request
    asked = replace(connection, host=transfer.host, address=(request.host, request.port))
    return judge(session, asked)[1]


def judge(session: Session, connection: object) -> tuple[str, Decision | None]:
    """The verdict on a connection: `inspect`, `bypass` or `block`, and the decision behind it.

    The policy's own rules speak first, then the filters that look at connections; a block by either holds.
    """
    rules = session.rules()
    verdict, rule, reason = rules.policy.connection_verdict(connection)  # type: ignore[arg-type]
    if verdict == "block":
        return "block", Decision(Action.BLOCK, rule, reason)
    decision, alerts = rules.chain.connection(connection)  # type: ignore[arg-type]
    for alert in alerts:
        session.recorder.connection(connection, "alert", alert)  # type: ignore[arg-type]
    if decision is not None and decision.action is not Action.ALLOW:
        return "block", decision
    return verdict, Decision(Action.ALLOW, rule, reason) if verdict == "bypass" else None


async def request(session: Session, flow: http.HTTPFlow) -> None:
    """The whole request is here; called for streamed ones too, when it has gone."""
    transfer = session.of(flow)
    if flow.request.stream or transfer.exchange.stopped or transfer.refusal:
        return
    await transfer.exchange.ask("request")
    _act(transfer, flow)


async def responseheaders(session: Session, flow: http.HTTPFlow) -> None:
    transfer = session.of(flow)
    exchange = transfer.exchange
    if exchange.stopped or transfer.refusal:
        return
    await exchange.ask("responseheaders")
    if exchange.stopped or flow.response is None:
        return
    collect = exchange.buffering("response")
    transfer.buffer_response = min((rule.buffer for rule in collect), default=0)
    transfer.open_download()
    flow.response.stream = not collect


async def response(session: Session, flow: http.HTTPFlow) -> None:
    transfer = session.of(flow)
    assert flow.response is not None
    if not (flow.response.stream or transfer.exchange.stopped or transfer.refusal):
        await transfer.exchange.ask("response")
        _act(transfer, flow)
    if flow.websocket is None:
        session.recorder.exchange(session, transfer)


def _act(transfer: Transfer, flow: http.HTTPFlow) -> None:
    """Where mitmproxy asks with the whole message in hand, its own means do: a response, or a kill."""
    decision = transfer.exchange.decision
    if decision is None or decision.action is Action.ALLOW or decision.reason == "answered by the addon":
        return
    if decision.action is Action.KILL:
        if flow.killable:
            flow.kill()
        return
    flow.response = answers.refusal(flow.request, 403, decision.reason, incident=transfer.incident,
                                    rule=decision.rule, host=transfer.host)


def error(session: Session, flow: http.HTTPFlow) -> None:
    """The exchange broke off."""
    if transfer := session.transfers.get(flow.id):
        session.recorder.exchange(session, transfer, flow.error.msg if flow.error else "broken off")


async def websocket_message(session: Session, flow: http.HTTPFlow) -> None:
    """A whole message is here; what stops it also ends the connection (see `Stream.passthrough`)."""
    assert flow.websocket is not None
    transfer = session.of(flow)
    await transfer.exchange.ask("websocket_message")
    message = flow.websocket.messages[-1]
    if transfer.exchange.stopped:
        message.drop()
    if message.from_client:
        transfer.sent += len(message.content)
    else:
        transfer.received += len(message.content)
    del flow.websocket.messages[:-1]    # mitmproxy keeps them all, for ever


def websocket_end(session: Session, flow: http.HTTPFlow) -> None:
    session.recorder.exchange(session, session.of(flow))


def hooks(tls: Tls) -> dict[str, Hook]:
    """The table of all the hooks that do something here."""
    return {
        "next_layer": next_layer,
        "tls_clienthello": lambda session, data: tls.client_hello(data, dial=session.refused is None),
        "tls_start_client": lambda _, data: tls.tls_start_client(data),
        "tls_start_server": lambda _, data: tls.tls_start_server(data),
        "tls_failed_client": lambda session, data: session.recorder.untrusted(session, data.conn.error or ""),
        "tls_failed_server": lambda session, data: session.recorder.unverified(session, data.conn.error or ""),
        "requestheaders": requestheaders, "request": request,
        "responseheaders": responseheaders, "response": response, "error": error,
        "websocket_message": websocket_message, "websocket_end": websocket_end,
    }
