"""IP and MAC addresses in text, and what only looks like them: versions, sections, times, names of C++."""

import ipaddress
import re
from typing import Final

from addons.near import NOT_WITHIN, begins
from addons.scan import LOOK, Pattern

_OCTET: Final = rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_V4: Final = NOT_WITHIN + rb"%b(?:\.%b){3}(?![\w-]|\.\d)" % (_OCTET, _OCTET)
_H: Final = rb"[0-9A-Fa-f]{1,4}"
_ZONE: Final = rb"(?:%25[\w.-]{1,15}|%[A-Za-z][\w.-]{0,14})?"
_V6: Final = (
    rb"(?:(?:%b:){7}%b|(?:%b(?::%b){0,6})?::(?:%b(?::%b){0,6})?)" % ((_H,) * 6) + _ZONE + rb"(?![\w:]|\.\d)"
)
_V6_TRIGGER: Final = rb"(?:^|[^\w:.])(?:(?:%b:){1,7}|:):|(?:%b:){7}[0-9A-Fa-f]" % (_H, _H)
#: A "::" and nothing else, or two short groups: these need what stands before them to say what they are.
_SAYS_ADDRESS: Final = re.compile(
    rb"(?i)(?:\bip|ipv[46]|addr(?:ess)?|\bsrc|\bdst|\bhost|server|client|gateway|listen|bind|ping|\bdns|\bnet|subnet|route"
    rb"|prefix|unspecified|loopback|multicast|remote|peer|://)[\w \"'=:\[>/-]{0,12}\Z"
)
#: What makes four numbers a version, or a place in a document.
_SAYS_VERSION: Final = re.compile(
    rb"(?i)(?:\bv|ver|vers|versions?|release|rev|revision|build|sections?|sect?\.|\xc2\xa7|chapter|clause|appendix|annex"
    rb"|figure|table|oid|firmware|sdk|[A-Za-z]\s?(?:[<>~^]=?|[=!]=))[\"'\s:=<>~^(.]{0,4}\Z|[A-Za-z_)]/\Z"
)
#: `package=1.2.3.4` is one too, if it begins small; `host=93.184.216.34` and `text=10.0.0.1` are none.
_ASSIGNED: Final = re.compile(rb"[A-Za-z]\s?=[\"' ]{0,2}\Z")
#: Four numbers that are all this small are more often a section than an address.
SMALL: Final = 19

_SEPARATED: Final = rb"(?:[0-9A-Fa-f]{2}%b){5}[0-9A-Fa-f]{2}(?![\w:]|-\w|\.\w)"
_CISCO: Final = rb"[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}(?![\w:]|[.-]\w)"
_MAC: Final = b"|".join((_SEPARATED % b":", _SEPARATED % b"-", _CISCO))


def _before(match: re.Match[bytes]) -> bytes:
    return match.string[max(0, match.start() - LOOK) : match.start()]


def is_v4(match: re.Match[bytes]) -> bool:
    """True unless it goes on to the left, is named as a version, or is small and not named as an address."""
    before = _before(match)
    if before[-1:] != b":" and not begins(match.string, match.start()) and before[-1:] not in (b"~", b"@"):
        return False
    if _SAYS_VERSION.search(before):
        return False
    parts = match[0].split(b".")
    if parts[0] == b"0":
        return match[0] == b"0.0.0.0"
    if int(parts[0]) <= SMALL and parts[0] != b"10" and _ASSIGNED.search(before) and not _SAYS_ADDRESS.search(before):
        return False
    small = all(int(part) <= SMALL for part in parts)
    if not small or len(set(parts)) == 1 or parts[:2] == [b"10", b"0"]:
        return True
    behind = match.string[match.end() : match.end() + 4]
    return bool(_SAYS_ADDRESS.search(before) or re.match(rb"/\d\d|:\d\d", behind))


def is_v6(match: re.Match[bytes]) -> bool:
    """True of an address (RFC 4291, 2.2) that is not a name of C++, a slice of Python or a list of numbers."""
    text, start = match.string, match.start()
    before = _before(match)
    if re.search(rb"[\w:.]\Z", before) and not re.search(rb"(?:\\[nrt]|%[0-9A-Fa-f]{2})\Z", before):
        return False
    value = match[0].partition(b"%")[0]
    try:
        ipaddress.IPv6Address(value.decode())
    except ValueError:
        return False
    groups = [group for group in value.split(b":") if group]
    named = bool(_SAYS_ADDRESS.search(before)) or bool(re.match(rb"/\d", text[match.end() : match.end() + 2]))
    if len(groups) == 8 and b"::" not in value:
        return len({len(group) for group in groups}) > 1 or len(groups[0]) > 2
    if not groups or not any(c in b"0123456789" for c in value):
        return named
    if re.search(rb"[\w\])]\[\Z", before):  # x[::2]
        return False
    return named or len(groups) > 2 or any(len(group) >= 3 for group in groups) or (
        len(groups) == 1 and value.startswith(b"::") and not text[start - 1 : start].isalnum())


def is_mac(match: re.Match[bytes]) -> bool:
    """True unless it goes on, or is all the same, or of digits only where dots part it."""
    before, value = _before(match), match[0]
    if re.search(rb"[\w:.-]\Z", before) and not re.search(rb"\\[nrt]\Z", before):
        return False
    if len(set(value.translate(None, b":-."))) == 1:
        return False
    return b"." not in value or any(c in b"abcdefABCDEF" for c in value)


IP: Final = (
    Pattern("ip", _V4, longest=16, accept=is_v4, trigger=rb"\d\.\d{1,3}\.\d{1,3}\.\d", ahead=0),
    Pattern("ip", _V6, longest=56, accept=is_v6, trigger=_V6_TRIGGER),
)
MAC: Final = (Pattern("mac_address", _MAC, longest=18, accept=is_mac),)
