"""How origins are met, as the policy says: what they are offered, what they may break, what is asked about them."""

from collections.abc import Callable

from OpenSSL import SSL

from proxy import mirror, upstream
from proxy.destination import Address
from proxy.mirror import TLS1, TLS1_1, TLS1_2
from proxy.paths import Path, Roots
from proxy.resumption import Key, Sessions, partition
from proxy.revocation import Revocation
from proxy.rules import Refusal
from proxy.session import Session
from proxy.tlspolicy import Upstream

FLOORS = {"1.0": TLS1, "1.1": TLS1_1, "1.2": TLS1_2}


class Origins:
    """Makes verified connections under the policy of the moment; what is known of revocations outlives policies."""

    def __init__(self, roots: Roots, policy: Callable[[], Upstream], revocation: Revocation) -> None:
        self._policy = policy
        self._revocation = revocation
        self._sessions = Sessions()
        self.generation = 0
        self.trust(roots)

    def trust(self, roots: Roots) -> None:
        """Verify by these from now on; what was agreed on under another policy is not resumed."""
        self.generation += 1
        self._sessions.clear()
        self._upstream = upstream.Upstream(roots, staple=self._judge_staple)

    def _judge_staple(self, path: Path, staple: bytes) -> Refusal | None:
        return self._revocation.judge_staple(path, staple, self._policy().revocation)

    def connect(self, name: str, session: Session | None = None, address: Address = ("", 0)) -> SSL.Connection:
        """Return a connection in connect state, in memory, on behalf of a client.  ValueError if that is no name, or
        the client certificate that the policy has for it cannot be used."""
        policy, hello = self._policy(), session.hello if session else None
        exempt, identity = policy.exempt(name), policy.identity(name)
        offer = mirror.offer(hello, FLOORS[exempt.min_version] if exempt else TLS1_2)
        exemption = upstream.Exemption(frozenset(exempt.accept), exempt.fingerprint) if exempt else None
        connection = self._upstream.connect(name, offer, exemption, identity)
        owner = partition(session.connection) if session else None
        if session and owner and not exempt and not identity:
            key = Key(address, name, offer, owner, self.generation, "")
            session.attempts[connection] = self._sessions.begin(key, connection, resume=bool(hello and hello.resumes))
        return connection

    async def refusal(self, connection: SSL.Connection, resumed: Path = ()) -> Refusal | None:
        """Why an origin is refused, once the handshake is over: what the CAs say of its certificates counts too.

        `resumed` is the path that verified the session before.
        """
        if (refused := upstream.refusal(connection)) is None and (path := upstream.path(connection) or resumed):
            revoked = await self._revocation.check(path, self._policy().revocation)
            if revoked and upstream.refuse(connection, revoked):
                refused = revoked
        return refused
