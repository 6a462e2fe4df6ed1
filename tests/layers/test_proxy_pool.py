"""HTTP upstreams have the pool that gRPC has: failover, retries, breakers, drains, limits, health."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.layers.proxy_scene import Exchange, Front, Origin, Script, front, request

from silence_gateway.core.concurrency_limit import ConcurrencyRules
from silence_gateway.layers.proxy import ProxySettings
from silence_gateway.layers.route import RouteRule
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.upstreams.http_upstream import HttpUpstream
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    EndpointSettings,
    HealthSettings,
    OutlierSettings,
    PoolSettings,
    UpstreamSettings,
)

if TYPE_CHECKING:
    from tests.layers.conftest import Run

QUICK = RetrySettings(wait_s=0.001, max_wait_s=0.001, budget_free_per_s=1000)


def failing(times: int, how: str = "503") -> Script:
    """Fail so many times in one way, and answer then."""
    left = [times]

    async def script(exchange: Exchange) -> None:
        await exchange.body()
        if left[0]:
            left[0] -= 1
            if how == "reset":
                exchange.reset()
            else:
                exchange.answer(b"sorry", status=how.encode() + b" No", extra=b"X-Try: 1\r\n")
        else:
            exchange.answer()

    return script


def counts(gateway: Front) -> dict[str, int]:
    return gateway.upstream.statistics.calls_by_code


def test_requests_are_spread_over_the_endpoints(run: Run) -> None:
    async def main() -> None:
        async with Origin() as one, Origin() as two, front(one, two, balancer="round_robin") as gateway:
            await gateway.ready(2)
            for _ in range(10):
                await gateway.get()

            assert len(one.heads) == len(two.heads) == 5

    run(main())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_never_left_goes_to_another_endpoint_whatever_it_is(run: Run, method: str) -> None:
    async def main() -> None:
        async with (
            Origin() as well,
            Origin() as dying,
            front(well, dying, balancer="round_robin") as gateway,
        ):
            await gateway.ready(2)
            await dying.stop()
            for _ in range(6):
                answer = await gateway.exchange(request(method, body=b"x" * 100_000))
                assert answer.startswith(b"HTTP/1.1 200 ")

    run(main())


@pytest.mark.parametrize("how", ["reset", "502", "503", "504"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_what_may_run_twice_is_made_again(run: Run, method: str, how: str) -> None:
    async def main() -> None:
        async with Origin(failing(1, how)) as origin, front(origin, retry=QUICK) as gateway:
            answer = await gateway.get(method=method)

            assert answer.startswith(b"HTTP/1.1 200 ")
            assert len(origin.heads) == 2
            assert counts(gateway) == {"200": 1}
            assert gateway.upstream.statistics.retries == 1
            assert sum(gateway.upstream.statistics.latency_counts) == 1

    run(main())


@pytest.mark.parametrize(("how", "status"), [("reset", b"502"), ("503", b"503")])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_may_not_run_twice_is_not(run: Run, method: str, how: str, status: bytes) -> None:
    async def main() -> None:
        async with Origin(failing(1, how)) as origin, front(origin, retry=QUICK) as gateway:
            answer = await gateway.get(method=method)

            assert answer.startswith(b"HTTP/1.1 %b " % status)
            assert len(origin.heads) == 1
            assert counts(gateway) == {"503": 1} if how == "503" else {"UNAVAILABLE": 1}

    run(main())


def test_a_route_may_say_that_a_method_may_run_twice_or_not(run: Run) -> None:
    async def main() -> None:
        rules = (
            RouteRule(path="/may/**", upstream="web", idempotent=True),
            RouteRule(path="/not/**", upstream="web", idempotent=False),
        )
        async with Origin(failing(2)) as origin, front(origin, retry=QUICK, rules=rules) as gateway:
            assert (await gateway.get("/not/x")).startswith(b"HTTP/1.1 503 ")
            assert (await gateway.get("/may/x", method="POST")).startswith(b"HTTP/1.1 200 ")
            assert len(origin.heads) == 3

    run(main())


def test_the_last_failure_goes_on_as_the_origin_said_it(run: Run) -> None:
    async def main() -> None:
        async with Origin(failing(9)) as origin, front(origin, retry=QUICK) as gateway:
            answer = await gateway.get()

            assert answer.startswith(b"HTTP/1.1 503 ")
            assert answer.endswith(b"sorry")
            assert len(origin.heads) == 3
            assert counts(gateway) == {"503": 1}
            assert gateway.upstream.statistics.retries == 2

    run(main())


@pytest.mark.parametrize("how", ["500", "501", "404", "429"])
def test_what_is_an_answer_is_not_asked_for_again(run: Run, how: str) -> None:
    async def main() -> None:
        async with Origin(failing(1, how)) as origin, front(origin, retry=QUICK) as gateway:
            assert (await gateway.get()).startswith(b"HTTP/1.1 %b " % how.encode())
            assert len(origin.heads) == 1

    run(main())


def test_an_origin_that_says_when_to_come_back_is_heard(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(status=b"503 No", extra=b"Retry-After: 600\r\n")

        async with Origin(script) as origin, front(origin, retry=QUICK) as gateway:
            answer = await gateway.get()

            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 600" in answer
            assert len(origin.heads) == 1

    run(main())


@pytest.mark.parametrize(("size", "status"), [(50_000, b"200"), (70_000, b"502")])
def test_a_body_is_sent_again_as_long_as_it_is_kept(run: Run, size: int, status: bytes) -> None:
    async def main() -> None:
        sizes: list[int] = []

        async def script(exchange: Exchange) -> None:
            sizes.append(len(await exchange.body()))
            if len(sizes) == 1:
                exchange.reset()
            else:
                exchange.answer()

        body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
        proxy = ProxySettings(replay_bytes=64 * 1024)
        async with Origin(script) as origin, front(origin, proxy=proxy, retry=QUICK) as gateway:
            head = request("PUT", extra="Transfer-Encoding: chunked\r\n")
            answer = await gateway.exchange(head + body)

            assert answer.startswith(b"HTTP/1.1 %b " % status)
            assert set(sizes) == {size}

    run(main())


def test_repeats_are_paid_from_the_budget(run: Run) -> None:
    async def main() -> None:
        retry = RetrySettings(wait_s=0.001, max_wait_s=0.001, budget=0.0, budget_free_per_s=0)
        async with Origin(failing(1)) as origin, front(origin, retry=retry) as gateway:
            assert (await gateway.get()).startswith(b"HTTP/1.1 503 ")
            assert gateway.upstream.statistics.retries_refused == 1

    run(main())


def test_an_idle_connection_that_the_origin_closed_is_no_error(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            # It hangs up on the second request of a connection instead of answering, as a server does
            # whose patience ran out just then.
            if origin.seen.count(id(exchange.writer)):
                exchange.reset()
            else:
                origin.seen.append(id(exchange.writer))
                exchange.answer()

        class Impatient(Origin):
            def __init__(self, script: Script) -> None:
                super().__init__(script)
                self.seen: list[int] = []

        async with Impatient(script) as origin, front(origin, retry=RetrySettings(attempts=1)) as gateway:
            assert (await gateway.get()).startswith(b"HTTP/1.1 200 ")
            assert (await gateway.get()).startswith(b"HTTP/1.1 200 ")
            assert counts(gateway) == {"200": 2}
            assert (await gateway.get(method="POST")).startswith(b"HTTP/1.1 502 ")

    run(main())


def test_free_connections_are_closed_before_their_server_does(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(extra=b"Keep-Alive: timeout=1\r\n")

        async with Origin(script) as origin, front(origin) as gateway:
            await gateway.get()

            await gateway.until(lambda: gateway.upstream.statistics.endpoints[0].connections == 0)
            assert (await gateway.get()).startswith(b"HTTP/1.1 200 ")
            assert origin.connections == 2
            assert gateway.upstream.statistics.endpoints[0].state == "ready"

    run(main())


def test_connections_to_an_endpoint_are_capped_and_others_wait_in_line(run: Run) -> None:
    async def main() -> None:
        most = 0
        now = 0

        async def script(exchange: Exchange) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.02)
            now -= 1
            exchange.answer()

        pool = PoolSettings(max_connections=3, idle_timeout_s=4.0)
        async with Origin(script) as origin, front(origin, pool=pool) as gateway:
            answers = await asyncio.gather(*(gateway.get() for _ in range(12)))

            assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
            assert most == 3
            assert origin.connections == 3

    run(main())


def test_a_line_that_is_full_turns_away(run: Run) -> None:
    async def main() -> None:
        hold = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await hold.wait()
            exchange.answer()

        pool = PoolSettings(max_connections=1, idle_timeout_s=4.0, max_waiting=1)
        async with Origin(script) as origin, front(origin, pool=pool) as gateway:
            await gateway.ready()
            first = asyncio.ensure_future(gateway.get())
            await gateway.until(lambda: origin.heads)
            second = asyncio.ensure_future(gateway.get())
            await gateway.until(lambda: gateway.upstream.statistics.waiting == 1)

            assert (await gateway.get()).startswith(b"HTTP/1.1 503 ")
            hold.set()
            assert (await first).startswith(b"HTTP/1.1 200 ")
            assert (await second).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_failures_open_the_breaker_and_a_probe_closes_it(run: Run) -> None:
    async def main() -> None:
        breaker = BreakerSettings(consecutive=3, cool_down_s=0.1)
        retry = RetrySettings(attempts=1)
        async with Origin(failing(3)) as origin, front(origin, breaker=breaker, retry=retry) as gateway:
            for _ in range(3):
                await gateway.get()
            assert gateway.upstream.statistics.endpoints[0].breaker == "open"
            assert (await gateway.get()).startswith(b"HTTP/1.1 503 ")
            assert len(origin.heads) == 3

            await gateway.until(lambda: gateway.upstream.statistics.endpoints[0].breaker == "half_open")
            assert (await gateway.get()).startswith(b"HTTP/1.1 200 ")
            assert gateway.upstream.statistics.endpoints[0].breaker == "closed"

    run(main())


def test_a_streamed_answer_speaks_for_its_endpoint_with_its_head(run: Run) -> None:
    async def main() -> None:
        hold = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            exchange.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await hold.wait()
            exchange.say(b"0\r\n\r\n")

        rules = ConcurrencyRules(initial=1, minimum=1, maximum=1)
        async with Origin(script) as origin, front(origin, concurrency=rules) as gateway:
            streams = [await gateway.connect() for _ in range(3)]
            for reader, writer in streams:
                writer.write(request())
                # A limit of one call would hold up the second if a stream counted.
                await reader.readuntil(b"\r\n\r\n")
            assert sum(gateway.upstream.statistics.latency_counts) == 3
            assert gateway.upstream.statistics.endpoints[0].in_flight == 3
            hold.set()
            for reader, writer in streams:
                assert await reader.read() == b"0\r\n\r\n"
                writer.close()
            await gateway.until(lambda: counts(gateway) == {"200": 3})
            assert gateway.upstream.statistics.endpoints[0].in_flight == 0

    run(main())


def test_an_endpoint_that_fails_where_its_peers_do_not_is_ejected(run: Run) -> None:
    async def main() -> None:
        outliers = OutlierSettings(consecutive=3)
        async with Origin() as well, Origin(failing(99)) as ill:
            settings: dict[str, Any] = {"outliers": outliers, "balancer": "round_robin", "retry": QUICK}
            async with front(well, ill, **settings) as gateway:
                await gateway.ready(2)
                for _ in range(12):
                    assert (await gateway.get()).startswith(b"HTTP/1.1 200 ")

                assert len(ill.heads) == 3
                assert [one.ejected for one in gateway.upstream.statistics.endpoints] == [False, True]

    run(main())


def test_a_drained_endpoint_finishes_what_it_has_and_gets_nothing_new(run: Run) -> None:
    async def main() -> None:
        hold = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await hold.wait()
            exchange.answer()

        async with Origin(script) as old, Origin() as new, front(old) as gateway:
            await gateway.ready()
            first = asyncio.ensure_future(gateway.get())
            await gateway.until(lambda: old.heads)
            gateway.upstream.add_endpoint(EndpointSettings(address=new.address))
            await gateway.ready(2)
            gateway.upstream.remove_endpoint(old.address)
            assert (await gateway.get()).startswith(b"HTTP/1.1 200 ")
            hold.set()

            assert (await first).startswith(b"HTTP/1.1 200 ")
            await gateway.until(lambda: len(gateway.upstream.statistics.endpoints) == 1)
            await asyncio.wait_for(old.ended.wait(), 5)
            assert len(old.heads) == len(new.heads) == 1

    run(main())


def test_an_endpoint_comes_back_by_itself(run: Run) -> None:
    async def main() -> None:
        origin = Origin()
        async with origin, front(origin) as gateway:
            assert (await gateway.get()).startswith(b"HTTP/1.1 200 ")
            await origin.stop()
            assert (await gateway.get()).startswith(b"HTTP/1.1 503 ")
            again = Origin()
            again.port = origin.port
            async with again:
                await gateway.ready()
                assert (await gateway.get()).startswith(b"HTTP/1.1 200 ")

    run(main())


def health(**told: object) -> HealthSettings:
    return HealthSettings(interval_s=0.05, timeout_s=0.05, unhealthy_after=2, healthy_after=1, **told)  # type: ignore[arg-type]


def test_an_endpoint_that_says_it_is_ill_gets_nothing_until_it_is_well(run: Run) -> None:
    async def main() -> None:
        ill = False

        async def script(exchange: Exchange) -> None:
            checked = exchange.line == b"GET /up?deep=1 HTTP/1.1"
            if checked:
                assert exchange.headers()[b"host"] == b"inner"
            exchange.answer(status=b"500 Ill" if checked and ill else b"204 Well" if checked else b"200 OK")

        told = health(path="/up?deep=1", host="inner", statuses=(range(200, 300),))
        async with Origin(script) as origin, front(origin, health=told) as gateway:
            await gateway.until(lambda: gateway.upstream.statistics.endpoints[0].health == "healthy")
            ill = True
            await gateway.until(lambda: gateway.upstream.statistics.endpoints[0].health == "unhealthy")
            refused = await gateway.get()
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert gateway.upstream.statistics.endpoints[0].last_error == "health check: answered 500"
            ill = False
            await gateway.until(lambda: gateway.upstream.statistics.endpoints[0].health == "healthy")
            assert (await gateway.get()).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_without_a_path_it_is_enough_to_accept_connections(run: Run) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin, health=health()) as gateway:
            await gateway.until(lambda: gateway.upstream.statistics.endpoints[0].health == "healthy")
            await gateway.until(lambda: origin.connections > 3)
            assert origin.heads == [], "nothing is asked"
            await origin.stop()

            await gateway.until(lambda: gateway.upstream.statistics.endpoints[0].health == "unhealthy")

    run(main())


def test_a_check_that_hangs_is_silence(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.reader.read()

        async with Origin(script) as origin, front(origin, health=health(path="/up")) as gateway:
            await gateway.until(lambda: gateway.upstream.statistics.endpoints[0].health == "unhealthy")
            assert "did not answer in time" in gateway.upstream.statistics.endpoints[0].last_error

    run(main())


def test_a_half_open_breaker_is_probed_by_a_check_when_no_request_comes(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            checked = exchange.line.startswith(b"GET /up ")
            exchange.answer(status=b"200 OK" if checked else b"503 No")

        breaker = BreakerSettings(consecutive=1, cool_down_s=0.05)
        settings: dict[str, Any] = {
            "breaker": breaker,
            "retry": RetrySettings(attempts=1),
            "health": health(path="/up"),
        }
        async with Origin(script) as origin, front(origin, **settings) as gateway:
            assert (await gateway.get()).startswith(b"HTTP/1.1 503 ")
            assert gateway.upstream.statistics.endpoints[0].breaker == "open"

            await gateway.until(lambda: gateway.upstream.statistics.endpoints[0].breaker == "closed")
            assert sum(head.startswith(b"GET / ") for head in origin.heads) == 1

    run(main())


def test_killing_and_removing_replicas_under_load_costs_no_idempotent_request(run: Run) -> None:
    async def main() -> None:
        async with Origin() as one, Origin() as two, Origin() as three, front(one, two, three) as gateway:
            await gateway.ready(3)
            statuses: list[bytes] = []
            stop = False

            async def load() -> None:
                while not stop:
                    statuses.append((await gateway.get())[9:12])

            callers = [asyncio.ensure_future(load()) for _ in range(8)]
            await gateway.until(lambda: len(statuses) > 100)
            await one.stop()
            await gateway.until(lambda: len(statuses) > 300)
            gateway.upstream.remove_endpoint(two.address)
            await gateway.until(lambda: len(statuses) > 500)
            stop = True
            await asyncio.gather(*callers)

            assert set(statuses) == {b"200"}
            assert gateway.upstream.statistics.endpoints[-1].address == three.address

    run(main())


def test_a_fleet_checks_an_endpoint_as_if_it_were_one(run: Run) -> None:
    """Each instance has a store of its own, as leases are held by stores."""

    async def main() -> None:
        hub = MemoryHub()
        async with Origin() as origin:
            told = UpstreamSettings(
                name="web",
                endpoints=(EndpointSettings(address=origin.address),),
                # A check that is late on a busy machine would have another instance look as well.
                health=HealthSettings(interval_s=0.25, timeout_s=0.25, path="/up"),
            )
            fleet = [HttpUpstream(told, board=MemoryStore(hub=hub).board) for _ in range(5)]
            for each in fleet:
                await each.start()
            async with asyncio.timeout(10):
                while any(each.statistics.endpoints[0].health != "healthy" for each in fleet):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            before, since_s = len(origin.heads), time.monotonic()
            await asyncio.sleep(1.0)
            checks, took_s = len(origin.heads) - before, time.monotonic() - since_s
            for each in fleet:
                await each.stop(0)

            # Intervals are shorter by a tenth at most.
            assert 1 <= checks <= took_s / 0.225 + 1, "one check an interval, and not five"

    run(main())
