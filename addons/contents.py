"""Block bodies by what they are, told by their first bytes and not by what they are called."""

import fnmatch
from dataclasses import dataclass
from typing import Final

from mitmproxy import http

from addons import filekinds
from addons.sniff import ENOUGH, SIGNATURES, kind, mismatch
from addons.verdict import DONE, BodyScanner, Verdict, block

#: Names for several kinds of `sniff`.
GROUPS: Final = {
    "executable": filekinds.GROUPS["executable"], "archive": filekinds.GROUPS["archive"],
    "document": (*filekinds.GROUPS["pdf"], *filekinds.GROUPS["office"]),
    **{name: (f"{name}/*",) for name in ("image", "audio", "video", "font")},
}
#: Short names of kinds: `pdf` for `application/pdf`.
KINDS: Final = {
    name.partition("/")[2]: (name,)
    for name in (*(name for name, _, _ in SIGNATURES), *(each for group in GROUPS.values() for each in group))
    if not name.endswith("*")
}
#: Kinds that do harm where they are run or opened by mistake.
_ACTIVE: Final = (*GROUPS["executable"], *GROUPS["archive"], "application/ole")
#: Declared types that promise something harmless.
_HARMLESS: Final = ("image/", "audio/", "video/", "font/", "text/")


@dataclass
class Contents:
    """Kinds of bodies that are blocked.

    `block` has groups (executable, archive, document, image, audio, video, font) and kinds (`pdf`, `application/pdf`,
    `image/*`), as the `content:` labels name them.  `allow` turns it round: all other kinds are blocked, but for text
    without a format of its own.  `disguised` blocks programs and archives that claim to be an image, a sound, a video,
    a font or text, whatever else is allowed.  `responses` and `requests` say whose bodies are meant.
    """

    block: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    disguised: bool = False
    responses: bool = True
    requests: bool = False

    def __post_init__(self) -> None:
        if self.block and self.allow:
            raise ValueError("give either `block` or `allow`")
        if not (self.block or self.allow or self.disguised):
            raise ValueError("nothing would be blocked: give `block`, `allow` or `disguised`")
        for name in (*self.block, *self.allow):
            if name not in GROUPS and "/" not in name and name not in KINDS:
                raise ValueError(f"{name!r} is neither a group ({', '.join(GROUPS)}) nor a kind, as pdf or image/png")
        self._blocked = _kinds(self.block)
        self._allowed = _kinds(self.allow)

    def requestbody(self, flow: http.HTTPFlow) -> BodyScanner | None:
        return self._scanner(flow.request, "upload") if self.requests else None

    def responsebody(self, flow: http.HTTPFlow) -> BodyScanner | None:
        return self._scanner(flow.response, "download") if self.responses and flow.response else None

    def _scanner(self, message: http.Message, what: str) -> BodyScanner:
        declared, head = message.headers.get("content-type", ""), bytearray()

        def scan(data: bytes) -> Verdict | None:
            head.extend(data[: ENOUGH - len(head)])
            if data and len(head) < ENOUGH:
                return None
            return self._judge(kind(bytes(head)), declared, what) or DONE

        return scan

    def _judge(self, found: str, declared: str, what: str) -> Verdict | None:
        if self.disguised and found in _ACTIVE and declared.strip().lower().startswith(_HARMLESS) \
                and mismatch(declared, found):  # fmt: skip
            return block(f"{what} is {found} and claims to be {declared[:80]}")
        if any(fnmatch.fnmatchcase(found, pattern) for pattern in self._blocked):
            return block(f"{what} is {found}, which is blocked")
        unknown = found in ("empty", "text/plain")
        if self._allowed and not unknown and not any(fnmatch.fnmatchcase(found, each) for each in self._allowed):
            return block(f"{what} is {found}, which is not among those allowed")
        return None


def _kinds(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(kind for name in names for kind in GROUPS.get(name) or KINDS.get(name) or (name,))
