r"""Texts without their escapes: `\u0041`, `%41` and `&#65;` are an A.

All are undone in one pass, in one view; what is escaped twice is found in the view of that view.  So the work grows
with the depth and not with the number of ways to combine them.
"""

import html.entities
import re
from collections.abc import Callable
from functools import cache
from operator import methodcaller
from typing import Final

from addons.views.near import Unwriter
from addons.views.tree import View

_HEX: Final = rb"[0-9A-Fa-f]"
#: What C, JavaScript, JSON, Python and shells write with a backslash (RFC 8259, 7; ECMA-262, 12.9.4).
_SLASHED: Final = (rb"\\(?:[\"'\\/bfnrtv]|u[dD][89abAB]H{2}\\u[dD][c-fC-F]H{2}|uH{4}|u\{H{1,6}\}|xH{2}|U000[01]H{4}"
                   rb"|[0-3][0-7]{2}|0|\r?\n)")
#: RFC 3986, 2.1, and what JavaScript's escape() writes.
_PERCENT: Final = rb"%(?:H{2}|uH{4})"
#: HTML, 13.5 "Named character references", of which the longest has 33 characters; XML's are among them.
_ENTITY: Final = rb"&(?:#(?:[0-9]{1,7}+|[xX]H{1,6}+)(?:;|(?!\]\]))|[A-Za-z][A-Za-z0-9]{1,31};)"
#: Where a text goes on in another section (XML 1.0, 2.7).
_CDATA: Final = rb"\]\]><!\[CDATA\["
_PLUS: Final = rb"\+{1,64}"
#: The beginnings of these at the end of a text.
_PART: Final = re.compile((rb"\\[^\\]{0,11}\Z|%(?:u?H{0,4})?\Z|&(?:#?[0-9A-Za-z]{0,32})?\Z"
                           rb"|\](?:\](?:>(?:<(?:!(?:\[C?D?A?T?A?)?)?)?)?)?\Z").replace(b"H", _HEX))
_LONGEST: Final = 36


@cache
def _splitter(*forms: bytes) -> re.Pattern[bytes]:
    return re.compile(b"(" + b"|".join(forms) + b")")


_LETTERS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"0": b"\0"}
#: Values kept for use again; there are more ways to write characters than are worth it.
_KEPT: Final = 8192


class _Values(dict[bytes, bytes]):
    """What is meant, by what is written."""

    def __missing__(self, written: bytes) -> bytes:
        value = _value(written)
        if len(self) < _KEPT and len(written) < _LONGEST:
            self[written] = value
        return value


def _value(written: bytes) -> bytes:
    first, rest = written[:1], written[1:]
    if first == b"%":
        return _character(int(rest[1:], 16)) if rest[:1] == b"u" else bytes.fromhex(rest.decode())
    if first == b"&":
        return _entity(rest.rstrip(b";").decode(), written)
    if first == b"\\":
        return _slashed(rest)
    return b" " * len(written) if first == b"+" else b""


def _slashed(rest: bytes) -> bytes:
    kind, digits = rest[:1], rest[1:]
    if kind in b"uU" and len(rest) == 11:      # a pair of surrogates
        return _character(0x10000 + ((int(digits[:4], 16) - 0xD800) << 10) + int(digits[6:], 16) - 0xDC00)
    if kind in b"uU":
        return _character(int(digits.strip(b"{}"), 16))
    if kind == b"x":
        return bytes.fromhex(digits.decode())
    if rest[-1:] == b"\n":      # a line that goes on
        return b""
    if len(rest) == 3:
        return bytes([int(rest, 8)])
    return _LETTERS.get(rest, rest)


def _entity(name: str, written: bytes) -> bytes:
    if name[:2].lower() == "#x":
        return _character(int(name[2:], 16))
    if name[:1] == "#":
        return _character(int(name[1:]))
    return html.entities.html5.get(name + ";", "").encode() or written


def _character(code: int) -> bytes:
    return chr(code).encode("utf-8", "replace") if code < 0x110000 else b"?"


_VALUES: Final = _Values()


def meant(written: bytes) -> bytes:
    """Return what something that is written otherwise stands for."""
    return _VALUES[written]


@cache
def _test(form: bytes) -> Callable[[bytes], object]:
    """Return what says whether a form occurs in a text."""
    if form in (_CDATA, _PLUS):
        return methodcaller("__contains__", b"+" if form == _PLUS else form.replace(b"\\", b""))
    return re.compile(form).search


class Escapes(Unwriter):
    """Undoes escapes."""

    step = "unescaped"
    forms: tuple[bytes, ...] = tuple(form.replace(b"H", _HEX) for form in (_SLASHED, _PERCENT, _ENTITY, _CDATA))

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._found = [(form, _test(form)) for form in self.forms]

    def parts(self, text: bytes, last: bool) -> list[bytes]:
        # A form by itself is searched at the speed of memchr, several at once are not: ask which there are.
        forms = [form for form, found in self._found if found(text)]
        parts = _splitter(*forms).split(text) if forms else [text]
        if not last:
            _keep_beginning(parts)
        return parts

    def values(self, parts: list[bytes]) -> list[bytes]:
        return list(map(_VALUES.__getitem__, parts))


class FormEscapes(Escapes):
    """Undoes escapes in a form, in which `+` is a space (URL standard, 5.1)."""

    forms = (*Escapes.forms, _PLUS)


def _keep_beginning(parts: list[bytes]) -> None:
    """Take off the end what may go on in the text that follows."""
    tail = parts[-1]
    if begun := _PART.search(tail, max(0, len(tail) - _LONGEST)):
        parts[-1] = tail[: begun.start()]
    # Half a pair, an octal number, a number without its semicolon.
    if len(parts) > 1 and len(parts[-1]) <= 1:
        del parts[-2:]
