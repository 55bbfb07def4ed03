"""From decisions to events: one record each, written by the sinks' own thread."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from addons.connection import Connection
from addons.verdict import Action, labels
from proxy.chain import Decision
from proxy.destination import plain
from proxy.events import Outcome, connection_event, flow_event, http_event, http_part, incident, lifecycle_event
from proxy.schema import Events
from proxy.session import Session, Transfer
from proxy.sessions import Sessions
from proxy.sinks import open_log
from proxy.splice import Moved

#: A refusal by the proxy itself, and failures of TLS, have no filter; these stand in its place.
PROXY, TLS = "lockgate", "tls"


class Records:
    """Describes what happened to a connection or a request; the log writes it."""

    def __init__(self, state: Path, settings: Events) -> None:
        self._log = open_log(state, settings)
        self.sessions = Sessions()

    @property
    def healthy(self) -> bool:
        return self._log.healthy

    def close(self) -> None:
        self._log.close()

    def lifecycle(self, what: str, detail: str = "") -> None:
        self._log.emit(lifecycle_event(what, detail))

    # -- connections

    def connection(self, connection: Connection, verdict: str, decision: Decision, *, flow_id: int,
                   incident: str = "") -> None:
        outcome = _outcome(decision, incident)
        if decision.action is Action.ALLOW:
            outcome = Outcome(verdict, decision.rule, decision.reason, incident)
        self._note(flow_id, outcome)
        self._log.emit(connection_event(connection, outcome, flow_id=flow_id))

    def _note(self, flow_id: int, outcome: Outcome, host: str = "", labels: Iterable[str] = ()) -> None:
        if (entry := self.sessions.of(flow_id)) is not None:
            entry.note(outcome.verdict, host, labels)

    def bypassed(self, connection: Connection, decision: Decision, moved: Moved, *, flow_id: int) -> None:
        """A connection that passed unread has ended."""
        outcome = Outcome("bypass", decision.rule, decision.reason)
        self._log.emit(flow_event(connection, outcome, flow_id=flow_id, sent=moved.sent, received=moved.received))

    def ended(self, session: Session) -> None:
        """A connection has ended: what refused it is recorded, unless the answer to a request has been."""
        if session.refused is not None and not session.told:
            session.told = True
            self.connection(session.connection, "block", session.refused, flow_id=session.flow_id,
                            incident=session.incident or incident())
        self.sessions.end(session)

    def uninspectable(self, session: Session, what: str) -> None:
        """Neither HTTP nor, by the policy, to be relayed unread; where a rule refuses it anyway, `ended` says so."""
        if session.refused is None:
            self._refused(session, PROXY, f"{what}: it cannot be inspected and is not relayed")

    def unverified(self, session: Session, reason: str) -> None:
        """The origin's certificate, or its TLS, did not stand up."""
        self._refused(session, TLS, f"the origin's TLS failed: {reason}")

    def _refused(self, session: Session, rule: str, reason: str) -> None:
        """The page that tells the user of it, where there will be one, names the same incident."""
        waiting = [transfer.incident for transfer in session.transfers.values()]
        number = waiting[0] if len(waiting) == 1 else incident()
        if not waiting:
            session.incident = number
        outcome = Outcome("block", rule, reason, number)
        self._note(session.flow_id, outcome)
        self._log.emit(connection_event(session.connection, outcome, flow_id=session.flow_id))

    # -- requests

    def exchange(self, session: Session, transfer: Transfer, error: str = "") -> None:
        """A request has come to its end, whichever: its record, and one for each alert on the way."""
        if transfer.recorded:
            return
        transfer.recorded = True
        session.told = session.told or _tells(transfer, session.refused)
        exchange, flow = transfer.exchange, transfer.exchange.flow
        session.transfers.pop(flow.id, None)
        outcomes = [_outcome(alert, incident()) for alert in exchange.alerts]
        if exchange.untold:
            outcomes.append(Outcome("alert", PROXY, f"{exchange.untold} more alerts on this request are not kept"))
        outcomes.append(_final(transfer, error))
        # What was redacted is not in the URL any more.
        findings = [finding for outcome in outcomes if outcome.verdict != Action.REDACT for finding in outcome.findings]
        part = http_part(flow.request, flow.response, transfer.host or flow.request.pretty_host, findings,
                         sent=transfer.sent, received=transfer.received)
        version, connection = flow.client_conn.tls_version or "", _connection(session, transfer)
        for outcome in outcomes:
            self._note(session.flow_id, outcome, part.hostname, labels(flow))
            self._log.emit(http_event(connection, outcome, part, flow_id=session.flow_id, labels=labels(flow),
                                      tls_version=version, upstream=session.met))


def _tells(transfer: Transfer, refused: Decision | None) -> bool:
    return refused is not None and transfer.refusal is None and transfer.exchange.decision is refused


def _connection(session: Session, transfer: Transfer) -> Connection:
    """That of the session; for a plain request to a proxy its own, with the address that it really went to."""
    if transfer.asked is None:
        return session.connection
    peer = transfer.exchange.flow.server_conn.peername
    return replace(transfer.asked, address=(plain(peer[0]), peer[1])) if peer else transfer.asked


def _outcome(decision: Decision, incident: str) -> Outcome:
    return Outcome(str(decision.action), decision.rule, decision.reason, incident, decision.findings,
                   str(decision.monitored or ""), decision.failed)


def _final(transfer: Transfer, error: str) -> Outcome:
    decision = transfer.exchange.decision
    if transfer.refusal is not None:
        return Outcome("block", PROXY, transfer.refusal[1], transfer.incident)
    if decision is not None:
        return _outcome(decision, transfer.incident if decision.action is not Action.ALLOW else "")
    return Outcome("pass", reason=error)


