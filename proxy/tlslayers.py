"""mitmproxy's TLS layers, made to say what went wrong: alerts leave, ends are announced, late refusals are heard.

One of the files that know mitmproxy's internals (see `engine.py`).
"""

import re
from weakref import WeakKeyDictionary

from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer, tunnel
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientTLSLayer, ServerTLSLayer
from mitmproxy.proxy.layers.tls import TlsData, TlsFailedClientHook, TLSLayer
from OpenSSL import SSL

from proxy.events import Upstream
from proxy.fingerprint import MAX_FLIGHT, client_fingerprint, server_fingerprint
from proxy.pins import CLOSED
from proxy.session import Session
from proxy.upstream import path, refusal, tolerated

#: Bytes read at once: more than a record may hold (RFC 8446, 5.1).
CHUNK = 65535

#: The last words in the text of an OpenSSL error.
SAID = re.compile(r"'([^']+)'\)\]\)$")
#: The fingerprints of our own hellos, JA3 and JA4.
_OURS: WeakKeyDictionary[SSL.Context, dict[tuple[bool, bool], tuple[str, str]]] = WeakKeyDictionary()

type Commands = layer.CommandGenerator[None]


class _Side(TLSLayer):
    """What both sides share."""

    _announced = False      # that we close
    _ended = False          # the layer above knows that the peer has closed

    def on_handshake_error(self, err: str) -> Commands:
        """The alert lies ready in OpenSSL's buffer: a plain close would not say what is wrong (RFC 8446, 6.2)."""
        if self.tls is not None:
            yield from self.tls_interact()
        yield from super().on_handshake_error(err)

    def receive_data(self, data: bytes) -> Commands:
        """An alert after the handshake ends the connection; mitmproxy's would wait for ever.  TLS 1.3 origins refuse
        clients without a certificate in this way, and clients our certificate."""
        if self._ended:
            return
        if data:
            self.tls.bio_write(data)
        plaintext = bytearray()
        failure = ""
        while not (self._ended or failure):
            try:
                plaintext += self.tls.recv(CHUNK)
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self._ended = True
            except SSL.Error as error:
                failure = _words(error)
        yield from self.tls_interact()      # after reading, which may have had something to answer
        if plaintext:
            self.heard()
            yield from self.event_to_child(events.DataReceived(self.conn, bytes(plaintext)))
        if failure:
            self._ended = True
            yield from self.failed_late(failure)
        if self._ended:
            self.conn.state &= ~ConnectionState.CAN_READ
            yield from self.event_to_child(events.ConnectionClosed(self.conn))

    def heard(self) -> None:
        """Something came from the peer that is not of the handshake."""

    def failed_late(self, why: str) -> Commands:
        """The peer sent a fatal alert, or something that is no TLS, after the handshake."""
        self.conn.error = f"TLS failed: {why}"
        yield from ()

    def receive_close(self) -> Commands:
        if not self._ended:
            self._ended = True
            yield from self.event_to_child(events.ConnectionClosed(self.conn))

    def send_data(self, data: bytes) -> Commands:
        if self._announced:
            return
        try:
            self.tls.sendall(data)
        except SSL.Error:       # the peer has gone or broken it off, which is heard when reading
            return
        yield from self.tls_interact()

    def send_close(self, command: commands.CloseConnection) -> Commands:
        """The close is announced: the peer must be able to tell an end from a cut (RFC 8446, 6.1)."""
        if self.tunnel_state is tunnel.TunnelState.OPEN and not self._announced:
            self._announced = True
            try:
                self.tls.shutdown()
            except SSL.Error:
                """The peer has gone already."""
            yield from self.tls_interact()
        yield from super().send_close(command)


class ClientTls(_Side, ClientTLSLayer):
    """Our face to the client."""

    _spoken = False         # it has sent something beyond its handshake

    def on_handshake_error(self, err: str) -> Commands:
        """mitmproxy would guess at what the client may have meant."""
        if self.tls is not None:
            yield from self.tls_interact()
        yield from self._refused(CLOSED if err == "connection closed" else err)
        yield commands.CloseConnection(self.tunnel_connection)
        self.event_to_child = self.errored  # type: ignore[method-assign]

    def heard(self) -> None:
        self._spoken = True

    def failed_late(self, why: str) -> Commands:
        yield from self._refused(why)

    def receive_close(self) -> Commands:
        if not self._spoken and not self._ended:
            yield from self._refused(CLOSED)
        yield from super().receive_close()

    def _refused(self, why: str) -> Commands:
        """By TLS 1.3 a client learns what our certificate is after the handshake has ended for us."""
        self.conn.error = why
        yield TlsFailedClientHook(TlsData(self.conn, self.context, self.tls))


class OriginTls(_Side, ServerTLSLayer):
    """Our face to the origin: nothing of a request leaves, and nothing of the origin's is believed, before the verdict.

    Both verifiers have spoken when OpenSSL calls the handshake done; the hook that follows may look further, at
    revocation, and still refuse.
    """

    def __init__(self, context: Context, session: Session) -> None:
        super().__init__(context)
        self._session = session
        self._sent = self._received = b""       # of the handshake, as far as fingerprints need it

    def tls_interact(self) -> Commands:
        for command in super().tls_interact():
            if not self._sent and isinstance(command, commands.SendData):
                self._sent = command.data
                self._session.sent(command.data)
            yield command

    def receive_handshake_data(self, data: bytes) -> layer.CommandGenerator[tuple[bool, str | None]]:
        if len(self._received) < MAX_FLIGHT:
            self._received += data
        done, error = yield from super().receive_handshake_data(data)
        if self.tls is not None and (refused := refusal(self.tls)):
            self.conn.certificate_list = ()         # an unverified origin chooses no names for our leaf
            self.conn.timestamp_tls_setup = None
            return False, f"{refused.reason.removesuffix('.')} (rule: {refused.rule})"
        if error:
            return False, _own_words(error)
        if done:
            self._session.met = self._met()
            # From now on these have nothing to look for; each would cost every command one more generator.
            self.tls_interact = super().tls_interact    # type: ignore[method-assign]
            self.receive_data = super().receive_data    # type: ignore[method-assign]
        return done, error

    def _met(self) -> Upstream:
        attempt = self._session.attempts.get(self.tls)
        resumed = attempt is not None and bool(attempt.path)
        # Our hello has the same fingerprints whenever the same context names a server, or not, and brings a ticket.
        known = _OURS.setdefault(self.tls.get_context(), {})
        kind = self.tls.get_servername() is not None, attempt is not None and attempt.ticket is not None
        if kind not in known:
            known[kind] = client_fingerprint(self._sent) or ("", "")
        return Upstream(self.tls.get_protocol_version_name(), self.tls.get_cipher_name() or "",
                   self.tls.get_group_name() or "", resumed, *known[kind], server_fingerprint(self._received) or "")

    def receive_data(self, data: bytes) -> Commands:
        if not refusal(self.tls):       # mitmproxy reads on before it has heard of the refusal
            yield from super().receive_data(data)

    def heard(self) -> None:
        """The ticket, if there is one, came before the first data, and the origin is accepted."""
        attempt = self._session.attempts.pop(self.tls, None)
        if attempt is not None and not tolerated(self.tls):
            attempt.keep(path(self.tls))

    def receive_close(self) -> Commands:
        """What only the end of the connection ends may have been cut (RFC 9112, 9.8)."""
        if not self._ended:
            self.conn.error = self.conn.error or "it ended without TLS's closing alert"
        yield from super().receive_close()


def _own_words(error: str) -> str:
    """What mitmproxy says of a failed handshake, for people who know neither it nor OpenSSL."""
    if "cannot agree on a TLS version" in error:
        return "it speaks no version of TLS that it was offered"
    if said := SAID.search(error):
        return f"its TLS handshake failed: {said[1]}"
    return "it closed the connection during the TLS handshake" if error == "connection closed" else error


def _words(error: SSL.Error) -> str:
    """What OpenSSL says last, as in `tlsv13 alert certificate required`."""
    queue = error.args[0] if error.args else None
    return str(queue[-1][2]) if isinstance(queue, list) and queue else type(error).__name__
