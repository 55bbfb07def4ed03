"""The strings of a JSON text with their paths, while it streams.

Theory of operation.  What lies between strings is skipped by expressions; a stack remembers where in the document it
is.  A string is given to whoever wants it piece by piece, without its escapes.  Nothing is checked: of what is no JSON
(RFC 8259) the strings come out as well as they can.  What has more structure than text is given up (`gave_up`), since
a filter must not be kept busy by brackets.
"""

import json
import re
from collections.abc import Callable
from typing import Final

#: Gets the bytes of one string in UTF-8, and at last b"".
Sink = Callable[[bytes], None]
#: Asked for each string: its path (`messages[3].content`), the innermost key, what the `role` or `type` beside it says.
Opened = Callable[[str, str, str], Sink | None]

#: Objects in objects.  A tool's schema in a prompt is some 12 deep.
MAX_DEPTH: Final = 64
#: Strings and brackets: so many anyway, and one for so many bytes.  Schemas of tools have one for 7 bytes.
MIN_TOKENS, BYTES_A_TOKEN = 2048, 4
#: Bytes of a key that count, and of a role.
MAX_KEY: Final = 128
#: Keys of what describes data and holds none: what is inside is passed over.
SCHEMAS: Final = frozenset({
    "inputSchema", "input_schema", "json_schema", "parameters", "parametersJsonSchema", "schema",
})  # fmt: skip

_GAP: Final = re.compile(rb'[^"\[\]{}]*+').match
_OVER: Final = re.compile(rb'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+', re.DOTALL).match
_TEXT: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL).match
#: A key with its string, both whole: most of what there is.
_PAIR: Final = re.compile(
    rb'[\s,]*+"([^"\\]{0,64}+)"\s*+:\s*+"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL).match
#: What cannot be decoded yet at the end of a piece: part of an escape, or the first half of a surrogate pair.
_CUT: Final = re.compile(rb"(?:\\u[dD][89abAB][0-9A-Fa-f]{2})?(?:\\(?:u[0-9A-Fa-f]{0,3})?)?\Z")
_QUOTE, _OPEN_LIST, _CLOSE_LIST, _OPEN, _CLOSE = b'"[]{}'
_ROLES: Final = frozenset({b"role", b"type"})


class _Frame:
    """An object or a list that is open: the key or index at which it stands."""

    __slots__ = ("index", "is_list", "key", "leaf", "open", "role", "wants_key")

    def __init__(self, is_list: bool, leaf: str, is_open: bool) -> None:
        self.is_list, self.leaf = is_list, leaf         # the innermost key that leads here
        self.open = is_open                             # every string inside is wanted
        self.key = self.role = ""
        self.index, self.wants_key = 0, True


class Strings:
    """Feed it JSON.  `leaves` are the keys whose strings, and lists of strings, are asked for; inside what stands at a
    key of `whole` every string is."""

    def __init__(self, opened: Opened, leaves: frozenset[str], whole: frozenset[str] = frozenset()) -> None:
        self._opened, self._leaves, self._whole = opened, leaves, whole
        self._wanted = {key.encode() for key in leaves}
        self._stack: list[_Frame] = []
        self._in_text = False
        self._sink: Sink | None = None
        self._held = b""                    # of an escape that goes on in the next piece
        self._escaped = False               # in a string that nobody wants, the last byte was a backslash
        self._over = 0                      # brackets that are open in what is passed over
        self._tokens = self._fed = 0
        self.gave_up = False

    def feed(self, data: bytes) -> None:
        self._fed += len(data)
        at, size = 0, len(data)
        while at < size and not self.gave_up:
            if self._in_text:
                at = self._text(data, at)
                continue
            if self._over:
                at = self._pass_over(data, at)
                continue
            frame = self._stack[-1] if self._stack else None
            if frame is not None and not frame.is_list and (pair := _PAIR(data, at)):
                self._pair(frame, pair)
                at = pair.end()
                continue
            end = _GAP(data, at).end()      # type: ignore[union-attr]  # it matches everything
            if end > at and frame is not None and (commas := data.count(b",", at, end)):
                frame.index += commas
                frame.wants_key = True
            if end == size:
                return
            self._structure(data[end])
            at = end + 1

    def _pair(self, frame: _Frame, pair: re.Match[bytes]) -> None:
        """A key and its string."""
        self._tokens += 1
        key = pair[1]
        frame.wants_key = False
        if key in _ROLES:
            frame.role = pair[2][:MAX_KEY].decode("utf-8", "replace")
        if key not in self._wanted and not frame.open:
            return
        frame.key = key.decode("utf-8", "replace")
        if sink := self._opened(self._path(), frame.key, self._role()):
            if text := pair[2]:
                sink(unescaped(text))
            sink(b"")

    def end(self) -> None:
        """No more comes: a string that has not ended ends here."""
        if self._sink is not None:
            self._close()

    def _structure(self, byte: int) -> None:
        self._tokens += 1
        stack = self._stack
        if byte == _QUOTE:
            self._in_text = True
            self._sink = self._begin(stack[-1]) if stack else None
        elif byte in (_OPEN, _OPEN_LIST):
            if len(stack) >= MAX_DEPTH or self._tokens > MIN_TOKENS + self._fed // BYTES_A_TOKEN:
                self.gave_up = True
                return
            above = stack[-1] if stack else None
            if above is not None and above.key in SCHEMAS and not above.open:
                self._over = 1
                return
            leaf = "" if above is None else above.leaf if above.is_list else above.key
            stack.append(_Frame(byte == _OPEN_LIST, leaf, (above is not None and above.open) or leaf in self._whole))
        elif stack:
            stack.pop()

    def _pass_over(self, data: bytes, at: int) -> int:
        end, size = _OVER(data, at).end(), len(data)    # type: ignore[union-attr]
        while end < size and self._over:
            byte = data[end]
            if byte == _QUOTE:              # a string that goes on in the next piece
                self._in_text = True
                return end + 1
            self._over += 1 if byte in (_OPEN, _OPEN_LIST) else -1
            self._tokens += 1
            end += 1
            if self._over:
                end = _OVER(data, end).end()            # type: ignore[union-attr]
        self.gave_up = self._tokens > MIN_TOKENS + self._fed // BYTES_A_TOKEN
        return end

    def _begin(self, frame: _Frame) -> Sink | None:
        """A string begins: return who gets it."""
        if self._tokens > MIN_TOKENS + self._fed // BYTES_A_TOKEN:
            self.gave_up = True
            return None
        if frame.is_list:
            wanted = frame.open or frame.leaf in self._leaves
            return self._opened(self._path(), frame.leaf, self._role()) if wanted else None
        if frame.wants_key:
            frame.wants_key, frame.key = False, ""
            return _Short(lambda text: setattr(frame, "key", text))
        sink = self._opened(self._path(), frame.key, self._role()) if frame.open or frame.key in self._leaves else None
        return _Short(lambda text: setattr(frame, "role", text), sink) if frame.key in ("role", "type") else sink

    def _path(self) -> str:
        path = ""
        for frame in self._stack:
            path += f"[{frame.index}]" if frame.is_list else f".{frame.key}" if path else frame.key
        return path

    def _role(self) -> str:
        return next((frame.role for frame in reversed(self._stack) if frame.role), "")

    def _text(self, data: bytes, at: int) -> int:
        """Read on in a string; return where the reading stands."""
        if self._sink is None:
            return self._skip(data, at)
        before = len(self._held)
        if before:                          # an escape was cut: read it again, whole
            data, at, self._held = self._held + data[at:], at - before, b""
            return at + self._take(data, 0)
        return self._take(data, at)

    def _skip(self, data: bytes, at: int) -> int:
        """Read on in a string that nobody wants."""
        if self._escaped:
            at, self._escaped = at + 1, False
        end = _TEXT(data, at).end()         # type: ignore[union-attr]
        if end < len(data) and data[end] == _QUOTE:
            self._in_text = False
            return end + 1
        self._escaped = end < len(data)
        return len(data)

    def _take(self, data: bytes, at: int) -> int:
        """Give on what can be decoded; keep the rest of an escape for the next piece."""
        assert self._sink is not None
        end = _TEXT(data, at).end()         # type: ignore[union-attr]
        if end < len(data) and data[end] == _QUOTE:
            if end > at:
                self._sink(unescaped(data[at:end]))
            self._close()
            return end + 1
        cut = max(at, self._cut(data, end))
        if cut > at:
            self._sink(unescaped(data[at:cut]))
        self._held = data[cut:]
        return len(data)

    @staticmethod
    def _cut(data: bytes, end: int) -> int:
        """Return where the part begins that is to be kept, in a piece whose whole escapes end at `end`."""
        tail = data[max(0, end - 12) : end]
        found = _CUT.search(tail)
        cut = end - len(tail) + found.start() if found else end
        if cut < end:                       # a backslash that is itself escaped begins nothing
            before = data[:cut]
            return end if (cut - len(before.rstrip(b"\\"))) % 2 else cut
        return cut

    def _close(self) -> None:
        sink, self._sink, self._in_text, self._held = self._sink, None, False, b""
        if sink is not None:
            sink(b"")


class _Short:
    """Keeps the beginning of a string and says it at its end."""

    def __init__(self, said: Callable[[str], None], also: Sink | None = None) -> None:
        self._said, self._also, self._text = said, also, b""

    def __call__(self, data: bytes) -> None:
        if self._also is not None:
            self._also(data)
        if data:
            self._text += data[: MAX_KEY - len(self._text)]
        else:
            self._said(self._text.decode("utf-8", "replace"))


def unescaped(raw: bytes) -> bytes:
    """Return what is between the quotes of a JSON string without its escapes (RFC 8259, 7), in UTF-8."""
    if b"\\" not in raw:
        return raw
    try:
        text = json.loads('"' + raw.decode("utf-8", "surrogateescape") + '"', strict=False)
    except ValueError:
        return raw
    try:
        return str(text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return str(text).encode("utf-8", "replace")
