"""Turns: one in each round of the event loop, in order, and none is lost."""

import asyncio

from proxy.turns import Turns


def run(*workers, turns=None):
    """Let workers have their turns; return whose turn it was, round by round."""
    turns, rounds, over = turns or Turns(), [[]], []

    async def work(name, times):
        for _ in range(times):
            await turns.wait()
            rounds[-1].append(name)

    async def clock():
        while not over:
            rounds.append([])
            await asyncio.sleep(0)

    async def all_of_them():
        ticking = asyncio.create_task(clock())
        await asyncio.gather(*(work(*each) for each in workers))
        over.append(True)
        await ticking

    asyncio.run(all_of_them())
    return rounds


def test_one_in_a_round_each_in_turn():
    rounds = run(("a", 3), ("b", 3), ("c", 1))
    assert max(map(len, rounds)) == 1
    assert "".join(name for names in rounds for name in names) == "abcabab"


def test_nobody_waits_for_one_who_left():
    turns = Turns()

    async def leave():
        tasks = [asyncio.create_task(turns.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.wait_for(tasks[2], 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(leave())
    assert not turns.taken


def test_another_loop_begins_anew():
    turns = Turns()

    async def leave():
        waiting = [asyncio.create_task(turns.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        return waiting

    asyncio.run(leave())
    assert run(("a", 2), turns=turns)


def test_who_had_the_last_turn_is_not_waiting():
    turns = Turns()

    async def once():
        await turns.wait()
        return turns.taken

    assert not asyncio.run(once())
