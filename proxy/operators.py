"""The operators that `when:` has beyond mitmproxy's filter language: who asks, and what earlier filters said.

Each reads `flow.metadata["process"]`, an `addons.Process`; where that is not known, or has not what the operator asks
for, it does not match, so `!~exe x` holds.
"""

import re
from typing import Any

from mitmproxy import http

from addons.connection import Process
from addons.labelled import Wanted

HELP = "~app ~exe ~tree ~user REGEX, ~label NAME[@0.8]"


class When:
    """A compiled `when:`; called with a flow it says whether the filter is asked about it."""

    def __init__(self, expression: Any) -> None:
        self._expression = expression

    def __call__(self, flow: http.HTTPFlow) -> bool:
        return bool(self._expression(flow))

    def concerns(self, process: Process | None) -> bool:
        """Tell whether it could hold for any request of this process, before there is one."""
        return _holds(self._expression, process) is not False


def _holds(part: Any, process: Process | None) -> bool | None:
    """Tell whether a part of an expression holds for every request of a process, or for none; None: for some."""
    match type(part).__name__:
        case "FAnd":
            told = [_holds(each, process) for each in part.lst]
            return False if False in told else None if None in told else True
        case "FOr":
            told = [_holds(each, process) for each in part.lst]
            return True if True in told else None if None in told else False
        case "FNot":
            inner = _holds(part.itm, process)
            return None if inner is None else not inner
    return bool(part.holds(process)) if hasattr(part, "holds") else None


def operators(flowfilter: Any) -> list[Any]:
    """Return the classes for a `mitmproxy.flowfilter` module, whose `_Rex` parses and compiles their argument."""

    class Who(flowfilter._Rex):  # type: ignore[misc]  # a base made at run time
        is_binary = False

        def __call__(self, flow: http.HTTPFlow) -> bool:
            return self.holds(flow.metadata.get("process"))

        def holds(self, process: Process | None) -> bool:
            return process is not None and self.of(process)

        def of(self, process: Process) -> bool:
            raise NotImplementedError

    class App(Who):
        """`~app REGEX`: found in the path of the executable, in capitals or not."""

        code = "app"

        def of(self, process: Process) -> bool:
            return bool(self.re.search(process.exe))

    class Exact(Who):
        """What names of a file system and of users are compared by: capitals are other letters."""

        def __init__(self, expr: str) -> None:
            super().__init__(expr)
            self.re = re.compile(expr)

    class Exe(Exact):
        """`~exe REGEX`: found in the path of the executable."""

        code = "exe"

        def of(self, process: Process) -> bool:
            return process.exe != "" and bool(self.re.search(process.exe))

    class Tree(Exact):
        """`~tree REGEX`: found in the path of the executable, or of that of any ancestor."""

        code = "tree"

        def of(self, process: Process) -> bool:
            return any(map(self.re.search, process.tree))

    class User(Exact):
        """`~user REGEX`: the whole of the user's name, or of the uid."""

        code = "user"

        def of(self, process: Process) -> bool:
            names = (process.user, "" if process.uid is None else str(process.uid))
            return any(name != "" and self.re.fullmatch(name) for name in names)

    class Label(flowfilter._Rex):  # type: ignore[misc]
        """`~label NAME`: an earlier filter set it; see `addons.labelled` for `*` and `@`."""

        code, is_binary = "label", False

        def __init__(self, expr: str) -> None:
            self.expr = expr
            self._wanted = Wanted.parse(expr)

        def __call__(self, flow: http.HTTPFlow) -> bool:
            return self._wanted.match(flow) is not None

    return [App, Exe, Tree, User, Label]
