"""How policies name an upstream proxy, and what is met without it."""

import ipaddress
import socket
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple
from urllib.parse import urlsplit

from proxy.patterns import NAME, host_pattern, matches_host

#: Stands for the networks that nobody but us is in: RFC 1918, 6598, 3927, 4193, 4291 2.5.6.
LOCAL = "local"
LOCAL_NETWORKS = tuple(map(ipaddress.ip_network, (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10")))
#: This computer itself is never met through a proxy on another: RFC 1122, 3.2.1.3; RFC 4291, 2.5.3; RFC 6761, 6.3.
OURSELVES = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
#: Kinds of proxies.
SCHEMES = ("http", "socks5")


class Place(NamedTuple):
    """An upstream proxy: `kind` is one of SCHEMES."""

    kind: str
    host: str
    port: int


def proxy_url(text: str) -> str:
    """Return the URL of an upstream proxy in one form; ValueError for what is none.

    It holds no password: the policy is no secret, and what it says is shown.
    """
    kind, host, port = place(text)
    return f"{kind}://[{host}]:{port}" if ":" in host else f"{kind}://{host}:{port}"


def place(url: str) -> Place:
    """Take such a URL apart; ValueError for what is none."""
    wanted = "write it as http://HOST:PORT or socks5://HOST:PORT"
    try:
        if not url.isprintable():       # urlsplit would leave line ends out
            raise ValueError(url)
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{url!r} is no URL: {wanted}") from None
    if "@" in parts.netloc:         # not shown: there is a password in it
        raise ValueError("no name or password in the URL: there are `upstream_proxy_username` and "
                         "`upstream_proxy_password_file`")
    if parts.scheme not in SCHEMES or not port or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no proxy that can be used: {wanted}")
    host = (parts.hostname or "").rstrip(".")
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        if not NAME.fullmatch(host):
            raise ValueError(f"{host!r} is no host: {wanted}") from None
    return Place(parts.scheme, host, port)


def exception(text: str) -> str:
    """Return an exception in the form in which it is compared: a host pattern, an address, a CIDR block or `local`."""
    if text == LOCAL:
        return text
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        if "/" in text:
            raise ValueError(f"{text!r} is no CIDR block: {error}") from None
    return host_pattern(text)


@lru_cache(4096)
def as_address(host: str) -> str | None:
    """The address that a host is, however it is written (127.1, 0x7f000001: inet_aton(3)), or None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


class Exceptions:
    """What is met without the upstream proxy, whatever the program asked for by: name or address."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [*OURSELVES]
        self._patterns = ["localhost", "*.localhost"]
        for word in words:
            if word == LOCAL:
                self._networks += LOCAL_NETWORKS
                continue
            try:
                self._networks.append(ipaddress.ip_network(word))
            except ValueError:
                self._patterns.append(word)
        self.covers = lru_cache(4096)(self._covers)     # an address costs some 10 µs, and each connection asks

    def _covers(self, host: str) -> bool:
        if (text := as_address(host.partition("%")[0])) is None:
            return any(matches_host(pattern, host) for pattern in self._patterns)
        address = ipaddress.ip_address(text)
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)
