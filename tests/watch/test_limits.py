"""What the limiting engine tells of itself."""

from __future__ import annotations

import asyncio
import json
from math import inf

from silence_gateway.core.http import Request
from silence_gateway.core.limits import Algorithm, Ask, Decision, LimitRule, WhenDown
from silence_gateway.core.rates import parse_rate
from silence_gateway.limiting.assembly import LimitEngine, limit_engine
from silence_gateway.limiting.cost import Cost
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.stores.limits_leasing import LeasingLimitStore
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore
from silence_gateway.watch.families import as_json, from_json, merged, render
from silence_gateway.watch.limits import limit_engine_families, over_admission_family


def numbers(limiter: Limiter, engine: LimitEngine) -> dict[str, float]:
    """Return every number by its name, without what all names begin with."""
    return {
        family.name.removeprefix("silence_limit_"): sample.value
        for family in limit_engine_families(limiter, engine)
        for sample in family.samples
        if isinstance(sample.value, int | float)
    }


def test_everything_is_told_and_nothing_is_zero_that_happened() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        engine = limit_engine(MemoryStore(MemoryHub(clock)), "f", clock)
        specs = [
            LimitSpec(rule=LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=9), any=True),
            LimitSpec(
                rule=LimitRule(name="t", algorithm=Algorithm.SLIDING_COUNTER, rate=parse_rate("9/s")),
                any=True,
                cost=Cost(answer_header=b"x-tokens"),
            ),
        ]
        limiter = Limiter(specs, engine.decider, engine.holds)
        assert set(numbers(limiter, engine).values()) == {0}, "what is counted here is never away"
        matched = limiter.match("GET", "/", "")
        assert matched is not None
        first, _ = [await limiter.admit_for_now(Request("GET", "/", {}), matched) for _ in range(2)]
        first.end([])
        engine.decider.denials.learn(
            [Ask(specs[1].rule, "k")], [Decision(False, 9, 0, 1_000_000, 1_000_000, 1)], 0.0
        )
        engine.decider.denials.look([Ask(specs[1].rule, "k")], 0.0)

        told = numbers(limiter, engine)
        assert {name: value for name, value in told.items() if value} == {
            "places": 1,
            "untold_costs_total": 1,
            "remembered_refusals_total": 1,
        }
        assert len(told) == 10

    asyncio.run(scenario())


def test_leases_and_what_was_lost_are_told() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        engine = limit_engine(MemoryStore(MemoryHub(clock)), "f", clock)
        limiter = Limiter([], engine.decider, engine.holds)
        leasing = LeasingLimitStore(DistantLimitStore(clock), clock)
        leasing.leased, leasing.lost, engine.holds.lost, limiter.unsettled = 5, 4, 3, 2
        engine = LimitEngine(
            engine.decider, engine.falling_back, leasing, engine.overrides, engine.holds, engine.store
        )

        told = numbers(limiter, engine)
        assert (told["leased_uses_total"], told["lost_uses_total"]) == (5, 4)
        assert (told["lost_places_total"], told["unsettled_costs_total"]) == (3, 2)

    asyncio.run(scenario())


def test_what_an_outage_may_let_through_is_told_for_the_instances_alive() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        engine = limit_engine(MemoryStore(MemoryHub(clock)), "f", clock)
        shared = LimitEngine(
            engine.decider,
            engine.falling_back,
            LeasingLimitStore(DistantLimitStore(clock), clock),
            engine.overrides,
            engine.holds,
            engine.store,
        )
        rules = [
            LimitRule(name="part", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("9/s"), lease=4),
            LimitRule(
                name="open",
                algorithm=Algorithm.SLIDING_WINDOW,
                rate=parse_rate("9/s"),
                when_down=WhenDown.ALLOW,
            ),
        ]
        limiter = Limiter([LimitSpec(rule=rule, any=True) for rule in rules], engine.decider, engine.holds)
        family = over_admission_family(limiter, shared)

        assert {dict(sample.labels)["limit"]: sample.value for sample in family.samples} == {
            "part": 9 + 4,
            "open": inf,
        }
        assert b'silence_limit_over_admission{limit="open"} +Inf\n' in render([family])
        assert render(merged([from_json(json.loads(json.dumps(as_json([family])))), [family]])) == render(
            [family]
        )

    asyncio.run(scenario())
