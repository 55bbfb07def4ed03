"""The operators that `when:` has beyond mitmproxy's filter language: who asks, and what earlier filters said.

Each reads `flow.metadata["process"]`, an `addons.Process`; where that is not known, or has not what the operator asks
for, it does not match, so `!~exe x` holds.
"""

import re
from typing import Any

from mitmproxy import http

from addons.connection import Process
from addons.verdict import labels

HELP = "~app ~exe ~tree ~user REGEX, ~label NAME"


def operators(flowfilter: Any) -> list[Any]:
    """Return the classes for a `mitmproxy.flowfilter` module, whose `_Rex` parses and compiles their argument."""

    class App(flowfilter._Rex):  # type: ignore[misc]  # a base made at run time
        """`~app REGEX`: found in the path of the executable, in capitals or not."""

        code, is_binary = "app", False

        def __call__(self, flow: http.HTTPFlow) -> bool:
            process: Process | None = flow.metadata.get("process")
            return process is not None and bool(self.re.search(process.exe))

    class Exact(flowfilter._Rex):  # type: ignore[misc]
        """What names of a file system and of users are compared by: capitals are other letters."""

        is_binary = False

        def __init__(self, expr: str) -> None:
            super().__init__(expr)
            self.re = re.compile(expr)

        def __call__(self, flow: http.HTTPFlow) -> bool:
            process: Process | None = flow.metadata.get("process")
            return process is not None and self.of(process)

        def of(self, process: Process) -> bool:
            raise NotImplementedError

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
        """`~label NAME`: an earlier filter set it."""

        code, is_binary = "label", False

        def __init__(self, expr: str) -> None:
            self.expr = expr

        def __call__(self, flow: http.HTTPFlow) -> bool:
            return self.expr in labels(flow)

    return [App, Exe, Tree, User, Label]
