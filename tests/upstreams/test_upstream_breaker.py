"""The breaker of an upstream as a whole: for failures in common, never for those of one endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import pytest

from silence_gateway.core.breaker import State
from silence_gateway.core.fleet_facts import BreakerFact, written_breaker
from silence_gateway.core.status import Code
from silence_gateway.errors import ConfigError, GatewayError, RpcError, UpstreamUnavailable
from silence_gateway.events import BreakerMoved, Event
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.scripted_endpoints import ScriptedEndpoints
from silence_gateway.testing.scripted_upstream import Failure, Reply, Script, Silence, Step
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.guarded import WHOLE
from silence_gateway.upstreams.hearing import MERGE_S
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    EndpointSettings,
    UpstreamBreakerSettings,
    UpstreamSettings,
)

A, B, C = "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"
METHOD = b"/shop.Orders/Get"
COOL_DOWN_S = 5.0
BROKEN = Failure(Code.UNAVAILABLE)


class Fleet:
    """Some pools on one board, and the endpoints that all of them see alike."""

    def __init__(self, count: int, *names: str, **more: Any) -> None:
        self.clock = FakeClock()
        self.events: list[Event] = []
        self.endpoints = ScriptedEndpoints(self.clock)
        self.hub = MemoryHub(self.clock)
        self.settings = UpstreamSettings(
            **{
                "name": "shop",
                "endpoints": tuple(EndpointSettings(address=name) for name in names or (A, B, C)),
                "balancer": "round_robin",
                "health": None,
                # Endpoints' own breakers must not be what stops calls here.
                "breaker": BreakerSettings(consecutive=1000, min_calls=1000),
                "upstream_breaker": UpstreamBreakerSettings(min_calls=10, cool_down_s=COOL_DOWN_S),
                **more,
            }
        )
        self.pools = [self.pool(index) for index in range(count)]

    def pool(self, index: int, **more: Any) -> GrpcUpstream:
        return GrpcUpstream(
            self.settings,
            clock=self.clock,
            rng=Random(index),
            observer=self.events.append,
            connector=self.endpoints.connect,
            board=MemoryStore(self.hub, instance_id=f"i{index}").board,
            **more,
        )

    def follow(self, script: Script, *names: str) -> None:
        for name in names or (A, B, C):
            self.endpoints[name].follow(script)

    @property
    def states(self) -> list[str]:
        return [pool.statistics.breaker for pool in self.pools]

    @property
    def calls(self) -> int:
        return sum(len(self.endpoints[name].calls) for name in (A, B, C))

    async def call(self, index: int = 0, times: int = 1, timeout_s: float = 1.0) -> None:
        """Make calls, whatever becomes of them."""
        for _ in range(times):
            with suppress(GatewayError):
                await self.pools[index].unary(METHOD, b"", (), self.clock.monotonic_s() + timeout_s)

    async def refused(self, index: int = 0) -> UpstreamUnavailable:
        with pytest.raises(UpstreamUnavailable) as caught:
            await self.pools[index].unary(METHOD, b"")
        assert not caught.value.sent
        return caught.value

    async def open_all(self) -> None:
        """Open the breaker by failures everywhere."""
        self.follow(BROKEN)
        await self.call(times=30)
        await self.clock.advance(MERGE_S)
        assert set(self.states) == {"open"}


@asynccontextmanager
async def fleet_of(count: int, *names: str, **more: Any) -> AsyncIterator[Fleet]:
    fleet = Fleet(count, *names, **more)
    for pool in fleet.pools:
        await pool.start()
    await settle()
    try:
        yield fleet
    finally:
        for pool in fleet.pools:
            await pool.stop(drain_s=0)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_failures_everywhere_stop_calls_in_the_whole_fleet_and_say_when_to_come_back() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            await fleet.open_all()
            before = fleet.calls

            for index in (0, 1):
                error = await fleet.refused(index)
                assert error.retry_after_s == pytest.approx(COOL_DOWN_S, abs=0.3)
                assert "circuit breaker of the upstream is open" in str(error)

            assert fleet.calls == before
            moves = [event for event in fleet.events if isinstance(event, BreakerMoved)]
            assert {(move.endpoint, move.new) for move in moves} == {(WHOLE, "open")}

    run(scenario)


def test_its_moves_are_told_with_their_reason_and_author() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            await fleet.open_all()
            now = [pool.statistics for pool in fleet.pools]
            (move,), (followed,) = (told.breaker_moves for told in now)

            assert (move.old, move.new, move.by) == ("closed", "open", now[0].instance)
            assert move.reason.startswith("too many failures; last: ")
            assert (followed.reason, followed.by) == ("opened by another instance", now[0].instance)
            assert followed.instance == now[1].instance
            assert [told.breaker_moved_to["open"] for told in now] == [1, 1]
            assert not any(one.breaker_moves for told in now for one in told.endpoints)

            await fleet.pools[0].reset_statistics()

            since = fleet.pools[0].statistics_since_reset
            assert (since.breaker_moved_to, since.breaker_moves) == ({}, (move,))

    run(scenario)


@pytest.mark.parametrize("names", [(A,), (A, B), (A, B, C)])
def test_one_bad_endpoint_opens_its_own_breaker_only(names: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with fleet_of(1, *names, breaker=BreakerSettings(consecutive=20)) as fleet:
            fleet.follow(BROKEN, A)

            await fleet.call(times=100)
            await fleet.clock.advance(MERGE_S)

            assert fleet.states == ["closed"]
            told = {one.address: one.breaker for one in fleet.pools[0].statistics.endpoints}
            assert told == {A: "open", **dict.fromkeys(names[1:], "closed")}

    run(scenario)


def test_an_upstream_without_such_a_breaker_is_left_to_its_endpoints() -> None:
    async def scenario() -> None:
        async with fleet_of(1, upstream_breaker=None) as fleet:
            fleet.follow(BROKEN)

            await fleet.call(times=60)
            await fleet.clock.advance(MERGE_S)

            assert fleet.states == ["closed"]
            assert fleet.calls == 60

    run(scenario)


def test_few_calls_at_each_of_many_instances_open_it_together() -> None:
    """What no instance has seen enough of, the fleet has."""

    async def scenario() -> None:
        async with fleet_of(5) as fleet:
            fleet.follow(BROKEN)
            for index in range(5):
                await fleet.call(index, times=4)

            await fleet.clock.advance(2 * MERGE_S)

            assert set(fleet.states) == {"open"}

    run(scenario)


def test_answers_that_speak_of_the_request_open_nothing() -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            fleet.follow(Failure(Code.NOT_FOUND))

            await fleet.call(times=60)
            await fleet.clock.advance(MERGE_S)

            assert fleet.states == ["closed"]

    run(scenario)


@pytest.mark.parametrize(
    "late", [Reply(b"ok", after_s=0.3), Failure(Code.UNKNOWN, after_s=0.3)], ids=["ok", "an error"]
)
def test_slow_answers_open_it_where_that_was_asked_for(late: Step) -> None:
    async def scenario() -> None:
        guard = UpstreamBreakerSettings(min_calls=4, slow_call_s=0.2)
        async with fleet_of(1, upstream_breaker=guard) as fleet:
            fleet.follow(late)

            calls = asyncio.gather(*(fleet.call() for _ in range(9)), return_exceptions=True)
            await fleet.clock.advance(0.3 + MERGE_S)
            await calls

            assert fleet.states == ["open"]

    run(scenario)


def test_silence_counts_once_there_was_time_to_answer() -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            fleet.follow(Silence())

            hurried = asyncio.gather(*(fleet.call(timeout_s=0.1) for _ in range(30)))
            await fleet.clock.advance(1)
            await hurried
            assert fleet.states == ["closed"]

            patient = asyncio.gather(*(fleet.call(timeout_s=1.5) for _ in range(30)))
            await fleet.clock.advance(2)
            await patient
            assert fleet.states == ["open"]

    run(scenario)


def test_after_the_cool_down_one_call_of_the_fleet_goes_through_and_decides() -> None:
    async def scenario() -> None:
        async with fleet_of(3) as fleet:
            await fleet.open_all()
            fleet.follow(Reply(b"ok", after_s=0.1))
            await fleet.clock.advance(COOL_DOWN_S)
            assert sorted(fleet.states) == ["half_open", "open", "open"]
            before = fleet.calls

            calls = asyncio.gather(*(fleet.call(index, timeout_s=0.5) for index in (0, 0, 1, 1, 2, 2)))
            await settle()
            assert fleet.calls == before + 1
            await fleet.clock.advance(0.1)
            await calls

            assert fleet.states == ["closed"] * 3

    run(scenario)


def test_a_probe_that_fails_shuts_it_again_for_a_whole_cool_down() -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            await fleet.open_all()
            await fleet.clock.advance(COOL_DOWN_S)
            assert fleet.states == ["half_open"]

            await fleet.call()

            assert fleet.states == ["open"]
            assert (await fleet.refused()).retry_after_s == pytest.approx(COOL_DOWN_S)

    run(scenario)


def test_a_probe_whose_caller_leaves_makes_room_for_the_next() -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            await fleet.open_all()
            fleet.follow(Silence())
            await fleet.clock.advance(COOL_DOWN_S)
            leaving = asyncio.create_task(fleet.call())
            await settle()
            assert (await fleet.refused()).retry_after_s == 1

            leaving.cancel()
            await settle()
            fleet.follow(Reply(b"ok"))
            await fleet.call()

            assert fleet.states == ["closed"]

    run(scenario)


def test_a_probe_that_never_left_is_offered_elsewhere_and_still_the_probe() -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            await fleet.open_all()
            fleet.follow(Reply(b"ok"))
            await fleet.clock.advance(COOL_DOWN_S)
            for connection in fleet.endpoints[A].connections:
                connection.max_streams = 0

            assert (await fleet.pools[0].unary(METHOD, b"")).message == b"ok"

            assert fleet.states == ["closed"]

    run(scenario)


def test_if_no_call_comes_a_health_check_is_the_probe() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            await fleet.open_all()

            await fleet.clock.advance(COOL_DOWN_S + 1.5)

            assert fleet.states == ["closed"] * 2

    run(scenario)


def test_a_late_failure_from_before_the_trip_changes_nothing() -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            fleet.follow(Failure(Code.UNAVAILABLE, after_s=COOL_DOWN_S + 1))
            late = asyncio.gather(*(fleet.call(timeout_s=60) for _ in range(30)))
            await settle()
            await fleet.open_all()
            await fleet.clock.advance(COOL_DOWN_S)
            assert fleet.states == ["half_open"]
            fleet.follow(Reply(b"ok"))
            await fleet.call()
            assert fleet.states == ["closed"]

            await fleet.clock.advance(1)
            await late

            assert fleet.states == ["closed"]

    run(scenario)


@pytest.mark.parametrize("automatic", [True, False])
def test_an_operator_holds_it_in_the_whole_fleet_for_a_time(automatic: bool) -> None:
    async def scenario() -> None:
        guard = UpstreamBreakerSettings(min_calls=10) if automatic else None
        async with fleet_of(2, upstream_breaker=guard) as fleet:
            await fleet.pools[0].hold_breaker(WHOLE, State.HELD_OPEN, "moving house", 60)
            await settle()

            for index in (0, 1):
                error = await fleet.refused(index)
                assert "held open by an operator (moving house)" in str(error)
                assert error.retry_after_s == pytest.approx(60, abs=1)
            told = fleet.pools[1].statistics
            assert (told.breaker, told.hold_reason) == ("held_open", "moving house")

            await fleet.clock.advance(60)
            assert fleet.states == ["closed", "closed"]
            await fleet.pools[1].unary(METHOD, b"")

    run(scenario)


def test_held_closed_it_lets_calls_through_whatever_becomes_of_them() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            await fleet.pools[0].hold_breaker(WHOLE, State.HELD_CLOSED, "", 60)
            await settle()
            fleet.follow(BROKEN)

            await fleet.call(1, times=60)
            await fleet.clock.advance(MERGE_S)

            assert fleet.states == ["held_closed", "held_closed"]
            assert fleet.calls == 60

    run(scenario)


def test_an_instance_that_starts_during_a_hold_minds_it() -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            await fleet.pools[0].hold_breaker(WHOLE, State.HELD_OPEN, "", 60)
            await settle()
            fleet.pools.append(fleet.pool(1))

            await fleet.pools[1].start()
            await settle()

            assert fleet.states == ["held_open", "held_open"]

    run(scenario)


def test_who_does_not_count_does_not_follow_those_who_do() -> None:
    """While a configuration is rolled out some instances have the breaker and some have not."""

    async def scenario() -> None:
        async with fleet_of(1, upstream_breaker=None) as fleet:
            fact = BreakerFact(state=State.OPEN, term=7, at_us=fleet.clock.now_us(), by="other")

            await MemoryStore(fleet.hub, instance_id="other").board.put(
                "upstreams/shop", f"breaker/{WHOLE}", written_breaker(fact), 60
            )
            await settle()

            assert fleet.states == ["closed"]

    run(scenario)


def test_streams_are_counted_turned_away_and_never_the_probe() -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            fleet.follow(BROKEN)
            for _ in range(30):
                with pytest.raises(RpcError):
                    async for _message in fleet.pools[0].stream(METHOD, b""):
                        pass
            await fleet.clock.advance(MERGE_S)
            assert fleet.states == ["open"]

            fleet.follow(Reply(b"ok"))
            await fleet.clock.advance(COOL_DOWN_S)
            assert fleet.states == ["half_open"]
            with pytest.raises(UpstreamUnavailable):
                await anext(aiter(fleet.pools[0].stream(METHOD, b"")))

            assert fleet.states == ["half_open"]

    run(scenario)


def test_when_all_breakers_of_endpoints_are_open_the_caller_is_told_when_the_first_one_ends() -> None:
    async def scenario() -> None:
        breaker = BreakerSettings(consecutive=2, cool_down_s=4)
        async with fleet_of(1, breaker=breaker, upstream_breaker=None) as fleet:
            fleet.follow(BROKEN)
            await fleet.call(times=30)
            await fleet.clock.advance(1)

            assert (await fleet.refused()).retry_after_s == pytest.approx(3)

    run(scenario)


@pytest.mark.parametrize(
    "wrong", [{"failure_ratio": 0.0}, {"min_calls": 0}, {"window_s": 0}, {"slow_call_s": -1}]
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="upstream_breaker"):
        UpstreamBreakerSettings(**wrong)  # type: ignore[arg-type]
