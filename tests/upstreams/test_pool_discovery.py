"""Endpoints that come and go while calls are made: nobody's call fails for it. On fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.upstreams.pool_bench import A, B, Bench, C, addresses, run, settings_of, started

from silence_gateway.core.endpoints import Eligible, Spread, Standing, eligible
from silence_gateway.errors import UpstreamUnavailable
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_upstream import Reply
from silence_gateway.upstreams.connectivity import Connectivity
from silence_gateway.upstreams.discovery import Joined, Use
from silence_gateway.upstreams.settings import MAX_ENDPOINTS, EndpointSettings, HealthSettings
from silence_gateway.watch.engines import upstream_families


class TestSource:
    """A `Source` that says what it is told to."""

    __test__ = False

    def __init__(self, *first: str, late: bool = False) -> None:
        self.problem = ""
        self.first = first
        self.late = late
        self.use: Use | None = None
        self.hurries = 0

    async def follow(self, use: Use) -> None:
        self.use = use
        if not self.late:
            self.say(*self.first)
        await asyncio.get_running_loop().create_future()

    def hurry(self) -> None:
        self.hurries += 1

    def say(self, *names: str) -> None:
        assert self.use is not None
        self.use(addresses(*names))


def served(bench: Bench) -> list[str]:
    return sorted(one.address for one in bench.pool.statistics.endpoints)


def test_what_keeps_a_source_from_telling_is_told_with_the_statistics() -> None:
    async def scenario() -> None:
        lost, well = TestSource(B), TestSource(C)
        async with started(settings_of(A), sources=[lost, well]) as bench:
            assert not bench.pool.statistics.discovery
            lost.problem = "no such name"

            assert bench.pool.statistics.discovery == ("no such name",)
            (family,) = [
                one
                for one in upstream_families([bench.pool.statistics])
                if one.name == "silence_upstream_discovery_failing"
            ]
            assert [sample.value for sample in family.samples] == [1]

    asyncio.run(scenario())


def test_what_a_source_says_joins_what_is_written() -> None:
    async def scenario() -> None:
        source = TestSource(B, C)
        async with started(settings_of(A), sources=[source]) as bench:
            assert served(bench) == [A, B, C]
            source.say(A, C)
            await settle()
            assert served(bench) == [A, C]
            source.say()
            await settle()

            assert served(bench) == [A]
            assert await bench.call() == b"ok"

    run(scenario)


def test_calls_wait_for_the_first_word_of_a_source_as_for_a_first_connection() -> None:
    async def scenario() -> None:
        quick, slow = TestSource(), TestSource(late=True)
        async with started(settings_of(), sources=[quick, slow]) as bench:
            call = bench.begin(60)
            await settle()
            assert not call.done()
            assert bench.pool.connectivity is Connectivity.CONNECTING
            slow.say(A)

            assert await call == b"ok"
            quick.say(B)
            await settle()
            assert served(bench) == [A, B]

    run(scenario)


def test_a_source_whose_first_word_is_nobody_is_not_waited_for_any_longer() -> None:
    async def scenario() -> None:
        slow = TestSource(late=True)
        async with started(settings_of(), sources=[slow]) as bench:
            call = bench.begin(60)
            await settle()
            slow.say()
            with pytest.raises(UpstreamUnavailable, match="no endpoints"):
                await call

    run(scenario)


def test_who_is_there_is_not_kept_waiting_by_a_source_that_still_looks() -> None:
    async def scenario() -> None:
        async with started(settings_of(A), sources=[TestSource(late=True)]) as bench:
            assert await bench.call() == b"ok"

    run(scenario)


def test_once_sources_have_named_nobody_calls_are_told_so_at_once() -> None:
    async def scenario() -> None:
        async with started(settings_of(), sources=[TestSource()]) as bench:
            with pytest.raises(Exception, match="no endpoints"):
                await bench.call()

    run(scenario)


def test_who_is_gone_finishes_and_gets_nothing_new() -> None:
    async def scenario() -> None:
        source = TestSource(A, B)
        async with started(settings_of(balancer="round_robin"), sources=[source]) as bench:
            bench.endpoints[A].follow(Reply(b"late", after_s=5.0))
            tasks = [bench.begin(60), bench.begin(60)]
            await settle()
            source.say(B)
            await settle()
            assert served(bench) == [A, B]
            assert [bench.standing(name).removed for name in (A, B)] == [True, False]
            assert [await bench.call() for _ in range(4)] == [b"ok"] * 4
            await bench.clock.advance(6)

            assert sorted([await task for task in tasks]) == [b"late", b"ok"]
            assert served(bench) == [B]
            assert len(bench.endpoints[A].calls) == 1
            assert bench.endpoints[A].connections == []

    run(scenario)


def test_one_that_returns_before_its_last_call_has_ended_goes_on() -> None:
    async def scenario() -> None:
        source = TestSource(A)
        health = HealthSettings(interval_s=1.0)
        async with started(settings_of(health=health), sources=[source]) as bench:
            bench.endpoints[A].follow(Reply(b"late", after_s=30.0) + Reply(b"ok"))
            task = bench.begin(60)
            await settle()
            source.say()
            await bench.clock.advance(5)
            checks = len(bench.endpoints[A].health.calls)
            await bench.clock.advance(5)
            assert len(bench.endpoints[A].health.calls) == checks
            source.say(A)
            await settle()

            assert await bench.call() == b"ok"
            assert bench.endpoints[A].dials == 1
            await bench.clock.advance(30)
            assert await task == b"late"
            assert served(bench) == [A]
            # It is checked again, too.
            assert len(bench.endpoints[A].health.calls) > checks

    run(scenario)


def test_a_weight_that_changes_takes_no_connection_down() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, balancer="round_robin")) as bench:
            bench.pool.set_endpoints([EndpointSettings(address=A, weight=3), EndpointSettings(address=B)])
            for _ in range(8):
                await bench.call()

            assert [len(bench.endpoints[name].calls) for name in (A, B)] == [6, 2]
            assert [bench.endpoints[name].dials for name in (A, B)] == [1, 1]

    run(scenario)


def test_a_lost_endpoint_makes_sources_look_again() -> None:
    async def scenario() -> None:
        source = TestSource(A, B)
        async with started(settings_of(), sources=[source]) as bench:
            bench.endpoints[A].connections[0].lose()
            await settle()

            assert source.hurries == 1

    run(scenario)


def test_a_goodbye_makes_sources_look_again_if_its_endpoint_does_not_come_back() -> None:
    """Servers say it to connections of a certain age as well, and that is no news."""

    async def scenario() -> None:
        source = TestSource(A, B)
        async with started(settings_of(), sources=[source]) as bench:
            await bench.clock.advance(60)
            bench.endpoints[A].connections[0].stop()
            await bench.clock.advance(1)
            assert (bench.endpoints[A].dials, source.hurries) == (2, 0)

            bench.endpoints[A].refuse()
            bench.endpoints[A].connections[-1].stop()
            await bench.clock.advance(30)
            assert source.hurries == 1

    run(scenario)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_however_endpoints_come_and_go_no_call_fails(seed: int) -> None:
    """A hundred changes under calls that take their time; at least one endpoint is always there."""

    async def scenario() -> None:
        rng = Random(seed)
        names = [f"10.0.0.{number}:1" for number in range(6)]
        source = TestSource(*names[:3])
        async with started(settings_of(), sources=[source]) as bench:
            for name in names:
                bench.endpoints[name].follow(Reply(b"ok", after_s=0.05))
            tasks: list[asyncio.Task[bytes]] = []
            for _ in range(100):
                source.say(*rng.sample(names, rng.randint(1, len(names))))
                tasks += [bench.begin(30) for _ in range(3)]
                await bench.clock.advance(rng.random() * 0.1)
            await bench.clock.advance(5)

            assert [await task for task in tasks] == [b"ok"] * len(tasks)
            assert bench.pool.statistics.calls_by_code == {"OK": len(tasks)}
            assert all(one.in_flight == 0 for one in bench.pool.statistics.endpoints)

    run(scenario)


def test_no_upstream_has_more_endpoints_than_it_can_look_at() -> None:
    heard: list[int] = []
    joined = Joined((), lambda found: heard.append(len(found)))
    joined.hear(0, [EndpointSettings(address=f"h{number}:1") for number in range(MAX_ENDPOINTS + 5)])

    assert heard == [MAX_ENDPOINTS]
    assert joined.left_out == 5


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_of_too_many_the_ones_that_are_here_stay_in_whatever_order_they_are_told(seed: int) -> None:
    rng = Random(seed)
    many = [EndpointSettings(address=f"h{number}:1") for number in range(MAX_ENDPOINTS + 50)]
    written = EndpointSettings(address="written:1")
    heard: list[set[str]] = []
    joined = Joined((written,), lambda found: heard.append({one.address for one in found}))
    for _ in range(3):
        joined.hear(0, rng.sample(many, len(many)))
    assert heard[0] == heard[1] == heard[2]
    assert written.address in heard[0]
    assert joined.problems() == ("51 endpoints are left out: an upstream has 1000 at most",)

    gone = rng.choice(sorted(heard[0] - {written.address}))
    joined.hear(0, [one for one in many if one.address != gone])
    assert len(heard[0] - heard[3]) == len(heard[3] - heard[0]) == 1
    joined.hear(0, many[:3])
    assert joined.problems() == ()


def test_many_that_come_break_or_leave_together_are_looked_at_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look goes through all of them, so that one for each would stop the gateway for seconds."""
    looks: list[int] = []

    def counted(standings: Sequence[Standing], spread: Spread) -> Eligible:
        looks.append(len(standings))
        return eligible(standings, spread)

    monkeypatch.setattr("silence_gateway.upstreams.places.eligible", counted)
    names = [f"10.1.{number}.1:1" for number in range(100)]

    async def scenario() -> None:
        async with started(settings_of(*names)) as bench:
            assert {one.state for one in bench.pool.statistics.endpoints} == {"ready"}
            assert len(looks) < 20
            looks.clear()
            for name in names:
                bench.endpoints[name].die()
            await settle()
            assert {one.state for one in bench.pool.statistics.endpoints} == {"waiting"}
            assert len(looks) < 20
            looks.clear()
            bench.pool.set_endpoints(addresses(A))
            await settle()
            assert served(bench) == [A]
            assert await bench.call() == b"ok"
            assert len(looks) < 20

    run(scenario)


def test_a_drain_is_the_fleets_and_outlives_the_endpoint() -> None:
    async def scenario() -> None:
        hub = MemoryHub()
        boards = [MemoryStore(hub).board for _ in range(3)]
        async with (
            started(settings_of(A, B), board=boards[0]) as one,
            started(settings_of(A, B), board=boards[1]) as other,
        ):
            assert await one.pool.drain_everywhere(A)
            await settle()
            assert [bench.standing(A).active for bench in (one, other)] == [False, False]
            async with started(settings_of(A, B), board=boards[2]) as later:
                await settle()
                assert not later.standing(A).active
            other.pool.set_endpoints(addresses(B))
            await settle()
            other.pool.set_endpoints(addresses(A, B))
            await settle()
            assert not other.standing(A).active
            assert await other.pool.drain_everywhere(A, drained=False)
            await settle()

            assert [bench.standing(A).active for bench in (one, other)] == [True, True]
            hub.go_away()
            assert not await one.pool.drain_everywhere(B)
            assert not one.standing(B).active

    run(scenario)
