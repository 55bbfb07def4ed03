"""Readers of texts, made when there is something for them.

Most texts have no escapes and no runs of base64, and most views are short: to make five readers for each, and to let
each look for itself, costs more than all that they find.  One watch looks for the signs of all of them.
"""

from collections.abc import Callable, Sequence
from typing import Final

from addons.views.near import BATCH, TextReader
from addons.views.tree import View

#: Bytes before a sign that its reader gets as well: what is near, and the beginning of a run.
KEPT: Final = 2048
#: A sign has fewer bytes: seven numbers of a list, each in a line of its own, far in.
JOINT: Final = 256

#: What says whether a text, and what stands right before it, has the sign of a reader; and the reader.
Sign = tuple[Callable[[bytes], bool], Callable[[View], TextReader]]


class Watch:
    """Looks for signs."""

    def __init__(self, view: View, signs: Sequence[Sign]) -> None:
        self._view, self._signs = view, signs
        self._past, self._pending = b"", b""
        self._at = 0                # place in the view of what is pending

    def feed(self, data: bytes) -> None:
        if not self._signs:
            return
        text = self._pending + data if self._pending else data
        if len(text) < BATCH:
            self._pending = text
        else:
            self._look(text)

    def pause(self) -> None:
        for reader in self._look(self._pending):
            self._view.guarded(reader, reader.pause)

    def end(self) -> None:
        for reader in self._look(self._pending):
            self._view.guarded(reader, reader.end)

    def _look(self, text: bytes) -> list[TextReader]:
        """Let those begin that see their sign; return them."""
        if not text or not self._signs:
            return []
        self._pending = b""
        near = self._past[-JOINT:] + text if self._past else text
        begun = [(sign, make(self._view)) for sign, make in self._signs if sign(near)]
        past = self._past
        if begun:
            signs = [sign for sign, _ in begun]
            self._signs = [each for each in self._signs if each[0] not in signs]
            for _, reader in begun:
                reader.at = self._at - len(past)
                self._view.join(reader, past + text)
        self._at += len(text)
        self._past = text[-KEPT:] if len(text) >= KEPT else (past + text)[-KEPT:]
        return [reader for _, reader in begun]
