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
UNPRINTABLE: Final = bytes(c for c in range(0x20) if c not in b"\t\n\r") + b"\x7f"


def _magics() -> list[bytes]:
    """Return the first bytes of what holds something."""
    kinds = ("application/", "text/pem")
    return [magic for kind, at, magic in SIGNATURES if not at and kind.startswith(kinds) and len(magic) > 1]


#: A zlib stream of each level (RFC 1950, 2.2).
_ZLIB: Final = rb"e(?:A[E-H]|F[4-7]|J[w-z]|N[o-r])"
#: What of these fills characters.
MAGIC: Final = re.compile(b"|".join([_ZLIB, *(re.escape(base64.b64encode(m)[: len(m) * 8 // 6]) for m in _magics())]))
HEX_MAGIC: Final = re.compile(b"(?i)" + b"|".join(m.hex().encode() for m in _magics() if len(m) > 2))


def decoded(run: bytes) -> bytes:
    """Decode base64 in either alphabet, without padding or with a character too many."""
    run = run[: len(run) - (len(run) % 4 == 1)].translate(_TO_STANDARD)
    return binascii.a2b_base64(run + b"==="[: -len(run) % 4])


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
    if not TEXT.search(run):
        return -1
    found = -1
    for text in TEXT.finditer(run):
        at = text.start()
        if at % 4 == 0 or _MUCH_TEXT.match(run, at):
            return at
        if found < 0 and len(run) < CONTAINER:
            found = at
    return found


def zeros_from(run: bytes) -> int:
    """Return which of the first four characters base64 of something with UTF-16 begins at, -1 if it is nothing such."""
    if run.count(b"A") < len(run) // (ZEROS if len(run) >= ANYTHING else 4):
        return -1
    zeros = [decoded(run[at:]).count(0) for at in range(4)]
    return zeros.index(max(zeros)) if max(zeros) >= len(run) * 3 // 4 // ZEROS else -1


def is_text(value: bytes) -> bool:
    """True if this is UTF-8, and printable."""
    if value.translate(None, UNPRINTABLE) != value:
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
    if len(text) < len(value) * 2 // 5 or (text.isascii() and text.translate(None, UNPRINTABLE) == text):
        return text
    if len(value) < SHORT_WIDE:
        return b""
    little = value[1::2].count(0) >= value[::2].count(0)
    return value.decode("utf-16-le" if little else "utf-16-be", "replace").encode("utf-8", "replace")
