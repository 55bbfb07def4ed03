"""A filter that watches its worker: how long work on bodies holds the event loop at once, in processor time and in any.

`GET /holds` is answered with what was noted since the last time.  It replaces a method of the proxy, which is for tests
only.
"""

import json
from typing import Any

FILTER = """
import json
import time

from lockgate import block
from proxy.body import Body

taken, longest = [], 0.0
usual = Body._go


def go(body, reply):
    global longest
    began, used = time.perf_counter(), time.thread_time()
    usual(body, reply)
    taken.append(time.thread_time() - used)
    longest = max(longest, time.perf_counter() - began)


Body._go = go


class Holds:
    def requestheaders(self, flow):
        global longest
        if flow.request.path != "/holds":
            return None
        found = sorted(taken) or [0.0]
        said = {"calls": len(taken), "median": found[len(found) // 2], "p99": found[len(found) * 99 // 100],
                "max": found[-1], "any time": longest, "sum": sum(found)}
        taken.clear()
        longest = 0.0
        return block(json.dumps(said))
"""
RULE = "  - {{id: holds, use: ./mine.py:Holds, deadline: 10000}}\n"     # for `str.format`


def noted(proxy: Any, origin: Any) -> dict[str, float]:
    """What was noted since the last time, in seconds."""
    request = b"GET /holds HTTP/1.1\r\nhost: origin.test\r\naccept: application/json\r\n\r\n"
    return json.loads(json.loads(proxy.ask(origin, request).body)["detail"])  # type: ignore[no-any-return]
