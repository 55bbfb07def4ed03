"""A hard limit on the time that a filter may take, even one that loops, sleeps or backtracks.

asyncio cannot cut a synchronous call.  An interval timer can: its handler raises in the middle of whatever the main
thread is doing, and because `Missed` is no `Exception`, a filter's own `except Exception` does not swallow it
(setitimer(2); the `re` module looks for signals while it backtracks).  The timer ticks while filters are being called
and is not set for each call, which would cost two system calls a filter.

What counts is the time that the call itself spends on the processor: on a busy computer a good filter may have to wait
for its turn, and refusing a request for that would be wrong.  One that sleeps is cut at `GRACE` times the limit, which
is counted in ticks: of those of a time in which the whole process, or the whole machine, stood still, one is left.
"""

import atexit
import ctypes
import gc
import signal
import threading
import time
import types
from collections.abc import Callable

#: Seconds between two looks at the clock.  The first in a call only notes where the processor's clock stands, a system
#: call that most calls are thus spared; so a call may take two ticks beyond its limit.
TICK = 0.01
#: A call that does not use the processor, such as a sleep, may take this many times its limit, in ticks.  Seen under
#: full load: a process that did not run for 340 ms, in an upload of a million calls.
GRACE = 4
#: Ticks without a call after which the timer rests.
IDLE_TICKS = 100


class Missed(BaseException):
    """The call did not come back in time."""


class _Clock:
    """When the running call must be back; only the main thread runs calls, and its signal handlers."""

    def __init__(self) -> None:
        self.limit: float | None = None     # seconds, while a call runs
        self.ticks = 0                      # since its beginning
        self.used = -1.0                    # processor time at the first look
        self.calls = self.idle = 0
        self.ticking = False

    def tick(self, _: int, frame: types.FrameType | None) -> None:
        """Raise in the call that is late, again at each tick if something in it swallowed the last one."""
        self.ticks += 1
        if self.limit is not None and self._late(self.limit):
            while frame is not None:
                if frame.f_code is limited.__code__:
                    raise Missed
                frame = frame.f_back
        self.idle = 0 if self.calls or self.limit is not None else self.idle + 1
        self.calls = 0
        if self.idle > IDLE_TICKS:
            self.stop()

    def _late(self, limit: float) -> bool:
        if self.used < 0:
            self.used = time.thread_time()
        return time.thread_time() - self.used >= limit or self.ticks * TICK >= limit * GRACE

    def pause(self) -> tuple[float, int, float]:
        """Another call begins within this one: return its limit, and what it has used in ticks and in seconds."""
        assert self.limit is not None
        used = time.thread_time() - self.used if self.used >= 0 else -1.0
        return self.limit, self.ticks, used

    def resume(self, limit: float, ticks: int, used: float) -> None:
        self.ticks = ticks
        self.used = time.thread_time() - used if used >= 0 else -1.0
        self.limit = limit

    def stop(self) -> None:
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
        atexit.register(_clock.stop)        # the interpreter gives its handlers up before it ends

    def rest() -> None:
        """No call will come: an event loop that is closed must not be told of a tick."""
        _clock.stop()

    def limited[**P, R](seconds: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in the main thread, or raise `Missed` when it has used up its `seconds`.

        A call within a call has its own limit, and its time is not that of the outer one.
        No garbage is collected meanwhile: it is not the filter's, and a finalizer would swallow what is raised in it.
        """
        clock = _clock
        outer = None if clock.limit is None else clock.pause()
        clock.calls += 1
        clock.ticks, clock.used, clock.limit = 0, -1.0, seconds
        if not clock.ticking:
            clock.start()
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            clock.limit = None
            if outer is None:
                gc.enable()
            else:
                clock.resume(*outer)

else:  # Windows: a watcher thread; it cannot cut a call that stays in C, such as a long regular expression

    def prepare() -> None:
        """Nothing to claim here."""

    def rest() -> None:
        """Nothing ticks here."""

    def limited[**P, R](seconds: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, or raise `Missed` in it when `seconds` have passed."""
        target = ctypes.c_ulong(threading.get_ident())
        timer = threading.Timer(seconds, ctypes.pythonapi.PyThreadState_SetAsyncExc, (target, ctypes.py_object(Missed)))
        timer.start()
        try:
            return function(*args, **kwargs)
        finally:
            timer.cancel()
