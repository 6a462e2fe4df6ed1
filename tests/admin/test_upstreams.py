"""What the admin API tells of upstreams, and how their statistics are begun anew."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from tests.upstreams.pool_bench import A, B, Bench, run, settings_of, started

from silence_gateway.admin.contracts import Answer, Ask, Readiness
from silence_gateway.admin.local import LocalInstance
from silence_gateway.admin.upstreams import serve_statistics
from silence_gateway.core.durations import read
from silence_gateway.core.status import Code
from silence_gateway.errors import GatewayError
from silence_gateway.testing.scripted_upstream import Failure, Reply
from silence_gateway.upstreams.settings import BreakerSettings


async def ask(bench: Bench, method: str, path: str, **query: str) -> Answer:
    instance = LocalInstance(lambda: Readiness("ready"), list)
    serve_statistics(instance, {"shop": bench.pool})
    answer = await instance.call(Ask(method, path, query))
    return Answer(answer.status, json.loads(json.dumps(answer.body)))


async def body(bench: Bench, path: str, **query: str) -> Any:
    answer = await ask(bench, "GET", path, **query)
    assert answer.status == 200
    return answer.body


def test_the_list_has_everything_but_the_moves_of_breakers() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, breaker=BreakerSettings(consecutive=1))) as bench:
            for address in (A, B):
                bench.endpoints[address].follow(Failure(Code.INTERNAL) + Reply(b"ok"))
            with_error = [one async for one in ends(bench, 3)]
            (listed,) = await body(bench, "upstreams")
            told = await body(bench, "upstreams/shop")
            moves = [endpoint.pop("breaker_moves") for endpoint in told["endpoints"]]
            of_all = told.pop("breaker_moves")

            assert with_error == ["Internal", "Internal", "UpstreamUnavailable"]
            assert [[move["new"] for move in each] for each in moves] == [["open"], ["open"]]
            assert of_all == []
            assert told == listed
            assert listed["instances"] == [bench.pool.statistics.instance]
            assert listed["endpoints"][0]["states"] == {"out": 1}
            assert listed["endpoints"][0]["recent"]["faults"] == 1

    run(scenario)


async def ends(bench: Bench, count: int) -> AsyncIterator[str]:
    for _ in range(count):
        try:
            await bench.call()
        except GatewayError as error:
            yield type(error).__name__
        else:
            yield "ok"


def test_histograms_come_if_they_are_asked_for() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            await bench.call()
            plain = await body(bench, "upstreams/shop")
            full = await body(bench, "upstreams/shop", histograms="true")

            assert "counts" not in plain["latency"]
            assert plain["latency"]["calls"] == 1
            for latency in (full["latency"], full["endpoints"][0]["recent"]["latency"]):
                assert sum(read(latency["counts"])) == 1
            assert (await ask(bench, "GET", "upstreams", histograms="maybe")).status == 400

    run(scenario)


def test_an_upstream_that_there_is_not_is_not_found() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            for method, path in (("GET", "upstreams/x"), ("DELETE", "upstreams/x/stats")):
                answer = await ask(bench, method, path)
                assert answer == Answer(404, {"error": "there is no upstream 'x'; there are shop"})

    run(scenario)


def test_statistics_are_begun_anew_and_metrics_go_on() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            for path in ("upstreams/shop/stats", "upstreams/stats"):
                await bench.call()
                assert (await body(bench, "upstreams/shop"))["calls_by_code"] == {"OK": 1}
                assert (await ask(bench, "DELETE", path)) == Answer(200, {"reset": ["shop"], "fleet": False})
                assert (await body(bench, "upstreams/shop"))["calls_by_code"] == {}

            assert bench.pool.statistics.calls_by_code == {"OK": 2}

    run(scenario)
