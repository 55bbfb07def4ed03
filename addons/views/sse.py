"""Server-sent events (WHATWG HTML, 9.2.6), as a model's answer streams: each event a view `event[3]`, its data lines
joined; other fields stand in it as they are.  After each event everything may leave.
"""

import re
from typing import Final

from addons.decode import Unscannable
from addons.views.container import Container
from addons.views.tree import View

#: How a line may begin; anything else is no event stream, whatever is declared.
_FIELD: Final = re.compile(rb"(?:(data)|[A-Za-z][\w.-]{0,63})?(?::[ ]?|\Z)|\Z")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
#: The longest name of a field, and its colon and space.
_LONGEST: Final = 66


class Events(Container):
    """A reader of events.  A line that is long is passed on as it comes."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._start: bytes | None = b""     # of a line, until its field is known; None within a value
        self._lines = self._count = self._views = 0
        self._cr = self._begun = False

    def take(self, data: bytes) -> None:
        at = 0
        if self._cr and data.startswith(b"\n"):
            at = 1
        self._cr = data.endswith(b"\r")
        while at < len(data):
            match = _LINE_END.search(data, at)
            end = match.start() if match else len(data)
            self._some(data[at:end], match is not None, self.view.read + at)
            at = match.end() if match else end
        self.view.settled()

    def finish(self) -> None:
        if self._start:
            self._field(True)
        self._ended()

    def _some(self, text: bytes, line_ends: bool, place: int) -> None:
        if self._start is None:
            self.give(text)
        else:
            if text and self.child is None:
                self._count += 1
                self._views = self.view.tree.budget.views
                self.open(f"event[{self._count}]", since=place)
            self._start += text
            if line_ends and not self._start:
                self._ended()
            elif line_ends or len(self._start) > _LONGEST:
                self._field(line_ends)
        if line_ends:
            self._start = b""

    def _field(self, whole: bool) -> None:
        line, self._start = self._start or b"", None
        if not self._begun:
            line, self._begun = line.removeprefix(b"\xef\xbb\xbf"), True
        match = _FIELD.match(line)
        if match is None or (match.end() == len(line) and not whole and b":" not in line):
            raise Unscannable("declared as an event stream, and is none")
        self.give(b"\n" * (self._lines > 0) + (line[match.end() :] if match[1] else line))
        self._lines += 1

    def _ended(self) -> None:
        if self.child is not None:
            self.close()
            self.view.tree.budget.views = min(self._views, self.view.tree.budget.views)
        self._lines = 0
