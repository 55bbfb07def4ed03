"""Telephone numbers: international ones everywhere, national ones where the regions of the policy have them.

The numbering plans are libphonenumber's (package phonenumberslite, Apache-2.0).  Its own parser takes some 50 us for a
number; here a plan is the list of its expressions, compiled when the first number asks for it.
"""

import importlib
import re
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from addons.near import BEGINS, Named
from addons.scan import Pattern, shortest

#: E.164: at most 15 digits; with spaces, dashes, dots, slashes and parentheses between.
_REST: Final = rb"(?:[ ./-]{0,2}\(?\d\)?){6,14}(?![\w@]|[.:/-]\d|-\w)"
_INTERNATIONAL: Final = rb"(?:\+|\b00(?=[1-9]\d))[ ]?\(?[1-9]" + _REST
_NATIONAL: Final = rb"\(?\d" + _REST
#: National numbers that nobody named must at least be grouped as numbers of telephones are.
_GROUPED: Final = (
    rb"\(\d{2,5}\)[ -]?\d{2,4}[ -]?\d{2,4}(?:[ -]?\d{2,4})?(?![\w@]|[.:/-]\d|-\w)"
    rb"|[2-9]\d\d-[2-9]\d\d-\d{4}(?![\w@]|[.:/-]\d|-\w)"
)
_PLUS: Final = rb"(?:\+ ?\(?|[^\w.]00)[1-9](?:[ ./-]{0,2}\(?\d\)?){6}"
WORDS: Final = (
    "phone", "telephone", "mobile", "cell", "cellphone", "tel", "tel.", "fax", "call", "call me", "contact number",
    "contact no", "whatsapp", "sms", "text me", "dial", "reach me", "msisdn", "number is", "telefon", "handy", "mobil",
    "rufnummer", "téléphone", "teléfono", "telefono", "móvil", "celular", "portable", "cellulare", "telefone",
    "telemóvel", "telefoon", "puhelin", "телефон", "моб.", "电话", "手机", "電話", "携帯", "전화", "휴대폰", "फोन",
    "cep",
)  # fmt: skip
_KINDS: Final = (
    "fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip", "pager", "uan",
    "voicemail",
)  # fmt: skip
_library: Final[list[Any]] = []


def _phonenumbers() -> Any:
    if not _library:
        _library.append(importlib.import_module("phonenumbers"))
    return _library[0]


def regions() -> frozenset[str]:
    """Return the regions that have a plan, as ISO 3166 codes in capitals."""
    return frozenset(_phonenumbers().SUPPORTED_REGIONS)


@cache
def _plan(region: str) -> tuple["re.Pattern[str]", str]:
    """Return what all numbers of a region look like, and the digit that stands before a national one."""
    library = _phonenumbers()
    plan = library.PhoneMetadata.metadata_for_region_or_calling_code(int(region) if region.isdigit() else 0, region)
    if region.isdigit():
        plan = library.PhoneMetadata.metadata_for_nongeo_region(int(region))
    described = (getattr(plan, kind) for kind in _KINDS)
    patterns = [d.national_number_pattern for d in described if d and d.national_number_pattern]
    return re.compile("|".join(f"(?:{p})" for p in patterns) or "(?!)"), plan.national_prefix or ""


@cache
def _plan_of(code: int) -> "re.Pattern[str] | None":
    """Return what all numbers with a country code look like: North America has 25 regions with the same."""
    regions = _phonenumbers().COUNTRY_CODE_TO_REGION_CODE.get(code, ())
    plans = [_plan(str(code) if region == "001" else region) for region in regions]
    texts = [f"(?:{re.escape(prefix)})?(?:{pattern.pattern})" for pattern, prefix in plans]
    return re.compile("|".join(texts)) if texts else None


def prepare() -> None:
    """Load all plans: it takes half a second, which no message shall wait for."""
    for code in _phonenumbers().COUNTRY_CODE_TO_REGION_CODE:
        _plan_of(code)


def is_international(digits: str) -> bool:
    """True of a country code and a number of that country's plan, behind the + or 00."""
    plans = ((_plan_of(int(digits[:size] or 0)), digits[size:]) for size in (1, 2, 3))
    return any(plan and plan.fullmatch(rest) for plan, rest in plans)


def is_national(digits: str, among: Iterable[str]) -> bool:
    """True of a number as it is dialled within one of the regions."""
    for region in among:
        pattern, prefix = _plan(region)
        if prefix and digits.startswith(prefix) and pattern.fullmatch(digits[len(prefix) :]):
            return True
        if (not prefix or region == "US" or prefix == "1") and pattern.fullmatch(digits):
            return True
    return False


def _digits(value: bytes) -> str:
    return "".join(chr(c) for c in value if 48 <= c <= 57)


def _varied(digits: str) -> bool:
    return len(set(digits[-7:])) > 1


def _international(match: re.Match[bytes]) -> bool:
    before = match.string[max(0, match.start() - 2) : match.start()]
    if before[-1:].isalnum() and not before.startswith(b"\\"):
        return False
    digits = _digits(match[0])
    return _varied(digits) and is_international(digits[2:] if match[0].startswith(b"00") else digits)


def patterns(among: tuple[str, ...]) -> list[Pattern]:
    """Return patterns for numbers with a country code, and for grouped ones of these regions."""

    def grouped(match: re.Match[bytes]) -> bool:
        digits = _digits(match[0])
        return _varied(digits) and is_national(digits, among)

    return [
        Pattern("phone", _INTERNATIONAL, longest=64, accept=_international, trigger=_PLUS),
        Pattern("phone", BEGINS + b"(?:" + _GROUPED + b")", longest=32, accept=grouped, trigger=shortest(_GROUPED)),
    ]


def named(among: tuple[str, ...]) -> Named:
    """Return those numbers of these regions that count near a word."""

    def check(value: bytes) -> bool:
        digits = _digits(value)
        return _varied(digits) and is_national(digits, among)

    return Named("phone", WORDS, (), re.compile(_NATIONAL), check)
