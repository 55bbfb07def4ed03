"""Takes out of DNS answers what would lead clients past us: ECH keys and HTTP/3 in HTTPS and SVCB records.

A message is not decoded and written anew: the bytes go, the lengths and the compression pointers over them are put
right, and all else stays as it was. Each byte is looked at once; no pointer is followed.

Sources: RFC 1035 4.1 (messages, compression), RFC 9460 2.2 and 7 (SvcParams), RFC 9848 (ech), RFC 3597 4 (which types
compress names), RFC 6840 5.7 (AD).
"""

import struct
from collections.abc import Iterator

#: Bytes of a DNS message: its length is 16 bits wide in every transport (RFC 8484, 6).
MAX_MESSAGE = 65535
HEADER = 12
SVCB, HTTPS, OPT = 64, 65, 41
MANDATORY, ALPN, NO_DEFAULT_ALPN, ECH = 0, 1, 2, 5
#: "The data is authentic" is no longer for the resolver to say once we have changed it.
AUTHENTIC = 0x20
#: Types whose data may hold compressed names: bytes before the first, and how many follow one another.
NAMES = {2: (0, 1), 3: (0, 1), 4: (0, 1), 5: (0, 1), 6: (0, 2), 7: (0, 1), 8: (0, 1), 9: (0, 1), 12: (0, 1),
         14: (0, 2), 15: (2, 1), 17: (0, 2), 18: (2, 1), 21: (2, 1), 33: (6, 1), 36: (2, 1), 39: (0, 1)}
MAX_NAME = 255


class BadMessage(ValueError):
    """Not a DNS message, or one that cannot be read in one way only."""


def strip(message: bytes, *, ech: bool, http3: bool) -> bytes:
    """Return the message without ECH keys, without HTTP/3, or as it is.  Raises BadMessage."""
    if not HEADER <= len(message) <= MAX_MESSAGE:
        raise BadMessage(f"{len(message)} bytes")
    return _Message(message, ech, http3).stripped()


class _Message:
    """What is to change, gathered in one pass: `cuts` are ranges that go, `numbers` 16-bit fields with new values."""

    def __init__(self, data: bytes, ech: bool, http3: bool) -> None:
        self.data, self.ech, self.http3 = data, ech, http3
        self.at = HEADER
        self.pointers: dict[int, int] = {}
        self.cuts: list[tuple[int, int]] = []
        self.numbers: dict[int, int] = {}
        self._walk()

    def stripped(self) -> bytes:
        if not self.cuts:
            return self.data
        out = bytearray(self.data)
        for place, value in self.numbers.items():
            struct.pack_into("!H", out, place, value)
        for place, target in self.pointers.items():
            if any(start <= target < end for start, end in self.cuts):
                raise BadMessage("a name within what is taken out")
            shift = sum(end - start for start, end in self.cuts if end <= target)
            struct.pack_into("!H", out, place, 0xC000 | target - shift)
        for start, end in reversed(self.cuts):
            del out[start:end]
        out[3] &= ~AUTHENTIC
        return bytes(out)

    def _walk(self) -> None:
        questions, *records = struct.unpack_from("!4H", self.data, 4)
        for _ in range(questions):
            self._name()
            self._take(4)
        for _ in range(sum(records)):
            self._record()
        if self.at != len(self.data):
            raise BadMessage("bytes after its last record")

    def _take(self, size: int) -> int:
        """Pass over some bytes; return where they begin."""
        begin, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise BadMessage("a length that points beyond its end")
        return begin

    def _number(self) -> int:
        return int.from_bytes(self.data[self._take(2) : self.at])

    def _name(self, *, compressed: bool = True) -> None:
        begin = self.at
        while length := self.data[self._take(1)]:
            if length >= 0xC0 and compressed:
                place = self.at - 1
                self._take(1)
                target = int.from_bytes(self.data[place : self.at]) & 0x3FFF
                if not HEADER <= target < begin:
                    raise BadMessage("a name that points onwards")
                self.pointers[place] = target
                return
            if length > 63:
                raise BadMessage("a label of an unknown kind")
            self._take(length)
            if self.at - begin > MAX_NAME:
                raise BadMessage("a name that is too long")

    def _record(self) -> None:
        self._name()
        kind = self._number()
        self._take(6)
        size_at = self.at
        size = self._number()
        begin = self._take(size)
        end, self.at = self.at, begin
        if kind in (SVCB, HTTPS):
            self._service(size_at, end)
        elif kind in NAMES:
            before, count = NAMES[kind]
            self._take(before)
            for _ in range(count):
                self._name()
        if self.at > end:
            raise BadMessage("a name beyond its record")
        self.at = end

    def _service(self, size_at: int, end: int) -> None:
        begin = self._take(2)
        self._name(compressed=False)
        params = dict(self._params(end))
        before = len(self.cuts)
        gone = {ECH} if self.ech and ECH in params else set()
        if self.http3 and ALPN in params:
            gone |= self._alpn(*params[ALPN])
        for key in sorted(gone & params.keys()):
            self.cuts.append((params[key][0] - 4, params[key][1]))
        if gone and MANDATORY in params:
            self._mandatory(*params[MANDATORY], gone)
        self.cuts[before:] = sorted(self.cuts[before:])
        cut = sum(stop - start for start, stop in self.cuts[before:])
        if cut:
            self.numbers[size_at] = end - begin - cut

    def _params(self, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Each key with the range of its value; keys ascend, so that none comes twice (RFC 9460, 2.2)."""
        last = -1
        while self.at < end:
            key, size = self._number(), self._number()
            start = self._take(size)
            if key <= last or self.at > end:
                raise BadMessage("parameters out of order, or beyond their record")
            last = key
            yield key, (start, self.at)

    def _alpn(self, start: int, end: int) -> set[int]:
        """Cut the names of HTTP/3 and its drafts; return what has to go as a whole, where nothing else is left."""
        ids, at = [], start
        while at < end:
            stop = at + 1 + self.data[at]
            if stop > end or stop == at + 1:
                raise BadMessage("a list of protocols that is none")
            ids.append((at, stop))
            at = stop
        http3 = [(at, stop) for at, stop in ids if _is_http3(self.data[at + 1 : stop])]
        if http3 and len(http3) == len(ids):
            return {ALPN, NO_DEFAULT_ALPN}
        if http3:
            self.cuts += http3
            self.numbers[start - 2] = end - start - sum(stop - at for at, stop in http3)
        return set()

    def _mandatory(self, start: int, end: int, gone: set[int]) -> None:
        """A record that calls a key mandatory and lacks it is malformed (RFC 9460, 8)."""
        places = [at for at in range(start, end - 1, 2) if int.from_bytes(self.data[at : at + 2]) in gone]
        if (end - start) % 2:
            raise BadMessage("a list of keys that ends inside one")
        if places and 2 * len(places) == end - start:
            self.cuts.append((start - 4, end))
        elif places:
            self.cuts += [(at, at + 2) for at in places]
            self.numbers[start - 2] = end - start - 2 * len(places)


def _is_http3(name: bytes) -> bool:
    """`h3`, and `h3-29` as drafts had it."""
    return name == b"h3" or name.startswith(b"h3-")
