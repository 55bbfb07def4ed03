"""The alphabets of base64, base32 and hexadecimal digits (RFC 4648): decoding them, and telling whether it makes sense.

Base64 of ASCII text has a form that other words do not have: of the first byte come the upper six bits, of the second
the lower two ...  That shows where in a run of letters a text begins, too.
"""

import base64
import binascii
import re
from typing import Final

from addons.sniff import SIGNATURES

#: At least one of so many bytes is 0 where UTF-16 is somewhere.
ZEROS: Final = 12
#: Hexadecimal digits that make a text: 11 bytes are a social security number.
SHORT_HEX: Final = 22
#: Base64 of text in another language than English: there is more that looks like it.
OTHER: Final = 20
#: A run of so many characters is text if some of it looks like it; what is shorter must be printable as a whole.
LONGER: Final = 28
#: A run of so many characters is no name: it is decoded whatever it holds.
ANYTHING: Final = 256
#: Bytes of UTF-16 that need not be ASCII.
SHORT_WIDE: Final = 24
#: Base64 of the smallest container that holds anything: gzip of a few words.
CONTAINER: Final = 40
ALNUM: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_ANY: Final = rb"[A-Za-z0-9+/_-]"
#: Three bytes of ASCII text: of the first the upper six bits, the lower two and the upper four of the second ...
_GROUP: Final = rb"[CDI-Za-f][AC-HQS-Xgi-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589]" + _ANY
#: Five bytes of ASCII text in base32.
_GROUP32: Final = rb"[E-P][ABEFIJMNQRUVYZ45][A-Z2-7][C-HS-X][ACEGIKMOQSUWY246][I-Z2-7][BCDJKLRSTZ23][A-Z2-7]"
TEXT: Final = re.compile(_GROUP * 3)
_MUCH_TEXT: Final = re.compile(_GROUP * 6)
TEXT32: Final = re.compile(_GROUP32 * 2)
#: A byte of ASCII text in hexadecimal, often enough to be no hash.
HEX_TEXT: Final = re.compile(rb"(?:[2-7][0-9a-fA-F]){11}")
HEX: Final = b"0123456789abcdefABCDEF"
HEXES: Final = re.compile(rb"[0-9a-fA-F]+")
DIGITS32: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
NOT_32: Final = b"abcdefghijklmnopqrstuvwxyz0189+/-_"
NOT_HEX: Final = b"GHIJKLMNOPQRSTUVWXYZghijklmnopqrstuvwxyz+/-_"
#: 1 for what is not printable.  To translate is several times as fast as to delete where the text is short.
UNPRINTABLE: Final = bytes(c == 0x7F or (c < 0x20 and c not in b"\t\n\r") for c in range(256))
NOT_A_DIGIT: Final = bytes(c not in b"0123456789abcdefABCDEF" for c in range(256))
_NOT_2_TO_7: Final = bytes(c not in b"234567" for c in range(256))
NOT_UPPER: Final = bytes(c not in DIGITS32 for c in range(256))


def _magics() -> list[bytes]:
    """Return the first bytes of what holds something."""
    kinds = ("application/", "text/pem")
    return [magic for kind, at, magic in SIGNATURES if not at and kind.startswith(kinds) and len(magic) > 1]


#: A zlib stream of each level (RFC 1950, 2.2).
_ZLIB: Final = rb"e(?:A[E-H]|F[4-7]|J[w-z]|N[o-r])"
#: What of these fills characters.
MAGIC: Final = re.compile(b"|".join([_ZLIB, *(re.escape(base64.b64encode(m)[: len(m) * 8 // 6]) for m in _magics())]))
HEX_MAGIC: Final = re.compile(b"|".join(m.hex().encode() for m in _magics() if len(m) > 2))


def _beginning() -> bytes:
    """Return the form of three bytes of UTF-8 without control characters, as far as one character at a time tells: of
    the first byte come the upper six bits, of the second the upper half."""
    signs = ALNUM[10:] + ALNUM[:10] + b"+/"
    fit = [c for c in range(256) if (c >= 0x20 or c in b"\t\n\r") and c not in (0x7F, 0xC0, 0xC1) and c < 0xF5]
    first = {signs[c >> 2] for c in fit}
    second = {signs[high | c >> 4] for c in fit for high in (0, 16, 32, 48)}
    return b"".join((b"[", bytes(sorted(first)), b"][", bytes(sorted(second)), b"_-]", _ANY, _ANY))


_MAY_BE_UTF8: Final = re.compile(_beginning() * (OTHER // 4))
_PREFIXES: Final = b"0x", b"0X"
_PREFIXED: Final = re.compile(rb"(?:0[xX])+([0-9a-fA-F]{%d,})" % SHORT_HEX)
#: Every other digit is 2 to 7.
_MAY_BE_HEX_TEXT: Final = re.compile(rb"(?:0[xX])?.?" + rb"[2-7]." * (SHORT_HEX // 2 - 1), re.DOTALL)


def decoded(run: bytes) -> bytes:
    """Decode base64 in either alphabet, without padding or with a character too many."""
    run = run[: len(run) - (len(run) % 4 == 1)].translate(_TO_STANDARD)
    return binascii.a2b_base64(run + b"==" if len(run) & 3 else run)


def unbase32(run: bytes) -> bytes:
    """Decode base32 without padding."""
    run = run[: len(run) - {1: 1, 3: 1, 6: 1}.get(len(run) % 8, 0)]
    return base64.b32decode(run + b"=" * (-len(run) % 8))


def unhex(run: bytes) -> bytes:
    """Decode hexadecimal digits; one too many is left out."""
    return binascii.a2b_hex(run[: len(run) & ~1])


def whole(digits: re.Pattern[bytes], run: bytes, at: int) -> bytes:
    """Return the digits of a kind from a place on."""
    match = digits.match(run, at)
    return match[0] if match else b""


def sense(run: bytes) -> int:
    """Return where in a run base64 of ASCII text begins, -1 if it holds none.  What begins where the run does is more
    likely than what does not: in a long run of anything, a few groups look like text at some place."""
    text = TEXT.search(run)
    found = -1
    while text:
        at = text.start()
        if at % 4 == 0 or _MUCH_TEXT.match(run, at):
            return at
        if found < 0 and len(run) < CONTAINER:
            found = at
        text = TEXT.search(run, text.end())
    return found


def is_printable(value: bytes) -> bool:
    return 1 not in value.translate(UNPRINTABLE)


def zeros_from(run: bytes) -> int:
    """Return which of the first four characters base64 of something with UTF-16 begins at, -1 if it is nothing such."""
    if run.count(b"A") < len(run) // (ZEROS if len(run) >= ANYTHING else 4):
        return -1
    zeros = [decoded(run[at:]).count(0) for at in range(4)]
    return zeros.index(max(zeros)) if max(zeros) >= len(run) * 3 // 4 // ZEROS else -1


def is_vain(run: bytes) -> bool:
    """True if a run is nothing that makes sense, without a closer look: names and hashes must get through here fast."""
    size = len(run)
    if size < SHORT_HEX:
        # A word or a number: some letter of the base64 of any text is a capital, and too short for the others.
        if run.islower() or run.isdigit():
            return True
    else:
        if size >= 2 * CONTAINER or _MAY_BE_HEX_TEXT.match(run) or run.count(b"00") >= (size - 2) // 8:
            return False
        if size >= CONTAINER and (MAGIC.match(run) or HEX_MAGIC.match(run.lower())):
            return False
        if run.islower() or run.isdigit():
            return True
    if run.isupper() or run.count(b"A") >= size // 4 or TEXT.search(run):
        return False
    return size < OTHER or run.isalpha() or not _MAY_BE_UTF8.match(run)


def is_text(value: bytes) -> bool:
    """True if this is UTF-8, and printable."""
    if not is_printable(value):
        return False
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def narrow(value: bytes) -> bytes:
    """Return what is UTF-16 or UTF-32, of either order, without its zeros; nothing if it is neither."""
    text = value.translate(None, b"\0")
    if len(text) > len(value) * 2 // 3:
        return b""
    if len(text) < len(value) * 2 // 5 or (text.isascii() and is_printable(text)):
        return text
    if len(value) < SHORT_WIDE:
        return b""
    little = value[1::2].count(0) >= value[::2].count(0)
    return value.decode("utf-16-le" if little else "utf-16-be", "replace").encode("utf-8", "replace")


#: What a run stands for: the name of its alphabet, the value, and whether its first bytes show a container.
Meaning = tuple[str, bytes, bool]


def meaning(run: bytes) -> Meaning | None:
    """Return what a whole run, without its breaks, stands for, if it makes sense."""
    if is_vain(run):
        return None
    if len(run) >= CONTAINER and MAGIC.match(run):
        return "base64", decoded(run), True
    if run.startswith(_PREFIXES):
        if digits := _PREFIXED.match(run):
            return _of_hex(digits[1])
        if len(run) >= 2 * CONTAINER and (text := HEX_TEXT.search(run)):
            return "hex", unhex(whole(HEXES, run, text.start())), False
    if 1 not in run.translate(NOT_A_DIGIT):
        return _of_hex(run)
    if run.islower():       # some letter of the base64 of any text is a capital
        return None
    if run.isupper() and 1 not in run.translate(NOT_UPPER) and (value := _of_base32(run)):
        return "base32", value, False
    if (at := zeros_from(run)) >= 0 and ((value := narrow(decoded(run[at:]))) or len(run) >= ANYTHING):
        return "base64", value or decoded(run[at:]), False
    if (at := sense(run)) >= 0:
        value = decoded(run if at % 4 == 0 else run[at:])
        return ("base64", value, False) if len(run) >= LONGER or is_printable(value) else None
    if len(run) >= ANYTHING or (len(run) >= OTHER and not run.isalpha() and is_text(decoded(run))):
        return "base64", decoded(run), False
    return None


def _of_base32(run: bytes) -> bytes:
    text = TEXT32.search(run)
    if text is None and len(run) < CONTAINER:
        return b""
    value = unbase32(run[text.start() :] if text and text.start() % 8 else run)
    return narrow(value) or value


def _of_hex(run: bytes) -> Meaning | None:
    if len(run) < SHORT_HEX:
        return None
    at = 0
    if len(run) >= CONTAINER and HEX_MAGIC.match(run.lower()):
        return "hex", unhex(run), True
    if run.count(b"00") >= len(run) // 8 and (value := narrow(unhex(run))):
        return "hex", value, False
    # Of a text, every other digit is 2 to 7.
    if 1 in run[:-1:2].translate(_NOT_2_TO_7):
        at = -1 if 1 in run[1:-1:2].translate(_NOT_2_TO_7) else 1
    if at < 0 and len(run) >= 2 * CONTAINER and (text := HEX_TEXT.search(run)):
        at = text.start()
    return ("hex", unhex(run[max(0, at) :]), False) if at >= 0 or len(run) >= ANYTHING else None
