"""Where the primary is: one question for all who ask, often while it is away, seldom otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from silence_gateway.core.store_failover import Fault
from silence_gateway.stores.client import StoreRefused
from silence_gateway.stores.primary import PrimaryFinder
from silence_gateway.stores.url import Node
from silence_gateway.testing.clock import FakeClock, settle

ONE, TWO = Node("one", 1), Node("two", 2)


class Sentinels:
    """Sentinels that say what a test wants, and a finder that asks them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.named: Node | None = ONE
        self.asked = 0
        self.replaced: list[Node] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.finder = PrimaryFinder(self.find, self.clock, lambda: 0.5, self.replaced.append)

    async def find(self) -> Node:
        self.asked += 1
        await self.may_answer.wait()
        if self.named is None:
            raise StoreRefused(Fault.UNREACHABLE, "no sentinel answers")
        return self.named


def with_sentinels(scenario: Callable[[Sentinels], Awaitable[None]]) -> None:
    async def run() -> None:
        sentinels = Sentinels()
        sentinels.finder.start()
        await settle()
        try:
            await scenario(sentinels)
        finally:
            await sentinels.finder.stop()

    asyncio.run(run())


def test_who_asks_at_the_same_moment_shares_the_question() -> None:
    async def scenario(sentinels: Sentinels) -> None:
        assert set(await asyncio.gather(*(sentinels.finder.current() for _ in range(4)))) == {ONE}
        assert await sentinels.finder.current() == ONE
        assert sentinels.asked == 1
        await sentinels.clock.advance(0.06)
        await sentinels.finder.current()
        assert sentinels.asked == 2, "a moment later it may be another"

    with_sentinels(scenario)


def test_who_leaves_does_not_take_the_question_along() -> None:
    async def scenario(sentinels: Sentinels) -> None:
        sentinels.may_answer.clear()
        leaves = asyncio.ensure_future(sentinels.finder.current())
        stays = asyncio.ensure_future(sentinels.finder.current())
        await settle()
        leaves.cancel()
        sentinels.may_answer.set()
        assert await stays == ONE

    with_sentinels(scenario)


def test_no_answer_is_told_to_who_asked_and_changes_nothing() -> None:
    async def scenario(sentinels: Sentinels) -> None:
        await sentinels.finder.current()
        sentinels.named = None
        await sentinels.clock.advance(11)
        with pytest.raises(StoreRefused, match="no sentinel answers"):
            await sentinels.finder.current()
        assert sentinels.finder.node == ONE
        assert sentinels.replaced == []

    with_sentinels(scenario)


def test_another_primary_is_noticed_by_itself_every_ten_seconds() -> None:
    async def scenario(sentinels: Sentinels) -> None:
        await sentinels.finder.current()
        sentinels.named = TWO
        await sentinels.clock.advance(9.9)
        assert sentinels.replaced == []
        await sentinels.clock.advance(0.2)
        assert sentinels.replaced == [TWO]
        assert sentinels.finder.replaced == 1

    with_sentinels(scenario)


def test_while_it_is_away_it_is_asked_at_once_and_four_times_a_second_and_less_after_a_while() -> None:
    async def scenario(sentinels: Sentinels) -> None:
        await sentinels.finder.current()
        await sentinels.clock.advance(1)
        before = sentinels.asked
        sentinels.finder.set_away(True)
        await settle()
        assert sentinels.asked == before + 1, "at once"
        await sentinels.clock.advance(2)
        assert sentinels.asked == before + 9
        await sentinels.clock.advance(10)
        late = sentinels.asked
        await sentinels.clock.advance(10)
        assert sentinels.asked == late + 10, "nobody is about to take over"
        sentinels.finder.set_away(False)
        await sentinels.clock.advance(1)
        calm = sentinels.asked
        await sentinels.clock.advance(9)
        assert sentinels.asked <= calm + 1

    with_sentinels(scenario)
