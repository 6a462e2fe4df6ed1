"""Endpoints that register themselves: seen by every gateway, and forgotten only when that is sure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.upstreams.pool_bench import run

from silence_gateway.core.health import Health
from silence_gateway.errors import ConfigError
from silence_gateway.events import Event
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.upstreams.registry import TTL_S, Registration, RegistrySource, room_of
from silence_gateway.upstreams.settings import EndpointSettings


class Town:
    """A store that everybody shares, one gateway's source, and services that come and go."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.hub = MemoryHub(self.clock)
        self.store = MemoryStore(self.hub)
        self.heard: list[dict[str, EndpointSettings]] = []
        self.events: list[Event] = []
        self.source = RegistrySource(
            "auth", self.store.board, store_is_up=lambda: not self.hub.away, clock=self.clock
        )

    def service(self, address: str, **more: Any) -> Registration:
        store = MemoryStore(self.hub)
        return Registration(
            "auth", address, store=store, clock=self.clock, observer=self.events.append, **more
        )

    @property
    def known(self) -> list[str]:
        return sorted(self.heard[-1]) if self.heard else []


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    made = Town()
    task = asyncio.ensure_future(
        made.source.follow(lambda found: made.heard.append({one.address: one for one in found}))
    )
    await settle()
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def died(service: Registration) -> None:
    """End a service as SIGKILL does."""
    assert service._tasks
    for task in service._tasks:
        task.cancel()
    await asyncio.gather(*service._tasks, return_exceptions=True)


def test_who_is_followed_at_its_address_leaves_the_registration_to_its_follower() -> None:
    """As when a new process takes over the port of an old one before that has ended."""

    async def scenario() -> None:
        async with town() as here, here.service("10.0.0.1:1", weight=1) as old:
            await old.registered()
            await here.clock.advance(2)
            async with here.service("10.0.0.1:1", weight=2) as new:
                # The old one would have been the last to renew.
                await here.clock.advance(14)
                assert here.heard[-1]["10.0.0.1:1"].weight == 2
                told = len(here.heard)
                await old.stop()
                await here.clock.advance(60)
                assert len(here.heard) == told
                assert new.unsent == 0
            await settle()
            assert here.known == []

    run(scenario)


@pytest.mark.parametrize("dies", [False, True], ids=["leaves", "dies"])
def test_who_was_followed_and_is_still_there_registers_again(*, dies: bool) -> None:
    async def scenario() -> None:
        async with town() as here, here.service("10.0.0.1:1", weight=1) as old:
            await old.registered()
            new = here.service("10.0.0.1:1", weight=2)
            await new.start()
            await here.clock.advance(1)
            if dies:
                await died(new)
                await here.clock.advance(TTL_S)
            else:
                await new.stop()
            await settle()

            assert here.heard[-1]["10.0.0.1:1"].weight == 1
            assert here.source.problem == ""

    run(scenario)


@pytest.mark.parametrize("away", [False, True], ids=["empty", "away"])
def test_the_first_word_is_nobody_where_the_store_knows_nobody_or_does_not_answer(away: bool) -> None:
    async def scenario() -> None:
        here = Town()
        if away:
            here.hub.go_away()
        heard: list[int] = []
        task = asyncio.ensure_future(here.source.follow(lambda found: heard.append(len(found))))
        await settle()
        assert heard == [0]
        task.cancel()

    run(scenario)


def test_who_stops_waiting_for_the_first_word_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        here = Town()
        here.hub.go_away()
        # It has gone away in this moment, and nobody knows yet.
        board = MemoryStore(here.hub).board
        source = RegistrySource("auth", board, store_is_up=lambda: True, clock=here.clock)
        others = asyncio.all_tasks()
        task = asyncio.ensure_future(source.follow(lambda _found: None))
        await settle()

        task.cancel()
        await settle()

        assert asyncio.all_tasks() == others

    run(scenario)


def test_who_registers_is_known_and_who_leaves_is_not() -> None:
    async def scenario() -> None:
        async with town() as here:
            async with here.service("10.0.0.1:1", weight=3, priority=1) as one, here.service("10.0.0.2:1"):
                await here.clock.advance(0)
                await one.registered()
                assert here.known == ["10.0.0.1:1", "10.0.0.2:1"]
                assert here.heard[-1]["10.0.0.1:1"] == EndpointSettings(
                    address="10.0.0.1:1", weight=3, priority=1
                )
                await here.clock.advance(120)
                assert here.known == ["10.0.0.1:1", "10.0.0.2:1"]
            await here.clock.advance(0)

            assert here.known == []

    run(scenario)


def test_a_registry_without_anybody_says_so() -> None:
    async def scenario() -> None:
        async with town() as here:
            assert here.source.problem == "registry auth: nobody has registered"

    run(scenario)


def test_one_that_dies_is_forgotten_when_its_time_is_over() -> None:
    async def scenario() -> None:
        async with town() as here, here.service("10.0.0.1:1"):
            dying = here.service("10.0.0.2:1")
            await dying.start()
            await here.clock.advance(1)
            await died(dying)
            await here.clock.advance(8)
            assert here.known == ["10.0.0.1:1", "10.0.0.2:1"]
            await here.clock.advance(9)

            assert here.known == ["10.0.0.1:1"]

    run(scenario)


def test_the_last_ones_are_never_forgotten_for_their_silence() -> None:
    async def scenario() -> None:
        async with town() as here:
            services = [here.service("10.0.0.1:1"), here.service("10.0.0.2:1")]
            for service in services:
                await service.start()
            await here.clock.advance(1)
            for service in services:
                await died(service)
            await here.clock.advance(300)

            assert here.known == ["10.0.0.1:1", "10.0.0.2:1"]
            assert (
                here.source.problem == "registry auth: every registration has run out; the last ones are kept"
            )
            async with here.service("10.0.0.3:1"):
                await here.clock.advance(2)
                assert here.known == ["10.0.0.3:1"]
                assert here.source.problem == ""

    run(scenario)


def test_while_the_store_is_away_nobody_is_forgotten_and_afterwards_only_who_is_gone() -> None:
    async def scenario() -> None:
        async with town() as here, here.service("10.0.0.1:1") as staying:
            leaving = here.service("10.0.0.2:1")
            await leaving.start()
            await here.clock.advance(1)
            here.hub.go_away()
            await died(leaving)
            await here.clock.advance(120)
            assert here.known == ["10.0.0.1:1", "10.0.0.2:1"]
            assert here.source.problem == "registry auth: the store does not answer"
            assert staying.unsent > 1
            assert [event.level for event in here.events] == ["warning"]
            here.hub.come_back()
            await here.clock.advance(10)
            assert here.known == ["10.0.0.1:1", "10.0.0.2:1"]
            await here.clock.advance(15)

            assert here.known == ["10.0.0.1:1"]

    run(scenario)


def test_an_address_that_was_taken_over_stays_when_its_first_owner_leaves() -> None:
    async def scenario() -> None:
        async with town() as here:
            old, new = here.service("10.0.0.1:1"), here.service("10.0.0.1:1", weight=2)
            await old.start()
            await here.clock.advance(1)
            async with new:
                await here.clock.advance(1)
                await old.stop()
                await here.clock.advance(1)

                assert here.heard[-1]["10.0.0.1:1"].weight == 2

    run(scenario)


def test_leaving_while_the_store_is_away_says_so() -> None:
    async def scenario() -> None:
        async with town() as here:
            service = here.service("10.0.0.1:1")
            await service.start()
            await here.clock.advance(1)
            here.hub.go_away()
            await service.stop()

            assert "stays registered for 15 s" in str(here.events[-1])

    run(scenario)


def test_leaving_a_store_that_never_answered_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        async with town() as here:
            here.hub.go_away()
            service = here.service("10.0.0.1:1")
            await service.start()
            await here.clock.advance(1)
            await service.stop()

            (said,) = here.events
            assert "cannot be registered" in str(said)

    run(scenario)


def test_a_checked_service_is_registered_once_it_is_well_and_not_while_it_is_not() -> None:
    async def scenario() -> None:
        wrong = "not up yet"

        async def check() -> str:
            return wrong

        async with town() as here, here.service("10.0.0.1:1", check=check, check_every_s=1, zone="a") as one:
            await here.clock.advance(5)
            assert here.known == []

            wrong = ""
            await here.clock.advance(1)
            assert here.known == ["10.0.0.1:1"]
            assert here.heard[-1]["10.0.0.1:1"].zone == "a"

            wrong = "out of memory"
            await here.clock.advance(2)
            assert here.known == ["10.0.0.1:1"]
            await here.clock.advance(1)
            assert here.known == []
            assert one.health is Health.UNHEALTHY
            assert "out of memory" in str(here.events[-1])
            await here.clock.advance(60)
            assert here.known == []

            wrong = ""
            await here.clock.advance(1)
            assert here.known == []
            await here.clock.advance(1)
            assert here.known == ["10.0.0.1:1"]
            await here.clock.advance(60)
            assert here.known == ["10.0.0.1:1"]

    run(scenario)


def test_a_service_that_starts_is_looked_at_every_second() -> None:
    async def scenario() -> None:
        wrong = "not up yet"

        async def check() -> str:
            return wrong

        async with town() as here, here.service("10.0.0.1:1", check=check, check_every_s=60):
            await here.clock.advance(3.5)
            wrong = ""
            await here.clock.advance(1)

            assert here.known == ["10.0.0.1:1"]

    run(scenario)


@pytest.mark.parametrize("how", ["raises", "hangs"])
def test_a_check_that_raises_or_comes_to_no_end_says_that_the_service_is_not_well(how: str) -> None:
    async def scenario() -> None:
        well = True

        async def check() -> str:
            if not well and how == "raises":
                raise ConnectionError("database is away")
            if not well:
                await asyncio.get_running_loop().create_future()
            return ""

        async with town() as here, here.service("10.0.0.1:1", check=check, check_every_s=2):
            await settle()
            assert here.known == ["10.0.0.1:1"]
            well = False
            await here.clock.advance(15)
            assert here.known == []
            said = "database is away" if how == "raises" else "no answer within 2 s"
            assert said in str(here.events[-1])

            well = True
            await here.clock.advance(10)
            assert here.known == ["10.0.0.1:1"]

    run(scenario)


def test_what_is_no_registration_is_refused_and_counted() -> None:
    async def scenario() -> None:
        async with town() as here:
            await here.store.board.put(room_of("auth"), "10.0.0.1:1", b"hello", 10)
            await here.store.board.put(room_of("auth"), "nowhere", b"{}", 10)
            await settle()

            assert here.source.malformed == 2
            assert here.known == []

    run(scenario)


@pytest.mark.parametrize("store", ["memory://", "embedded://", "nonsense"])
def test_a_store_that_gateways_do_not_reach_is_refused(store: str) -> None:
    with pytest.raises(ConfigError):
        Registration("auth", "10.0.0.1:1", store=store)


@pytest.mark.parametrize(
    ("name", "address", "more"),
    [
        ("", "10.0.0.1:1", {}),
        ("au/th", "10.0.0.1:1", {}),
        ("auth", "10.0.0.1:1", {"fleet": "my fleet"}),
        ("auth", "10.0.0.1", {}),
        ("auth", "0.0.0.0:9001", {}),
        ("auth", "[::]:9001", {}),
        ("auth", "10.0.0.1:1", {"weight": 0}),
        ("auth", "10.0.0.1:1", {"priority": 1001}),
        ("auth", "10.0.0.1:1", {"ttl_s": 0}),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, address: str, more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Registration(name, address, store=MemoryStore(MemoryHub(FakeClock())), **more)
