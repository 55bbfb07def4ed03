"""What a view may hold besides what its first bytes say: guesses, whose readers raise no alarm if they were wrong."""

import re
from collections.abc import Callable
from typing import Final

from addons.views.archives import Deflated, is_zlib
from addons.views.multipart import Mail, Multipart
from addons.views.office import Hidden
from addons.views.pdf import Mentioned
from addons.views.protobuf import Lengths
from addons.views.tree import Reader, View

#: Kinds behind whose data a zip archive may stand, wherever that is: its directory is at its end, so the beginning is
#: free.
_HIDING: Final = ("image/", "audio/", "video/", "font/", "application/pe", "application/elf", "application/mach-o")
_PDF: Final = re.compile(rb"^%PDF-[12]\.\d", re.MULTILINE)
_MAIL: Final = re.compile(
    rb"(?i)(?:From|Date|Subject|To|Received|Return-Path|Delivered-To|Message-ID|MIME-Version|DKIM-Signature|X-[\w-]+"
    rb"|ARC-[\w-]+):[ \t][^\r\n]*\r?\n(?:[ \t]+\S|[\w-]+:[ \t])")
#: A first part with a header; `sniff` takes it for data if a file follows at once.
_MULTIPART: Final = re.compile(rb"--[^\s]{1,70}[ \t]*\r?\n[\w-]{1,60}:[ \t]")

#: What names of e-mail headers begin with.
_MAIL_FIRST: Final = frozenset(bytes([letter]) for letter in b"ADFMRSTXadfmrstx")


def guesses(view: View, head: bytes) -> list[Reader]:
    """Return readers for what a view with these first bytes may hold."""
    made: list[Callable[[View], Reader]] = []
    if is_zlib(head):
        made.append(Deflated)
    if not view.text_depth or view.kind.startswith(_HIDING) or head.find(b"PK\3\4") >= 0:
        made.append(Hidden)
    if view.text_depth and not view.kind.startswith(_HIDING):
        return [make(view) for make in made]        # a text in another spelling, or its pieces
    if head.find(b"%PDF-") >= 0 and _PDF.search(head):
        made.append(Mentioned)
    if view.kind == "data":
        made.append(Lengths)
    if view.kind == "data" or view.kind.startswith("text/"):
        if head.startswith(b"--") and _MULTIPART.match(head):
            made.append(Multipart)
        elif head[:1] in _MAIL_FIRST and _MAIL.match(head) and not view.path.endswith("> headers"):
            made.append(Mail)
    return [make(view) for make in made]
