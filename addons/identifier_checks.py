"""Checks of identifiers that python-stdnum does not have, or judges more or less strictly than issuers do.

Each takes the value as it was written, in capitals, and says whether it can be one.
"""

from datetime import date
from typing import Final

from stdnum import bic as _bic
from stdnum.verhoeff import is_valid as _verhoeff

from addons.cards import luhn as luhn_of

#: Letters as the numbers 10 to 35, digits as themselves.
LETTERS: Final = {chr(ord("A") + i): 10 + i for i in range(26)} | {str(i): i for i in range(10)}


def digits_of(value: str) -> str:
    return "".join(c for c in value if c.isdigit())


def plain_of(value: str) -> str:
    return "".join(c for c in value if c.isalnum())


def luhn(digits: str) -> bool:
    return luhn_of(digits.encode())


def weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(d) * w for d, w in zip(digits, weights, strict=False))


def is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def is_birthday(yymmdd: str) -> bool:
    """True if it is a day in 19yy or 20yy."""
    year, month, day = int(yymmdd[:2]), int(yymmdd[2:4]), int(yymmdd[4:6])
    return is_date(1900 + year, month, day) or is_date(2000 + year, month, day)


def not_repeated(value: str) -> bool:
    """True unless all digits are the same, or count up or down as no number that was issued does."""
    d = digits_of(value)
    return len(set(d)) > 1 and d not in "01234567890123456789" and d not in "98765432109876543210"


def not_all_digits(value: str) -> bool:
    return not value.isdigit() or not_repeated(value)


def us_ssn(value: str) -> bool:
    """Social Security Administration, POMS RM 10201: area not 000, 666 or 9xx, group not 00, serial not 0000.

    Numbers of advertisements, and those that are obviously typed for the sake of a number, were never issued.
    """
    d = digits_of(value)
    if d[:3] in ("000", "666") or d[0] == "9" or d[3:5] == "00" or d[5:] == "0000":
        return False
    return d not in ("078051120", "219099999", "457555462", "123456789", "987654320") and len(set(d)) > 1


def us_itin(value: str) -> bool:
    """IRS: 9xx, then 50-65, 70-88, 90-92 or 94-99."""
    d = digits_of(value)
    group = int(d[3:5])
    return d[0] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)


def aba(value: str) -> bool:
    """ANSI X9.100-160: Federal Reserve district and checksum."""
    d = digits_of(value)
    first = int(d[:2])
    known = 1 <= first <= 12 or 21 <= first <= 32 or 61 <= first <= 72 or first == 80
    return known and weighted(d, (3, 7, 1) * 3) % 10 == 0


def npi(value: str) -> bool:
    """45 CFR 162.406: Luhn over 80840 and the number."""
    d = digits_of(value)
    return luhn("80840" + d) and len(set(d)) > 2


def dea(value: str) -> bool:
    """DEA number: (1st + 3rd + 5th) + 2 (2nd + 4th + 6th digit) ends in the 7th."""
    d = digits_of(value)[-7:]
    return (weighted(d, (1, 2, 1, 2, 1, 2))) % 10 == int(d[6])


def ca_sin(value: str) -> bool:
    d = digits_of(value)
    return d[0] not in "08" and luhn(d) and len(set(d)) > 1


def za_id(value: str) -> bool:
    """South Africa: a day, citizen 0, resident 1 or refugee 2, Luhn."""
    d = digits_of(value)
    return is_birthday(d[:6]) and d[10] in "012" and d[11] in "89" and luhn(d)


def verhoeff(value: str) -> bool:
    return bool(_verhoeff(digits_of(value))) and len(set(value)) > 1


def bic(value: str) -> bool:
    """ISO 9362: a country at its place."""
    return bool(_bic.is_valid(value))


def aadhaar(value: str) -> bool:
    """India (UIDAI): Verhoeff; none are three years, numbers in a row, and what reads the same from behind."""
    d = digits_of(value)
    groups = [int(d[at : at + 4]) for at in (0, 4, 8)]
    years = all(1900 <= group <= 2100 for group in groups)
    return not years and max(groups) - min(groups) > 3 and d != d[::-1] and verhoeff(d)


def in_pan(value: str) -> bool:
    return value[5:9] != "0000"


def in_plate(value: str) -> bool:
    return value[:2] in _INDIAN_STATES


_INDIAN_STATES: Final = frozenset(
    [
        "AN", "AP", "AR", "AS", "BR", "CG", "CH", "DD", "DL", "DN", "GA", "GJ", "HP", "HR", "JH", "JK", "KA", "KL",
        "LA", "LD", "MH", "ML", "MN", "MP", "MZ", "NL", "OD", "OR", "PB", "PY", "RJ", "SK", "TN", "TR", "TS", "TG",
        "UK", "UP", "UA", "WB",
    ]
)


def tw_id(value: str) -> bool:
    """Taiwan: the letter as two digits, weights 1 9 8 .. 1 1."""
    number = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(value[0]) + 10
    return weighted(f"{number}{value[1:]}", (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)) % 10 == 0


def hk_id(value: str) -> bool:
    """Hong Kong: one or two letters, six digits, modulo 11."""
    plain = plain_of(value).rjust(9)
    numbers = [36 if c == " " else LETTERS[c] for c in plain[:8]]
    remainder = -sum(n * w for n, w in zip(numbers, range(9, 1, -1), strict=True)) % 11
    return plain[8] == ("A" if remainder == 10 else str(remainder))


def kr_rrn(value: str) -> bool:
    """Korea: a day; numbers given since October 2020 have no check digit, so none is asked for."""
    return is_birthday(digits_of(value)[:6])


def kr_brn(value: str) -> bool:
    """Korea, companies: weights 1 3 7, and 5 with its tens."""
    d = digits_of(value)
    total = weighted(d, (1, 3, 7, 1, 3, 7, 1, 3, 5)) + int(d[8]) * 5 // 10
    return (10 - total % 10) % 10 == int(d[9]) and len(set(d)) > 1


def sg_nric(value: str) -> bool:
    """Singapore: weights 2 7 6 5 4 3 2, an offset and a table for each first letter."""
    total = weighted(value[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"S": 0, "F": 0, "T": 4, "G": 4, "M": 3}.get(value[0], 99)
    table = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK", "M": "XWUTRQPNJLK"}
    if value[0] == "M":
        return table["M"][10 - total % 11] == value[8]
    return value[0] in table and table[value[0]][total % 11] == value[8]


def th_id(value: str) -> bool:
    """Thailand: a province, and weights 13 to 2, modulo 11."""
    d = digits_of(value)
    check = (11 - weighted(d, tuple(range(13, 1, -1))) % 11) % 10
    return d[0] != "0" and 10 <= int(d[1:3]) <= 96 and check == int(d[12])


def ph_tin(value: str) -> bool:
    """Philippines: the ninth digit is a weighted sum modulo 11."""
    d = digits_of(value)
    return weighted(d[:8], (9, 8, 7, 6, 5, 4, 3, 2)) % 11 == int(d[8]) and int(d[:8]) > 0


def au_medicare(value: str) -> bool:
    """Australia: the ninth digit checks eight, weights 1 3 7 9."""
    d = digits_of(value)
    return weighted(d[:8], (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(d[8])
