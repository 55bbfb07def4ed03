"""Keep payment-card numbers from leaving for anyone but a payment processor."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from mitmproxy import http

from addons.leaks import MOST, Finder, LeakFilter, asked
from addons.names import covers
from addons.scan import LOOK, Pattern, PatternSet
from addons.verdict import Finding, Verdict, label

#: First digits from .. to, and lengths, of what issuers hand out (ISO/IEC 7812; the networks' published BIN ranges).
ISSUERS: Final = (
    ("4", "4", (16,)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("300", "305", (14,)),  # Diners Club
    ("3095", "3095", (14,)),
    ("36", "36", (14,)),
    ("38", "39", (14,)),
    ("3528", "3589", (16,)),  # JCB
    ("6011", "6011", (16,)),  # Discover
    ("622126", "622925", (16,)),
    ("644", "659", (16,)),
    ("62", "62", (16,)),  # UnionPay
    ("5018", "5020", (16,)),  # Maestro, Dankort
    ("5038", "5038", (16,)),
    ("5893", "5893", (16,)),
    ("6304", "6304", (16,)),
    ("6759", "6763", (16,)),
    ("2200", "2204", (16,)),  # Mir
    ("60", "60", (16,)),  # RuPay, Hipercard
    ("81", "82", (16,)),
)
#: Lengths that are rare among cards and common among other numbers: believed only after a word like "card".
RARE_ISSUERS: Final = (
    ("4", "4", (13, 19)),
    ("1", "1", (15,)),  # UATP
    ("50", "50", (12, 13, 14, 15, 17, 18, 19)),  # Maestro
    ("56", "58", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("60", "69", (12, 13, 14, 15, 16, 17, 18, 19)),  # Maestro, UnionPay, Discover
    ("36", "36", (15, 16, 17, 18, 19)),  # Diners Club
)

#: The name that a number has, when that name says that it is something else.
_SAYS_OTHER: Final = re.compile(
    rb"(?i)(?:ids?|key|time|timestamp|ts|date|seq|serial|nonce|offset|size|length|hash|checksum|version|build|trace|span"
    rb"|phone|tel|imei|isbn|ean|upc|tracking|seed|random)[\"']?\s{0,2}[=:]\s{0,2}[\"'\[]?\Z"
)
_SEPARATORS: Final = re.compile(rb"(?:[ +-]|%20)")

#: Not inside a longer number, word, float or UUID; but after what JSON or a URL writes for a quote or a new line.
_BEFORE: Final = (
    rb"(?:(?<![\w.-])(?<!\d,\d{3},)|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))(?<![\d.]-)(?<![\dA-Fa-f]{4}\s[\dA-Fa-f]{4}\s)"
)
_EDGE: Final = rb"(?:^|[^\w.]|\\[nrt]|%[0-9A-Fa-f]{2})"
_AFTER: Final = rb"(?!\w|[.-]\d|,\d{3}(?!\d)|\s[\dA-Fa-f]{4}\s[\dA-Fa-f]{4})"
#: A digit doubled, and the digits of that added.
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")


def _grouped(separator: bytes) -> bytes:
    s = separator
    return rb"\d{4}%b\d{4}%b\d{4}%b\d{4}|3\d{3}%b\d{6}%b\d{4,5}" % (s, s, s, s, s)


_SOLID: Final = rb"(?:[46]\d{15}|5[0-58]\d{14}|2[2-7]\d{14}|8[12]\d{14}|35\d{14}|3[47]\d{13}|3[0689]\d{12})"
_GROUPED: Final = rb"(?:" + b"|".join(map(_grouped, (b" ", b"-", rb"\+", b"%20"))) + b")"
#: What all solid ones begin with, for the engine, which is slow on long alternatives.
_LONG: Final = rb"[2-68]\d{13}"
_NAMED: Final = (
    rb"(?i:card|credit|debit|\bpan\b|\bcc_?n|visa|maestro|uatp)"
    rb"[\w \t.-]{0,24}[\"'\]]{0,2}\s{0,3}[=:#]?[\s\"'>]{0,4}(?<!\d)(\d{12,19})"
)


def luhn(digits: bytes) -> bool:
    """True if the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    total = sum(digits[-1::-2]) + sum(digits[-2::-2].translate(_DOUBLED))
    return (total - ord("0") * len(digits)) % 10 == 0


def _issued(number: bytes, issuers: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bool:
    digits = number.decode()
    return any(len(digits) in lengths and low <= digits[: len(low)] <= high for low, high, lengths in issuers)


def _is_card(match: re.Match[bytes]) -> bool:
    digits = _SEPARATORS.sub(b"", match[0])
    if not (luhn(digits) and _issued(digits, ISSUERS)):
        return False
    return not _SAYS_OTHER.search(match.string[max(0, match.start() - LOOK) : match.start()])


def _is_named_card(match: re.Match[bytes]) -> bool:
    return luhn(match[1]) and _issued(match[1], ISSUERS + RARE_ISSUERS)


def is_number(digits: bytes) -> bool:
    """True of a card number, a rare one too, without separators."""
    return digits.isdigit() and luhn(digits) and _issued(digits, ISSUERS + RARE_ISSUERS)


def patterns() -> list[Pattern]:
    """Return what finds cards: solid, grouped, and rare ones that are named as cards."""
    return [
        Pattern("credit_card", _BEFORE + _SOLID + _AFTER, longest=20, accept=_is_card, trigger=_EDGE + _LONG),
        Pattern("credit_card", _BEFORE + _GROUPED + _AFTER, longest=28, accept=_is_card, trigger=_EDGE + _GROUPED),
        Pattern("credit_card", _NAMED + _AFTER, longest=80, accept=_is_named_card),
    ]


@cache
def _compiled() -> PatternSet:
    return PatternSet(patterns())


@dataclass
class Cards(LeakFilter):
    """Payment-card numbers in the URL, the headers, and all views of bodies and WebSocket messages.

    A number counts if it has an issuer's first digits and length, a right check digit, and stands alone: not in a
    longer number, an identifier or a field whose name says that it is a time or an id.  `processors` are hosts (with
    their sub-domains) that may receive cards: their requests get the label `card-processor` and are not searched.
    Fewer cards in one message than `minimum` pass.
    """

    processors: tuple[str, ...] = ()
    minimum: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.minimum <= MOST:
            raise ValueError(f"minimum: {self.minimum} is not between 1 and {MOST}")
        self._patterns = _compiled()

    def scanner(self, where: str = "body") -> Finder:
        return Finder(self._patterns, "pii.{}".format, where)

    def weigh(self, found: list[Finding], host: str) -> Verdict | None:
        if len(found) < self.minimum:
            return None
        reason = f"payment-card number in the request: {found[-1].where}"
        return Verdict(self._action, reason, tuple(found[-MOST:]))

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        if self._is_processor(flow):
            label(flow, "card-processor")
        return super().requestheaders(flow)

    def spares(self, flow: http.HTTPFlow) -> bool:
        return self._is_processor(flow) or super().spares(flow)

    def _is_processor(self, flow: http.HTTPFlow) -> bool:
        return bool(self.processors) and covers(self.processors, asked(flow))
