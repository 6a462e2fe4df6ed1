"""Work that many ask for is done for the first of them at once, and for all others together a turn later."""

from __future__ import annotations

import asyncio

from silence_gateway.upstreams.once_a_turn import OnceATurn


def test_the_first_is_served_at_once_and_the_others_together_in_the_next_turn() -> None:
    async def scenario() -> None:
        asked: list[int] = []
        seen: list[int] = []
        work = OnceATurn(lambda: seen.append(len(asked)))
        for number in range(100):
            asked.append(number)
            work()
        assert seen == [1]
        await asyncio.sleep(0)
        assert seen == [1, 100]

        await asyncio.sleep(0)
        asked.append(100)
        work()
        assert seen == [1, 100, 101]
        await asyncio.sleep(0)
        assert seen == [1, 100, 101]

    asyncio.run(scenario())


def test_work_that_asks_for_itself_leaves_others_their_turn() -> None:
    async def scenario() -> None:
        turns = 0

        def again() -> None:
            nonlocal turns
            turns += 1
            if turns < 5:
                work()

        work = OnceATurn(again)
        work()
        assert turns == 1
        for _ in range(10):
            await asyncio.sleep(0)

        assert turns == 5

    asyncio.run(scenario())
