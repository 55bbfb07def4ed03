"""What the policy and the launcher say of the ways in and out: who may use the explicit proxy, which proxy is next."""

import ipaddress
import logging
from dataclasses import dataclass

from proxy import admission, proxyurl
from proxy.admission import Admission
from proxy.config import Config
from proxy.destination import Address
from proxy.schema import Capture
from proxy.secretfile import read_secret, secret
from proxy.upstreamproxy import UpstreamProxy

log = logging.getLogger(__name__)


def try_files(capture: Capture) -> None:
    """See whether the files that a policy names here are fit.  Raises OSError and ValueError."""
    if capture.proxy_users is not None:
        admission.parse(read_secret(capture.proxy_users, private=False))
    Ways(Config("", None, True, []), capture, set()).out()


@dataclass(frozen=True, slots=True)
class Ways:
    """`own` are the addresses that we listen on, also those that come later."""

    config: Config
    capture: Capture
    own: set[Address]

    def admission(self) -> Admission | None:
        """Who may use the explicit proxy; None: whoever reaches it.

        On loopback that is this computer's own programs, which need no password: their process is known.  Raises
        ValueError where others could come and neither the policy nor the launcher says who may; and OSError.
        """
        if not self.config.explicit or all(_loopback(host) for host, _ in self.config.listen):
            return None
        if self.capture.proxy_users is not None:
            users = secret(self.capture.proxy_users, self.config.secrets, private=False)
            try:
                return Admission(admission.parse(users))
            except ValueError as error:
                raise ValueError(f"proxy_users: {self.capture.proxy_users}: {error}") from None
        where = ", ".join(f"{host}:{port}" for host, port in self.config.listen)
        if not self.config.anyone:
            raise ValueError(f"at {where} other computers could use this proxy: name who may in `proxy_users`, listen "
                             "at 127.0.0.1, or let everybody in with --allow-anyone")
        log.warning("everybody who reaches %s may use this proxy: no name and password is asked for", where)
        return None

    def out(self) -> UpstreamProxy | None:
        """The upstream proxy.  Raises ValueError, and OSError for its password file."""
        capture, login = self.capture, None
        if capture.upstream_proxy is None:
            return None
        if capture.upstream_proxy_username is not None:
            assert capture.upstream_proxy_password_file is not None
            password = secret(capture.upstream_proxy_password_file, self.config.secrets)
            login = capture.upstream_proxy_username, password.rstrip("\r\n")
        place = proxyurl.place(capture.upstream_proxy)
        if _is_ours(place, self.config.listen):
            raise ValueError(f"upstream_proxy: {capture.upstream_proxy} is where this lockgate listens itself")
        return UpstreamProxy(place, proxyurl.Exceptions(capture.upstream_proxy_except), login, self.own)


def _is_ours(place: proxyurl.Place, listen: list[tuple[str, int]]) -> bool:
    """What can be said before listening; the rest is seen when connecting."""
    return any(place.port == port and (place.host == host or (_loopback(place.host) and _loopback(host)))
               for host, port in listen)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
