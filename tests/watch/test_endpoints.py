"""The metrics of endpoints: bounded labels, and histograms that hold what was counted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from tests.upstreams.pool_bench import A, Bench, run, settings_of, started

from silence_gateway.core.breaker import State
from silence_gateway.core.status import Code
from silence_gateway.errors import GatewayError
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_upstream import Failure, Reply
from silence_gateway.upstreams.guarded import WHOLE
from silence_gateway.upstreams.settings import BreakerSettings
from silence_gateway.watch.engines import upstream_families
from silence_gateway.watch.families import Family

OF_A = (("upstream", "shop"), ("endpoint", A))


def families(bench: Bench) -> dict[str, Family]:
    return {family.name: family for family in upstream_families([bench.pool.statistics])}


def values(family: Family) -> dict[tuple[tuple[str, str], ...], float]:
    return {sample.labels: sample.value for sample in family.samples}


def test_what_an_endpoint_counted_is_published() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, breaker=BreakerSettings(consecutive=1))) as bench:
            bench.endpoints[A].follow(Reply(b"12345", after_s=0.3) + Failure(Code.INTERNAL, after_s=0.3))
            for _ in range(2):
                call = bench.begin()
                await settle()
                await bench.clock.advance(0.3)
                with suppress(GatewayError):
                    await call
            told = families(bench)

            assert values(told["silence_endpoint_calls_total"]) == {
                (*OF_A, ("code", "OK")): 1,
                (*OF_A, ("code", "INTERNAL")): 1,
            }
            assert values(told["silence_endpoint_received_bytes_total"]) == {OF_A: 5}
            assert values(told["silence_endpoint_sent_bytes_total"]) == {OF_A: 2}
            assert values(told["silence_endpoint_connects_total"]) == {OF_A: 1}
            (failed_s,) = values(told["silence_endpoint_last_error_timestamp_seconds"]).values()
            assert failed_s == bench.clock.now_us() / 1e6
            assert values(told["silence_breaker_moves_total"])[*OF_A, ("to", "open")] == 1
            (histogram,) = told["silence_endpoint_call_seconds"].samples
            assert histogram.value == pytest.approx(0.6, rel=0.05)
            assert [count for bound, count in histogram.buckets if bound in (0.25, 0.5)] == [0, 2]

    run(scenario)


def test_who_checks_an_endpoint_says_so() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            here = bench.pool.statistics
            for prober, expected in ((here.instance, 1.0), ("another", 0.0), ("", 0.0)):
                (endpoint,) = here.endpoints
                told = replace(here, endpoints=(replace(endpoint, prober=prober),))
                (checked,) = [
                    one for one in upstream_families([told]) if one.name == "silence_endpoint_checked_here"
                ]
                assert values(checked) == {OF_A: expected}

    run(scenario)


def test_labels_are_bounded_by_the_tables() -> None:
    """However many codes and moves there are, series are known beforehand."""

    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Failure(Code.NOT_FOUND))
            for _ in range(3):
                with suppress(GatewayError):
                    await bench.call()
            told = families(bench)

            assert len(told["silence_endpoint_calls_total"].samples) == 1
            assert values(told["silence_breaker_moves_total"]) == {(*OF_A, ("to", "open")): 0}
            await bench.pool.hold_breaker(A, State.HELD_CLOSED, "", 60)
            told = families(bench)
            assert values(told["silence_breaker_moves_total"]) == {
                (*OF_A, ("to", "open")): 0,
                (*OF_A, ("to", "held_closed")): 1,
            }
            whole = "silence_upstream_breaker_moves_total"
            assert values(told[whole]) == {(OF_A[0], ("to", "open")): 0}
            await bench.pool.hold_breaker(WHOLE, State.HELD_OPEN, "", 60)
            assert values(families(bench)[whole])[OF_A[0], ("to", "held_open")] == 1

    run(scenario)


def test_what_an_operator_has_said_is_seen() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:

            def seen() -> tuple[float, float]:
                told = families(bench)
                drained, held = (told[name] for name in ("silence_endpoint_drained", "silence_breaker_held"))
                return values(drained)[OF_A], values(held)[OF_A]

            assert seen() == (0, 0)
            await bench.pool.drain_everywhere(A)
            await bench.pool.hold_breaker(A, State.HELD_CLOSED, "", 60)
            assert seen() == (1, 1)
            await bench.pool.drain_everywhere(A, drained=False)
            await bench.pool.hold_breaker(A, State.HELD_OPEN, "", 60)
            assert seen() == (0, 1)
            await bench.pool.hold_breaker(A, State.CLOSED, "", 60)
            assert seen() == (0, 0)

    run(scenario)


def test_totals_are_those_since_the_start_also_after_a_reset() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            await bench.call()
            await bench.pool.reset_statistics()

            assert values(families(bench)["silence_endpoint_calls_total"]) == {(*OF_A, ("code", "OK")): 1}

    run(scenario)
