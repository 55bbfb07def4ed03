"""Checks of European identifiers that python-stdnum does not have, or judges more or less strictly than issuers do.

Each takes the value as it was written, in capitals, and says whether it can be one.
"""

import re
from typing import Final

from stdnum.iso7064.mod_11_10 import is_valid as _mod_11_10

from addons.identifier_checks import LETTERS, digits_of, is_birthday, is_date, luhn, plain_of, weighted


def nino(value: str) -> bool:
    """HMRC, NIM39110: prefixes that are not used."""
    return value[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ") and len(set(digits_of(value))) > 1


def dvla(value: str) -> bool:
    """True if the five letters are a name padded by 9, and the digits hold a day."""
    day, month = int(value[8:10]), int(value[6:8]) % 50
    return bool(re.match(r"[A-Z]+9*\Z", value[:5])) and is_date(2000, month, day)


def dni(value: str) -> bool:
    """Spain: the letter is the number modulo 23."""
    plain = plain_of(value)
    return len(set(plain[:-1])) > 0 and "TRWAGMYFPDXBNJZSQVHLCKE"[int(plain[:-1]) % 23] == plain[-1]


def nie(value: str) -> bool:
    plain = plain_of(value)
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
    d = digits_of(value)
    return int(d[:7]) > 0 and luhn(d)


def icao(value: str) -> bool:
    """ICAO 9303-3, 4.9: weights 7, 3, 1; cards of before 2010 are T and eight digits, without a check."""
    if re.fullmatch(r"T\d{8}", value):
        return True
    plain = plain_of(value)
    total = sum(LETTERS[c] * (7, 3, 1)[i % 3] for i, c in enumerate(plain[:-1]))
    return any(c.isdigit() for c in plain[:-1]) and total % 10 == int(plain[-1])


def rvnr(value: str) -> bool:
    """German pension insurance (VKVV): area, birthday, letter, serial, check digit."""
    plain = plain_of(value)
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
    return (10 - weighted(value, (4, 9, 4, 9, 4, 9)) % 10) % 10 == int(value[6]) and value[:6] != "000000"


def bsnr(value: str) -> bool:
    return value[:2] in _BSNR and value[2:] != "0000000"


#: Areas of the German associations of physicians, and of hospitals.
_BSNR: Final = frozenset(
    [
        "01", "02", "03", "05", "06", "07", "08", "17", "20", "35", "38", "46", "47", "48", "49", "50", "51", "52",
        "53", "54", "55", "60", "61", "62", "63", "64", "65", "66", "67", "68", "69", "70", "71", "72", "73", "74",
        "77", "78", "79", "80", "81", "83", "85", "86", "87", "88", "91", "93", "94", "95", "96", "97", "98", "99",
    ]
)


def fuehrerschein(value: str) -> bool:
    return sum(c.isdigit() for c in value) >= 5


def steuer_id(value: str) -> bool:
    """Germany: ISO 7064 modulo 11, 10.  The rule that one digit comes twice or thrice is kept less strictly."""
    d = digits_of(value)
    return bool(_mod_11_10(d)) and max(d[:10].count(c) for c in d) <= 3


def stnr(value: str) -> bool:
    """German tax numbers: with slashes as the Laender write them, or 13 digits with the 5th 0."""
    if "/" in value:
        return len(digits_of(value)) in (9, 10, 11)
    return len(value) in (10, 11) or value[4] == "0" or value[:2].isdigit()


def plz(value: str) -> bool:
    return 1001 <= int(value) <= 99998


def personnummer(value: str) -> bool:
    """Sweden: a day (coordination numbers have 60 more) and Luhn over the last ten digits."""
    d = digits_of(value)[-10:]
    day = int(d[4:6])
    return is_birthday(d[:4] + f"{day - 60 if day > 60 else day:02d}") and luhn(d)


def orgnr(value: str) -> bool:
    d = digits_of(value)
    return int(d[2]) >= 2 and luhn(d)


def hetu(value: str) -> bool:
    """Finland: a day, and the rest modulo 31; those from 900 on are given for a time, and in tests."""
    return is_birthday(value[4:6] + value[2:4] + value[:2]) and (
        "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(value[:6] + value[7:10]) % 31] == value[10] and value[7:10] > "001"
    )


def lv_pk(value: str) -> bool:
    """Latvia: a day, the century, and modulo 11."""
    d = digits_of(value)
    if d[0] == "3" and d[1] in "23456789":
        return True  # since July 2017 without a meaning
    check = (1101 - weighted(d, (1, 6, 3, 7, 9, 10, 5, 8, 4, 2))) % 11 % 10
    return is_birthday(d[4:6] + d[2:4] + d[:2]) and check == int(d[10])


def pesel(value: str) -> bool:
    """Poland: a month that tells the century, a day, and weights 1, 3, 7, 9."""
    month, day = int(value[2:4]) % 20, int(value[4:6])
    check = (10 - weighted(value[:10], (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10
    return 1 <= month <= 12 and 1 <= day <= 31 and check == int(value[10])


def rc(value: str) -> bool:
    """Czechia and Slovakia: a day (women 50 more in the month, 20 more when numbers run out), modulo 11."""
    d = digits_of(value)
    month = int(d[2:4]) % 50
    month = month - 20 if month > 20 else month
    if not is_birthday(d[:2] + f"{month:02d}" + d[4:6]):
        return False
    return len(d) == 9 or int(d) % 11 == 0 or (int(d[:9]) % 11 == 10 and d[9] == "0")


def hu_tax(value: str) -> bool:
    """Hungary: eight digits with a checksum; of the long form, the VAT code is 1 to 5."""
    d = digits_of(value)
    return (10 - weighted(d[:7], (9, 7, 3, 1, 9, 7, 3)) % 10) % 10 == int(d[7]) and (len(d) == 8 or d[8] in "12345")


def snils(value: str) -> bool:
    """Russia: the last two digits are a weighted sum modulo 101."""
    d = digits_of(value)
    return weighted(d, (9, 8, 7, 6, 5, 4, 3, 2, 1)) % 101 % 100 == int(d[9:]) and len(set(d[:9])) > 1


def tr_plate(value: str) -> bool:
    letters, digits = sum(c.isalpha() for c in value), len(digits_of(value)) - 2
    return {1: 2 <= digits <= 5, 2: 2 <= digits <= 4, 3: 2 <= digits <= 4}[letters]
