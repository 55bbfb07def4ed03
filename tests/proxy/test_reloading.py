"""One reload at a time, and none is lost."""

import asyncio

from proxy.reloading import Reloading


def test_asked_meanwhile_it_does_it_once_more():
    async def scene():
        done, gate = [], asyncio.Event()

        async def work():
            done.append(len(done))
            await gate.wait()

        reloading = Reloading(work)
        reloading.ask()
        await asyncio.sleep(0)
        reloading.ask()
        reloading.ask()
        assert done == [0]
        gate.set()
        await asyncio.sleep(0.01)
        assert done == [0, 1]
        reloading.ask()
        await asyncio.sleep(0.01)
        assert done == [0, 1, 2]

    asyncio.run(scene())
