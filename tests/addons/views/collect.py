"""Hears a tree, and writes down what it heard."""

import asyncio
from collections.abc import Iterable

from addons.views import Listener, Tree, View


class Collect:
    """All texts of a message by path, in order of opening, and what was said to be unscannable."""

    def __init__(self) -> None:
        self.views: list[tuple[str, bytearray]] = []
        self.refused: list[tuple[str, str]] = []
        self.ended = 0

    def opened(self, view: View) -> Listener:
        text = bytearray()
        self.views.append((view.path, text))

        def listen(data: bytes) -> None:
            text.extend(data)
            self.ended += not data

        return listen

    def unscannable(self, view: View, reason: str) -> None:
        self.refused.append((view.path, reason))

    @property
    def texts(self) -> dict[str, bytes]:
        """The texts by path, those of one path behind each other."""
        texts: dict[str, bytes] = {}
        for path, text in self.views:
            texts[path] = texts.get(path, b"") + bytes(text)
        return texts


def read(data: bytes, size: int = 1 << 20, declared: str = "", name: str = "") -> Collect:
    """Run a body through a tree in chunks of a size."""
    return read_chunks((data[at : at + size] for at in range(0, len(data), size)), declared, name)


def read_chunks(chunks: Iterable[bytes], declared: str = "", name: str = "") -> Collect:
    hear = Collect()
    tree = Tree(hear, declared=declared, file=name)
    for chunk in chunks:
        tree.feed(chunk)
        if tree.waiting:
            asyncio.run(tree.settle())
    tree.end()
    if tree.waiting:
        asyncio.run(tree.settle())
    assert hear.ended == len(hear.views), "every view that is heard of ends"
    assert not tree.views, "no view is left behind"
    return hear
