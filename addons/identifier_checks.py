"""Checks of identifiers that python-stdnum does not have, or judges more or less strictly than issuers do.

Each takes the value as it was written, in capitals, and says whether it can be one.
"""

import re
from datetime import date
from typing import Final

from stdnum import bic as _bic
from stdnum.iso7064.mod_11_10 import is_valid as _mod_11_10
from stdnum.verhoeff import is_valid as _verhoeff

from addons.cards import luhn

_LETTERS: Final = {chr(ord("A") + i): 10 + i for i in range(26)} | {str(i): i for i in range(10)}


def _digits(value: str) -> str:
    return "".join(c for c in value if c.isdigit())


def _plain(value: str) -> str:
    return "".join(c for c in value if c.isalnum())


def _luhn(digits: str) -> bool:
    return luhn(digits.encode())


def _weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(d) * w for d, w in zip(digits, weights, strict=False))


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _is_birthday(yymmdd: str) -> bool:
    """True if it is a day in 19yy or 20yy."""
    year, month, day = int(yymmdd[:2]), int(yymmdd[2:4]), int(yymmdd[4:6])
    return _is_date(1900 + year, month, day) or _is_date(2000 + year, month, day)


def not_repeated(value: str) -> bool:
    """True unless all digits are the same, or count up or down as no number that was issued does."""
    d = _digits(value)
    return len(set(d)) > 1 and d not in "01234567890123456789" and d not in "98765432109876543210"


def not_all_digits(value: str) -> bool:
    return not value.isdigit() or not_repeated(value)


def us_ssn(value: str) -> bool:
    """Social Security Administration, POMS RM 10201: area not 000, 666 or 9xx, group not 00, serial not 0000.

    Numbers of advertisements, and those that are obviously typed for the sake of a number, were never issued.
    """
    d = _digits(value)
    if d[:3] in ("000", "666") or d[0] == "9" or d[3:5] == "00" or d[5:] == "0000":
        return False
    return d not in ("078051120", "219099999", "457555462", "123456789", "987654320") and len(set(d)) > 1


def us_itin(value: str) -> bool:
    """IRS: 9xx, then 50-65, 70-88, 90-92 or 94-99."""
    d = _digits(value)
    group = int(d[3:5])
    return 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99


def aba(value: str) -> bool:
    """ANSI X9.100-160: Federal Reserve district and checksum."""
    d = _digits(value)
    first = int(d[:2])
    known = 1 <= first <= 12 or 21 <= first <= 32 or 61 <= first <= 72 or first == 80
    return known and _weighted(d, (3, 7, 1) * 3) % 10 == 0


def npi(value: str) -> bool:
    """45 CFR 162.406: Luhn over 80840 and the number."""
    d = _digits(value)
    return _luhn("80840" + d) and len(set(d)) > 2


def dea(value: str) -> bool:
    """DEA number: (1st + 3rd + 5th) + 2 (2nd + 4th + 6th digit) ends in the 7th."""
    d = _digits(value)[-7:]
    return (_weighted(d, (1, 2, 1, 2, 1, 2))) % 10 == int(d[6])


def ca_sin(value: str) -> bool:
    d = _digits(value)
    return d[0] not in "08" and _luhn(d) and len(set(d)) > 1


def nino(value: str) -> bool:
    """HMRC, NIM39110: prefixes that are not used."""
    return value[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ") and len(set(_digits(value))) > 1


def dvla(value: str) -> bool:
    """True if the five letters are a name padded by 9, and the digits hold a day."""
    day, month = int(value[8:10]), int(value[6:8]) % 50
    return bool(re.match(r"[A-Z]+9*\Z", value[:5])) and _is_date(2000, month, day)


def dni(value: str) -> bool:
    """Spain: the letter is the number modulo 23."""
    plain = _plain(value)
    return len(set(plain[:-1])) > 0 and "TRWAGMYFPDXBNJZSQVHLCKE"[int(plain[:-1]) % 23] == plain[-1]


def nie(value: str) -> bool:
    plain = _plain(value)
    return dni(str("XYZ".index(plain[0])) + plain[1:])


def codice_fiscale(value: str) -> bool:
    """Italy, DM 23/12/1976: the last letter checks the others."""
    odd = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
    total = 0
    for at, c in enumerate(value[:15]):
        number = int(c) if c.isdigit() else ord(c) - ord("A")
        total += odd[number] if at % 2 == 0 else number
    return chr(ord("A") + total % 26) == value[15]


def iva(value: str) -> bool:
    d = _digits(value)
    return int(d[:7]) > 0 and _luhn(d)


def icao(value: str) -> bool:
    """ICAO 9303-3, 4.9: weights 7, 3, 1; cards of before 2010 are T and eight digits, without a check."""
    if re.fullmatch(r"T\d{8}", value):
        return True
    plain = _plain(value)
    total = sum(_LETTERS[c] * (7, 3, 1)[i % 3] for i, c in enumerate(plain[:-1]))
    return any(c.isdigit() for c in plain[:-1]) and total % 10 == int(plain[-1])


def rvnr(value: str) -> bool:
    """German pension insurance (VKVV): area, birthday, letter, serial, check digit."""
    plain = _plain(value)
    day, month = int(plain[2:4]), int(plain[4:6])
    if not 1 <= (day - 50 if day > 50 else day) <= 31 or not 1 <= month <= 12:
        return False
    digits = plain[:8] + f"{ord(plain[8]) - 64:02d}" + plain[9:11]
    products = (int(d) * w for d, w in zip(digits, (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=True))
    return sum(p // 10 + p % 10 for p in products) % 10 == int(plain[11])


def kvnr(value: str) -> bool:
    """German health insurance: the letter as two digits, weights 1 and 2, sums of digits."""
    digits = f"{ord(value[0]) - 64:02d}" + value[1:9]
    products = (int(d) * (1 + i % 2) for i, d in enumerate(digits))
    return sum(p // 10 + p % 10 for p in products) % 10 == int(value[9])


def lanr(value: str) -> bool:
    """German physicians: the 7th digit checks six, weights 4 and 9."""
    return (10 - _weighted(value, (4, 9, 4, 9, 4, 9)) % 10) % 10 == int(value[6]) and value[:6] != "000000"


def bsnr(value: str) -> bool:
    return value[:2] in _BSNR and value[2:] != "0000000"


#: Areas of the German associations of physicians, and of hospitals.
_BSNR: Final = frozenset(
    "01 02 03 05 06 07 08 17 20 35 38 46 47 48 49 50 51 52 53 54 55 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 77 78 "
    "79 80 81 83 85 86 87 88 91 93 94 95 96 97 98 99".split()
)


def fuehrerschein(value: str) -> bool:
    return sum(c.isdigit() for c in value) >= 5


def steuer_id(value: str) -> bool:
    """Germany: ISO 7064 modulo 11, 10.  The rule that one digit comes twice or thrice is kept less strictly."""
    d = _digits(value)
    return bool(_mod_11_10(d)) and max(d[:10].count(c) for c in d) <= 3


def stnr(value: str) -> bool:
    """German tax numbers: with slashes as the Laender write them, or 13 digits with the 5th 0."""
    if "/" in value:
        return len(_digits(value)) in (9, 10, 11)
    return len(value) in (10, 11) or value[4] == "0" or value[:2].isdigit()


def plz(value: str) -> bool:
    return 1001 <= int(value) <= 99998


def personnummer(value: str) -> bool:
    """Sweden: a day (coordination numbers have 60 more) and Luhn over the last ten digits."""
    d = _digits(value)[-10:]
    day = int(d[4:6])
    return _is_birthday(d[:4] + f"{day - 60 if day > 60 else day:02d}") and _luhn(d)


def orgnr(value: str) -> bool:
    d = _digits(value)
    return int(d[2]) >= 2 and _luhn(d)


def hetu(value: str) -> bool:
    """Finland: a day, and the rest modulo 31; those from 900 on are given for a time, and in tests."""
    return _is_birthday(value[4:6] + value[2:4] + value[:2]) and (
        "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(value[:6] + value[7:10]) % 31] == value[10] and value[7:10] > "001"
    )


def lv_pk(value: str) -> bool:
    """Latvia: a day, the century, and modulo 11."""
    d = _digits(value)
    if d[0] == "3" and d[1] in "23456789":
        return True  # since July 2017 without a meaning
    check = (1101 - _weighted(d, (1, 6, 3, 7, 9, 10, 5, 8, 4, 2))) % 11 % 10
    return _is_birthday(d[4:6] + d[2:4] + d[:2]) and check == int(d[10])


def pesel(value: str) -> bool:
    """Poland: a month that tells the century, a day, and weights 1, 3, 7, 9."""
    month, day = int(value[2:4]) % 20, int(value[4:6])
    check = (10 - _weighted(value[:10], (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10
    return 1 <= month <= 12 and 1 <= day <= 31 and check == int(value[10])


def rc(value: str) -> bool:
    """Czechia and Slovakia: a day (women 50 more in the month, 20 more when numbers run out), modulo 11."""
    d = _digits(value)
    month = int(d[2:4]) % 50
    month = month - 20 if month > 20 else month
    if not _is_birthday(d[:2] + f"{month:02d}" + d[4:6]):
        return False
    return len(d) == 9 or int(d) % 11 == 0 or (int(d[:9]) % 11 == 10 and d[9] == "0")


def hu_tax(value: str) -> bool:
    """Hungary: eight digits with a checksum; of the long form, the VAT code is 1 to 5."""
    d = _digits(value)
    return (10 - _weighted(d[:7], (9, 7, 3, 1, 9, 7, 3)) % 10) % 10 == int(d[7]) and (len(d) == 8 or d[8] in "12345")


def snils(value: str) -> bool:
    """Russia: the last two digits are a weighted sum modulo 101."""
    d = _digits(value)
    return _weighted(d, (9, 8, 7, 6, 5, 4, 3, 2, 1)) % 101 % 100 == int(d[9:]) and len(set(d[:9])) > 1


def tr_plate(value: str) -> bool:
    letters, digits = sum(c.isalpha() for c in value), len(_digits(value)) - 2
    return {1: 2 <= digits <= 5, 2: 2 <= digits <= 4, 3: 2 <= digits <= 4}[letters]


def za_id(value: str) -> bool:
    """South Africa: a day, citizen 0, resident 1 or refugee 2, Luhn."""
    d = _digits(value)
    return _is_birthday(d[:6]) and d[10] in "012" and d[11] in "89" and _luhn(d)


def verhoeff(value: str) -> bool:
    return bool(_verhoeff(_digits(value))) and len(set(value)) > 1


def bic(value: str) -> bool:
    """ISO 9362: a country at its place."""
    return bool(_bic.is_valid(value))


def aadhaar(value: str) -> bool:
    """India (UIDAI): Verhoeff; three years in a row, and numbers that read the same from behind, are none."""
    d = _digits(value)
    years = all(1900 <= int(d[at : at + 4]) <= 2100 for at in (0, 4, 8))
    return not years and d != d[::-1] and verhoeff(d)


def in_pan(value: str) -> bool:
    return value[5:9] != "0000"


def in_plate(value: str) -> bool:
    return value[:2] in _INDIAN_STATES


_INDIAN_STATES: Final = frozenset(
    "AN AP AR AS BR CG CH DD DL DN GA GJ HP HR JH JK KA KL LA LD MH ML MN MP MZ NL OD OR PB PY RJ SK TN TR TS TG UK UP "
    "UA WB".split()
)


def tw_id(value: str) -> bool:
    """Taiwan: the letter as two digits, weights 1 9 8 .. 1 1."""
    number = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(value[0]) + 10
    return _weighted(f"{number}{value[1:]}", (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)) % 10 == 0


def hk_id(value: str) -> bool:
    """Hong Kong: one or two letters, six digits, modulo 11."""
    plain = _plain(value).rjust(9)
    numbers = [36 if c == " " else _LETTERS[c] for c in plain[:8]]
    remainder = -sum(n * w for n, w in zip(numbers, range(9, 1, -1), strict=True)) % 11
    return plain[8] == ("A" if remainder == 10 else str(remainder))


def kr_rrn(value: str) -> bool:
    """Korea: a day; numbers given since October 2020 have no check digit, so none is asked for."""
    return _is_birthday(_digits(value)[:6])


def kr_brn(value: str) -> bool:
    """Korea, companies: weights 1 3 7, and 5 with its tens."""
    d = _digits(value)
    total = _weighted(d, (1, 3, 7, 1, 3, 7, 1, 3, 5)) + int(d[8]) * 5 // 10
    return (10 - total % 10) % 10 == int(d[9]) and len(set(d)) > 1


def sg_nric(value: str) -> bool:
    """Singapore: weights 2 7 6 5 4 3 2, an offset and a table for each first letter."""
    total = _weighted(value[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"S": 0, "F": 0, "T": 4, "G": 4, "M": 3}.get(value[0], 99)
    table = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK", "M": "XWUTRQPNJLK"}
    if value[0] == "M":
        return table["M"][10 - total % 11] == value[8]
    return value[0] in table and table[value[0]][total % 11] == value[8]


def th_id(value: str) -> bool:
    """Thailand: a province, and weights 13 to 2, modulo 11."""
    d = _digits(value)
    return d[0] != "0" and 10 <= int(d[1:3]) <= 96 and (11 - _weighted(d, tuple(range(13, 1, -1))) % 11) % 10 == int(d[12])


def ph_tin(value: str) -> bool:
    """Philippines: the ninth digit is a weighted sum modulo 11."""
    d = _digits(value)
    return _weighted(d[:8], (9, 8, 7, 6, 5, 4, 3, 2)) % 11 == int(d[8]) and int(d[:8]) > 0


def au_medicare(value: str) -> bool:
    """Australia: the ninth digit checks eight, weights 1 3 7 9."""
    d = _digits(value)
    return _weighted(d[:8], (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(d[8])
