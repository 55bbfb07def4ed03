"""One connection that lockgate looks into, and what the parts of the proxy know of it together."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from mitmproxy import http
from mitmproxy.connection import Connection as End
from OpenSSL import SSL

from addons.connection import Connection
from addons.decode import Unscannable
from addons.verdict import Action
from proxy import redacting
from proxy.admission import Admission
from proxy.body import Body
from proxy.boundaries import message_boundary
from proxy.chain import Chain, Decision, Exchange
from proxy.destination import Address
from proxy.events import Upstream, new_flow_id
from proxy.hearing import refused, root
from proxy.hello import ClientHello
from proxy.loops import Loops, Round
from proxy.resumption import Attempt
from proxy.schema import Policy
from proxy.upstreamproxy import UpstreamProxy


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy and the filters built from it: replaced as a whole on reload, never changed."""

    policy: Policy
    chain: Chain
    admission: Admission | None = None      # who may use an explicit proxy that listens for others
    via: UpstreamProxy | None = None        # the way to origins


class Recorder(Protocol):
    """Takes what was decided; see `records.py`."""

    def connection(self, connection: Connection, verdict: str, decision: Decision, *, flow_id: int,
                   incident: str = "") -> None: ...

    def exchange(self, session: "Session", transfer: "Transfer", error: str = "") -> None: ...

    def uninspectable(self, session: "Session", what: str) -> None: ...

    def unverified(self, session: "Session", reason: str) -> None: ...

    def ended(self, session: "Session") -> None: ...

    @property
    def healthy(self) -> bool: ...


@dataclass(slots=True, eq=False)
class Transfer:
    """One request on the connection: its way through the chain and its two bodies."""

    exchange: Exchange
    incident: str
    host: str = ""
    asked: Connection | None = None     # of a plain request to a proxy, which says itself where it goes
    upload: Body | None = None
    download: Body | None = None
    buffer_request: int = 0             # bytes to collect for filters that want the whole request; 0: stream
    buffer_response: int = 0
    collected: int = 0                  # bytes of a request body collected for filters
    refusal: tuple[int, str] | None = None      # an answer of the proxy itself: status and reason
    rewrite: Callable[[http.Response], None] | None = None      # what has to change the whole response; ValueError
    sent: int = 0
    received: int = 0
    recorded: bool = False

    @property
    def stopped(self) -> bool:
        """It gets an answer from us, or none, in place of the origin's."""
        return self.refusal is not None or self.exchange.stopped

    def open_upload(self) -> None:
        """A request body follows: get its scanners.  One that cannot be read is decided on at once."""
        request = self.exchange.flow.request
        self.upload = self._open("request", request.headers, _file(request))

    def open_download(self) -> None:
        response = self.exchange.flow.response
        assert response is not None
        self.download = self._open("response", response.headers)

    def _open(self, side: str, headers: http.Headers, file: str = "") -> Body | None:
        exchange, hook = self.exchange, f"{side}body"
        scanners = exchange.scanners(hook)
        viewers = exchange.viewers(f"{side}views")
        if not (scanners or viewers) or exchange.stopped:
            return None
        kind = declared(headers)
        try:
            return Body(scanners, headers.get("content-encoding", ""), exchange.note, message_boundary(kind),
                        renew=lambda: exchange.scanners(hook), viewers=viewers, declared=kind, file=file,
                        order=exchange.rules, whole=redacting.whole(headers, viewers),
                        refuses=lambda: redacting.signed(headers))
        except Unscannable as error:
            refused(scanners, viewers, root(kind), str(error), exchange.note)
            return None

    def message(self, *, from_client: bool) -> Body | None:
        """A whole WebSocket message is here: what shows it to those who hear views."""
        exchange = self.exchange
        viewers = exchange.viewers("requestviews" if from_client else "responseviews")
        if not viewers or exchange.stopped:
            return None
        return Body([], "", exchange.note, viewers=viewers, name="message", order=exchange.rules,
                    whole=redacting.whole(http.Headers(), viewers))

    def overflow(self, hook: str) -> bool:
        """A message outgrew what its filters may buffer; return whether one's `on_error` stops it.

        Otherwise those filters are passed over and the message streams on.
        """
        if hook == "response" and self.rewrite is not None:
            self.refusal = (502, "The origin's answer is too long to be what it says it is.")
            return True
        for rule in self.exchange.buffering(hook):
            if self.exchange.note(rule.failure(f"the body is larger than the {rule.buffer} bytes it may buffer")):
                return True
            self.exchange.skipped.add((rule.id, hook))
        return False


def declared(headers: http.Headers) -> str:
    """The Content-Type for the views; of gRPC with `encoding`, how its messages are compressed (gRPC over HTTP/2)."""
    kind: str = headers.get("content-type", "")
    if "grpc" in kind.lower() and (encoding := headers.get("grpc-encoding")):
        kind += f"; encoding={encoding}"
    return kind


def _file(request: http.Request) -> str:
    """The name of the file that is put there, if one is (RFC 9110, 9.3.4)."""
    put = request.data.method == b"PUT"
    return str(request.data.path.partition(b"?")[0].rpartition(b"/")[2], "utf-8", "replace") if put else ""


@dataclass(slots=True, eq=False)
class Session:
    """`rules` gives those in force now: a long connection follows a reload with its next request."""

    connection: Connection
    rules: Callable[[], Rules]
    recorder: Recorder
    hello: ClientHello | None = None    # of a client that speaks TLS
    met: Upstream | None = None              # the newest session with an origin
    attempts: dict[SSL.Connection, Attempt] = field(default_factory=dict)   # tickets that handshakes may bring
    refused: Decision | None = None     # the whole connection is: every request gets the answer, nothing is dialled
    told: bool = False                  # an event names the rule that refused it
    silent: bool = False                # the client waits for the origin to speak first
    settled: bool = False               # it is known what the connection carries
    #: Plain requests to a proxy name their origin one by one: where that is, if it may be led there (else `Refusal`).
    find: Callable[[str, int], Awaitable[tuple[Address, ...]]] | None = None
    #: Where to dial, in this order, for what an origin is called: the verdict holds for these addresses alone.
    routes: dict[Address, tuple[Address, ...]] = field(default_factory=dict)
    #: Connections that lead to an upstream proxy, for plain requests, with the value of `Proxy-Authorization`.
    forwarded: dict[End, bytes | None] = field(default_factory=dict)
    transfers: dict[str, Transfer] = field(default_factory=dict)
    flow_id: int = field(default_factory=new_flow_id)
    guard: Loops | None = None          # against connections that come round
    rounds: list[Round] = field(default_factory=list)       # what this one is to it: one for each destination
    incident: str = ""                  # of a failure of the connection itself, until the page of a request names it
    #: Must reading from this end wait?  Set by the layer that knows.
    congested: Callable[[End], bool] = lambda _: False

    @property
    def relays(self) -> bool:
        """May what is not HTTP pass unread?"""
        return self.refused is None and self.rules().policy.capture.other == "relay"

    @property
    def looped(self) -> str:
        """Why it cannot get anywhere: what we sent for it came round."""
        return next((each.looped for each in self.rounds if each.looped), "")

    @property
    def direct(self) -> bool:
        """Does our upstream proxy bring it, for us?  It must not be led through that once more."""
        return any(each.direct for each in self.rounds)

    async def came_round(self, connection: Connection, first: bytes = b"") -> str:
        """Why this connection, which begins with `first`, must not be led on; empty if it may."""
        if self.guard is None:
            return ""
        via = self.rules().via
        through = via.places if via is not None and via.covers(connection.host, connection.address[0]) else ()
        return await self.guard.judge(self.rounds, connection, first, through)

    def sent(self, first: bytes) -> None:
        """These are the first bytes that leave towards an origin."""
        if self.guard is not None and self.rounds:
            self.guard.sent(self.rounds[-1], first)

    def refuse(self, reason: str, incident: str) -> None:
        """Record that something was refused before it became a request."""
        decision = Decision(Action.BLOCK, "lockgate", reason)
        self.recorder.connection(self.connection, "block", decision, flow_id=self.flow_id, incident=incident)

    def of(self, flow: http.HTTPFlow) -> Transfer:
        return self.transfers[flow.id]
