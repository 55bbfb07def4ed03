"""Putting new rules in force: one reload at a time, and the life cycle that stock addons expect."""

import asyncio
from collections.abc import Awaitable, Callable

from mitmproxy.addonmanager import Loader
from mitmproxy.master import Master

from proxy.policy import PolicyError, Problem
from proxy.session import Rules


class Reloading:
    """Does some work when asked; asked meanwhile, however often, it does it once more."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._again = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while self._again:
            self._again = False
            await self._work()


def adopt(master: Master, rules: Rules) -> None:
    """Give stock mitmproxy addons the life cycle that they expect: `load`, `configure`, `running`.

    Raises PolicyError where one fails: an addon that has not started filters nothing.
    """
    for rule in rules.chain.rules:
        for name, argument in (("load", Loader(master)), ("configure", set(master.options.keys())), ("running", None)):
            hook = getattr(rule.filter, name, None)
            if not callable(hook):
                continue
            try:
                hook(*([] if argument is None else [argument]))
            except Exception as error:
                problem = Problem(f"filter {rule.id}", 1, name, f"{type(error).__name__}: {error}")
                raise PolicyError([problem]) from error
