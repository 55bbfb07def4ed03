"""What identifies people and their money in every country: IBAN, e-mail addresses, wallets of coins."""

import re
from functools import cache
from hashlib import sha256
from typing import Final

from publicsuffixlist import PublicSuffixList
from stdnum import iban

from addons.near import BEGINS
from addons.scan import LOOK, Pattern

#: Total lengths by country (SWIFT, IBAN registry).
_LENGTHS: Final = (
    (15, "NO"), (16, "BE"), (18, "DK FI FK FO GL NL SD"), (19, "MK SI"), (20, "AT BA EE KZ LT LU MN XK"),
    (21, "CH HR LI LV"), (22, "BG BH CR DE GB GE IE ME RS VA"), (23, "AE GI IL IQ OM SO TL"),
    (24, "AD CZ ES MD PK RO SA SE SK TN VG"), (25, "LY PT ST"), (26, "IS TR"), (27, "BI DJ FR GR IT MC MR SM"),
    (28, "AL AZ BY CY DO GT HN HU LB NI PL SV"), (29, "BR EG PS QA UA"), (30, "JO KW MU YE"), (31, "MT SC"),
    (32, "LC"), (33, "RU"),
)  # fmt: skip
_COUNTRIES: Final = "|".join(names.replace(" ", "|") for _, names in _LENGTHS)
_BY_LENGTH: Final = "|".join(
    f"(?:{names.replace(' ', '|')})[0-9]{{2}}(?:[ -]?[0-9A-Z]){{{length - 4}}}" for length, names in _LENGTHS
)
_AFTER: Final = rb"(?![\w@]|[.-]\w)"
_NO_SIGNS: Final = str.maketrans("", "", " -")
#: Letters as ISO 13616 counts them, from 10.
_NUMBERS: Final = {ord("A") + n: str(10 + n) for n in range(26)}

_LABEL: Final = rb"[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff-]{0,61}[A-Za-z0-9\x80-\xff])?"
#: RFC 5321, 4.5.3.1: 64 bytes before the @.  Quotes and comments (RFC 5322) are in nobody's address.
_EMAIL: Final = (
    rb"(?:(?<![A-Za-z0-9_.+\x80-\xff\\-])|(?<=\\[nrt])|(?<=\\)(?![nrt]))[A-Za-z0-9_\x80-\xff](?:[A-Za-z0-9!#$%%&'*+/=?^_`{|}~.\x80-\xff-]{0,63})@"
    rb"(?:%b\.){1,8}(?:[A-Za-z\x80-\xff]{2,24}|xn--[A-Za-z0-9-]{2,30})(?![\w@-]|\.\w)" % _LABEL
)
_EMAIL_TRIGGER: Final = rb"[A-Za-z0-9_!#$%&'*+/=?^`{|}~.\x80-\xff-]@[A-Za-z0-9\x80-\xff-]{1,63}\.[A-Za-z0-9\x80-\xff]"

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_COIN: Final = rb"[13][1-9A-HJ-NP-Za-km-z]{25,34}|(?:bc1|BC1)[02-9AC-HJ-NP-Zac-hj-np-z]{11,71}|0x[0-9A-Fa-f]{40}"
_EDGE: Final = rb"(?:^|[^\w]|\\[nrt]|%[0-9A-Fa-f]{2})"
_SAYS_COIN: Final = re.compile(rb"(?i)wallet|ether|\beth\b|crypto|erc-?20|metamask")


def is_iban(match: re.Match[bytes]) -> bool:
    """ISO 13616: 97 divides it with one remaining, and the account has the structure of its country."""
    plain = match[0].decode().translate(_NO_SIGNS)
    if plain not in (plain.upper(), plain.lower()):
        return False
    plain = plain.upper()
    if int((plain[4:] + plain[:4]).translate(_NUMBERS)) % 97 != 1:
        return False
    return bool(iban.is_valid(plain, check_country=False))


@cache
def top_level() -> frozenset[str]:
    """The top-level domains of the public suffix list."""
    known = PublicSuffixList(accept_unknown=False)
    return frozenset(name for name in known._publicsuffix if "." not in name)


def is_email(match: re.Match[bytes]) -> bool:
    """True if the domain is under a top-level domain that there is, and not a password's or a path's host."""
    local, _, domain = match[0].rpartition(b"@")
    if b".." in local or local.endswith(b".") or len(domain) > 253:
        return False
    text, start = match.string, match.start()
    before = text[max(0, start - LOOK) : start]
    if before.endswith(b"://") or (before.endswith(b":") and b"://" in before):
        return False
    top = domain.rpartition(b".")[2].lower()
    return not top.isascii() or top.startswith(b"xn--") or top.decode() in top_level()


def is_wallet(match: re.Match[bytes]) -> bool:
    """True of a Bitcoin address whose checksum is right, and of an Ethereum address in mixed case or named as one.

    Wallets write Ethereum addresses in the mixed case of EIP-55; other hexadecimal numbers are in one case.
    """
    value = match[0]
    if value.startswith(b"0x"):
        digits = value[2:]
        mixed = digits.lower() != digits != digits.upper()
        near = match.string[max(0, match.start() - LOOK) : match.end() + LOOK]
        return len(set(digits)) > 4 and (mixed or bool(_SAYS_COIN.search(near)))
    if value[:3].lower() == b"bc1":
        return _is_bech32(value.decode())
    number = 0
    for c in value.decode():
        number = number * 58 + _BASE58.index(c)
    if number.bit_length() > 200:
        return False
    raw = number.to_bytes(25, "big")
    return raw[0] in (0, 5) and _double(raw[:21]) == raw[21:]


def _double(data: bytes) -> bytes:
    return sha256(sha256(data).digest()).digest()[:4]


def _is_bech32(value: str) -> bool:
    """BIP 173 (witness version 0) and BIP 350 (all later ones)."""
    if value.lower() != value != value.upper():
        return False
    data = [_BECH32.find(c) for c in value.lower()[3:]]
    if min(data) < 0:
        return False
    checksum = 1
    for number in [3, 3, 0, 2, 3, *data]:
        top, checksum = checksum >> 25, (checksum & 0x1FFFFFF) << 5 ^ number
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> i & 1 else 0
    return checksum == (1 if data[0] == 0 else 0x2BC830A3)


IBAN: Final = (
    Pattern(
        "iban", BEGINS + b"(?=[A-Za-z]{2}[0-9]{2})(?i:" + _BY_LENGTH.encode() + b")" + _AFTER, longest=72,
        accept=is_iban,
        trigger=_EDGE + b"(?i:" + _COUNTRIES.encode() + rb")\d\d(?:[ -]?[0-9A-Za-z]){11}",
    ),
)  # fmt: skip
EMAIL: Final = (Pattern("email", _EMAIL, longest=320, accept=is_email, trigger=_EMAIL_TRIGGER),)
_WALLET: Final = b"(?:" + _COIN + b")"
CRYPTO: Final = (
    Pattern("crypto", BEGINS + _WALLET + rb"(?!\w)", longest=80, accept=is_wallet, trigger=_EDGE + _WALLET),
)
