"""Which readers a view gets."""

from collections.abc import Callable
from typing import Final

from addons.views.archives import PACKED, UNREAD, Packed, Tar, unread
from addons.views.multipart import Part, multipart
from addons.views.office import Archive
from addons.views.pdf import Pdf
from addons.views.tree import Reader, View
from addons.views.zips import ZIPS

#: Readers by what is declared: of streams of messages, whose first must not wait for more bytes.
DECLARED: Final[dict[str, Callable[[View], Reader]]] = {}
#: Readers by how the declared type begins.
DECLARED_AS: Final[dict[str, Callable[[View], Reader]]] = {"multipart/": multipart, "message/rfc822": Part}
#: Readers by what the first bytes say.
BY_KIND: Final[dict[str, Callable[[View], Reader]]] = {
    "multipart/form-data": multipart,
    "application/pdf": Pdf,
    "application/tar": Tar,
    **dict.fromkeys(PACKED, Packed),
    **dict.fromkeys(UNREAD, unread),
    **dict.fromkeys(ZIPS, Archive),
}


def known(view: View) -> bool:
    """True if what is declared says enough."""
    return view.declared.partition(";")[0].strip().lower() in DECLARED


def choose(view: View, head: bytes) -> tuple[list[Reader], bool]:
    """Return the readers of a view that begins with `head`, and whether its own bytes are to be heard."""
    if known(view):
        return [DECLARED[view.declared.partition(";")[0].strip().lower()](view)], False
    declared = view.declared.partition(";")[0].strip().lower()
    for prefix, reader in DECLARED_AS.items():
        if declared.startswith(prefix):
            return [reader(view)], True
    made = [BY_KIND[view.kind](view)] if head and view.kind in BY_KIND else []
    return made, True
