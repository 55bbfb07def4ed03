"""What a view may hold besides what its first bytes say: guesses, whose readers raise no alarm if they were wrong."""

import re
from collections.abc import Callable
from typing import Final

from addons.views.multipart import Mail
from addons.views.office import Hidden
from addons.views.pdf import Mentioned
from addons.views.protobuf import Lengths
from addons.views.tree import Reader, View

#: Kinds behind whose data a zip archive may stand: its directory is at its end, so the beginning is free.
_BINARY: Final = ("data", "image/", "audio/", "video/", "font/", "application/pe", "application/elf",
                  "application/mach-o")
_PDF: Final = re.compile(rb"^%PDF-[12]\.\d", re.MULTILINE)
_MAIL: Final = re.compile(
    rb"(?i)(?:From|Date|Subject|To|Received|Return-Path|Delivered-To|Message-ID|MIME-Version|DKIM-Signature|X-[\w-]+"
    rb"|ARC-[\w-]+):[ \t][^\r\n]*\r?\n(?:[ \t]+\S|[\w-]+:[ \t])")
#: What their names begin with.
_MAIL_FIRST: Final = frozenset(bytes([letter]) for letter in b"ADFMRSTXadfmrstx")


def guesses(view: View, head: bytes) -> list[Reader]:
    """Return readers for what a view with these first bytes may hold."""
    if view.text_depth:
        return []
    made: list[Callable[[View], Reader]] = []
    if view.kind.startswith(_BINARY) or head.find(b"PK\3\4") >= 0:
        made.append(Hidden)
    if head.find(b"%PDF-") >= 0 and _PDF.search(head):
        made.append(Mentioned)
    if view.kind == "data":
        made.append(Lengths)
    if (head[:1] in _MAIL_FIRST and view.kind.startswith("text/") and _MAIL.match(head)
            and not view.path.endswith("> headers")):
        made.append(Mail)
    return [make(view) for make in made]
