"""Keeps names visible where the policy says so: DNS over HTTPS refused, or its answers rid of what hides a name."""

from collections.abc import Callable
from functools import partial

from mitmproxy import http

from addons.connection import Process
from addons.verdict import Action
from proxy import dnsmessage, resolvers
from proxy.chain import Decision
from proxy.schema import Policy

type Rewrite = Callable[[http.Response], None]


def question(policy: Policy, process: Process | None, request: http.Request) -> Decision | None:
    """The block of a question to a resolver; one whose answer will be read asks for it in plain.

    The answer is an error of HTTP, which holds no answer to the question (RFC 8484, 4.2.1): clients that may do so then
    ask the system's resolver.
    """
    refuse = policy.capture.encrypted_dns == "refuse"
    if not (refuse or any(_hidden(policy, process))) or not resolvers.is_query(request):
        return None
    if not refuse:
        request.headers.pop("accept-encoding", None)
        return None
    return Decision(Action.BLOCK, resolvers.RULE, "DNS over HTTPS is refused; ask the system's resolver.")


def _hidden(policy: Policy, process: Process | None) -> tuple[bool, bool]:
    """Are keys for ECH to go from answers, and the names of HTTP/3?"""
    return policy.tls.ech != "inspect", not policy.capture.allows_quic(process)


def rewriting(policy: Policy, process: Process | None, response: http.Response) -> Rewrite | None:
    """What has to change this response once it is here as a whole, if anything does."""
    ech, http3 = _hidden(policy, process)
    if not (ech or http3) or not resolvers.is_answer(response) or response.status_code != 200:
        return None
    return partial(_strip, ech=ech, http3=http3)


def _strip(response: http.Response, *, ech: bool, http3: bool) -> None:
    """Raises ValueError where nobody can say what the answer holds."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise ValueError("a DNS message in a content coding")
    response.content = dnsmessage.strip(response.raw_content or b"", ech=ech, http3=http3)
