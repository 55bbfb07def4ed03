"""Quoted-printable texts (RFC 2045, 6.7).

`=41` stands in many texts that are not quoted-printable, so this begins where something stands that elsewhere does not:
a line broken softly, an encoded `=`, or two such one after the other.
"""

import re
from binascii import unhexlify
from typing import Final

from addons.views.near import Unwriter
from addons.views.tree import View

_SURE: Final = re.compile(rb"=(?:3D|[0-9A-F]{2}=[0-9A-Fa-f]{2}|(?<=[^\s=]=)\r?\n)")
_FORM: Final = re.compile(rb"(=(?:HH(?:=HH)*+|[ \t]{0,8}\r?\n))".replace(b"H", b"[0-9A-Fa-f]"))
_EQUALS: Final = ord("=")
_PART: Final = re.compile(rb"=[^=\n]{0,9}\Z")
_UNSURE: Final = re.compile(rb".(?:=[^=\n]{0,3}(?:=[0-9A-Fa-f]?)?)?\Z", re.DOTALL)    # with what stands before


def is_quoted(view: View) -> bool:
    """True if this is declared to be quoted-printable."""
    return view.declared.lower().startswith("quoted-printable")


def maybe_quoted(text: bytes) -> bool:
    """True if something stands here that is in no other text."""
    return _EQUALS in text and _SURE.search(text) is not None


class Quoted(Unwriter):
    """Undoes quoted-printable."""

    step = "quoted-printable"

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._sure = is_quoted(view)

    def parts(self, text: bytes, last: bool) -> list[bytes]:
        start = 0
        if not self._sure:
            if (found := _SURE.search(text)) is None:
                return [text if last else _without(text, _UNSURE)]
            self._sure, start = True, found.start()
        parts = _FORM.split(text[start:])
        parts[0] = text[:start] + parts[0]
        if not last:
            parts[-1] = _without(parts[-1], _PART)
        return parts

    def values(self, parts: list[bytes]) -> list[bytes]:
        return [b"" if part[-1:] == b"\n" else unhexlify(part.replace(b"=", b"")) for part in parts]


def _without(text: bytes, part: re.Pattern[bytes]) -> bytes:
    """Take off the end what may go on."""
    begun = part.search(text, max(0, len(text) - 12))
    return text[: begun.start()] if begun else text
