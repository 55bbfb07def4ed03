r"""Texts without their escapes: `\u0041`, `%41` and `&#65;` are an A.

All are undone in one pass, in one view; what is escaped twice is found in the view of that view.  So the work grows
with the depth and not with the number of ways to combine them.
"""

import html.entities
import re
from typing import Final

from addons.views.near import Unwriter

_HEX: Final = rb"[0-9A-Fa-f]"
#: What C, JavaScript, JSON, Python and shells write with a backslash (RFC 8259, 7; ECMA-262, 12.9.4).
_SLASHED: Final = (rb"\\(?:u[dD][89abAB]H{2}\\u[dD][c-fC-F]H{2}|uH{4}|u\{H{1,6}\}|xH{2}|U000[01]H{4}"
                   rb"|[0-3][0-7]{2}|[\"'\\/bfnrtv0]|\r?\n)").replace(b"H", _HEX)
#: RFC 3986, 2.1, and what JavaScript's escape() writes.
_PERCENT: Final = rb"%(?:H{2}|u[0-9A-Fa-f]{4})".replace(b"H", _HEX)
#: HTML, 13.5 "Named character references", of which the longest has 33 characters; XML's are among them.
_ENTITY: Final = rb"&(?:#[0-9]{1,7};?|#[xX]H{1,6};?|[A-Za-z][A-Za-z0-9]{1,31};)".replace(b"H", _HEX)
#: The marks of what stands for itself (XML 1.0, 2.7).
_CDATA: Final = rb"<!\[CDATA\[|\]\]>"
#: The same when the text ends before they do: first those whose beginning is another's whole.
_BROKEN: Final = rb"\\u[dD][89abAB]H{2}(?:\\(?:uH{0,3})?)?\Z|\\[0-3][0-7]?\Z".replace(b"H", _HEX)
_PART: Final = (rb"\\[^\\]{0,11}\Z|%(?:u?H{0,4})?\Z|&#?[0-9A-Za-z]{0,32}\Z"
                rb"|<!?\[?C?D?A?T?A?\Z|\]{1,2}\Z").replace(b"H", _HEX)
_ALL: Final = b"|".join((_SLASHED, _PERCENT, _ENTITY, _CDATA))
_LAST: Final = re.compile(b"(" + _ALL + b")")
_MORE: Final = re.compile(b"(" + b"|".join((_BROKEN, _ALL, _PART)) + b")")
_FORM_LAST: Final = re.compile(b"(" + _ALL + rb"|\+)")
_FORM_MORE: Final = re.compile(_MORE.pattern[:-1] + rb"|\+)")

_LETTERS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"0": b"\0"}
#: Values kept for use again; there are more ways to write characters than are worth it.
_KEPT: Final = 8192


class _Values(dict[bytes, bytes]):
    """What is meant, by what is written."""

    def __missing__(self, written: bytes) -> bytes:
        value = _value(written)
        if len(self) < _KEPT:
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
    return b" " if first == b"+" else b""


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


class Escapes(Unwriter):
    """Undoes escapes.  In a form `+` is a space (HTML, URL standard 5.1)."""

    step = "unescaped"
    last, more = _LAST, _MORE
    marks: tuple[bytes, ...] = (b"\\", b"%", b"&", b"]]>", b"<![")

    def parts(self, text: bytes, last: bool) -> list[bytes]:
        for mark in self.marks:
            if mark in text:
                break
        else:
            if last or text[-1:] not in b"<!]":
                return [text]
        parts = (self.last if last else self.more).split(text)
        if not last and len(parts) > 1 and not parts[-1]:
            del parts[-2:]      # it may go on
        return parts

    def values(self, parts: list[bytes]) -> list[bytes]:
        return list(map(_VALUES.__getitem__, parts))


class FormEscapes(Escapes):
    last, more = _FORM_LAST, _FORM_MORE
    marks = (*Escapes.marks, b"+")
