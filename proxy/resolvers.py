"""DNS over HTTPS (RFC 8484): known resolvers, and requests that ask one, whoever it is.

The list is of names and addresses that the operators publish for everybody's use; it is ours, and meant to be short:
programs that ask a resolver of their own are recognised by what they ask (`is_query`).
"""

import base64
import binascii
import ipaddress
from typing import TYPE_CHECKING

from proxy.patterns import host_pattern, matches_host

if TYPE_CHECKING:       # the policy's models need no engine
    from mitmproxy import http

#: What events name as the rule.
RULE = "capture.encrypted_dns"
#: RFC 8484, 6; RFC 9230, 8.1 (a question within a question, through a relay); JSON, which two large operators answer.
MEDIA_TYPES = ("application/dns-message", "application/oblivious-dns-message", "application/dns-json")
#: Characters of the `dns` parameter that are looked at: enough for the header of a message.
LOOK = 16
HEADER = 12

#: As the operators document them, October 2026; facts, under nobody's licence.  developers.google.com/speed/public-dns;
#: developers.cloudflare.com/1.1.1.1; quad9.net; opendns.com; nextdns.io; cleanbrowsing.org;
#: adguard-dns.io; mullvad.net; joindns4.eu; dns.sb; nic.cz/odvr; iij.jp; controld.com.
HOSTS = tuple(map(host_pattern, (
    "dns.google", "*.dns.google", "8888.google", "cloudflare-dns.com", "*.cloudflare-dns.com", "one.one.one.one",
    "dns.quad9.net", "dns9.quad9.net", "dns10.quad9.net", "dns11.quad9.net", "dns12.quad9.net", "doh.opendns.com",
    "*.doh.opendns.com", "doh.familyshield.opendns.com", "doh.umbrella.com", "dns.nextdns.io", "*.dns.nextdns.io",
    "doh.cleanbrowsing.org", "*.adguard-dns.com", "*.adguard-dns.io", "dns.mullvad.net", "*.dns.mullvad.net",
    "*.joindns4.eu", "doh.dns.sb", "odvr.nic.cz", "public.dns.iij.jp", "doh.xfinity.com", "dns.switch.ch",
    "freedns.controld.com", "dns.controld.com", "doh.dns.apple.com")))
#: The same operators by address, for clients that ask without a name: TLS to nothing else is served there.
ADDRESSES = frozenset(map(ipaddress.ip_address, (
    "8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844", "1.1.1.1", "1.0.0.1", "1.1.1.2", "1.0.0.2",
    "1.1.1.3", "1.0.0.3", "2606:4700:4700::1111", "2606:4700:4700::1001", "9.9.9.9", "149.112.112.112", "9.9.9.10",
    "9.9.9.11", "2620:fe::fe", "2620:fe::9", "208.67.222.222", "208.67.220.220", "2620:119:35::35", "2620:119:53::53",
    "94.140.14.14", "94.140.15.15")))


def known(host: str, address: tuple[str, int]) -> str | None:
    """The name or address by which a connection is one to a known resolver, else None.

    An address counts where no name was given: names have other services at times (`one.one.one.one` shows a page).
    """
    if any(matches_host(pattern, host) for pattern in HOSTS):
        return host
    try:
        literal = ipaddress.ip_address((host or address[0]).partition("%")[0])
    except ValueError:
        return None
    plain = getattr(literal, "ipv4_mapped", None) or literal
    return str(plain) if plain in ADDRESSES and address[1] == 443 else None


def is_query(request: "http.Request") -> bool:
    """Does a request ask a resolver, by its media type or by a message in its query (RFC 8484, 4.1)?"""
    headers = request.headers
    for name in ("content-type", "accept"):
        named = headers.get(name, "").lower()
        if named and any(kind in named for kind in MEDIA_TYPES):
            return True
    if "dns=" not in request.path:
        return False
    return any(name == "dns" and _is_message(value) for name, value in request.query.items(multi=True))


def is_answer(response: "http.Response") -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == MEDIA_TYPES[0]


def _is_message(text: str) -> bool:
    """Does base64url begin with the header of a DNS question: QR clear, one question (RFC 1035, 4.1.1)?"""
    try:
        head = base64.urlsafe_b64decode(text[:LOOK])
    except (binascii.Error, ValueError):
        return False
    return len(head) == HEADER and not head[2] & 0x80 and head[4:6] == b"\0\1"
