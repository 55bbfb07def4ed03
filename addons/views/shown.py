"""Texts as they are shown: without invisible characters, other forms of letters and digits, and tags inside words.

A number in full-width digits, or with `<b>` around a part of it, is the same number to whoever reads it, and to
programs that normalize what they take (NFKC).  Only what may stand inside a value is undone, so that ordinary texts
in any language have little to tell.
"""

import re
import unicodedata
from functools import cache
from typing import Final

from addons.views.near import Unwriter

#: Zero width, soft hyphen, direction, variation (Unicode, 23.2 to 23.4).
_INVISIBLE: Final = (rb"(?:\xc2\xad|\xcd\x8f|\xe1\xa0\x8e|\xe2\x80[\x8b-\x8f\xaa-\xae]|\xe2\x81[\xa0-\xaf]"
                     rb"|\xef\xb8[\x80-\x8f]|\xef\xbb\xbf)")
#: By first byte, since a form that begins with a letter is searched at the speed of memchr: what is invisible, in a
#: word of ASCII; spaces and dashes between groups of digits; letters and digits of full width, mathematical, circled,
#: raised, and digits of other scripts (category Nd).
_FORMS: Final = {lead: form.replace(b"WORD", rb"(?<=[\w-]%b)" % lead).replace(b"GROUP", rb"(?<=\d%b)" % lead)
                 .replace(b"MORE", _INVISIBLE + b"*+") for lead, form in {
    b"\xc2": rb"\xc2(?:WORD\xadMORE|GROUP\xa0(?=\d)|[\xb2\xb3\xb9])",
    b"\xcd": rb"\xcdWORD\x8fMORE",
    b"\xd9": rb"\xd9[\xa0-\xa9]",
    b"\xdb": rb"\xdb[\xb0-\xb9]",
    b"\xdf": rb"\xdf[\x80-\x89]",
    b"\xe0": rb"\xe0(?:[\xa5\xa7\xa9\xab\xad\xaf\xb1\xb3\xb5\xb7][\xa6-\xaf]|[\xb9\xbb][\x90-\x99]|\xbc[\xa0-\xa9])",
    b"\xe1": rb"\xe1(?:WORD\xa0\x8eMORE|\x81[\x80-\x89]|\x82[\x90-\x99]|\x9f[\xa0-\xa9]|\xa0[\x90-\x99])",
    b"\xe2": rb"\xe2(?:WORD(?:\x80[\x8b-\x8f\xaa-\xae]|\x81[\xa0-\xaf])MORE"
             rb"|GROUP(?:\x80[\x80-\x8a\x90-\x95\xaf]|\x81\x9f|\x88\x92)(?=\d)"
             rb"|\x81[\xb0\xb4-\xb9]|\x82[\x80-\x89]|\x91[\xa0-\xa8])",
    b"\xe3": rb"\xe3GROUP\x80\x80(?=\d)",
    b"\xef": rb"\xef(?:WORD(?:\xb8[\x80-\x8f]|\xbb\xbf)MORE|(?:\xbc[\x8d\x8e\x90-\x99\xa0-\xba\xbf]|\xbd[\x81-\x9a])"
             rb"(?:\xef(?:\xbc[\x8d\x8e\x90-\x99\xa0-\xba\xbf]|\xbd[\x81-\x9a]))*+)",
    b"\xf0": rb"\xf0\x9d[\x90-\x9f][\x80-\xbf](?:\xf0\x9d[\x90-\x9f][\x80-\xbf])*+",
}.items()}
#: Elements that do not end a word (HTML, 4.5 "Text-level semantics"; SVG), and comments; longer tags are not undone.
_TAG: Final = (rb"<(?:/?(?:a|abbr|b|bdi|bdo|big|code|del|em|font|i|ins|kbd|mark|q|s|samp|small|span|strong|sub|sup"
               rb"|tspan|tt|u|var|wbr)(?:[\s/][^<>]{0,250})?|!--[^<>]{0,250}--)>")
_FORMS[b"<"] = rb"<(?<=[\w-]<)" + _TAG[1:] + rb"(?:" + _TAG + rb")*+(?=[\w-])"
#: What may be the beginning of one: tags and characters, with what stands before them.
_PART: Final = 2048
_WHOLE: Final = re.compile(b"(?i)" + _TAG)
#: The longest beginning of a tag.
_OPEN: Final = 261
_WORD: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-")
_HALF: Final = re.compile(rb"[\w-]?[\x80-\xff]{0,24}\Z")


@cache
def _form(lead: bytes) -> re.Pattern[bytes]:
    return re.compile(b"(?i)" + _FORMS[lead] if lead == b"<" else _FORMS[lead])


@cache
def _splitter(*leads: bytes) -> re.Pattern[bytes]:
    return re.compile((b"(?i)(" if b"<" in leads else b"(") + b"|".join(_FORMS[lead] for lead in leads) + b")")


_LESS, _GREATER = b"<>"


def maybe_shown(text: bytes) -> bool:
    """True if tags, or letters of any script, may be here."""
    return _LESS in text or not text.isascii()


class Shown(Unwriter):
    """Takes out what is not seen, and gives letters and digits their usual form."""

    step = "shown"

    def parts(self, text: bytes, last: bool) -> list[bytes]:
        known = (b"<",) if text.isascii() else _FORMS
        leads = [lead for lead in known if text.find(lead) >= 0 and _form(lead).search(text)]
        parts = _splitter(*leads).split(text) if leads else [text]
        if not last:
            parts[-1] = _without_beginning(parts[-1])
        return parts

    def values(self, parts: list[bytes]) -> list[bytes]:
        return list(map(_value, parts))


class _Usual(dict[int, str]):
    """What a character is usually, by its code."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category, usual = unicodedata.category(character), unicodedata.normalize("NFKC", character)
        if category == "Nd":
            usual = str(unicodedata.digit(character))
        elif category == "Zs":
            usual = " "
        elif category == "Pd" or character == "\N{MINUS SIGN}":
            usual = "-"
        elif not usual.isascii():
            usual = "" if category in ("Cf", "Mn") else character
        self[code] = usual
        return usual


_USUAL: Final = _Usual()


def _value(written: bytes) -> bytes:
    return b"" if written[:1] == b"<" else written.decode("utf-8", "replace").translate(_USUAL).encode()


def _without_beginning(text: bytes) -> bytes:
    """Take off the end what may go on in the text that follows."""
    starts = [len(text)]
    if text.rfind(b"<", -_PART) >= 0:
        starts.append(_tags(text))
    if half := _HALF.search(text, max(0, len(text) - 32)):
        starts.append(half.start())
    return text[: min(starts)]


def _tags(text: bytes) -> int:
    """Return where tags begin that a text ends with, the last of which may be broken off, with the letter before."""
    at, first = len(text), max(0, len(text) - _PART)
    begun = text.rfind(b"<", max(first, at - _OPEN))
    if begun >= 0 and text.find(b">", begun) < 0:
        at = begun
    while at > first and text[at - 1] == _GREATER and (begun := text.rfind(b"<", first, at)) >= 0 \
            and _WHOLE.fullmatch(text, begun, at):
        at = begun
    return at - (at > first and text[at - 1] in _WORD)
