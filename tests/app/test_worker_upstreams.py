"""What workers count of upstreams adds up, quantiles too, and where they differ the worst is believed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.upstreams.pool_bench import METHOD, A, B, Bench, run, settings_of, started

from silence_gateway.admin.contracts import Ask, Readiness
from silence_gateway.admin.local import LocalInstance
from silence_gateway.admin.upstreams import serve_statistics
from silence_gateway.app.worker_upstreams import UPSTREAMS, upstreams_together
from silence_gateway.core.status import Code
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_upstream import Failure, Reply
from silence_gateway.upstreams.record import MAX_MOVES


async def asked(bench: Bench, path: str) -> Any:
    """Return what one worker says to the parent."""
    instance = LocalInstance(lambda: Readiness("ready"), list)
    serve_statistics(instance, {"shop": bench.pool})
    answer = await instance.call(Ask("GET", path, {"histograms": "true"}))
    return json.loads(json.dumps(answer.body))


async def calls(bench: Bench, count: int, after_s: float) -> None:
    bench.endpoints[A].follow(Reply(b"12345", after_s=after_s))
    for _ in range(count):
        call = asyncio.ensure_future(bench.pool.unary(METHOD, b"?"))
        await settle()
        await bench.clock.advance(after_s)
        await call


def test_quantiles_of_workers_are_those_of_all_their_calls() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as one, started(settings_of(A)) as two:
            await calls(one, 98, 0.01)
            await calls(two, 2, 1.0)
            rows = [await asked(bench, "upstreams") for bench in (one, two)]

            (told,) = upstreams_together(rows, histograms=False)
            (endpoint,) = told["endpoints"]
            for latency in (told["latency"], told["recent"]["latency"], endpoint["latency"]):
                assert latency["calls"] == 100
                assert latency["p50_s"] == pytest.approx(0.01, rel=0.05)
                assert latency["p99_s"] == pytest.approx(1.0, rel=0.05)
                assert "counts" not in latency
            assert (endpoint["calls"], endpoint["codes"]) == (100, {"OK": 100})
            assert (endpoint["bytes_in"], endpoint["states"]) == (500, {"ready": 2})
            assert sum(told["latency_counts"]) == 100
            assert len(set(told["instances"])) == 1
            (in_full,) = upstreams_together(rows, histograms=True)
            assert sum(in_full["latency"]["counts"].values()) == 100

    run(scenario)


def test_one_worker_tells_the_same_as_alone() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B)) as bench:
            await calls(bench, 3, 0.01)

            for path in ("upstreams", "upstreams/shop"):
                assert UPSTREAMS.fullmatch(path)
                alone = await asked(bench, path)
                assert upstreams_together([alone], histograms=True) == alone

    run(scenario)


def test_the_worker_that_sees_the_worst_is_believed() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B)) as one, started(settings_of(A, B)) as two:
            two.endpoints[B].die()
            await two.clock.advance(1)
            rows = [await asked(bench, "upstreams") for bench in (one, two)]

            (told,) = upstreams_together(rows, histograms=False)
            by_address = {endpoint["address"]: endpoint for endpoint in told["endpoints"]}
            assert (by_address[A]["state"], by_address[A]["states"]) == ("ready", {"ready": 2})
            assert (by_address[B]["state"], by_address[B]["states"]) == ("out", {"ready": 1, "out": 1})
            assert "refuses connections" in by_address[B]["reason"]

    run(scenario)


def row(**more: Any) -> dict[str, Any]:
    told = {
        "address": "a:1", "state": "ready", "reason": "", "states": {"ready": 1}, "begun_us": 5,
        "last_error": "", "last_error_code": "", "last_error_us": 0, "last_check": "", "last_check_us": 0,
        "last_check_by": "", "prober": "", "prober_since_us": 0, "ejected": False, "ejected_until_us": 0,
        "ejected_because": "", "weight": 2,
    }  # fmt: skip
    return told | more


def together(*rows: dict[str, Any]) -> dict[str, Any]:
    told = [
        {
            "name": "shop",
            "since_us": 9,
            "instances": ["i"],
            "departed": [],
            "discovery": ["no such name"],
            "endpoints": [one],
        }
        for one in rows
    ]
    endpoint: dict[str, Any] = upstreams_together(told, histograms=True)["endpoints"][0]
    return endpoint


def test_what_keeps_endpoints_unknown_is_told_once_however_many_workers_say_it() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            row = await asked(bench, "upstreams/shop") | {"discovery": ["no such name"]}

            told = upstreams_together([row, row, row | {"discovery": []}], histograms=False)
            assert told["discovery"] == ["no such name"]

    run(scenario)


def test_what_is_latest_is_kept_whole() -> None:
    told = together(
        row(last_error="old", last_error_code="INTERNAL", last_error_us=3, prober="i2", prober_since_us=1),
        row(
            last_error="new",
            last_error_us=4,
            ejected=True,
            ejected_until_us=8,
            ejected_because="x",
            begun_us=3,
        ),
    )

    assert (told["last_error"], told["last_error_code"], told["last_error_us"]) == ("new", "", 4)
    assert (told["prober"], told["prober_since_us"]) == ("i2", 1)
    assert (told["ejected"], told["ejected_until_us"], told["ejected_because"]) == (True, 8, "x")
    assert (told["begun_us"], told["weight"]) == (3, 2)


def test_moves_of_all_are_told_in_order_and_only_so_many() -> None:
    ours = [{"at_us": at_us} for at_us in range(0, 40, 2)]
    theirs = [{"at_us": at_us} for at_us in range(1, 40, 2)]

    told = together(row(breaker_moves=ours), row(breaker_moves=theirs))

    assert [move["at_us"] for move in told["breaker_moves"]] == list(range(40 - MAX_MOVES, 40))


def test_moves_of_the_breaker_of_the_upstream_are_those_of_all_workers() -> None:
    told = upstreams_together(
        [
            {
                "name": "shop", "since_us": 9, "instances": [name], "departed": [], "discovery": [],
                "endpoints": [],
                "breaker_moves": [{"at_us": at_us}], "breaker_moved_to": {"open": 1},
            }
            for name, at_us in (("i1", 2), ("i2", 1))
        ],
        histograms=True,
    )  # fmt: skip

    assert [move["at_us"] for move in told["breaker_moves"]] == [1, 2]
    assert told["breaker_moved_to"] == {"open": 2}


def test_an_endpoint_that_left_is_told_once() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B)) as one, started(settings_of(A, B)) as two:
            for bench in (one, two):
                await calls(bench, 4, 0.01)
                bench.pool.remove_endpoint(B)
                await settle()
            rows = [await asked(bench, "upstreams/shop") for bench in (one, two)]
            alone = [row["departed"][0]["calls"] for row in rows]

            (told,) = upstreams_together(rows, histograms=False)["departed"]
            assert (told["address"], told["calls"]) == (B, sum(alone))

    run(scenario)


def test_failures_are_added_by_code_also_where_one_has_none() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as one, started(settings_of(A)) as two:
            one.endpoints[A].follow(Failure(Code.INTERNAL))
            await asyncio.gather(one.call(), one.call(), return_exceptions=True)
            rows = [await asked(bench, "upstreams/shop") for bench in (one, two)]

            told = upstreams_together(rows, histograms=False)
            assert told["endpoints"][0]["failures"] == {"INTERNAL": 2}
            assert told["recent"]["faults"] == 2

    run(scenario)
