"""The bytes of a body that may not leave yet, as they came."""

import re
from collections import deque
from typing import Final

from addons.masking import filled

#: Bytes before a value: is it part of an escape?
BEFORE: Final = 12
#: Bytes of what has left that are remembered: what stands near a value.
NEAR: Final = 1024
#: An escape that is not at its end, in JSON, XML or a URL.
_BEGUN: Final = re.compile(rb"(?:\\(?:u[0-9A-Fa-f]{0,3}|x[0-9A-Fa-f]?|[0-7]{1,2})?|&#?[0-9A-Za-z]*|%[0-9A-Fa-f]?)\Z")


class Held:
    """Raw chunks in order, each with the count of decoded bytes up to its end.

    `exact` says that nothing is encoded, so that a chunk can be cut anywhere.
    """

    def __init__(self, *, exact: bool) -> None:
        self.exact = exact
        self._last = b" "     # of what has left
        self._left = 0          # decoded bytes, if nothing is encoded
        self._chunks: deque[tuple[bytes, int]] = deque()
        self.size = 0       # raw bytes

    def add(self, raw: bytes, decoded: int) -> None:
        self._chunks.append((raw, decoded))
        self.size += len(raw)

    def older(self, clear: int) -> int:
        """Raw bytes of chunks that are not clear, without the newest."""
        newest = len(self._chunks[-1][0]) if self._chunks else 0
        return sum(len(raw) for raw, end in self._chunks if end > clear) - newest

    def release(self, clear: int) -> list[bytes]:
        """Take what ends within the first `clear` decoded bytes."""
        out: list[bytes] = []
        while self._chunks and self._chunks[0][1] <= clear:
            out.append(self._chunks.popleft()[0])
        if self.exact and self._chunks:
            raw, end = self._chunks[0]
            if (keep := end - clear) < len(raw):
                out.append(raw[: len(raw) - keep])
                self._chunks[0] = (raw[len(raw) - keep :], end)
        if out:
            left = sum(map(len, out))
            self.size -= left
            self._left += left
            last = out[-1]
            self._last = last[-NEAR:] if len(last) >= NEAR else b"".join([self._last, *out])[-NEAR:]
        return out

    def whole(self) -> bytes:
        return b"".join(raw for raw, _ in self._chunks)

    def replace(self, raw: bytes) -> None:
        """Let this take the place of all that is held, and that was to be released together."""
        end = self._chunks[-1][1] if self._chunks else 0
        self._chunks = deque([(raw, end)])
        self.size = len(raw)

    def window(self) -> tuple[bytes, bytes]:
        """The last that has left, and all that has not."""
        return self._last, self.whole()

    def rewrite(self, new: bytes) -> None:
        """Let this, of the same length, take the place of all that is held."""
        at, chunks = 0, deque[tuple[bytes, int]]()
        for raw, end in self._chunks:
            chunks.append((new[at : at + len(raw)], end))
            at += len(raw)
        self._chunks = chunks

    def mask(self, start: int, end: int, *, numbers: bool) -> bool:
        """Mask what is held from one byte to another; return whether that was possible, else nothing has changed.

        It is not where a part has left, or an escape of JSON or XML might be cut.  With `numbers`, a number by itself
        stays one.
        """
        if not self.exact or start < self._left or end > self._left + self.size:
            return False
        first, text = self._around(start, end)
        at, until = start - first, end - first
        before = text[:at] if at >= BEFORE else self._last + text[:at]
        if _BEGUN.search(before[-BEFORE:]) or _BEGUN.search(text[:until][-BEFORE:]):
            return False
        last = text[until : until + 1] or b" "
        mask = filled(text[at:until], before[-1:] if numbers else b"", last)
        self._write(start, mask)
        return True

    def _around(self, start: int, end: int) -> tuple[int, bytes]:
        """Return these bytes with some around them, and where that begins."""
        low, high = max(self._left, start - BEFORE), end + 1
        parts = [raw[max(0, low - stop + len(raw)) : max(0, high - stop + len(raw))]
                 for raw, stop in self._chunks if stop > low and stop - len(raw) < high]
        return low, b"".join(parts)

    def _write(self, start: int, mask: bytes) -> None:
        end = start + len(mask)
        for i, (raw, stop) in enumerate(self._chunks):
            begin = stop - len(raw)
            low, high = max(begin, start), min(stop, end)
            if low < high:
                new = raw[: low - begin] + mask[low - start : high - start] + raw[high - begin :]
                self._chunks[i] = new, stop
