"""Long work takes turns: one slice in each round of the event loop, so that everything else is served between them."""

import asyncio
from collections import deque


class Turns:
    """Who waits for a turn gets it in the order of asking, one in a round, however many wait."""

    def __init__(self) -> None:
        self._queue: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def taken(self) -> bool:
        """Are others waiting?  Then nobody should begin before them."""
        return bool(self._queue) and not self._queue[-1].done()

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:      # what waited in a loop that is no more waits no longer
            self._queue.clear()
            self._loop = loop
        turn = loop.create_future()
        self._queue.append(turn)
        if len(self._queue) == 1:
            loop.call_soon(self._next)
        await turn

    def _next(self) -> None:
        """The first stays in the queue while it has its turn, which begins in the next round."""
        if self._queue and self._queue[0].done():
            self._queue.popleft()
        while self._queue and self._queue[0].done():    # cancelled while it waited
            self._queue.popleft()
        if self._queue:
            self._queue[0].set_result(None)
            assert self._loop is not None
            self._loop.call_soon(self._next)
