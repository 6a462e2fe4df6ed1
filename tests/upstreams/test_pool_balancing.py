"""Every rule of balancing at work in a pool: keys, speed, priorities, zones, slow starts and subsets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.upstreams.pool_bench import METHOD, A, B, Bench, C, run, settings_of, started

from silence_gateway.core.breaker import State
from silence_gateway.core.status import Code
from silence_gateway.errors import ConfigError
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_upstream import Failure, Reply, Silence
from silence_gateway.upstreams.balancing_settings import BalancingSettings
from silence_gateway.upstreams.settings import BreakerSettings, EndpointSettings, PoolSettings
from silence_gateway.upstreams.steering import SteeredCaller

KEYS = [f"user-{number}".encode() for number in range(30)]


def tuned(*names: str, balancer: str = "least_request", **balancing: Any) -> Any:
    return settings_of(*names, balancer=balancer, balancing=BalancingSettings(**balancing))


def counts(bench: Bench, *names: str) -> list[int]:
    return [len(bench.endpoints[name].calls) for name in names]


async def home_of(bench: Bench, key: bytes) -> str:
    before = {name: len(bench.endpoints[name].calls) for name in (A, B, C)}
    await SteeredCaller(bench.pool, key).unary(METHOD, b"?")
    return next(name for name in (A, B, C) if len(bench.endpoints[name].calls) > before[name])


def test_calls_of_one_key_go_to_one_endpoint_and_move_only_when_it_goes() -> None:
    async def scenario() -> None:
        async with started(tuned(A, B, C, balancer="consistent_hash")) as bench:
            homes = {key: await home_of(bench, key) for key in KEYS}
            assert {key: await home_of(bench, key) for key in KEYS} == homes
            assert set(homes.values()) == {A, B, C}

            bench.pool.drain_endpoint(A)
            moved = {key: await home_of(bench, key) for key in KEYS}
            assert all(moved[key] == homes[key] for key in KEYS if homes[key] != A)

            bench.pool.activate_endpoint(A)
            assert {key: await home_of(bench, key) for key in KEYS} == homes

    run(scenario)


def test_calls_without_a_key_go_anywhere() -> None:
    async def scenario() -> None:
        async with started(tuned(A, B, C, balancer="consistent_hash")) as bench:
            for _ in range(60):
                await bench.call()
                await SteeredCaller(bench.pool).unary(METHOD, b"?")

            assert min(counts(bench, A, B, C)) > 15

    run(scenario)


def test_a_stream_goes_by_its_key_too() -> None:
    async def scenario() -> None:
        async with started(tuned(A, B, C, balancer="consistent_hash")) as bench:
            home = await home_of(bench, b"user-7")
            for _ in range(5):
                assert [one async for one in SteeredCaller(bench.pool, b"user-7").stream(METHOD, b"?")] == [
                    b"ok"
                ]

            assert len(bench.endpoints[home].calls) == 6

    run(scenario)


def test_a_call_that_may_run_twice_goes_by_its_key_and_elsewhere_when_that_fails() -> None:
    async def scenario() -> None:
        async with started(tuned(A, B, C, balancer="consistent_hash")) as bench:
            home = await home_of(bench, b"user-7")
            caller = SteeredCaller(bench.pool.repeating, b"user-7")
            for _ in range(5):
                assert (await caller.unary(METHOD, b"?")).message == b"ok"
            assert [one async for one in caller.stream(METHOD, b"?")] == [b"ok"]
            assert len(bench.endpoints[home].calls) == 7

            bench.endpoints[home].follow(Failure(Code.UNAVAILABLE))
            call = asyncio.ensure_future(caller.unary(METHOD, b"?"))
            await bench.clock.advance(1)
            assert (await call).message == b"ok"
            assert len(bench.endpoints[home].calls) == 8
            assert sum(counts(bench, A, B, C)) == 9

    run(scenario)


def test_one_key_alone_does_not_overload_its_endpoint() -> None:
    async def scenario() -> None:
        async with started(tuned(A, B, C, balancer="consistent_hash", max_load=1.5)) as bench:
            for name in (A, B, C):
                bench.endpoints[name].follow(Silence())
            caller = SteeredCaller(bench.pool, b"user-7")
            calls = [asyncio.ensure_future(caller.unary(METHOD, b"?")) for _ in range(60)]
            await settle()

            # 20 is the average, and half more of that the bound.
            assert max(counts(bench, A, B, C)) <= 30
            for call in calls:
                call.cancel()
            await settle()

    run(scenario)


def test_peak_ewma_leaves_an_endpoint_with_its_first_slow_answer() -> None:
    async def scenario() -> None:
        async with started(tuned(A, B, balancer="peak_ewma")) as bench:
            for _ in range(20):
                await bench.call()
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"ok", after_s=0.01))
            bench.endpoints[A].follow(Reply(b"ok", after_s=1.0))
            before = counts(bench, A)[0]
            while counts(bench, A)[0] == before:
                call = bench.begin()
                await bench.clock.advance(1.0)
                await call
            for _ in range(50):
                call = bench.begin()
                await bench.clock.advance(0.01)
                await call

            assert counts(bench, A)[0] == before + 1

            await bench.clock.advance(100)
            bench.endpoints[A].follow(Reply(b"ok"))
            while counts(bench, A)[0] == before + 1:
                call = bench.begin()
                await bench.clock.advance(0.01)
                await call

    run(scenario)


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED])
@pytest.mark.parametrize("balancer", ["least_request", "peak_ewma"])
def test_an_endpoint_that_fails_fast_gets_no_more_calls_for_it(balancer: str, code: Code) -> None:
    async def scenario() -> None:
        settings = settings_of(
            A, B, balancer=balancer, breaker=BreakerSettings(consecutive=1000, min_calls=1000)
        )
        async with started(settings) as bench:
            bench.endpoints[A].follow(Failure(code))
            for _ in range(40):
                await asyncio.gather(bench.call(), return_exceptions=True)

            assert counts(bench, A)[0] <= 10

    run(scenario)


@pytest.mark.parametrize("balancer", ["least_request", "peak_ewma"])
def test_an_endpoint_that_owes_an_answer_looks_worse_with_every_second(balancer: str) -> None:
    async def scenario() -> None:
        async with started(tuned(A, B, balancer=balancer)) as bench:
            bench.endpoints[A].follow(Silence())
            calls = [bench.begin(deadline_s=60)]
            while not counts(bench, A)[0]:
                calls.append(bench.begin(deadline_s=60))
                await settle()
            await bench.clock.advance(5)

            # Now B has more calls in flight than A, but only because A has answered none of its own.
            bench.endpoints[B].follow(Silence())
            calls += [bench.begin(deadline_s=60) for _ in range(6)]
            await settle()
            assert counts(bench, A) == [1]
            for one in calls:
                one.cancel()
            await settle()

    run(scenario)


def test_a_stream_that_is_silent_for_long_is_not_held_against_its_endpoint() -> None:
    async def scenario() -> None:
        async with started(tuned(A)) as bench:
            bench.endpoints[A].follow(Silence())
            stream = bench.pool.stream(METHOD, b"?")
            reading = asyncio.ensure_future(anext(aiter(stream)))
            await bench.clock.advance(60)
            bench.endpoints[A].follow(Reply(b"ok"))
            await bench.call()

            standing = bench.standing(A)
            assert (standing.state, standing.in_flight) == ("ready", 1)
            assert bench.pool._endpoints[A].penalty == 0
            stream.cancel()
            reading.cancel()
            await settle()

    run(scenario)


def prioritised(**more: Any) -> Any:
    endpoints = (
        EndpointSettings(address=A),
        EndpointSettings(address=B),
        EndpointSettings(address=C, priority=1),
    )
    return settings_of(endpoints=endpoints, **more)


def test_what_a_priority_cannot_take_overflows_to_the_next() -> None:
    async def scenario() -> None:
        async with started(prioritised()) as bench:
            for _ in range(100):
                await bench.call()
            assert counts(bench, C) == [0]

            bench.endpoints[A].die()
            await settle()
            before = counts(bench, B, C)
            for _ in range(1000):
                await bench.call()

            b, c = (now - then for now, then in zip(counts(bench, B, C), before, strict=True))
            assert b + c == 1000
            assert c == pytest.approx(300, abs=60)

    run(scenario)


def test_who_left_and_finishes_its_calls_is_no_part_of_its_priority_any_more() -> None:
    async def scenario() -> None:
        async with started(prioritised()) as bench:
            bench.endpoints[A].follow(Silence())
            streams = [bench.pool.stream(METHOD, b"?") for _ in range(8)]
            await settle()
            assert bench.standing(A).in_flight > 0

            bench.pool.remove_endpoint(A)
            bench.endpoints[B].follow(Reply(b"ok"))
            for _ in range(100):
                await bench.call()

            assert counts(bench, C) == [0], "half of the priority is not unwell, it is gone"
            for stream in streams:
                stream.cancel()

    run(scenario)


def test_in_panic_an_open_breaker_is_passed_over_and_the_statistics_say_so() -> None:
    async def scenario() -> None:
        settings = settings_of(
            A,
            B,
            balancing=BalancingSettings(panic_threshold=0.9),
            breaker=BreakerSettings(consecutive=2, cool_down_s=60),
        )
        async with started(settings) as bench:
            bench.endpoints[A].follow(Failure(14) * 2 + Reply(b"ok"))
            bench.endpoints[B].follow(Failure(14) * 2 + Reply(b"ok"))
            assert not bench.pool.statistics.panic
            for _ in range(10):
                await asyncio.gather(bench.call(), return_exceptions=True)

            assert [bench.standing(name).breaker for name in (A, B)] == ["open", "open"]
            assert bench.pool.statistics.panic
            assert await bench.call() == b"ok"

    run(scenario)


def test_calls_stay_in_our_zone_and_spill_over_when_it_is_gone() -> None:
    async def scenario() -> None:
        endpoints = (
            EndpointSettings(address=A, zone="here"),
            EndpointSettings(address=B, zone="there"),
            EndpointSettings(address=C, zone="there"),
        )
        settings = settings_of(endpoints=endpoints, balancing=BalancingSettings(zone="here"))
        async with started(settings) as bench:
            for _ in range(30):
                await bench.call()
            assert counts(bench, A, B, C) == [30, 0, 0]
            assert bench.standing(B).zone == "there"

            bench.endpoints[A].die()
            await settle()
            for _ in range(30):
                await bench.call()

            assert counts(bench, A) == [30]
            assert min(counts(bench, B, C)) > 5

    run(scenario)


def test_where_all_streams_of_our_zone_are_taken_calls_go_elsewhere() -> None:
    async def scenario() -> None:
        endpoints = (EndpointSettings(address=A, zone="here"), EndpointSettings(address=B, zone="there"))
        settings = settings_of(
            endpoints=endpoints,
            balancing=BalancingSettings(zone="here"),
            pool=PoolSettings(max_connections=1, max_streams=3),
        )
        async with started(settings) as bench:
            bench.endpoints[A].follow(Silence())
            busy = [bench.begin() for _ in range(3)]
            await settle()

            assert await bench.call() == b"ok"
            assert counts(bench, B) == [1]
            for one in busy:
                one.cancel()
            await settle()

    run(scenario)


def test_an_endpoint_that_comes_back_gets_its_part_little_by_little() -> None:
    async def scenario() -> None:
        async with started(tuned(A, B, balancer="round_robin", slow_start_s=16.0)) as bench:
            await bench.clock.advance(20)
            bench.endpoints[A].die()
            await settle()
            bench.endpoints[A].accept()
            await bench.clock.advance(0.2)
            parts = []
            for _ in range(4):
                before = counts(bench, A)[0]
                for _ in range(170):
                    await bench.call()
                parts.append((counts(bench, A)[0] - before) / 170)
                await bench.clock.advance(5)

            assert parts == sorted(parts)
            assert parts[0] == pytest.approx(1 / 17, abs=0.02)
            assert 0.15 < parts[1] < 0.3
            assert parts[3] in (pytest.approx(0.48, abs=0.02), pytest.approx(0.5, abs=0.02))

    run(scenario)


FLEET = [f"10.0.1.{number}:1" for number in range(12)]


def test_a_subset_connects_to_no_more_than_it_was_told_and_follows_the_fleet() -> None:
    async def scenario() -> None:
        async with started(tuned(*FLEET, subset=4, instance="gw-1")) as bench:
            used = {one.address for one in bench.pool.statistics.endpoints}
            assert len(used) == 4
            assert sum(bench.endpoints[name].dials for name in FLEET) == 4
            assert bench.pool.statistics.known_endpoints == 12

            first = min(used)
            bench.pool.remove_endpoint(first)
            await settle()
            after = {one.address for one in bench.pool.statistics.endpoints}
            assert len(after) == 4
            assert len(after - used) == 1

            bench.pool.add_endpoint(EndpointSettings(address=first))
            await settle()
            assert {one.address for one in bench.pool.statistics.endpoints} == used
            with pytest.raises(ConfigError, match="is here already"):
                bench.pool.add_endpoint(EndpointSettings(address=next(iter(set(FLEET) - used))))
            with pytest.raises(KeyError):
                bench.pool.remove_endpoint("10.9.9.9:1")

    run(scenario)


def test_what_an_operator_says_of_an_endpoint_that_only_others_use_reaches_them() -> None:
    async def scenario() -> None:
        hub = MemoryHub()
        async with (
            started(tuned(*FLEET, subset=4, instance="gw-1"), board=MemoryStore(hub).board) as one,
            started(tuned(*FLEET, subset=4, instance="gw-2"), board=MemoryStore(hub).board) as other,
        ):
            used = [{each.address for each in bench.pool.statistics.endpoints} for bench in (one, other)]
            theirs = min(used[1] - used[0])
            assert await one.pool.drain_everywhere(theirs)
            await one.pool.hold_breaker(theirs, State.HELD_OPEN, "moving house", 60)
            await settle()
            assert not other.standing(theirs).active
            assert other.standing(theirs).hold_reason == "moving house"
            assert await one.pool.drain_everywhere(theirs, drained=False)
            await one.pool.hold_breaker(theirs, State.CLOSED, "", 60)
            await settle()
            assert other.standing(theirs).active
            assert other.standing(theirs).breaker == "closed"
            for unknown in (
                one.pool.drain_everywhere("10.9.9.9:1"),
                other.pool.drain_everywhere("10.9.9.9:1"),
            ):
                with pytest.raises(KeyError):
                    await unknown
            with pytest.raises(KeyError):
                await one.pool.hold_breaker("10.9.9.9:1", State.HELD_OPEN, "", 60)

    run(scenario)


def test_an_endpoint_that_comes_again_while_it_drains_goes_on_as_it_was() -> None:
    async def scenario() -> None:
        async with started(tuned(A, B)) as bench:
            bench.endpoints[A].follow(Reply(b"late", after_s=3))
            bench.pool.drain_endpoint(B)
            call = bench.begin()
            await settle()
            bench.pool.activate_endpoint(B)
            bench.pool.remove_endpoint(A)
            bench.pool.add_endpoint(EndpointSettings(address=A))
            await settle()
            assert bench.standing(A).state == "ready"

            await bench.clock.advance(3)
            assert await call == b"late"
            await settle()
            assert bench.standing(A).state == "ready"
            assert bench.endpoints[A].dials == 1

    run(scenario)
