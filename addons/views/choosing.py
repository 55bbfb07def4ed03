"""Which readers a view gets."""

from collections.abc import Callable
from typing import Final

from addons import llm_views
from addons.deltas import AWS, LINES
from addons.views.archives import PACKED, UNREAD, Packed, Tar, unread
from addons.views.charsets import (
    WideStrings,
    charset_reader,
    declared_charset,
    marked_charset,
    maybe_wide,
    shown_charset,
)
from addons.views.escapes import Escapes, FormEscapes, maybe_escapes, maybe_form
from addons.views.grpc import TYPES, Grpc
from addons.views.guesses import guesses
from addons.views.multipart import ENCODED, Part, multipart
from addons.views.near import MAX_TEXT_DEPTH
from addons.views.office import Archive
from addons.views.oldoffice import Ole, Rtf
from addons.views.pdf import Pdf
from addons.views.protobuf import TYPES as PROTOBUF
from addons.views.protobuf import Protobuf
from addons.views.quoted import Quoted, is_quoted, maybe_quoted
from addons.views.runs import Runs, maybe_runs
from addons.views.sse import Events
from addons.views.tree import Reader, View
from addons.views.watching import Sign, Watch
from addons.views.zips import ZIPS

Make = Callable[[View], Reader]

#: Readers by what is declared: of streams of messages, whose first must not wait for more bytes.
DECLARED: Final[dict[str, Make]] = {
    **dict.fromkeys(TYPES, Grpc),
    "text/event-stream": Events,
    AWS: llm_views.Frames,
    **dict.fromkeys(LINES, llm_views.Lines),
}
#: Readers by how the declared type begins.
DECLARED_AS: Final[dict[str, Make]] = {"multipart/": multipart, "message/rfc822": Part}
#: Readers by what the first bytes say.
BY_KIND: Final[dict[str, Make]] = {
    "multipart/form-data": multipart,
    "application/pdf": Pdf,
    "application/ole": Ole,
    "application/rtf": Rtf,
    "application/tar": Tar,
    **dict.fromkeys(PACKED, Packed),
    **dict.fromkeys(UNREAD, unread),
    **dict.fromkeys(ZIPS, Archive),
}
#: Kinds whose bytes are no text, and hold none that matters: they are heard as they are.
MEDIA: Final = ("image/", "audio/", "video/", "font/", "application/wasm", "application/elf", "application/mach-o",
                "application/java-class", "application/pe")
PRINTABLE: Final = bytes((*range(0x20, 0x7F), *b"\t\r\n"))
FORM: Final = "application/x-www-form-urlencoded"


def media_type(view: View) -> str:
    """Return what a view is declared to be, without parameters, lower case."""
    return view.declared.partition(";")[0].strip().lower()


def known(view: View) -> bool:
    """True if what is declared says enough."""
    return bool(view.declared) and media_type(view) in DECLARED


def choose(view: View, head: bytes) -> tuple[list[Reader], bool]:
    """Return the readers of a view that begins with `head`, and whether its own bytes are to be heard."""
    declared = media_type(view) if view.declared else ""
    if declared in DECLARED:
        return [DECLARED[declared](view), *llm_views.readers(view, head)], False
    if view.declared is llm_views.PLAIN:        # the object: nobody outside can declare that
        return [], True
    for start, make in DECLARED_AS.items() if declared else ():
        if declared.startswith(start):
            return [make(view)], True
    if head and view.kind in BY_KIND:
        return [BY_KIND[view.kind](view)], True
    if charset := marked_charset(head):
        return [charset_reader(view, charset)], True
    made: list[Reader] = [Protobuf(view)] if declared in PROTOBUF else guesses(view, head)
    if declared == ENCODED or (view.kind.startswith(MEDIA) and view.kind != "image/svg"):
        return made, True
    return [*made, *texts(view, head), *llm_views.readers(view, head)], True


def texts(view: View, head: bytes) -> list[Reader]:
    """Return the readers of texts, and of what may hold some."""
    form = view.kind == "application/form" or media_type(view) == FORM
    signs: list[Sign] = [(maybe_form, FormEscapes) if form else (maybe_escapes, Escapes), (maybe_runs, Runs)]
    if len(head.translate(None, PRINTABLE)) <= len(head) // 2:     # what it writes is printable
        signs.append((always if is_quoted(view) else maybe_quoted, Quoted))
    if view.text_depth < MAX_TEXT_DEPTH and (
            charset := shown_charset(head) or (declared_charset(view.declared) if view.declared else "")):
        return [Watch(view, signs), charset_reader(view, charset)]
    return [Watch(view, [*signs, (maybe_wide, WideStrings)])]


def always(_text: bytes) -> bool:
    return True
