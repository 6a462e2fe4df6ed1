"""Streams that may run twice: hedged, given a time per attempt and made again, until something was shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.upstreams.pool_bench import METHOD, A, B, Bench, run, settings_of, started
from tests.upstreams.test_repeating import asked, ended

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamTimeout
from silence_gateway.testing.clock import settle
from silence_gateway.testing.h2_peer import HEAD, OK, H2Peer, scripted_server
from silence_gateway.testing.scripted_upstream import Broken, Failure, Reply, Silence
from silence_gateway.upstreams.channel import Channel
from silence_gateway.upstreams.contracts import CallStream
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import BreakerSettings, EndpointSettings, UpstreamSettings

CALM = BreakerSettings(consecutive=1000, min_calls=1000)


def settings(*names: str, **retry: Any) -> UpstreamSettings:
    retry = {"streams": True} | retry
    return settings_of(*names, breaker=CALM, balancer="round_robin", retry=RetrySettings(**retry))


async def of(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


def begin(bench: Bench, messages: bytes | AsyncIterator[bytes] = b"?") -> asyncio.Task[bytes]:
    async def taken(stream: CallStream) -> bytes:
        return b"".join([message async for message in stream])

    return asyncio.ensure_future(taken(bench.pool.repeating.stream(METHOD, messages)))


def nothing_left(bench: Bench) -> bool:
    told = bench.pool.statistics.endpoints
    return all(one.in_flight == 0 for one in told)


def test_a_stream_without_its_first_message_in_time_is_begun_elsewhere_too_and_the_slower_is_cancelled() -> (
    None
):
    async def scenario() -> None:
        async with started(settings(A, B, hedge_after_s=0.1)) as bench:
            bench.endpoints[A].follow(Silence())
            bench.endpoints[B].follow(Reply(b"1", b"2", after_s=0.01))
            tasks = [begin(bench), begin(bench)]
            await bench.clock.advance(0.2)

            assert [await task for task in tasks] == [b"12", b"12"]
            await settle()
            (late,) = bench.endpoints[A].calls
            assert late.cancelled
            told = bench.pool.statistics
            assert (told.hedges, told.hedges_won) == (1, 1)
            assert told.calls_by_code == {"OK": 2}
            assert sum(told.latency_counts) == 2
            assert nothing_left(bench)

    run(scenario)


def test_two_first_messages_in_one_moment_leave_one_stream() -> None:
    async def scenario() -> None:
        async with started(settings(A, B, hedge_after_s=0.1)) as bench:
            bench.endpoints[A].follow(Reply(b"x", after_s=0.2))
            bench.endpoints[B].follow(Reply(b"x", after_s=0.1))
            task = begin(bench)
            await bench.clock.advance(0.3)

            assert await task == b"x"
            await settle()
            assert bench.pool.statistics.calls_by_code == {"OK": 1}
            assert nothing_left(bench)

    run(scenario)


def test_after_the_first_message_a_stream_may_take_its_time() -> None:
    async def scenario() -> None:
        async with started(settings(A, B, hedge_after_s=0.1, attempt_timeout_s=None)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"1", b"2"))
            stream = bench.pool.repeating.stream(METHOD, b"?")
            assert await anext(aiter(stream)) == b"1"
            await bench.clock.advance(10)

            assert [message async for message in stream] == [b"2"]
            assert sum(asked(bench, A, B)) == 1

    run(scenario)


def test_an_attempt_without_a_first_message_in_its_time_is_made_elsewhere() -> None:
    async def scenario() -> None:
        async with started(settings(A, B, attempt_timeout_s=0.5)) as bench:
            bench.endpoints[A].follow(Silence())
            bench.endpoints[B].follow(Reply(b"1", after_s=0.4))
            tasks = [begin(bench), begin(bench)]

            assert [await ended(bench, task, 2.0) for task in tasks] == [b"1", b"1"]
            assert bench.pool.statistics.retries == 1
            assert bench.pool.statistics.calls_by_code == {"OK": 2}
            assert bench.standing(A).failures == {"DEADLINE_EXCEEDED": 1}
            assert nothing_left(bench)

    run(scenario)


def test_the_last_attempts_lateness_is_the_calls_end() -> None:
    async def scenario() -> None:
        async with started(settings(A, attempt_timeout_s=0.5, attempts=2)) as bench:
            bench.endpoints[A].follow(Silence())
            task = begin(bench)

            with pytest.raises(UpstreamTimeout, match=r"0\.5 s of an attempt"):
                await ended(bench, task, 5.0)
            assert asked(bench, A) == [2]
            assert bench.pool.statistics.calls_by_code == {"DEADLINE_EXCEEDED": 1}
            assert sum(bench.pool.statistics.latency_counts) == 1

    run(scenario)


def test_unless_asked_for_streams_are_neither_hedged_nor_hurried() -> None:
    async def scenario() -> None:
        calm = settings(A, B, streams=False, hedge_after_s=0.1, attempt_timeout_s=0.2)
        async with started(calm) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"1", after_s=3))
            task = begin(bench)
            await bench.clock.advance(4)

            assert await task == b"1"
            assert sum(asked(bench, A, B)) == 1

    run(scenario)


def test_metadata_that_was_shown_ends_repeating() -> None:
    async def scenario() -> None:
        async with started(settings(A)) as bench:
            bench.endpoints[A].follow(
                Reply(initial_metadata=[(b"i", b"1")], then=RpcError(Code.UNAVAILABLE)) + Reply(b"never")
            )
            stream = bench.pool.repeating.stream(METHOD, b"?")

            assert await stream.initial_metadata() == [(b"i", b"1")]
            with pytest.raises(RpcError):
                await anext(aiter(stream))
            assert asked(bench, A) == [1]
            assert bench.pool.statistics.calls_by_code == {"UNAVAILABLE": 1}

    run(scenario)


@pytest.mark.parametrize(
    ("first", "buffer_bytes", "calls"),
    [
        pytest.param(Failure(Code.UNAVAILABLE), 1000, 2, id="kept"),
        pytest.param(Broken(sent=True), 1000, 2, id="broken-and-kept"),
        pytest.param(Failure(Code.UNAVAILABLE), 100, 1, id="more-than-may-be-kept"),
        pytest.param(Failure(Code.UNAVAILABLE), 0, 1, id="nothing-kept"),
        pytest.param(Failure(Code.INVALID_ARGUMENT), 1000, 1, id="none-to-repeat-after"),
    ],
)
def test_a_request_stream_is_made_again_with_all_its_messages_while_they_are_kept(
    first: Any, buffer_bytes: int, calls: int
) -> None:
    async def scenario() -> None:
        async with started(settings(A, buffer_bytes=buffer_bytes)) as bench:
            bench.endpoints[A].follow(first + Reply(b"ok"))
            task = begin(bench, of(b"1", b"2", b"3"))
            if calls == 2:
                assert await ended(bench, task) == b"ok"
            else:
                with pytest.raises(RpcError):
                    await ended(bench, task)

            assert [call.requests for call in bench.endpoints[A].calls] == [[b"1", b"2", b"3"]] * calls

    run(scenario)


def test_a_request_stream_is_not_hedged() -> None:
    async def scenario() -> None:
        async with started(settings(A, B, hedge_after_s=0.1, attempt_timeout_s=0.2)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"ok", after_s=1))
            task = begin(bench, of(b"1"))
            await bench.clock.advance(2)

            assert await task == b"ok"
            assert sum(asked(bench, A, B)) == 1

    run(scenario)


def test_a_caller_that_leaves_ends_every_attempt_and_is_counted_once() -> None:
    async def scenario() -> None:
        async with started(settings(A, B, hedge_after_s=0.1)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Silence())
            task = begin(bench)
            await bench.clock.advance(0.15)
            assert asked(bench, A, B) == [1, 1]
            task.cancel()
            await settle()

            assert all(bench.endpoints[name].calls[0].cancelled for name in (A, B))
            assert bench.pool.statistics.calls_by_code == {"CANCELLED": 1}
            assert nothing_left(bench)

    run(scenario)


def test_a_stream_that_is_cancelled_before_anybody_looked_is_counted_once() -> None:
    async def scenario() -> None:
        async with started(settings(A, hedge_after_s=0.1)) as bench:
            bench.endpoints[A].follow(Silence())
            stream = bench.pool.repeating.stream(METHOD, b"?")
            stream.cancel()
            stream.cancel()

            assert bench.endpoints[A].calls[0].cancelled
            assert bench.pool.statistics.calls_by_code == {"CANCELLED": 1}
            assert nothing_left(bench)

    run(scenario)


def test_a_call_that_leaves_the_line_is_counted_once() -> None:
    """It never had a place: neither an endpoint nor the line may count it as less than nothing."""

    async def scenario() -> None:
        bench = Bench(settings(A))
        bench.endpoints[A].hang()
        await bench.pool.start()
        stream = begin(bench)
        unary = asyncio.ensure_future(bench.pool.repeating.unary(METHOD, b"?"))
        await settle()
        stream.cancel()
        unary.cancel()
        await settle()

        assert bench.pool.statistics.calls_by_code == {"CANCELLED": 2}
        await bench.pool.stop(drain_s=0)

    run(scenario)


def test_headers_come_to_who_asks_for_them_while_somebody_waits_for_a_message() -> None:
    """The next request may depend on them, and the first message on that."""

    async def scenario() -> None:
        async with started(settings(A)) as bench:
            bench.endpoints[A].follow(Reply(b"1", after_s=1, initial_metadata=[(b"i", b"1")]))
            stream = bench.pool.repeating.stream(METHOD, of(b"?"))
            reading = asyncio.ensure_future(taken_from(stream))
            await settle()

            assert await stream.initial_metadata() == [(b"i", b"1")]
            assert not reading.done()
            await bench.clock.advance(1)
            assert await reading == [b"1"]

    run(scenario)


async def taken_from(stream: CallStream) -> list[bytes]:
    return [message async for message in stream]


def test_what_was_shown_as_headers_ends_repeating_for_who_reads_too() -> None:
    async def scenario() -> None:
        async with started(settings(A)) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE, after_s=1) + Reply(b"never"))
            stream = bench.pool.repeating.stream(METHOD, b"?")
            reading = asyncio.ensure_future(taken_from(stream))
            await settle()
            await stream.initial_metadata()
            await bench.clock.advance(3)

            with pytest.raises(RpcError):
                await reading
            assert asked(bench, A) == [1]

    run(scenario)


@pytest.mark.parametrize("order", ["read first", "metadata first", "end first"])
def test_a_status_without_headers_is_made_again_whoever_waits_and_the_next_ones_headers_are_told(
    order: str,
) -> None:
    """Asking for headers commits to an attempt that has some, and not to one that failed without."""

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        peer.send_headers(await peer.request(), [*HEAD, (b"grpc-status", b"14")], end_stream=True)
        stream = await peer.request()
        peer.send_headers(stream, [*HEAD, (b"x-head", b"second")])
        peer.send_message(stream, b"well")
        peer.send_headers(stream, [*OK, (b"x-end", b"second")], end_stream=True)
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            settings = UpstreamSettings(
                name="shop",
                endpoints=(EndpointSettings(address=address),),
                health=None,
                retry=RetrySettings(methods=frozenset({"a.B/C"})),
            )
            async with GrpcUpstream(settings) as upstream:
                call = Channel(upstream).unary_stream("/a.B/C")(b"?", timeout=5)
                asks = [call.read, call.initial_metadata, call.trailing_metadata]
                first = ["read first", "metadata first", "end first"].index(order)
                asks = asks[first:] + asks[:first]
                answers = [await each for each in [asyncio.create_task(ask()) for ask in asks]]
                message, head, end = answers[3 - first :] + answers[: 3 - first]
                assert (message, head, end) == (b"well", (("x-head", "second"),), (("x-end", "second"),))
                assert upstream.statistics.retries == 1

    asyncio.run(asyncio.wait_for(scenario(), 10))
