"""Which readers a view gets."""

from collections.abc import Callable
from typing import Final

from addons import llm_views
from addons.deltas import AWS, LINES
from addons.views.archives import PACKED, UNREAD, Packed, unread
from addons.views.bytelists import ByteLists, HexLists, maybe_bytes, maybe_hex
from addons.views.charsets import (
    WideStrings,
    charset_reader,
    declared_charsets,
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
from addons.views.shown import Shown, maybe_shown
from addons.views.sse import Events
from addons.views.tars import Tar
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
BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n"
#: Kinds that begin with letters that may begin a text.
ALSO_TEXT: Final = ("application/rtf",)
FORM: Final = "application/x-www-form-urlencoded"


def media_type(view: View) -> str:
    """Return what a view is declared to be, without parameters, lower case, and without a format of gRPC's messages
    that is unknown here."""
    name = view.declared.partition(";")[0].strip().lower()
    plain = name.partition("+")[0]
    return plain if plain in TYPES and name not in TYPES else name


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
        if any(each.strip().startswith(start) for each in view.declared.lower().split(",")):    # of several headers
            return [make(view)], True
    if head and view.kind in BY_KIND:
        made = [BY_KIND[view.kind](view)]
        return made + texts(view, head) if view.kind in ALSO_TEXT else made, True
    if charset := marked_charset(head):     # what is none is ASCII with two letters before it
        return [charset_reader(view, charset), Watch(view, [*escapes(view, head), (maybe_runs, Runs)])], True
    made = [Protobuf(view)] if declared in PROTOBUF else guesses(view, head)
    if view.declared == ENCODED and not head.translate(None, BASE64):
        signs: list[Sign] = [(maybe_escapes, Escapes), (maybe_wide, WideStrings)]
        return [*made, Watch(view, signs)], True        # what the encoding hides is read beside this
    if view.kind.startswith(MEDIA) and view.kind != "image/svg" and not printable(head):
        return made, True
    return [*made, *texts(view, head), *llm_views.readers(view, head)], True


def printable(head: bytes) -> bool:
    """True if most of this may be text, whatever its first letters stand for elsewhere."""
    return len(head.translate(None, PRINTABLE)) <= len(head) // 2


def texts(view: View, head: bytes) -> list[Reader]:
    """Return the readers of texts, and of what may hold some."""
    signs = [*escapes(view, head), (maybe_runs, Runs), (maybe_bytes, ByteLists), (maybe_hex, HexLists)]
    if view.kind != "data" or printable(head):
        signs.append((maybe_shown, Shown))
    charsets = declared_charsets(view.declared) if view.declared else []
    charsets = [shown] if (shown := shown_charset(head)) and shown not in charsets else charsets
    if view.text_depth >= MAX_TEXT_DEPTH:
        charsets = []
    if not charsets or charsets != [shown]:     # of a declared one the order of bytes may be another
        signs.append((maybe_wide, WideStrings))
    return [Watch(view, signs), *(charset_reader(view, charset) for charset in charsets)]


def escapes(view: View, head: bytes) -> list[Sign]:
    """Return the readers of what is escaped."""
    form = view.kind == "application/form" or media_type(view) == FORM
    signs: list[Sign] = [(maybe_form, FormEscapes) if form else (maybe_escapes, Escapes)]
    if printable(head):     # what it writes is printable
        signs.append((always if is_quoted(view) else maybe_quoted, Quoted))
    return signs


def always(_text: bytes) -> bool:
    return True
