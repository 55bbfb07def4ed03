"""Work on bodies in slices of time, so that nobody is kept from a turn for long."""

import time
from collections.abc import Awaitable, Generator
from typing import Any, Final

from proxy.chain import Decision
from proxy.hearing import Stopped
from proxy.turns import Turns

#: Seconds of work on bodies until other connections have their turn.
SLICE: Final = 0.0005
TURNS: Final = Turns()

#: Runs until it yields what must be awaited (it is sent the result), or None where it may stop for a while.
type Work = Generator[Awaitable[object] | None, Any, None]


class Sliced:
    """What is to be done is a generator (`Work`); derive, `_begin` one, and say in `_released` what it leads to."""

    def __init__(self) -> None:
        self._work: Work | None = None
        self._wait: Awaitable[object] | None = None
        self._stopped: Decision | None = None

    def _released(self) -> list[bytes]:
        raise NotImplementedError

    @property
    def waits(self) -> bool:    # there is something left to be done, or awaited
        return self._work is not None

    async def settle(self) -> None:
        """Do what is left of the work; let others have their turn on the way."""
        while self._work is not None:
            wait, self._wait = self._wait, None
            if wait is None:
                await TURNS.wait()
                self._go(None)
            else:
                self._go(await wait)

    def result(self) -> tuple[list[bytes], Decision | None]:
        """What may leave after `settle`, and the decision, if there is one."""
        ready = not self._stopped and self._work is None
        return self._released() if ready else [], self._stopped

    def _begin(self, work: Work) -> tuple[list[bytes], Decision | None]:
        self._work = work
        if not TURNS.taken:
            self._go(None)
        return self.result()

    def _go(self, reply: object) -> None:
        """Work until it is done, has to wait, or has had its slice."""
        work, until = self._work, time.perf_counter() + SLICE
        assert work is not None
        try:
            while True:
                self._wait = work.send(reply)
                if self._wait is not None or time.perf_counter() >= until:
                    return
                reply = None
        except (StopIteration, Stopped):
            self._work = None
