"""Two gateways on one board: one checks, both know; one trips, both mind; and nobody needs the board."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from silence_gateway.core.breaker import State
from silence_gateway.core.fleet_facts import BreakerFact, HealthFact, written_breaker, written_health
from silence_gateway.core.health import Check, Health
from silence_gateway.core.status import Code
from silence_gateway.errors import GatewayError, RpcError, UpstreamUnavailable
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.scripted_endpoints import NOT_SERVING, SERVING, ScriptedEndpoints
from silence_gateway.testing.scripted_upstream import Failure, Reply, Silence
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.pool_statistics import EndpointStatistics
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    EndpointSettings,
    HealthSettings,
    OutlierSettings,
    UpstreamSettings,
)

A, B = "10.0.0.1:1", "10.0.0.2:1"
ROOM = "upstreams/shop"
INTERVAL_S = 2.0
LEASE_S = 2 * INTERVAL_S + 0.5


class Fleet:
    """Several pools on one board, one clock, and one set of endpoints each sees in its own way."""

    def __init__(self, settings: UpstreamSettings, count: int) -> None:
        self.clock = FakeClock()
        self.hub = MemoryHub(self.clock)
        self.endpoints = [ScriptedEndpoints(self.clock) for _ in range(count)]
        self.stores = [MemoryStore(self.hub, instance_id=f"i{index}") for index in range(count)]
        self.pools = [
            GrpcUpstream(
                settings,
                clock=self.clock,
                rng=Random(index),
                connector=self.endpoints[index].connect,
                board=self.stores[index].board,
            )
            for index in range(count)
        ]

    def standing(self, index: int, address: str = A) -> EndpointStatistics:
        told = self.pools[index].statistics.endpoints
        return next(one for one in told if one.address == address)

    def checks(self, address: str = A) -> list[int]:
        return [len(endpoints[address].health.calls) for endpoints in self.endpoints]

    async def call(self, index: int) -> bytes:
        return (await self.pools[index].unary(b"/shop.Orders/Get", b"")).message


def shop(*names: str, **more: Any) -> UpstreamSettings:
    health = HealthSettings(interval_s=INTERVAL_S, timeout_s=0.5, unhealthy_after=2, healthy_after=1)
    breaker = BreakerSettings(consecutive=2, cool_down_s=4)
    endpoints = tuple(EndpointSettings(address=name) for name in names)
    settings = UpstreamSettings(name="shop", endpoints=endpoints, health=health, breaker=breaker)
    return replace(settings, **more)


@asynccontextmanager
async def fleet_of(settings: UpstreamSettings, count: int = 2, apart_s: float = 0.0) -> AsyncIterator[Fleet]:
    """Run pools that start *apart_s* one after the other; after an interval the first one checks all."""
    fleet = Fleet(settings, count)
    for pool in fleet.pools:
        await pool.start()
        await fleet.clock.advance(apart_s)
    await settle()
    try:
        yield fleet
    finally:
        for pool in fleet.pools:
            await pool.stop(drain_s=0)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.mark.parametrize("count", [2, 5])
def test_one_instance_checks_and_every_instance_knows(count: int) -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A), count) as fleet:
            await fleet.clock.advance(60)

            assert [fleet.standing(index).health for index in range(count)] == ["healthy"] * count
            checks = fleet.checks()
            assert sorted(checks)[:-1] == [0] * (count - 1)
            assert 26 <= max(checks) <= 35

    run(scenario)


def test_an_endpoint_that_says_no_to_the_checker_is_left_out_by_all() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A, B)) as fleet:
            for endpoints in fleet.endpoints:
                endpoints[A].health.follow(NOT_SERVING)

            await fleet.clock.advance(3 * INTERVAL_S)

            assert [fleet.standing(index).health for index in (0, 1)] == ["unhealthy", "unhealthy"]
            assert 0 in fleet.checks()
            for index in (0, 1):
                for _ in range(5):
                    await fleet.call(index)
                assert fleet.endpoints[index][A].calls == []

    run(scenario)


def test_a_good_check_of_another_instance_is_never_told_as_an_error() -> None:
    """The first of the good ones that are needed leaves the verdict, and makes it less sure."""

    async def scenario() -> None:
        health = HealthSettings(interval_s=INTERVAL_S, timeout_s=0.5, unhealthy_after=2, healthy_after=3)
        async with fleet_of(shop(A, B, health=health)) as fleet:
            for endpoints in fleet.endpoints:
                endpoints[A].health.follow(NOT_SERVING)
            await fleet.clock.advance(4 * INTERVAL_S)
            hearer = fleet.checks().index(0)
            assert fleet.standing(hearer).health == "unhealthy"

            for endpoints in fleet.endpoints:
                endpoints[A].health.follow(SERVING)
            while fleet.standing(hearer).health == "unhealthy":
                await fleet.clock.advance(INTERVAL_S / 4)

            assert fleet.standing(hearer).health == "doubted"
            assert fleet.standing(hearer).last_error == "health check of another instance: refusing"

    run(scenario)


def test_silence_towards_the_checker_alone_is_held_against_the_checker_who_lets_another_check() -> None:
    """One gateway's broken network must not take the service away from anybody, not even itself."""

    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.clock.advance(5)
            checker = fleet.checks().index(max(fleet.checks()))
            other = 1 - checker

            fleet.endpoints[checker][A].health.follow(Silence())
            await fleet.clock.advance(3 * INTERVAL_S)
            assert fleet.standing(checker).health == "doubted"
            assert fleet.standing(other).health == "healthy"
            for index in (0, 1):
                assert await fleet.call(index) == b"ok"

            await fleet.clock.advance(LEASE_S + 2 * INTERVAL_S)

            assert [fleet.standing(index).health for index in (0, 1)] == ["healthy", "healthy"]
            assert fleet.checks()[other] > 1

    run(scenario)


def test_a_doubted_endpoint_gets_no_calls_while_there_is_a_better_one() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A, B)) as fleet:
            await fleet.clock.advance(5)
            checker = fleet.checks(A).index(max(fleet.checks(A)))
            for endpoints in fleet.endpoints:
                endpoints[A].health.follow(Silence())
            await fleet.clock.advance(3 * INTERVAL_S)

            for _ in range(10):
                await fleet.call(1 - checker)

            assert fleet.endpoints[1 - checker][A].calls == []

    run(scenario)


def test_when_the_checker_dies_another_takes_over_within_lease_and_interval() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.clock.advance(10)
            checker = fleet.checks().index(max(fleet.checks()))

            await fleet.pools[checker].stop(drain_s=0)
            await fleet.clock.advance(LEASE_S + 1.1 * INTERVAL_S)

            assert fleet.checks()[1 - checker] >= 1

    run(scenario)


def test_without_the_board_what_was_known_stays_and_everyone_checks_after_the_lease() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.clock.advance(10)
            checker = fleet.checks().index(max(fleet.checks()))
            other = 1 - checker

            fleet.hub.go_away()
            await fleet.clock.advance(LEASE_S - 0.5)
            assert fleet.checks()[other] == 0
            assert fleet.standing(other).health == "healthy"
            await fleet.clock.advance(3 * LEASE_S)
            assert fleet.checks()[other] >= 2
            assert await fleet.call(other) == b"ok"

            fleet.hub.come_back()
            await fleet.clock.advance(2 * LEASE_S)
            settled = fleet.checks()
            await fleet.clock.advance(20)
            grown = [after - before for before, after in zip(settled, fleet.checks(), strict=True)]
            assert min(grown) == 0
            assert max(grown) >= 8

    run(scenario)


def test_a_trip_of_one_instance_is_minded_by_the_other_and_probed_by_one() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.clock.advance(5)
            fleet.endpoints[0][A].follow(Failure(Code.UNAVAILABLE) * 2 + Reply(b"ok", after_s=0.3))
            fleet.endpoints[1][A].follow(Reply(b"ok", after_s=0.3))
            for _ in range(2):
                with pytest.raises(RpcError):
                    await fleet.call(0)
            await settle()
            assert [fleet.standing(index).breaker for index in (0, 1)] == ["open", "open"]
            with pytest.raises(UpstreamUnavailable, match="circuit breaker open"):
                await fleet.call(1)

            await fleet.clock.advance(4.1)
            assert sorted(fleet.standing(index).breaker for index in (0, 1)) == ["half_open", "open"]
            calls = [asyncio.ensure_future(fleet.call(index)) for index in (0, 1, 0, 1)]
            await settle()
            probes = len(fleet.endpoints[0][A].calls) - 2 + len(fleet.endpoints[1][A].calls)
            assert probes == 1

            await fleet.clock.advance(0.3)
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert ends.count(b"ok") == 1
            await settle()
            assert [fleet.standing(index).breaker for index in (0, 1)] == ["closed", "closed"]

    run(scenario)


@pytest.mark.parametrize(
    ("away", "probes"),
    [
        pytest.param(False, 3, id="one-in-four-seconds-of-whichever-instance"),
        pytest.param(True, 6, id="of-each-while-the-store-is-away"),
    ],
)
def test_after_a_probe_that_failed_the_next_comes_with_the_cool_down_however_long_calls_may_take(
    probes: int, *, away: bool
) -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A, health=None, timeout_s=60)) as fleet:
            for endpoints in fleet.endpoints:
                endpoints[A].follow(Failure(Code.UNAVAILABLE))

            async def calls_for(tenths: int) -> int:
                before = sum(len(endpoints[A].calls) for endpoints in fleet.endpoints)
                for _ in range(tenths):
                    for index in (0, 1):
                        with suppress(GatewayError):
                            await fleet.call(index)
                    await fleet.clock.advance(0.1)
                return sum(len(endpoints[A].calls) for endpoints in fleet.endpoints) - before

            await calls_for(5)
            assert [fleet.standing(index).breaker for index in (0, 1)] == ["open", "open"]

            if away:
                fleet.hub.go_away()
            assert await calls_for(120) == probes

    run(scenario)


def test_a_new_instance_minds_an_open_breaker_with_its_age() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A, health=None), 1) as fleet:
            fleet.endpoints[0][A].follow(Failure(Code.UNAVAILABLE))
            for _ in range(2):
                with pytest.raises(RpcError):
                    await fleet.call(0)
            await fleet.clock.advance(3)

            late = ScriptedEndpoints(fleet.clock)
            pool = GrpcUpstream(
                shop(A, health=None),
                clock=fleet.clock,
                rng=Random(9),
                connector=late.connect,
                board=MemoryStore(fleet.hub).board,
            )
            await pool.start()
            await settle()

            assert pool.statistics.endpoints[0].breaker == "open"
            with pytest.raises(UpstreamUnavailable):
                await pool.unary(b"/x/Y", b"")
            await pool.stop()

    run(scenario)


@asynccontextmanager
async def joined_by_another(fleet: Fleet) -> AsyncIterator[tuple[GrpcUpstream, ScriptedEndpoints]]:
    """Run one more pool on the board of *fleet*, with its own view of the endpoints."""
    endpoints = ScriptedEndpoints(fleet.clock)
    pool = GrpcUpstream(
        shop(A, health=None),
        clock=fleet.clock,
        rng=Random(9),
        connector=endpoints.connect,
        board=MemoryStore(fleet.hub).board,
    )
    await pool.start()
    await settle()
    try:
        yield pool, endpoints
    finally:
        await pool.stop(drain_s=0)


def test_who_joins_long_after_a_trip_is_heard_by_those_who_were_there() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A, health=None), 1) as fleet:
            fleet.endpoints[0][A].follow(Failure(Code.UNAVAILABLE) * 2 + Reply(b"ok"))
            for _ in range(2):
                with pytest.raises(RpcError):
                    await fleet.call(0)
            await fleet.clock.advance(5)
            assert await fleet.call(0) == b"ok"
            await fleet.clock.advance(120)

            async with joined_by_another(fleet) as (newcomer, endpoints):
                endpoints[A].follow(Failure(Code.UNAVAILABLE))
                for _ in range(2):
                    with pytest.raises(RpcError):
                        await newcomer.unary(b"/shop.Orders/Get", b"")
                await settle()

                assert newcomer.statistics.endpoints[0].breaker == "open"
                assert fleet.standing(0).breaker == "open"

    run(scenario)


def test_who_joined_while_an_endpoint_was_down_learns_soon_that_it_is_back() -> None:
    """The number of the trip is forgotten earlier by those who saw it than by who heard of it later."""

    async def scenario() -> None:
        async with fleet_of(shop(A, health=None, timeout_s=60), 1) as fleet:
            here = fleet.endpoints[0][A]
            here.follow(Failure(Code.UNAVAILABLE) * 2 + Reply(b"ok"))
            for _ in range(2):
                with pytest.raises(RpcError):
                    await fleet.call(0)
            here.die()
            await fleet.clock.advance(50)

            async with joined_by_another(fleet) as (newcomer, endpoints):
                there = endpoints[A]
                there.die()
                assert newcomer.statistics.endpoints[0].breaker == "open"
                await fleet.clock.advance(25)

                here.accept()
                there.accept()
                await fleet.clock.advance(15)
                for _ in range(3):
                    for pool in (fleet.pools[0], newcomer):
                        with suppress(GatewayError):
                            await pool.unary(b"/shop.Orders/Get", b"")
                    await fleet.clock.advance(1)

                assert fleet.standing(0).breaker == "closed"
                assert newcomer.statistics.endpoints[0].breaker == "closed"

    run(scenario)


def test_without_a_board_a_breaker_recovers_on_its_own() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.clock.advance(5)
            fleet.hub.go_away()
            fleet.endpoints[1][A].follow(Failure(Code.UNAVAILABLE) * 2 + Reply(b"ok"))
            for _ in range(2):
                with pytest.raises(RpcError):
                    await fleet.call(1)
            assert fleet.standing(0).breaker == "closed"

            await fleet.clock.advance(4)
            assert await fleet.call(1) == b"ok"
            assert fleet.standing(1).breaker == "closed"
            assert fleet.pools[1].statistics.board_unsent > 0

    run(scenario)


@pytest.mark.parametrize("kind", ["health", "breaker"])
@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"[]", b"\xff", b"x" * 5000, b'{"health":"doubted"}', b'{"state":"open","term":"9"}'],
)
def test_nonsense_on_the_board_is_counted_and_ignored(kind: str, value: bytes) -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.clock.advance(5)

            await MemoryStore(fleet.hub).board.put(ROOM, f"{kind}/{A}", value)
            await settle()

            assert [pool.statistics.board_malformed for pool in fleet.pools] == [1, 1]
            assert [fleet.standing(index).health for index in (0, 1)] == ["healthy", "healthy"]
            assert [fleet.standing(index).breaker for index in (0, 1)] == ["closed", "closed"]
            assert await fleet.call(0) == b"ok"

    run(scenario)


def test_facts_about_endpoints_that_are_not_ours_are_nothing_to_us() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A), 1) as fleet:
            board = MemoryStore(fleet.hub).board
            for name in ("health/10.9.9.9:1", "breaker/10.9.9.9:1", "other/thing", "odd"):
                await board.put(ROOM, name, b"?")
            await settle()

            assert fleet.pools[0].statistics.board_malformed == 0

    run(scenario)


def test_a_checker_that_was_replaced_is_not_believed() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A), 1) as fleet:
            await fleet.clock.advance(5)
            sick = HealthFact(health=Health.UNHEALTHY, last=Check.REFUSING, fence=0, count=1, by="old")

            await MemoryStore(fleet.hub).board.put(ROOM, f"health/{A}", written_health(sick))
            await settle()

            assert fleet.standing(0).health == "healthy"

    run(scenario)


def test_local_evidence_may_be_stricter_than_the_fleets() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.clock.advance(5)
            word = BreakerFact(state=State.CLOSED, term=5, at_us=fleet.clock.now_us(), by="somebody")
            await MemoryStore(fleet.hub).board.put(ROOM, f"breaker/{A}", written_breaker(word))
            await settle()

            fleet.endpoints[0][A].follow(Failure(Code.UNAVAILABLE))
            for _ in range(2):
                with pytest.raises(RpcError):
                    await fleet.call(0)

            assert fleet.standing(0).breaker == "open"
            assert fleet.standing(0).health == "healthy"

    run(scenario)


def test_failures_too_few_for_any_instance_open_the_breaker_for_all() -> None:
    """Twelve calls each, half of them failed: nobody has twenty, together they have 24."""

    async def scenario() -> None:
        breaker = BreakerSettings(consecutive=100, min_calls=20, failure_ratio=0.5)
        async with fleet_of(shop(A, breaker=breaker)) as fleet:
            for endpoints in fleet.endpoints:
                endpoints[A].follow(Failure(Code.UNAVAILABLE) * 6 + Reply(b"ok") * 6)
            for _ in range(12):
                for index in (0, 1):
                    with suppress(RpcError):
                        await fleet.call(index)
            assert [fleet.standing(index).breaker for index in (0, 1)] == ["closed", "closed"]

            await fleet.clock.advance(0.6)

            assert [fleet.standing(index).breaker for index in (0, 1)] == ["open", "open"]

    run(scenario)


def test_what_one_operator_says_about_a_breaker_holds_everywhere_and_for_newcomers() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.pools[0].hold_breaker(A, State.HELD_OPEN, "moving house", 60)
            await fleet.clock.advance(0.1)
            assert [fleet.standing(index).breaker for index in (0, 1)] == ["held_open"] * 2
            late = GrpcUpstream(
                shop(A),
                clock=fleet.clock,
                rng=Random(9),
                connector=fleet.endpoints[0].connect,
                board=fleet.stores[0].board,
            )
            await late.start()
            assert late.statistics.endpoints[0].hold_reason == "moving house"
            await late.stop(drain_s=0)

            await fleet.pools[1].hold_breaker(A, State.CLOSED, "", 60)
            await fleet.clock.advance(0.1)

            assert [fleet.standing(index).breaker for index in (0, 1)] == ["closed"] * 2

    run(scenario)


class WrongClock:
    """Goes as *clock* does, but says another time of day."""

    def __init__(self, clock: FakeClock, ahead_s: int) -> None:
        self.ahead_us = ahead_s * 1_000_000
        self.clock = clock
        self.monotonic_s, self.call_later, self.sleep = clock.monotonic_s, clock.call_later, clock.sleep

    def now_us(self) -> int:
        return self.clock.now_us() + self.ahead_us


@pytest.mark.parametrize("ahead_s", [-600, 600])
def test_a_hold_lasts_as_long_as_it_was_said_though_clocks_differ_by_minutes(ahead_s: int) -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            wrong = GrpcUpstream(
                shop(A),
                clock=WrongClock(fleet.clock, ahead_s),
                rng=Random(9),
                connector=fleet.endpoints[0].connect,
                board=MemoryStore(fleet.hub, instance_id="wrong").board,
            )
            await wrong.start()
            pools = [wrong, *fleet.pools]
            for teller in (wrong, fleet.pools[0]):
                await teller.hold_breaker(A, State.HELD_OPEN, "moving house", 60)
                await fleet.clock.advance(59)
                assert [pool.statistics.endpoints[0].breaker for pool in pools] == ["held_open"] * 3

                await fleet.clock.advance(2)
                assert [pool.statistics.endpoints[0].breaker for pool in pools] == ["closed"] * 3
            await wrong.stop(drain_s=0)

    run(scenario)


def test_a_call_that_may_outlast_the_right_to_probe_is_no_probe() -> None:
    """While it lasts another instance may get the right: two calls would be on trial at once."""

    async def scenario() -> None:
        settings = shop(A, B, breaker=BreakerSettings(consecutive=1, cool_down_s=2), timeout_s=1.0)
        async with fleet_of(settings, 1) as fleet:
            fleet.endpoints[0][A].follow(Failure(Code.UNAVAILABLE) + Reply(b"ok"))
            while fleet.standing(0).breaker == "closed":
                with suppress(RpcError):
                    await fleet.call(0)
            await fleet.clock.advance(2.1)
            assert fleet.standing(0).breaker == "half_open"
            far_s = fleet.clock.monotonic_s() + 600

            await fleet.pools[0].unary(b"/shop.Orders/Get", b"", (), far_s)
            assert fleet.standing(0).breaker == "half_open"
            await fleet.call(0)

            assert fleet.standing(0).breaker == "closed"

    run(scenario)


def test_calls_that_go_well_anywhere_thin_the_checks_out() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.clock.advance(10)
            checker = fleet.checks().index(max(fleet.checks()))
            before = sum(fleet.checks())
            for _ in range(60):
                await fleet.call(1 - checker)
                await fleet.clock.advance(1)

            assert 13 <= sum(fleet.checks()) - before <= 20  # of 30 intervals
            assert fleet.standing(1 - checker).health == "healthy"

    run(scenario)


def test_a_checker_that_nobody_answers_suspects_itself_and_another_takes_over() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A, B), apart_s=INTERVAL_S) as fleet:
            await fleet.clock.advance(10)
            blind = 0
            assert [fleet.checks(name)[1 - blind] for name in (A, B)] == [0, 0]
            for name in (A, B):
                fleet.endpoints[blind][name].health.follow(Silence())
            await fleet.clock.advance(60)

            seeing = 1 - blind
            assert fleet.checks(A)[seeing] > 5
            assert [fleet.standing(seeing, name).health for name in (A, B)] == ["healthy"] * 2
            assert "unhealthy" not in [fleet.standing(blind, name).health for name in (A, B)]
            assert await fleet.call(blind) == b"ok"

    run(scenario)


def test_an_instance_that_cannot_reach_what_the_checker_can_says_so() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A, B)) as fleet:
            await fleet.clock.advance(10)
            cut_off = 1 - fleet.checks().index(max(fleet.checks()))
            fleet.endpoints[cut_off][A].die()
            await fleet.clock.advance(10)

            told = fleet.standing(cut_off)
            assert (told.state, told.health, told.vetoed) == ("out", "healthy", True)
            assert "another instance reaches it" in told.reason
            assert not fleet.standing(1 - cut_off).vetoed

    run(scenario)


def test_silence_towards_everybody_takes_an_only_endpoint_out() -> None:
    """Two who find the same are believed, as far as each can tell for itself."""

    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.clock.advance(5)
            checker = fleet.checks().index(max(fleet.checks()))
            for endpoints in fleet.endpoints:
                endpoints[A].health.follow(Silence())

            await fleet.clock.advance(4 * INTERVAL_S)

            assert fleet.standing(checker).health == "unhealthy"
            assert fleet.standing(1 - checker).health == "doubted"

    run(scenario)


def test_everything_silent_towards_two_instances_is_not_held_against_the_checker() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A, B), apart_s=3.0) as fleet:
            await fleet.clock.advance(2)
            assert fleet.checks(A)[1] == fleet.checks(B)[1] == 0
            for endpoints in fleet.endpoints:
                for name in (A, B):
                    endpoints[name].health.follow(Silence())

            await fleet.clock.advance(4 * INTERVAL_S)

            assert [fleet.standing(0, name).health for name in (A, B)] == ["unhealthy", "unhealthy"]

    run(scenario)


def test_who_answers_calls_is_there_whatever_became_of_its_health_service() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A), 1) as fleet:
            await fleet.clock.advance(5)
            fleet.endpoints[0][A].health.follow(Silence())

            for _ in range(30):
                await fleet.call(0)
                await fleet.clock.advance(0.5)

            assert fleet.standing(0).health == "doubted"
            assert await fleet.call(0) == b"ok"

    run(scenario)


def test_a_second_opinion_is_one_check_of_one_instance_however_many_there_are() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A), 5) as fleet:
            await fleet.clock.advance(5)
            checker = fleet.checks().index(max(fleet.checks()))
            fleet.endpoints[checker][A].health.follow(Silence())
            others = [index for index in range(5) if index != checker]
            before = fleet.checks()

            await fleet.clock.advance(1.1 * INTERVAL_S)

            asked = [fleet.checks()[index] - before[index] for index in others]
            assert sorted(asked) == [0, 0, 0, 1]

    run(scenario)


def outlying() -> UpstreamSettings:
    never = BreakerSettings(consecutive=1_000_000, min_calls=1_000_000)
    outliers = OutlierSettings(consecutive=1_000_000, interval_s=10)
    return shop(A, B, breaker=never, outliers=outliers, balancer="round_robin")


async def call_a_lot(fleet: Fleet, count: int) -> None:
    """Make so few calls at each instance that none could judge alone, in each of three intervals."""
    for _ in range(3):
        for index in range(count):
            for _ in range(60):
                with suppress(RpcError):
                    await fleet.call(index)
        await fleet.clock.advance(10)


def test_a_low_success_rate_is_seen_over_the_calls_of_the_whole_fleet() -> None:
    async def scenario() -> None:
        async with fleet_of(outlying(), 5) as fleet:
            for endpoints in fleet.endpoints:
                endpoints[A].follow((Failure(Code.UNAVAILABLE) + Reply(b"ok")) * 500)

            await call_a_lot(fleet, 5)

            assert [fleet.standing(index, A).ejected for index in range(5)] == [True] * 5
            assert [fleet.standing(index, B).ejected for index in range(5)] == [False] * 5

    run(scenario)


def test_who_sees_no_failure_itself_ejects_nobody_for_the_others_sake() -> None:
    async def scenario() -> None:
        async with fleet_of(outlying(), 5) as fleet:
            for endpoints in fleet.endpoints[:4]:
                endpoints[A].follow((Failure(Code.UNAVAILABLE) + Reply(b"ok")) * 500)

            await call_a_lot(fleet, 5)

            assert [fleet.standing(index, A).ejected for index in range(5)] == [True] * 4 + [False]

    run(scenario)


def test_nothing_is_told_about_rates_while_nobody_fails() -> None:
    async def scenario() -> None:
        async with fleet_of(outlying(), 2) as fleet:
            room = fleet.stores[0].board.watch(ROOM)

            await call_a_lot(fleet, 2)

            assert [name for name in room if name.startswith("tally/")] == []

    run(scenario)
