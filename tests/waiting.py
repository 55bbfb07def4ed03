"""For how long something may take, and waiting for it."""

import time
from collections.abc import Callable
from typing import Any

#: Seconds within which the chosen fail mode holds after any death: a second, and a heartbeat; more on a busy machine.
HOLDS, BUSY = 2.0, 4.0


def wait_for(true: Callable[[], Any], limit: float = HOLDS) -> Any:
    """What it returns when that is true, or when the time is over."""
    deadline = time.monotonic() + limit
    while not (value := true()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return value
