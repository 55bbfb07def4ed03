"""Strings of binary formats that write a length before them: protobuf by its own rules, others by the look of it.

A length of 32 to 126 is a letter, sign or digit, and stands before the value as if it were part of it: `04111 1111 ...`
is no card number.  So values are heard once more, apart, in a view `strings`, with borders between them.
"""

import re
from collections.abc import Iterator
from typing import Final

from addons.decode import Unscannable
from addons.sniff import ENOUGH, kind
from addons.views.container import Container
from addons.views.near import lags
from addons.views.tree import BORDER, View

#: Media types of protobuf messages.
TYPES: Final = frozenset((
    "application/protobuf", "application/x-protobuf", "application/proto",
    "application/vnd.google.protobuf", "application/x-google-protobuf",
))
#: Fields up to this size are taken whole and looked into; longer ones are views of their own, read as they come.
KEEP: Final = 16 * 1024
#: Messages in messages that are looked into; protobuf's own readers stop at 100, real ones are some five deep.
MAX_NESTED: Final = 12
#: Values shorter than this hold nothing that anybody looks for.
SHORT: Final = 4
#: Fields that are looked into in any message, and bytes that there must be for each one more: a microsecond or two.
FIELDS: Final = 4000
DENSE: Final = 5
#: Bytes without a string after which what came is to be judged.
QUIET: Final = 8 * 1024
#: The longest tag and length of a field.
_HEAD: Final = 20


def _tags(wire: int) -> bytes:
    """Return an expression for the tags of a wire type, of 1 to 5 bytes (protobuf's encoding.md)."""
    first = b"".join(b"\\x%02x" % byte for byte in range(8 + wire, 128, 8))
    more = b"".join(b"\\x%02x" % byte for byte in range(128 + wire, 256, 8))
    return b"(?:[" + first + b"]|[" + more + b"][\\x80-\\xff]{0,3}+[\\x01-\\x7f])"


_VARINT: Final = rb"[\x80-\xff]{0,9}+[\x00-\x7f]"
#: Fields that are no strings, as many as there are: numbers, and the ends of groups.
_NUMBERS: Final = re.compile(
    b"(?:" + b"|".join((_tags(0) + _VARINT, _tags(1) + b".{8}", _tags(5) + b".{4}", _tags(3), _tags(4))) + b")*+",
    re.DOTALL)
_STRING: Final = re.compile(_tags(2) + rb"([\x80-\xff]{0,4}+[\x00-\x7f])")
_TEXT: Final = bytes({9, 10, 13, *range(32, 127), *range(128, 256)})
#: Printable characters are 1 and others 0, and so many of them are looked at: the first may be a length.
_PRINTABLE: Final = bytes(32 <= byte < 127 for byte in range(256))
_RUN: Final = b"\1" * 7
#: Of a run that goes on into the next piece, as much is kept.
_MAX_RUN: Final = 256
#: Places of a run that are tried for a length: three strings behind one another, by all readings of their tags.
MAX_PLACES: Final = 16


def varint(data: bytes) -> int:
    return sum((byte & 0x7F) << (7 * at) for at, byte in enumerate(data))


def fields(data: bytes) -> list[tuple[int, int]] | None:
    """Return where the length-delimited fields of a message are; None if this is no message."""
    at, found = 0, []
    while at < len(data):
        at = _numbers(data, at)
        if at == len(data):
            break
        if (match := _STRING.match(data, at)) is None:
            return None
        at = match.end() + varint(match[1])
        if at > len(data):
            return None
        found.append((match.end(), at))
    return found


def _numbers(data: bytes | bytearray, at: int) -> int:
    match = _NUMBERS.match(data, at)
    return match.end() if match else at


def is_file(data: bytes) -> bool:
    """True if a value is of a format that has a reader of its own, most likely."""
    return len(data) > 16 and bool(data.translate(None, _TEXT)) and kind(data[:ENOUGH]) not in ("data", "text/plain")


class Work:
    """How many fields may be looked into, by the size of what holds them."""

    def __init__(self) -> None:
        self.left = FIELDS * DENSE

    def values(self, data: bytes, found: list[bytes], depth: int = 0) -> None:
        """Find the strings of a field, which may be one itself, or a message, or could be either."""
        self.left -= DENSE
        if self.left < 0:
            raise Unscannable("a protobuf message of too many small fields")
        inner = fields(data) if depth < MAX_NESTED and not is_file(data) else None
        for start, end in inner or ():
            if end - start >= SHORT:
                self.values(data[start:end], found, depth + 1)
        if inner is None or not data.translate(None, _TEXT):
            found.append(data)


class Strings(Container):
    """What both readers share: the view with the strings."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._quiet = 0

    def say(self, found: list[bytes], since: int) -> None:
        if not found:
            return
        text = BORDER.join(found) + BORDER
        if self.child is None:
            self.child = self.view.inside("strings", transform=True, since=since)
        elif lags(self.view, self.child, since):
            self.child.pause()
        self.child.feed(text, since)

    def still(self, size: int, found: bool) -> None:
        """Note that so many bytes held a string, or none."""
        self._quiet = 0 if found else self._quiet + size
        if self._quiet > QUIET and self.child is not None:
            self.child.pause()


class Protobuf(Strings):
    """A reader of one message without its schema.  What is none after all is heard as it is, and that is all."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._buffer, self._need = bytearray(), 1
        self._left, self._stopped = 0, False
        self._work = Work()
        self._field: View | None = None

    def take(self, data: bytes) -> None:
        if self._stopped:
            self.close()
            return
        self._buffer += data
        self._work.left += len(data)
        found: list[bytes] = []
        since = max(0, self.view.read - KEEP - _HEAD)
        while len(self._buffer) >= self._need and self._step(found):
            pass
        self.say(found, since)
        self.still(len(data), bool(found))

    def close(self) -> None:
        field, self._field = self._field, None
        if field is not None:
            field.end()
        super().close()

    def _step(self, found: list[bytes]) -> bool:
        """Read as many fields as there are whole; True if there may be more."""
        if self._field is not None:
            return self._long(self._field)
        at = _numbers(self._buffer, 0)
        if (match := _STRING.match(self._buffer, at)) is None:
            self._stopped = len(self._buffer) - at > _HEAD
            del self._buffer[: len(self._buffer) if self._stopped else at]
            self._need = len(self._buffer) + 1
            return False
        start, size = match.end(), varint(match[1])
        if size <= KEEP and len(self._buffer) < start + size:
            del self._buffer[:at]
            self._need = start - at + size
            return False
        del self._buffer[:start]
        if size > KEEP:
            self._left, self._need = size, 1
            self._field = self.view.inside("field", declared=self.view.declared)
            return True
        self._value(bytes(self._buffer[:size]), found)
        del self._buffer[:size]
        self._need = 1
        return bool(self._buffer)

    def _long(self, field: View) -> bool:
        data = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._left -= len(data)
        field.feed(data)
        if self._left:
            return False
        field.end()
        self._field = None
        return bool(self._buffer)

    def _value(self, data: bytes, found: list[bytes]) -> None:
        values: list[bytes] = []
        if len(data) >= SHORT:
            self._work.values(data, values)
        for value in values:
            if is_file(value):
                self.whole("field", value)
            elif len(value) >= SHORT:
                found.append(value)


class Lengths(Strings):
    """A reader of any binary data: of a printable run that begins with its own length, what that length covers.

    So are strings written by MessagePack, CBOR, Avro (twice the length), Thrift, Java, DER and undeclared protobuf.
    """

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._rest = b""
        self._long = False      # a run whose beginning was looked at goes on

    def take(self, data: bytes) -> None:
        since = max(0, self.view.read - len(self._rest))
        text = self._rest + data
        mask = text.translate(_PRINTABLE)
        found: list[bytes] = []
        end = self._behind(mask) if self._long else 0
        while (start := mask.find(_RUN, end)) >= 0:
            end = self._behind(mask, start)
            if self._long and len(text) - start < _MAX_RUN:
                self._long = False
                break
            found.extend(lengths(text[start : min(end, start + _MAX_RUN)]))
        self._rest = text[start:] if start >= 0 else text[max(end, len(text) - len(_RUN) + 1) :]
        self.say(found, since)
        self.still(len(data), bool(found))

    def _behind(self, mask: bytes, start: int = 0) -> int:
        """Return where a run ends, and note if that is not in sight."""
        end = mask.find(b"\0", start)
        self._long = end < 0
        return len(mask) if self._long else end

    def finish(self) -> None:
        if len(self._rest) > SHORT:
            self.say(list(lengths(self._rest)), max(0, self.view.offset - len(self._rest)))


def lengths(run: bytes) -> Iterator[bytes]:
    """Yield what may be values in a printable run: behind their length, with at most two bytes of tags before that."""
    places, seen = [0, 1, 2], {0, 1, 2}
    for at in places:
        for size in (run[at], run[at] // 2) if at < len(run) else ():
            if SHORT < size < len(run) - at:
                yield run[at + 1 : at + 1 + size]
                after = {at + 1 + size + tag for tag in range(3)} - seen
                if len(places) < MAX_PLACES:
                    seen |= after
                    places += sorted(after)
