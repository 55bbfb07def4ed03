"""The head of a request as one text to be scanned: URL and header values, in every reading of them."""

import base64
import binascii
from collections.abc import Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from mitmproxy import http

#: How often percent-encoding is taken off: servers and the frameworks behind them do it once or twice.
LAYERS: Final = 2
#: Headers whose purpose is a credential for the host that is asked: not a leak unless a filter is told so.
CREDENTIAL_HEADERS: Final = frozenset({b"authorization", b"proxy-authorization", b"cookie"})
#: Stands between two pieces; no pattern has it, so nothing matches across them.
_BORDER: Final = b"\0"


class Head:
    """Pieces of text, each with the name of its header (empty for the URL), and all of them in one."""

    def __init__(self, pieces: list[tuple[bytes, bytes]]) -> None:
        self._pieces = pieces
        self.text = _BORDER.join([piece for _, piece in pieces])

    def where(self, offset: int) -> tuple[str, int]:
        """Return `url` or `header:<name>` for an offset in the text, and the offset in that piece."""
        for name, piece in self._pieces:
            if offset <= len(piece):
                return ("header:" + name.decode("latin-1") if name else "url"), offset
            offset -= len(piece) + len(_BORDER)
        raise IndexError(offset)


def head(request: http.Request, credentials: bool = False) -> Head:
    """Return path, query and header values, as they are and decoded; `credentials` adds the credential headers."""
    return _head(request.data.path, request.data.headers.fields, credentials)


#: Two leak filters ask for the same request in turn.
@lru_cache(2)
def _head(path: bytes, fields: tuple[tuple[bytes, bytes], ...], credentials: bool) -> Head:
    pieces = [(b"", path)]
    for name, value in fields:
        lower = name.lower()
        if credentials or lower not in CREDENTIAL_HEADERS:
            pieces.append((lower, value))
    pieces += [(name, view) for name, value in pieces if b"%" in value for view in unquoted(value)]
    if credentials:
        pieces += [(name, view) for name, value in pieces if name in CREDENTIAL_HEADERS for view in basic(value)]
    return Head(pieces)


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
