r"""Texts without their escapes: `\u0041`, `%41` and `&#65;` are an A.

All are undone in one pass, in one view; what is escaped twice is found in the view of that view.  So the work grows
with the depth and not with the number of ways to combine them.
"""

import html.entities
import re
from binascii import unhexlify
from collections.abc import Callable
from functools import cache
from typing import Final

from addons.views.near import Unwriter
from addons.views.tree import View

_HEX: Final = rb"[0-9A-Fa-f]"
#: What C, JavaScript, JSON, Python and shells write with a backslash (RFC 8259, 7; ECMA-262, 12.9.4).
#: Of most, what follows each other is one match: so a text of nothing else is undone at once.
_SLASHED: Final = (rb"\\(?:[\"'\\/bfnrtv](?:\\[\"'\\/bfnrtv])*+|uHHHH(?:\\uHHHH)*+|xHH(?:\\xHH)*+|u\{H{1,6}\}"
                   rb"|U000[01]H{4}|[0-3][0-7]{2}|0|\r?\n)")
#: RFC 3986, 2.1, and what JavaScript's escape() writes.
_PERCENT: Final = rb"%(?:HH(?:%HH)*+|uHHHH)"
#: HTML, 13.5 "Named character references", of which the longest has 33 characters; XML's are among them.
_ENTITY: Final = rb"&(?:#(?:[0-9]{1,7}+|[xX]H{1,6}+)(?:;|(?!\]\]))|[A-Za-z][A-Za-z0-9]{1,31};)"
#: Where a text goes on in another section (XML 1.0, 2.7).
_CDATA: Final = rb"\]\]><!\[CDATA\["
#: The same as above, one at a time.
_ONE_SLASHED: Final = (rb"\\(?:[\"'\\/bfnrtv]|u[dD][89abAB]H{2}\\u[dD][c-fC-F]H{2}|uH{4}|u\{H{1,6}\}|xH{2}"
                       rb"|U000[01]H{4}|[0-3][0-7]{2}|0|\r?\n)")
#: The same, with what other escapes make of the signs that they begin with, however often: `%252541`, `&amp;amp;#65;`.
#: As many repeats as stay well below what a reader may keep.
_AMPS: Final = rb"(?:(?:amp|#0{0,4}38|#[xX]0{0,4}26);){0,90}"
_DEEP_SLASHED: Final = _ONE_SLASHED.replace(rb"\\(?:", rb"\\{1,500}(?:", 1).replace(rb"\\u[dD][c", rb"\\{1,500}u[dD][c")
_DEEP_PERCENT: Final = rb"%(?:25){0,200}(?:H{2}|uH{4})"
_DEEP_ENTITY: Final = _ENTITY.replace(b"&", b"&" + _AMPS, 1)
_DEEP_PART: Final = re.compile((
    rb"(?:(?<!\\)\\{1,500}+[^\\%&]{0,11}|%(?:25){0,200}+(?:2|u?H{0,4})|&" + _AMPS + rb"(?:#?[0-9A-Za-z]{0,32}))\Z"
).replace(b"H", _HEX))
#: What the last escape of a chain has before it.
_FOLDED: Final = re.compile((
    rb"\\+(?=\\[^\\])|\\+(?=\\\\\Z)|(?<=\A%)(?:25)+(?=H{2}\Z|uH{4}\Z)|(?<=\A&)" + _AMPS.replace(b"{0,90}", b"+")
    + rb"(?=.)"
).replace(b"H", _HEX), re.DOTALL)
#: The longest beginning.
_DEEPEST: Final = 1100
#: Escapes of escapes that are undone one by one; the next undoes all that are left: no text is to be too deep for it.
DEEP: Final = 3
#: The beginnings of these at the end of a text.
_PART: Final = re.compile((rb"\\[^\\]{0,11}\Z|%(?:u?H{0,4})?\Z|&(?:#?[0-9A-Za-z]{0,32})?\Z"
                           rb"|\](?:\](?:>(?:<(?:!(?:\[C?D?A?T?A?)?)?)?)?)?\Z").replace(b"H", _HEX))
_LONGEST: Final = 36
#: Bytes for each escape from which on it is faster to look for each form by itself.
_SPARSE: Final = 48


_BACKSLASH, _PERCENT_SIGN, _AMPERSAND, _PLUS = b"\\%&+"


@cache
def _splitter(*forms: bytes) -> re.Pattern[bytes]:
    return re.compile(b"(" + b"|".join(forms) + b")")


#: Half of a character, which goes on in the next, and what each of them takes.
_HALF: Final = re.compile(rb"\\u[dD][89abAB]..")
_UNIT: Final = 6
_LETTERS: Final = bytes.maketrans(b"bfnrtv0", b"\b\f\n\r\t\v\0")
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
        return _character(int(rest[1:], 16)) if rest[:1] == b"u" else unhexlify(written.replace(b"%", b""))
    if first == b"&":
        return _entity(rest.rstrip(b";").decode(), written)
    if first == b"\\":
        return _slashed(written, rest)
    return b""


def _slashed(written: bytes, rest: bytes) -> bytes:
    kind, digits = rest[:1], rest[1:]
    if kind in b"uUx" and not digits:       # `C:\users`: no escape after all
        return rest
    if kind == b"u" and digits[:1] != b"{":         # with pairs of surrogates
        units = unhexlify(written.replace(b"\\u", b"")).decode("utf-16-be", "surrogatepass")
        return units.encode("utf-8", "replace")
    if kind in b"uU":
        return _character(int(digits.strip(b"{}"), 16))
    if kind == b"x":
        return unhexlify(written.replace(b"\\x", b""))
    if rest[-1:] == b"\n":      # a line that goes on
        return b""
    if kind.isdigit() and digits:
        return bytes([int(rest, 8) & 0xFF])
    return rest[::2].translate(_LETTERS)


def _entity(name: str, written: bytes) -> bytes:
    if name[:2].lower() == "#x":
        return _character(int(name[2:], 16))
    if name[:1] == "#":
        return _character(int(name[1:]))
    return html.entities.html5.get(name + ";", "").encode() or written


def _character(code: int) -> bytes:
    return chr(code).encode("utf-8", "replace") if code < 0x110000 else b"?"


_VALUES: Final = _Values()


#: How it is written, what is in every text that holds it, and what finds one.
_Form = tuple[bytes, bytes, Callable[[bytes], object]]


def _form(form: bytes, first: bytes, one: bytes = b"") -> _Form:
    return form.replace(b"H", _HEX), first, re.compile((one or form).replace(b"H", _HEX)).search


_FORMS: Final = (_form(_SLASHED, b"\\"), _form(_PERCENT, b"%"), _form(_ENTITY, b"&"), _form(_CDATA, b"]]><![CDATA["))


_DEEP_FORMS: Final = (_form(_DEEP_SLASHED, b"\\", _SLASHED), _form(_DEEP_PERCENT, b"%", _PERCENT),
                      _form(_DEEP_ENTITY, b"&", _ENTITY), _FORMS[-1])


def _split(found: list[_Form], text: bytes) -> list[bytes]:
    """Split a text at what has one of these forms."""
    forms = [form for form, _, _ in found]
    if len(forms) == 1 or sum(text.count(first) for _, first, _ in found) * _SPARSE > len(text):
        return _splitter(*forms).split(text)
    parts, at = list[bytes](), 0
    for start, end in sorted(match.span() for form in forms for match in _splitter(form).finditer(text)):
        parts += text[at:start], text[start:end]
        at = end
    return [*parts, text[at:]]


def maybe_escapes(text: bytes) -> bool:
    """True if escapes may be here."""
    # To look for a byte as a number takes a fraction of what it takes as a text.
    return _BACKSLASH in text or _PERCENT_SIGN in text or _AMPERSAND in text or text.find(b"]]><![CDATA[") >= 0


def maybe_form(text: bytes) -> bool:
    """The same in a form, in which `+` is a space."""
    return _PLUS in text or maybe_escapes(text)


def meant(written: bytes) -> bytes:
    """Return what something that is written otherwise stands for."""
    return _VALUES[written]


class Escapes(Unwriter):
    """Undoes escapes."""

    step = "unescaped"
    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._deep = view.text_depth >= DEEP

    def parts(self, text: bytes, last: bool) -> list[bytes]:
        if self._deep and not last and (begun := _DEEP_PART.search(text, max(0, len(text) - _DEEPEST))):
            text = text[: begun.start()]
        # A form by itself is searched at the speed of memchr, several at once are not: ask which there are.
        forms = [form for form in (_DEEP_FORMS if self._deep else _FORMS) if form[1] in text and form[2](text)]
        parts = _split(forms, text) if forms else [text]
        if not last:
            _keep_beginning(parts, _DEEPEST if self._deep else _LONGEST)
        return parts

    def values(self, parts: list[bytes]) -> list[bytes]:
        if self._deep:
            parts = [_FOLDED.sub(b"", part) for part in parts]
        return list(map(_VALUES.__getitem__, parts))


class FormEscapes(Escapes):
    """Undoes escapes in a form, in which `+` is a space (URL standard, 5.1)."""

    def parts(self, text: bytes, last: bool) -> list[bytes]:
        parts = super().parts(text, last)
        return _with_spaces(parts, 2 * self._near) if _PLUS in text else parts

    def values(self, parts: list[bytes]) -> list[bytes]:
        return [part.replace(b"+", b" ") if _PLUS in part else value
                for part, value in zip(parts, super().values(parts), strict=True)]


def _with_spaces(parts: list[bytes], gap: int) -> list[bytes]:
    """Count as written otherwise what goes from a `+` to another, unless they are far apart."""
    out: list[bytes] = []
    for i, part in enumerate(parts):
        if i % 2 or _PLUS not in part:
            out.append(part)
            continue
        at = 0
        first = part.find(b"+")
        while first >= 0:
            last = end = first
            while (end := part.rfind(b"+", last + 1, last + gap + 2)) >= 0:
                last = end
            out += part[at:first], part[first : last + 1]
            at = last + 1
            first = part.find(b"+", at)
        out.append(part[at:])
    return out


def _keep_beginning(parts: list[bytes], longest: int) -> None:
    """Take off the end what may go on in the text that follows."""
    tail = parts[-1]
    if begun := _PART.search(tail, max(0, len(tail) - _LONGEST)):
        parts[-1] = tail[: begun.start()]
    # Half a pair, an octal number, a number without its semicolon.
    if len(parts) > 1 and len(parts[-1]) <= 1:
        written = parts[-2]
        if len(written) < longest:
            del parts[-2:]
        elif _HALF.fullmatch(written, len(written) - _UNIT):
            parts[-2:] = written[:-_UNIT], b""
