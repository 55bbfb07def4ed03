"""The bytes of a body that may not leave yet, as they came."""

from collections import deque


class Held:
    """Raw chunks in order, each with the count of decoded bytes up to its end.

    `exact` says that nothing is encoded, so that a chunk can be cut anywhere.
    """

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
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
        if self._exact and self._chunks:
            raw, end = self._chunks[0]
            if (keep := end - clear) < len(raw):
                out.append(raw[: len(raw) - keep])
                self._chunks[0] = (raw[len(raw) - keep :], end)
        self.size -= sum(map(len, out))
        return out
