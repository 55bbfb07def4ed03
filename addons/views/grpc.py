"""gRPC, gRPC-Web and Connect: messages with a prefix of 5 bytes (gRPC's PROTOCOL-HTTP2.md and PROTOCOL-WEB.md).

Each message is a view `grpc[3]`.  How compressed messages are coded is a header of its own, `grpc-encoding`; whoever
makes the tree puts it into what is declared: `application/grpc; encoding=gzip`.  After each message everything may
leave: two ends that answer each other's messages never wait for us.
"""

import binascii
from typing import Final

from addons.decode import Decoder, Unscannable, decoder
from addons.views.container import Container
from addons.views.tree import View

_FORMS: Final = ("", "+proto", "+json")
#: What is declared, and whether all of it is base64.
TYPES: Final = {
    **{f"application/{name}{form}": False for name in ("grpc", "grpc-web", "connect") for form in _FORMS},
    "application/grpc-web-text": True,
    "application/grpc-web-text+proto": True,
}
_PREFIX: Final = 5
_COMPRESSED: Final = 0x01
_END: Final = 0x02      # of a Connect stream
_TRAILERS: Final = 0x80     # of gRPC-Web


class Grpc(Container):
    """A reader of messages."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        kind, _, rest = view.declared.lower().partition(";")
        self._text = TYPES.get(kind.partition("+")[0].strip(), False)
        self._declared = "application/json" if kind.strip().endswith("+json") else "application/protobuf"
        self._encoding = next((value.strip().strip('"') for name, _, value in
                               (part.partition("=") for part in rest.split(";")) if name.strip() == "encoding"), "")
        self._prefix, self._left, self._count = b"", 0, 0
        self._quad = b""
        self._decoder: Decoder | None = None
        self._views = 0

    def take(self, data: bytes) -> None:
        at = 0
        if self._text:
            data = self._decoded(data)
        while at < len(data):
            if self.child is None and not self._left:
                at = self._begin(data, at)
                continue
            piece = data[at : at + self._left]
            at, self._left = at + len(piece), self._left - len(piece)
            self._pass(piece)
            if not self._left:
                self._ended()
        self.view.settled()

    def finish(self) -> None:
        if self._left or self._prefix or self._quad:
            raise Unscannable("a gRPC message is cut short")

    def _decoded(self, data: bytes) -> bytes:
        """Take the base64 off: pieces of it, each with its own padding, behind one another."""
        text = self._quad + data
        whole = len(text) & ~3
        text, self._quad = text[:whole], text[whole:]
        try:
            return b"".join(binascii.a2b_base64(piece + b"=" * (-len(piece) % 4), strict_mode=True)
                            for piece in text.split(b"=") if piece)
        except binascii.Error:
            raise Unscannable("corrupt base64 in a gRPC-Web body") from None

    def _begin(self, data: bytes, at: int) -> int:
        taken = data[at : at + _PREFIX - len(self._prefix)]
        self._prefix += taken
        at += len(taken)
        if len(self._prefix) < _PREFIX:
            return at
        flags, self._left, self._prefix = self._prefix[0], int.from_bytes(self._prefix[1:]), b""
        if flags not in (0, _COMPRESSED, _END, _END | _COMPRESSED, _TRAILERS, _TRAILERS | _COMPRESSED):
            raise Unscannable("a gRPC message with unknown flags")
        self._count += 1
        self._views = self.view.tree.budget.views
        # A place of the body is known exactly where this view is the body itself and not base64.
        since = None if self._text else self.view.read + at
        if flags & _TRAILERS:
            self.open("trailers", declared="text/plain", since=since)
        else:
            declared = "application/json" if flags & _END else self._declared
            self.open(f"grpc[{self._count}]", declared=declared, since=since)
        self._decoder = None
        if flags & _COMPRESSED:
            self._decode()
        if not self._left:
            self._ended()
        return at

    def _decode(self) -> None:
        try:
            if not self._encoding or self._encoding == "identity":
                raise Unscannable("a compressed gRPC message, and no encoding is declared")
            self._decoder = decoder(self._encoding)
        except Unscannable as error:
            self.refuse(str(error))

    def _pass(self, piece: bytes) -> None:
        if self._decoder is None:
            self.give(piece)
            return
        pieces = self._decoder.feed(piece)
        while self.child is not None:
            try:
                decoded = next(pieces, b"")
            except Unscannable as error:
                self.refuse(str(error))
                return
            if not decoded:
                return
            self.give(decoded)

    def _ended(self) -> None:
        if self._decoder is not None and self.child is not None:
            try:
                for piece in self._decoder.end():
                    self.give(piece)
            except Unscannable as error:
                self.refuse(str(error))
        self._decoder = None
        self.close()
        # A stream may last for days: what counts is what one message holds.
        self.view.tree.budget.views = min(self._views, self.view.tree.budget.views)

