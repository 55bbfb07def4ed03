"""What a leaf may be for: DNS names and IP addresses, as subjectAltName entries."""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from cryptography import x509

#: RFC 1035, section 2.3.4, without the root's dot.
MAX_NAME = 253

#: Letters, digits, hyphen (RFC 5890, section 2.3.1), and the underscore that real host names carry.
LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")

#: Python's codec knows IDNA 2003, browsers use 2008. These four mean another host in each, so neither is right.
DEVIATIONS = frozenset("ßς\u200c\u200d")


#: Names whose entries are remembered: busy hosts come again and again, and each costs some 10 us.
MAX_REMEMBERED = 4096


@lru_cache(MAX_REMEMBERED)
def general_name(name: str | x509.GeneralName) -> x509.GeneralName:
    """Return the subjectAltName entry for a DNS name, a wildcard, an IP literal, or a ready entry of those kinds.

    Raises ValueError for anything that a server certificate cannot or should not carry.
    """
    if isinstance(name, x509.IPAddress):
        if isinstance(name.value, ipaddress.IPv4Network | ipaddress.IPv6Network):
            raise ValueError(f"{name.value} is a network, not an address")
        return name
    if isinstance(name, x509.DNSName):
        return x509.DNSName(_ascii(name.value))
    if not isinstance(name, str):
        raise ValueError(f"a server certificate is for DNS names and addresses, not {type(name).__name__}")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return x509.DNSName(_ascii(name))
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise ValueError(f"{name!r}: a zone has no meaning in a certificate")
    return x509.IPAddress(address)


def expressible(names: Iterable[str | x509.GeneralName]) -> list[x509.GeneralName]:
    """Return the entries of an origin's certificate that a leaf can carry; the others are left out."""
    kept: dict[x509.GeneralName, None] = {}
    for name in names:
        try:
            kept[general_name(name)] = None
        except ValueError:
            continue
    return list(kept)


def text(name: x509.GeneralName) -> str:
    """Return a name as a person writes it."""
    return str(name.value)


def _ascii(name: str) -> str:
    plain = name.removesuffix(".")
    if not plain.isascii():
        plain = _a_labels(plain)
    plain = plain.lower()
    labels = plain.removeprefix("*.").split(".")
    if len(plain) > MAX_NAME or not all(map(LABEL.fullmatch, labels)):
        raise ValueError(f"{name!r} is not a host name")
    if labels[-1].isdigit():  # what resolvers read as an IPv4 address: 127.1, 0177.0.0.1
        raise ValueError(f"{name!r} is neither a host name nor an address")
    return plain


def _a_labels(name: str) -> str:
    if DEVIATIONS.intersection(name):
        raise ValueError(f"{name!r} means different hosts in IDNA 2003 and 2008; write its xn-- form")
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"{name!r} is not a host name: {error}") from None
