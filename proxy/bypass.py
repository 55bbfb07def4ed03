"""Whether a connection may pass unread although it only says where it goes: such a bypass has to be earned.

By a name in the policy or by a pin, it holds once our own handshake with that address verified for that name.  Where
it does not, the connection is inspected, so that the page says what is wrong.  Rules about addresses, programs or users
believe nothing that the connection says, and need no proof.

The name is the one that everybody can read: an ECH extension may hold another within, for the same servers, and most
browsers send one that holds nothing (RFC 9849, 6.2), so it is no reason to decrypt what was promised not to be.
"""

from datetime import datetime

from addons.connection import Connection
from addons.verdict import Action
from proxy.chain import Decision
from proxy.events import incident
from proxy.hello import ClientHello
from proxy.pins import CLOSED, Pins, cause, learnable
from proxy.pinstore import Pin
from proxy.probe import Probe
from proxy.schema import Policy
from proxy.session import Session

#: What events name as the rule where a pin, or the refusal of our certificate, decided.
PINNED = "tls.pinned"
#: What events name where a client had really hidden a name.
HIDDEN = "tls.ech"
#: What is left of an alert that OpenSSL has no word for.  From a client that sent ECH it is `ech_required`, the proof
#: that the extension was more than GREASE (RFC 9849, 6.1.6).
WORDLESS = ("", "Error")
#: The part of the time to an answer that the proof may take: if it fails, the origin is met once more, with its own.
SHARE = 0.3


class Bypasses:
    """Settles bypasses, and learns which programs need one."""

    def __init__(self, probe: Probe, pins: Pins) -> None:
        self._probe = probe
        self._pins = pins

    async def settle(self, session: Session, hello: ClientHello | None, verdict: str,
                     decision: Decision | None) -> tuple[str, Decision | None]:
        """Turn what `gate.judge` says into what holds: the verdict, and the decision behind a bypass or a block.

        Without TLS a name is only known of a proxied request, and its address is one that we looked up ourselves.
        """
        policy, connection = session.rules().policy, session.connection
        if not connection.tls:
            return verdict, decision
        if verdict == "inspect" and (pin := self._pin(policy, connection)):
            decision = Decision(Action.ALLOW, PINNED, _told(pin))
        elif verdict != "bypass" or not by_name(policy, connection):
            return verdict, decision
        assert decision is not None
        if (doubt := await self._doubt(policy, connection, hello)) is None:
            return "bypass", decision
        alert = Decision(Action.ALERT, decision.rule, f"inspected, not bypassed: {connection.address[0]} did not prove "
                                                      f"to be {connection.host or 'anybody'}: {doubt}")
        session.recorder.connection(connection, "alert", alert, flow_id=session.flow_id)
        return "inspect", None

    def client_failed(self, session: Session, error: str) -> None:
        """A client's handshake ended with that error, or `pins.CLOSED`: record it if it is about our certificate."""
        connection, policy = session.connection, session.rules().policy
        if connection.ech and error in WORDLESS:
            reason = f"it hid another name behind {connection.host or 'none'}, and is to come again without"
            session.recorder.connection(connection, "alert", Decision(Action.ALERT, HIDDEN, reason),
                                        flow_id=session.flow_id)
        if (why := cause(error)) is None:
            return
        free = session.refused is None and _unruled(policy, connection)
        pin = self._pins.client_failed(connection, why, learnable(policy.tls) if free else ())
        if pin is not None:
            session.recorder.connection(connection, "alert", Decision(Action.ALERT, PINNED, _told(pin)),
                                        flow_id=session.flow_id)
        elif why != CLOSED:
            session.recorder.connection(connection, "block", Decision(Action.BLOCK, PINNED, _refused(connection, why)),
                                        flow_id=session.flow_id, incident=incident())

    def _pin(self, policy: Policy, connection: Connection) -> Pin | None:
        """No pin counts against a rule.  What was learned holds while the policy would let it be, what an operator
        added until it expires."""
        pin = self._pins.find(connection)
        if pin is None or not _unruled(policy, connection):
            return None
        holds = not pin.learned or any(rule.covers(*pin.key) for rule in learnable(policy.tls))
        return pin if holds else None

    async def _doubt(self, policy: Policy, connection: Connection, hello: ClientHello | None) -> str | None:
        """Why the connection's name is not believed."""
        if hello is None or hello.sni is None or hello.sni != connection.host:
            return "its ClientHello names no server"
        return await self._probe.verified(connection.address, hello.sni, SHARE * policy.limits.answer)


def _unruled(policy: Policy, connection: Connection) -> bool:
    """Has the policy nothing to say of this very connection?"""
    return not policy.connection_verdict(connection).rule


def by_name(policy: Policy, connection: Connection) -> bool:
    """Of a bypass: is it a name that decides, in `tls.bypass` or in the connection rule that matches?"""
    rule = next((rule for rule in policy.connections if rule.matches(connection)), None)
    return rule is None or rule.hosts is not None


def _told(pin: Pin) -> str:
    until = datetime.fromtimestamp(pin.until).astimezone()
    return f"{pin.app} is not inspected with {pin.host} until {until:%Y-%m-%d %H:%M} ({pin.cause})"


def _refused(connection: Connection, why: str) -> str:
    app = connection.process.exe if connection.process else ""
    return (f"{app or 'the client'} does not accept our certificate for {connection.host or connection.address[0]} "
            f"({why}): it does not trust our root (`lockgate ca verify` says who does), or it pins another "
            "(`lockgate pins add` lets a program pass)")
