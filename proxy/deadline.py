"""A hard limit on the time that a filter may take, even one that loops, sleeps or backtracks.

asyncio cannot cut a synchronous call.  An interval timer can: its handler raises in the middle of whatever the main
thread is doing, and because `Missed` is no `Exception`, a filter's own `except Exception` does not swallow it
(setitimer(2); the `re` module looks for signals while it backtracks).
"""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Iterator


class Missed(BaseException):
    """The call did not come back in time."""


def _raise(*_: object) -> None:
    raise Missed


if hasattr(signal, "setitimer"):

    def prepare() -> None:
        """Claim SIGALRM; call once, in the main thread."""
        signal.signal(signal.SIGALRM, _raise)

    def limited[**P, R](seconds: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in the main thread, or raise `Missed` when `seconds` have passed."""
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            return function(*args, **kwargs)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

else:  # Windows: a watcher thread; it cannot cut a call that stays in C, such as a long regular expression

    def prepare() -> None:
        """Nothing to claim here."""

    @contextlib.contextmanager
    def _watched(seconds: float) -> Iterator[None]:
        target = ctypes.c_ulong(threading.get_ident())
        raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
        timer = threading.Timer(seconds, raise_in, (target, ctypes.py_object(Missed)))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def limited[**P, R](seconds: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, or raise `Missed` in it when `seconds` have passed."""
        with _watched(seconds):
            return function(*args, **kwargs)
