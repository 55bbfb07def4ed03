"""A hard limit on the time that a filter may take, even one that loops, sleeps or backtracks.

asyncio cannot cut a synchronous call.  An interval timer can: its handler raises in the middle of whatever the main
thread is doing, and because `Missed` is no `Exception`, a filter's own `except Exception` does not swallow it
(setitimer(2); the `re` module looks for signals while it backtracks).  The timer ticks while filters are being called
and not for each call, which would cost two system calls a filter.
"""

import ctypes
import signal
import threading
import time
from collections.abc import Callable

#: Seconds between two looks at the clock: what a call may take beyond its limit.
TICK = 0.01
#: Ticks without a call after which the timer rests.
IDLE_TICKS = 100


class Missed(BaseException):
    """The call did not come back in time."""


class _Clock:
    """When the running call must be back; only the main thread runs calls, and its signal handlers."""

    def __init__(self) -> None:
        self.until = float("inf")
        self.calls = self.idle = 0
        self.ticking = False

    def tick(self, *_: object) -> None:
        if self.until <= time.monotonic():
            self.until = float("inf")
            raise Missed
        self.idle = 0 if self.calls or self.until < float("inf") else self.idle + 1
        self.calls = 0
        if self.idle > IDLE_TICKS:
            self.ticking = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def start(self) -> None:
        self.ticking, self.idle = True, 0
        signal.setitimer(signal.ITIMER_REAL, TICK, TICK)


_clock = _Clock()

if hasattr(signal, "setitimer"):

    def prepare() -> None:
        """Claim SIGALRM; call once, in the main thread."""
        signal.signal(signal.SIGALRM, _clock.tick)

    def limited[**P, R](seconds: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in the main thread, or raise `Missed` when `seconds` and at most a tick have passed."""
        clock = _clock
        clock.calls += 1
        clock.until = time.monotonic() + seconds
        if not clock.ticking:
            clock.start()
        try:
            return function(*args, **kwargs)
        finally:
            clock.until = float("inf")

else:  # Windows: a watcher thread; it cannot cut a call that stays in C, such as a long regular expression

    def prepare() -> None:
        """Nothing to claim here."""

    def limited[**P, R](seconds: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, or raise `Missed` in it when `seconds` have passed."""
        target = ctypes.c_ulong(threading.get_ident())
        timer = threading.Timer(seconds, ctypes.pythonapi.PyThreadState_SetAsyncExc, (target, ctypes.py_object(Missed)))
        timer.start()
        try:
            return function(*args, **kwargs)
        finally:
            timer.cancel()
