"""One host per request: every place that can name it must name the same one, or no filter's opinion means anything.

Otherwise we would classify one name while the origin serves another (RFC 9110, 7.2 and 7.4; RFC 9112, 3.2 and 11.2).
"""

import ipaddress
import re
from functools import lru_cache

from mitmproxy import http

from addons.connection import Connection
from proxy.normal import Malformed

#: A name or address as clients really send it, with an optional port.  RFC 3986 lets a name hold escapes and more,
#: which one parser decodes and another does not: no user information, no `%`, no space, no control, ASCII alone.
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::(?P<port>[0-9]{1,5})?)?")


class Disagreement(Malformed):
    """The request names no host or more than one; `status` is the answer it deserves."""


@lru_cache(1024)
def normalize(host: str) -> str:
    """Lower case, no brackets, no trailing dot, addresses in their one form."""
    host = host.strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def split_authority(authority: str) -> tuple[str, int | None]:
    """Return host and port of a Host header, `:authority` or CONNECT target; raise `Disagreement` (400)."""
    match = _AUTHORITY.fullmatch(authority)
    if not match or (match["port"] and int(match["port"]) > 65535):
        raise Disagreement(400, "The request's host is not well formed.")
    return normalize(match["host"]), int(match["port"]) if match["port"] else None


def agreed_host(request: http.Request, connection: Connection) -> str:
    """Return the one host that this request is for.

    Raises `Disagreement`: 400 where the request contradicts itself, 421 where it asks this connection for another
    host's content, as clients that coalesce HTTP/2 connections do (RFC 9113, 9.1.2): they try again on a new one.
    """
    named = request.headers.get_all("host")
    if len(named) > 1:
        raise Disagreement(400, "The request has more than one Host header.")
    if not named and not request.is_http2:      # the origin would have to guess, also where the target is absolute
        raise Disagreement(400, "The request has no Host header.")
    if request.data.authority:
        named.append(request.authority)
    if not connection.tls and not connection.address[0]:    # through the explicit door, the target is absolute
        if request.scheme != "http":
            raise Disagreement(400, "Only http:// goes to the proxy itself; https:// asks for a tunnel (CONNECT).")
        named.append(f"[{request.host}]:{request.port}" if ":" in request.host else f"{request.host}:{request.port}")
    if not named:
        raise Disagreement(400, "The request names no host.")
    found = {split_authority(name) for name in named}
    hosts = {host for host, _ in found}
    if len(hosts) > 1 or len({port or _default(request) for _, port in found}) > 1:
        raise Disagreement(400, "The request names two different hosts.")
    host = hosts.pop()
    expected = connection.host or _address(connection)
    if expected is not None and host != normalize(expected):
        suspicion = _suspicion(request, connection)
        raise Disagreement(421, f"{suspicion}: this connection is for {expected}, not for {host}.")
    port = found.pop()[1]
    if connection.tls and port not in (None, connection.address[1]):
        raise Disagreement(421, f"This connection is for port {connection.address[1]}, not for {port}.")
    return host


def _suspicion(request: http.Request, connection: Connection) -> str:
    """Over HTTP/1 no client does this in good faith: it shows one name to us and means another."""
    if not connection.tls:
        return "Another host than the tunnel's"
    return "Domain fronting, or a connection reused" if request.is_http2 else "Domain fronting"


def _default(request: http.Request) -> int:
    return 443 if request.scheme == "https" else 80


def _address(connection: Connection) -> str | None:
    """TLS without a server name was verified for the address, so the request must name that."""
    return connection.address[0] if connection.tls else None
