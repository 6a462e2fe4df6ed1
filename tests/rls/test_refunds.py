"""What one instance gives back, the others ask the store about again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.rls.asking import run

from silence_gateway.core.rls_over_limit import CounterId, OverLimitCache, digest_of
from silence_gateway.rls import refunds as refunds_file
from silence_gateway.rls.refunds import CHANNEL, EVERYTHING, Refunds
from silence_gateway.stores.memory import MemoryBus, MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock, settle

MINUTE_US = 60_000_000
ONE: CounterId = ("d", MINUTE_US, "key=1")
TWO: CounterId = ("d", MINUTE_US, "key=2")


class Pair:
    """Two instances that have both seen both counters go over their limits, and everything that is said."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.hub = MemoryHub(self.clock)
        self.caches = [OverLimitCache(10), OverLimitCache(10)]
        self.instances = [Refunds(cache, MemoryStore(self.hub).bus, self.clock) for cache in self.caches]
        self.said: list[bytes] = []
        MemoryStore(self.hub).bus.subscribe(CHANNEL, self.said.append)
        for cache in self.caches:
            for counter in (ONE, TWO):
                cache.remember(counter, 9, MINUTE_US, cache.generation)

    def known(self, index: int) -> set[CounterId]:
        return set(self.caches[index].counts)


def scenario(work: Callable[[Pair], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        pair = Pair()
        for instance in pair.instances:
            instance.start()
        await settle()
        try:
            await work(pair)
        finally:
            for instance in pair.instances:
                await instance.stop()

    run(main())


def test_the_other_instance_forgets_that_counter_only() -> None:
    async def work(pair: Pair) -> None:
        pair.instances[0].tell(ONE)
        await settle()

        assert pair.known(1) == {TWO}

    scenario(work)


def test_keys_are_not_said_on_the_bus() -> None:
    async def work(pair: Pair) -> None:
        pair.instances[0].tell(ONE)
        pair.instances[0].tell(TWO)
        await settle()

        assert pair.said == [digest_of(ONE) + digest_of(TWO)]

    scenario(work)


@pytest.mark.parametrize("noise", [b"", b"x", bytes(15), b"y" * 16, b"z" * 40])
def test_noise_on_the_bus_is_no_news(noise: bytes) -> None:
    async def work(pair: Pair) -> None:
        await MemoryStore(pair.hub).bus.publish(CHANNEL, noise)
        await settle()

        assert pair.known(0) == pair.known(1) == {ONE, TWO}

    scenario(work)


def test_whoever_may_have_missed_news_forgets_everything() -> None:
    async def work(pair: Pair) -> None:
        pair.hub.go_away()
        pair.hub.come_back()
        await settle()

        assert pair.known(0) == pair.known(1) == set()

    scenario(work)


def test_what_could_not_be_told_is_told_when_the_store_is_back() -> None:
    async def work(pair: Pair) -> None:
        pair.hub.go_away()
        pair.instances[0].tell(ONE)
        await settle()
        pair.instances[0].tell(TWO)
        pair.hub.come_back()
        await pair.clock.advance(refunds_file.RETRY_S)

        assert pair.said == [digest_of(ONE) + digest_of(TWO)]

    scenario(work)


def test_more_than_can_be_named_is_told_as_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refunds_file, "MAX_UNTOLD", 1)

    async def work(pair: Pair) -> None:
        for counter in (ONE, TWO, ONE):
            pair.instances[0].tell(counter)
        await settle()

        assert pair.said == [EVERYTHING]
        assert pair.known(1) == set()

    scenario(work)


def test_stopping_tells_what_was_not_told_yet_and_hears_no_more() -> None:
    async def work(pair: Pair) -> None:
        pair.instances[0].tell(ONE)
        await pair.instances[0].stop()
        await settle()
        assert pair.known(1) == {TWO}

        pair.instances[1].tell(TWO)
        await settle()
        assert TWO in pair.known(0)

    scenario(work)


def test_stopping_waits_for_no_store() -> None:
    async def work(pair: Pair) -> None:
        pair.hub.go_away()
        pair.instances[0].tell(ONE)
        await settle()
        await pair.instances[0].stop()

        assert pair.said == []

    scenario(work)


class HesitantBus(MemoryBus):
    """Does not get its first message away."""

    def __init__(self, hub: MemoryHub) -> None:
        super().__init__(hub)
        self.hesitates = True

    async def publish(self, channel: str, payload: bytes) -> None:
        if self.hesitates:
            self.hesitates = False
            await asyncio.Event().wait()
        await super().publish(channel, payload)


def test_what_was_on_its_way_at_the_end_is_told_again() -> None:
    async def work(pair: Pair) -> None:
        leaving = Refunds(OverLimitCache(10), HesitantBus(pair.hub), pair.clock)
        leaving.tell(ONE)
        await settle()
        leaving.tell(TWO)
        await leaving.stop()
        await settle()

        assert pair.said == [digest_of(ONE) + digest_of(TWO)]

    scenario(work)
