"""What tests of views need: `found_views`, and `Heard`, who listens and remembers."""

from addons.views.tree import Listener, Tree, View


class Heard:
    """Remembers what every view said, and what could not be read."""

    def __init__(self):
        self.views, self.reasons = [], []

    def opened(self, view: View) -> Listener:
        text = bytearray()
        self.views.append((view.path, text))
        return text.extend

    def unscannable(self, view: View, reason: str) -> None:
        self.reasons.append((view.path, reason))

    @property
    def texts(self) -> list[tuple[str, bytes]]:
        return [(path, bytes(text)) for path, text in self.views]


def heard(data: bytes, declared: str = "", name: str = "", size: int = 1 << 30) -> Heard:
    """Read a body in pieces of a size; return what was heard."""
    here = Heard()
    tree = Tree(here, declared=declared, file=name)
    for at in range(0, len(data), size):
        tree.feed(data[at : at + size])
    tree.end()
    return here


def found_views(data: bytes, declared: str = "", name: str = "", size: int = 1 << 30) -> list[tuple[str, bytes]]:
    """Return path and bytes of all views of a body."""
    return heard(data, declared, name, size).texts
