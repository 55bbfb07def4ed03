"""The head of a request as one text to be scanned: URL and header values, in every reading of them."""

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Final
from urllib.parse import unquote_to_bytes

from mitmproxy import http

from addons.views import Listener, Tree, View
from addons.views.budget import printable

#: How often percent-encoding is taken off: servers and the frameworks behind them do it once or twice.
LAYERS: Final = 2
#: Headers whose purpose is a credential for the host that is asked: not a leak unless a filter is told so.
CREDENTIAL_HEADERS: Final = frozenset({b"authorization", b"proxy-authorization", b"cookie"})
#: Values of at most so many bytes are remembered with what is inside them: clients send the same ones all the time.
_SHORT: Final = 512
#: What a value must have for other texts to be inside it: an escape, or a run of letters and digits as long as these.
#: As little as the readers ask for: `?page=10` is in half of all URLs, and no quoted-printable.
_ESCAPE: Final = re.compile(rb"\\|&#?\w+;|=3D|=[0-9A-F]{2}=[0-9A-Fa-f]{2}|=\?|%u|%25|[\x80-\xff]|<[/!]"
                            rb"|(?:\w{2,3}[:,] ?){9}")
_RUN: Final = re.compile(rb"[A-Za-z0-9+_-]{20,}")
#: Names of headers that may be a value in disguise; others are words.
_ODD: Final = re.compile(rb"(?=.{12})[^\d]*\d", re.DOTALL)
#: The methods that everybody uses.
_METHOD: Final = re.compile(rb"[A-Za-z_-]{1,20}")
_HEX: Final = re.compile(rb"[0-9a-f]{40}")
#: Stands between two pieces; no pattern has it, so nothing matches across them.
_BORDER: Final = b"\0"

#: What is no header, by what stands for its name: no header can have such.
_OTHERS: Final = {b"": "url", b":names": "names of headers", b":method": "method", b":authority": "authority"}

#: The name of a header (or of what is none), the steps to a text inside it, and that text.
Piece = tuple[bytes, str, bytes]


class Head:
    """Pieces of text, and all of them in one."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        self._starts = list(accumulate((len(piece) + len(_BORDER) for _, _, piece in pieces), initial=0))
        self.text = _BORDER.join([piece for _, _, piece in pieces])

    def where(self, offset: int) -> tuple[str, int]:
        """Return `url`, `header:<name>` or what else it is, with the steps inside it, for an offset in the text, and
        that in its piece."""
        at = bisect_right(self._starts, offset) - 1
        name, steps, _ = self._pieces[at]
        return (_OTHERS.get(name) or "header:" + name.decode("latin-1")) + steps, offset - self._starts[at]


def head(request: http.Request, credentials: bool = False) -> Head:
    """Return path, query and header values, as they are and decoded; `credentials` adds the credential headers.

    The authority of HTTP/2, odd names of headers and methods are carriers, too.
    """
    data = request.data
    return _head(data.method, data.authority, data.path, data.headers.fields, credentials)


#: Two leak filters ask for the same request in turn.
@lru_cache(2)
def _head(method: bytes, authority: bytes, path: bytes, fields: tuple[tuple[bytes, bytes], ...],
          credentials: bool) -> Head:
    pieces = [*_read(b"", "", path), *_headers(fields, credentials)]
    if not _METHOD.fullmatch(method):
        pieces += _read(b":method", "", method)
    if authority:
        pieces += _read(b":authority", "", authority)
    return Head(pieces)


#: A client's requests differ in little else than their path.
@lru_cache(64)
def _headers(fields: tuple[tuple[bytes, bytes], ...], credentials: bool) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    for name, value in fields:
        lower = name.lower()
        if lower not in CREDENTIAL_HEADERS:
            pieces += _read(lower, "", value)
        elif credentials:
            pieces += [piece for steps, each in _credentials(lower, value) for piece in _read(lower, steps, each)]
        if _ODD.match(name):
            pieces += _read(b":names", "", name)
    return tuple(pieces)


def _read(name: bytes, steps: str, value: bytes) -> list[Piece]:
    """Return a value in all its readings."""
    pieces = [(name, steps, value)]
    if b"%" in value:
        pieces += [(name, steps, view) for view in unquoted(value)]
    return pieces + [(name, steps + more, text) for _, _, each in pieces for more, text in inside(each)]


def _credentials(name: bytes, value: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the cookies one by one, or the value and what `Basic` hides, each with the step to it."""
    if name != b"cookie":
        yield "", value
        for pair in basic(value):
            yield " > basic", pair
        return
    for cookie in value.split(b";"):
        key = cookie.strip().partition(b"=")[0]
        yield f" > {printable(key.decode('latin-1'))}" if key else "", cookie.strip()


def inside(value: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return the steps to each text inside a value, and that text: escapes undone, runs of base64 decoded."""
    return _remembered(value) if len(value) <= _SHORT else _inside(value)


def _inside(value: bytes) -> tuple[tuple[str, bytes], ...]:
    runs = _RUN.findall(value)
    if not any(not run.islower() or _HEX.search(run) for run in runs) and not _ESCAPE.search(value):
        return ()
    ear = _Ear()
    tree = Tree(ear, "")
    tree.feed(value)
    tree.end()
    return tuple((path, bytes(text).replace(_BORDER, b"\1")) for path, text in ear.texts)


_remembered = lru_cache(1024)(_inside)


class _Ear:
    """Collects the texts that are found."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, bytearray]] = []

    def opened(self, view: View) -> Listener | None:
        if view.parent is None:
            return None
        text = bytearray()
        self.texts.append((view.path, text))
        return text.extend

    def unscannable(self, view: View, reason: str) -> None:
        """A header that holds no archive is the rule."""


def unquoted(value: bytes) -> Iterator[bytes]:
    """Yield the value with percent-encoding taken off once, twice, as long as that changes it."""
    for _ in range(LAYERS):
        before, value = value, unquote_to_bytes(value)
        if value == before:
            return
        yield value


def basic(value: bytes) -> Iterator[bytes]:
    """Yield user and password of `Basic` credentials (RFC 7617, 2)."""
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() == b"basic":
        try:
            yield base64.b64decode(encoded, validate=True)
        except binascii.Error:
            return
