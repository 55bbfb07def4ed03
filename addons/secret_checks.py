"""What a value looks like: a password that somebody chose, credentials in base64, or the code and prose around them."""

import base64
import binascii
import re
from typing import Final

#: Names, calls and templates that stand where a value could: `self.token1`, `get(x)`, `${X}`, `%(x)s`, `$X`, `{{ x }}`.
_CODE: Final = re.compile(
    rb"""\w\(|\)$|\$[({]|\{\{|\}\}|\#\{|<%|%>|^\$[A-Za-z_]\w*$|^%[A-Za-z_]+%$|%[sdr]$|%\(\w|^\{\w*\}$|^@[\w.]+@?$
    |^(?:self|this|os|env|process|config|settings?|options?|props|state|req(?:uest)?|args|params?|data|user|user_?data
        |var|local|module|secrets?|vault|ssm|ref|file|input|form|ctx|store|app|obj|\w{1,8}s)[.\[]\w
    |[\w\])]\.(?:get|value|text|trim|length|to_?string|encode|decode|format|split)\b
    |[\w\])]\.(?:password|passwd|token|secret|key)\b
    |^(?:https?|ftp|file|git|ssh|data)://|^(?:\.{0,2}|~)/|^[A-Za-z]:\\|==|&&|\|\||=>|->|::|\[[\w'"]*\]
    |^\d+(?:px|em|rem|ms|s|%)$
    """,
    re.VERBOSE | re.IGNORECASE,
)
#: `value-one-2`, `SOME_NAME_3`, `name.with.dots`: written by hand, for a machine.
_SLUG: Final = re.compile(
    rb"[a-z]+\d{0,2}(?:_[a-z]+\d{0,2})+|[a-z]*(?:[-_./:][a-z]+|[-_./:]\d{1,4})*|[A-Z]*(?:[-_.][A-Z]+|[-_.]\d{1,4})*|\w+(?:\.[A-Za-z_]\w*)+"
)
#: `password1`, `newPassword`, `accessToken2`: names of what is looked for.
_NAME: Final = re.compile(
    rb"(?i)[a-z_-]*(?:pass(?:word|wd|phrase)?|pwd|secret|token|credential|key|auth|login|user|hash)s?[a-z_-]*\d{0,2}"
)
_MAIL: Final = re.compile(rb"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_ENTITY: Final = re.compile(rb"&#?\w{2,8};")
#: Words with an end that is no part of a password: `Required!`, `optional?`, `*****`.
_EDGES: Final = b"!?.:,;*-_=~^<>'\"`"
_SYMBOLS: Final = b"!@#$%^&*?+~=|"
_TRUNCATED: Final = re.compile(rb"\.\.|\xe2\x80\xa6|\[\.")
#: `a-b-c-1`: words that are strung together.
_CHAIN: Final = re.compile(rb"\w+(?:[-./:]\w{1,5}){3,}")
#: A letter and a digit in turn, as nobody writes names.
_INSIDE: Final = re.compile(rb"\d[A-Za-z]")
#: `2.10.1-rc3`, `sha256`, `aes-256-gcm`.
_RELEASE: Final = re.compile(
    rb"[vV]?\d+(?:[.:/-]\d+)+[A-Za-z]?\d*"
    rb"|(?:sha|md|rsa|aes|utf|iso|x|tls|base|pbkdf|argon|pkcs|hmac)[-_]?(?:\w{2,8}[-_])?\d{1,5}[\w-]{0,12}",
    re.IGNORECASE,
)


#: What stands before a value in the middle of base64, in one line or in those of mail and PEM: at random places of
#: programs and pictures there are all forms that have no sign of their own.
_PACKED: Final = re.compile(rb"(?:[A-Za-z0-9+/]+(?:(?:\\r|\r)?(?:\\n|\n)[ \t]?[A-Za-z0-9+/]*)?|[\w-]+[_-])\Z")
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_URL64: Final = _BASE64 + b"_-"
#: Bytes before a value that are looked at.
_PACKED_SIZE: Final = 60


def in_base64(text: bytes, start: int, value: bytes) -> bool:
    """True if the value that begins at this place of a text is part of longer base64."""
    before = text[max(0, start - _PACKED_SIZE) : start]
    if len(before) < _PACKED_SIZE or not (found := _PACKED.match(before)):
        return False
    urls = before[-1:] in b"_-"
    return found[0] == before and not value.translate(None, _URL64 if urls else _BASE64)


def is_password(value: bytes) -> bool:
    """True for what people choose, and nothing else puts between quotes behind `password =`.

    It has letters, and digits or signs within; it is not code, a name, an address, a path or a release.
    """
    core = value.strip(_EDGES)
    mixed = any(sign in _SYMBOLS for sign in core) or any(48 <= sign <= 57 for sign in core)
    return (
        len(core) >= 4
        and mixed
        and any(65 <= sign & 0xDF <= 90 for sign in core)
        and len(set(core)) >= 4
        and not any(pattern.fullmatch(core) for pattern in (_SLUG, _NAME, _MAIL, _RELEASE))
        and not any(pattern.search(value) for pattern in (_CODE, _ENTITY, _TRUNCATED))
    )


def is_bare_password(value: bytes) -> bool:
    """The same without quotes, where names stand as well: it has three kinds of signs, or digits among letters."""
    if len(value) < 7 or not is_password(value):
        return False
    core = value.strip(_EDGES)
    kinds = (
        any(97 <= sign <= 122 for sign in core)
        + any(65 <= sign <= 90 for sign in core)
        + any(48 <= sign <= 57 for sign in core)
        + any(sign in _SYMBOLS for sign in core)
    )
    identifier = re.fullmatch(rb"[A-Za-z_]+\d{0,2}", core)
    return not identifier and (kinds >= 3 or (kinds == 2 and bool(_INSIDE.search(core))))


def is_random(value: bytes) -> bool:
    """True for a long text of letters, digits and signs in no order."""
    return is_bare_password(value) and bool(_INSIDE.search(value)) and not _CHAIN.fullmatch(value)


def is_basic(value: bytes) -> bool:
    """True for `user:password` in base64 (RFC 7617, 2), printable."""
    try:
        text = base64.b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        return False
    user, colon, password = text.partition(b":")
    printable = all(32 <= sign < 127 or sign > 194 for sign in text)
    return printable and bool(colon and password and len(user + password) > 3)
