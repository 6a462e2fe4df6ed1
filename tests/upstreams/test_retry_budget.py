"""The retry budget of a fleet: told over the board, and kept by each instance for itself without it."""

from __future__ import annotations

import asyncio

from tests.upstreams.pool_bench import run

from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.upstreams.retry_budget import RetryBudget
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import UpstreamSettings

FREE = UpstreamSettings(name="shop", retry=RetrySettings(budget=0, budget_free_per_s=1))
"""Ten repeats within the ten seconds that a budget looks back."""


class Fleet:
    """Some instances on one board; their calls cost nothing, so only free repeats count."""

    def __init__(self, instances: int, settings: UpstreamSettings = FREE) -> None:
        self.clock = FakeClock()
        hub = MemoryHub(self.clock)
        self.stores = [MemoryStore(hub) for _ in range(instances)]
        self.budgets = [
            RetryBudget(settings, calls=lambda: 0, board=store.board, instance=str(number))
            for number, store in enumerate(self.stores)
        ]
        for budget in self.budgets:
            budget.join()

    def spend(self, number: int, wanted: int) -> int:
        spent = 0
        while spent < wanted and self.budgets[number].spend():
            spent += 1
        return spent

    async def tick(self) -> None:
        await asyncio.gather(*(budget.tick(1.0) for budget in self.budgets))
        await self.clock.advance(1.0)


def test_what_one_has_spent_the_others_do_not_spend_again() -> None:
    async def scenario() -> None:
        fleet = Fleet(2)
        assert fleet.spend(0, 100) == 10
        await fleet.tick()

        assert fleet.spend(1, 100) == 0

    run(scenario)


def test_the_budget_comes_back_when_its_window_has_passed_and_silence_follows_a_last_word() -> None:
    async def scenario() -> None:
        fleet = Fleet(2)
        fleet.spend(0, 100)
        for _ in range(14):
            await fleet.tick()
        writes = fleet.budgets[0]

        assert not writes._telling
        assert fleet.spend(1, 100) == 10

    run(scenario)


def test_who_is_gone_no_longer_counts() -> None:
    async def scenario() -> None:
        fleet = Fleet(2)
        fleet.spend(0, 100)
        await fleet.budgets[0].tick(1.0)
        await settle()
        assert fleet.spend(1, 100) == 0

        for _ in range(4):
            await fleet.budgets[1].tick(1.0)
            await fleet.clock.advance(1.0)

        assert fleet.spend(1, 100) == 10

    run(scenario)


def test_what_is_no_count_is_refused_and_counted() -> None:
    async def scenario() -> None:
        fleet = Fleet(1)
        await fleet.stores[0].board.put("repeats/shop", "someone", b"a lot", 10)
        await settle()

        assert fleet.budgets[0].malformed == 1
        assert fleet.spend(0, 100) == 10

    run(scenario)


def test_without_a_board_each_has_its_own() -> None:
    async def scenario() -> None:
        budget = RetryBudget(FREE, calls=lambda: 0)
        budget.join()
        assert [budget.spend() for _ in range(12)] == [True] * 10 + [False] * 2
        assert (budget.repeats, budget.refused) == (10, 2)
        await budget.tick(1.0)

        assert not budget.affordable()

    run(scenario)
