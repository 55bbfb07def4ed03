"""A stream of UTF-8 as words that compare equal however they are written.

Theory of operation.  Case, accents, width (NFKD), invisible characters and all punctuation are taken off; what remains
are words of letters and digits, as ASCII: a-z and 0-9 stand for themselves, any other letter for four bytes of
0x40..0x5f.  Characters of scripts that put no spaces between words are words of their own.  Each character is folded by
itself, so the result does not depend on how the stream is cut, and a place in it leads back to the bytes.

What is cut: a run of more than LONGEST bytes without ASCII punctuation or space, and a gap of GAP without a letter.  No
sequence of words goes on across a cut.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

#: Bytes that are gathered before anything is looked at: a call for each byte would be slow.  WAIT and LONGEST together
#: stay below what the chain holds back, so that a value is named before it has left.
WAIT: Final = 1024
#: Bytes of a run that may be one word.  Real ones are shorter; base64 and paragraphs of Chinese are not.
LONGEST: Final = 1024
#: Bytes without a letter or digit after which what follows has nothing to do with what was before.
GAP: Final = 1024
#: Runs of characters beyond ASCII whose folded form is remembered, and bytes of one: words of many languages.
REMEMBERED: Final = 1 << 15
LONGEST_REMEMBERED: Final = 48
#: Bytes at the end of a block in which its last words are looked for first.
TAIL: Final = 2048

#: Lower case for letters and digits; bytes of other characters as they are; a space for the rest of ASCII.
_LOWER: Final = bytes(
    ord(chr(c).lower()) if chr(c).isalnum() and c < 128 else c if c > 127 else 32 for c in range(256)
)
#: What is left of bytes that are no UTF-8.
_STRAY: Final = bytes(c if c < 128 else 32 for c in range(256))
_CHARACTER: Final = rb"(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})"
_ONE: Final = re.compile(_CHARACTER)
_SOME: Final = re.compile(rb"(" + _CHARACTER + rb"+)")
_WORD: Final = re.compile(rb"[^ ]+")
_LONG: Final = re.compile(rb"[^ ]{%d,}" % (LONGEST + 1))
_GAP: Final = re.compile(rb" {%d,}" % GAP)
_CONTINUES: Final = range(0x80, 0xC0)
#: Scripts without spaces between words: Thai, Lao; Myanmar; Khmer; kana; ideographs.
_UNSPACED: Final = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)  # fmt: skip


class _Folded(dict[bytes, bytes]):
    """The folded form of each run of characters met so far."""

    def __missing__(self, run: bytes) -> bytes:
        characters = _ONE.findall(run)
        folded = b"".join(map(self.__getitem__, characters)) if len(characters) > 1 else _fold(run)
        if len(run) <= LONGEST_REMEMBERED:
            if len(self) >= REMEMBERED:
                self.clear()
            self[run] = folded
        return folded


def _fold(character: bytes) -> bytes:
    parts = unicodedata.normalize("NFKD", character.decode("utf-8", "replace")).casefold()
    folded = b"".join(map(_letter, unicodedata.normalize("NFKD", parts)))
    return b"".join(words) if len(words := folded.split()) > 1 else folded  # a fraction, a unit: one word


def _letter(character: str) -> bytes:
    category, code = unicodedata.category(character), ord(character)
    if category in ("Mn", "Me", "Cf"):  # on another character, or invisible
        return b""
    if category == "Nd":
        return b"%d" % unicodedata.digit(character)
    if category[0] not in "LNM" or code > 0xFFFFF:
        return b" "
    if code < 128:
        return character.lower().encode()
    letter = bytes((0x40 | code >> 15, 0x40 | code >> 10 & 31, 0x40 | code >> 5 & 31, 0x40 | code & 31))
    return b" %b " % letter if any(low <= code <= high for low, high in _UNSPACED) else letter


_folded: Final = _Folded()


def _folded_lower(lower: bytes) -> bytes:
    if lower.isascii():
        return lower
    parts = _SOME.split(lower)
    parts[1::2] = map(_folded.__getitem__, parts[1::2])
    return b"".join(parts).translate(_STRAY)


def fold(text: bytes) -> list[bytes]:
    """Return the words of a whole text."""
    return _folded_lower(text.translate(_LOWER)).split()


class Block:
    """Some words of the stream.  From the first `due` of them sequences may begin: what follows those is here."""

    def __init__(self, text: bytes, base: int, folded: bytes) -> None:
        self.text, self._base, self.folded = text, base, folded
        self.words = folded.split()
        self.due = len(self.words)
        self._is_ascii = text.isascii()
        self._spans: list[tuple[int, int]] | None = None
        self._split: tuple[list[bytes], list[int], list[int]] | None = None

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Return from where to where in the stream, in bytes, the words of these numbers stand."""
        if self._spans is None:
            self._spans = [match.span() for match in _WORD.finditer(self.folded)]
        start, end = self.origin(self._spans[first][0]), self.origin(self._spans[last][1], end=True)
        return self._base + start, self._base + end

    def raw(self, span: tuple[int, int]) -> bytes:
        """Return the bytes there as they were written."""
        return self.text[span[0] - self._base : span[1] - self._base]

    def origin(self, offset: int, *, end: bool = False) -> int:
        """Return where in the text the character at a place of the folded text begins; `end`: where the one before that
        place ends."""
        if self._is_ascii:
            return offset
        parts, origins, places = self._parts()
        number = (bisect_left if end else bisect_right)(places, offset, 1, len(places) - 1) - 1
        at, place = origins[number], places[number]
        if not number & 1:
            return at + offset - place
        for character in _ONE.findall(parts[number]):
            after = place + len(_folded[character])
            if place < offset <= after if end else place <= offset < after:
                return at + len(character) if end else at
            at, place = at + len(character), after
        return at

    def _parts(self) -> tuple[list[bytes], list[int], list[int]]:
        """Return the text as ASCII and not in turn, where each part begins in the text, and in the folded text."""
        if self._split is None:
            parts = _SOME.split(self.text)
            folded = parts.copy()
            folded[1::2] = map(_folded.__getitem__, parts[1::2])
            self._split = parts, starts(parts), starts(folded)
        return self._split


class Words:
    """Feed it a stream in pieces, then b"": it returns blocks, each of which begins with the last `overlap` words of
    the one before, so that every sequence of one word more is whole in one of them."""

    def __init__(self, overlap: int) -> None:
        self._overlap = overlap
        self._pending = bytearray()
        self._carry = b""
        self._base = 0  # where in the stream the carry begins

    def feed(self, data: bytes) -> list[Block]:
        self._pending += data
        if data and len(self._pending) < WAIT:
            return []
        return [block for piece, ends in self._pieces(final=not data) for block in self._blocks(piece, ends)]

    def _pieces(self, *, final: bool) -> Iterator[tuple[bytes, bool]]:
        """Yield what ends between two words, and whether it is cut from what follows."""
        text = bytes(self._pending)
        lower = text.translate(_LOWER)
        at = 0
        if _has_long_run(lower):
            for run in _LONG.finditer(lower):
                start = run.start()
                while run.end() - start > LONGEST:
                    cut = _boundary(text, start + LONGEST)
                    yield text[at:cut], True
                    at = start = cut
        end = len(text) if final else max(at, lower.rfind(b" ") + 1)
        del self._pending[:end]
        if end > at or final:
            yield text[at:end], final

    def _blocks(self, piece: bytes, ends: bool) -> Iterator[Block]:
        text = self._carry + piece
        folded = _folded_lower(text.translate(_LOWER))
        while gap := _GAP.search(folded) if b" " * GAP in folded else None:
            block = Block(text, self._base, folded[: gap.start()])
            skipped = block.origin(gap.end())
            if block.words:
                yield block
            text, self._base, folded = text[skipped:], self._base + skipped, folded[gap.end() :]
        block = Block(text, self._base, folded)
        if ends:
            kept = len(text)
        else:
            block.due = max(0, len(block.words) - self._overlap)
            kept = _before_last(text, block, self._overlap) if block.due else 0
        self._carry, self._base = text[kept:], self._base + kept
        if block.words:
            yield block


def _before_last(text: bytes, block: Block, count: int) -> int:
    """Return where in the text the word before its last `count` ends."""
    if len(text) > 2 * TAIL and not text.isascii():  # to tell it for the end alone is quicker
        lower = text[-TAIL:].translate(_LOWER)
        if (space := lower.find(b" ")) >= 0:
            tail = Block(text[space - TAIL :], 0, _folded_lower(lower[space:]))
            if len(tail.words) > count:
                return len(text) - TAIL + space + _before_last(tail.text, tail, count)
    return block.origin(len(block.folded.rsplit(None, count)[0]) if count else len(block.folded), end=True)


def _has_long_run(lower: bytes) -> bool:
    at = -1  # the last space of the window before
    while len(lower) - at - 1 > LONGEST:
        at = lower.rfind(b" ", at + 1, at + LONGEST + 2)
        if at < 0:
            return True
    return False


def _boundary(text: bytes, cut: int) -> int:
    """Return the nearest place at or before `cut` where a character begins."""
    return next((cut - back for back in range(4) if text[cut - back] not in _CONTINUES), cut)


def starts(words: list[bytes]) -> list[int]:
    """Return where each word begins when they are written without gaps, and where the last ends."""
    return list(accumulate(map(len, words), initial=0))


def shingles(words: list[bytes], count: int) -> list[bytes]:
    """Return each sequence of `count` words, without gaps."""
    joined, at = b"".join(words), starts(words)
    return [joined[a:z] for a, z in zip(at, at[count:])]

