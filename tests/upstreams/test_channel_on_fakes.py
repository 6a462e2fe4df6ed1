"""A channel over scripted endpoints, with time that passes when told to."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import pytest

from silence_gateway.core.status import Code
from silence_gateway.errors import ConfigError, RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.local_caller import LocalCaller
from silence_gateway.testing.scripted_endpoints import ScriptedEndpoints
from silence_gateway.testing.scripted_upstream import Broken, Failure, Reply, Silence
from silence_gateway.upstreams.channel import Channel
from silence_gateway.upstreams.connectivity import Connectivity
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import EndpointSettings, UpstreamSettings

A, B = "10.0.0.1:1", "10.0.0.2:1"
GET, WATCH = "/shop.Orders/Get", "/shop.Orders/Watch"


class Bench:
    """A pool on a clock of its own, and a channel over it."""

    def __init__(self, *names: str) -> None:
        self.clock = FakeClock()
        self.endpoints = ScriptedEndpoints(self.clock)
        self.pool = GrpcUpstream(
            UpstreamSettings(
                name="shop",
                endpoints=tuple(EndpointSettings(address=name) for name in names),
                balancer="round_robin",
                health=None,
                timeout_s=2,
            ),
            clock=self.clock,
            rng=Random(3),
            connector=self.endpoints.connect,
        )
        self.channel = Channel(self.pool, self.clock)
        self.get = self.channel.unary_unary(GET)
        self.watch = self.channel.unary_stream(WATCH)
        self.chat = self.channel.stream_stream("/shop.Orders/Chat")

    def in_flight(self) -> int:
        return sum(one.in_flight for one in self.pool.statistics.endpoints)


@asynccontextmanager
async def bench_of(*names: str, answers: bool | None = True) -> AsyncIterator[Bench]:
    bench = Bench(*names)
    for name in names:
        bench.endpoints[name].answers = answers
    await bench.pool.start()
    await settle()
    try:
        yield bench
    finally:
        stopping = asyncio.create_task(bench.pool.stop(drain_s=0))
        await settle()
        await bench.clock.advance(0)
        await stopping


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_an_error_names_the_method_the_endpoint_and_the_upstream() -> None:
    async def scenario() -> None:
        async with bench_of(A) as bench:
            bench.endpoints[A].follow(Failure(Code.NOT_FOUND, "no order 7") + Broken(sent=True) + Silence())
            with pytest.raises(RpcError.NotFound) as caught:
                await bench.get(b"")
            assert str(caught.value) == (
                "NOT_FOUND: no order 7 (shop.Orders/Get at 10.0.0.1:1 of upstream 'shop')"
            )
            with pytest.raises(RpcError.Unavailable) as lost:
                await bench.get(b"")
            assert isinstance(lost.value.__cause__, UpstreamUnavailable)
            assert str(lost.value).endswith("(shop.Orders/Get at 10.0.0.1:1 of upstream 'shop')")

            call = bench.get(b"", timeout=1)
            await settle()
            await bench.clock.advance(1.1)
            with pytest.raises(RpcError.DeadlineExceeded) as late:
                await call
            assert isinstance(late.value.__cause__, UpstreamTimeout)

    run(scenario)


def test_a_unary_call_without_a_timeout_gets_that_of_the_upstream() -> None:
    async def scenario() -> None:
        async with bench_of(A) as bench:
            bench.endpoints[A].follow(Silence())
            call = bench.get(b"")
            assert call.time_remaining() is None
            await settle()
            await bench.clock.advance(2.1)

            assert await call.code() is Code.DEADLINE_EXCEEDED

    run(scenario)


def test_metadata_is_told_as_pairs_and_taken_as_pairs_or_a_mapping() -> None:
    async def scenario() -> None:
        local = LocalCaller(
            {GET.encode(): lambda message: message},
            initial_metadata=[(b"a", b"1"), (b"a", b"\xe9")],
            trailing_metadata=[(b"b-bin", b"\0")],
        )
        get = Channel(local).unary_unary(GET)
        mapping: dict[str, str | bytes] = {"m": "1", "n-bin": b"\1"}
        call = get(b"x", metadata=mapping)

        assert await call == b"x"
        assert await call.initial_metadata() == (("a", "1"), ("a", "é"))
        assert await call.trailing_metadata() == (("b-bin", b"\0"),)
        assert local.calls[0].metadata == [(b"m", b"1"), (b"n-bin", b"\1")]
        wrong: Any
        for wrong in ([("m", 1)], [("m",)], ["m"], [(b"m", "1")]):
            with pytest.raises(TypeError, match="metadata is pairs of"):
                get(b"", metadata=wrong)

    run(scenario)


def test_waiting_for_ready_goes_on_until_an_endpoint_comes() -> None:
    async def scenario() -> None:
        async with bench_of(A, answers=False) as bench:
            assert bench.channel.get_state() is Connectivity.TRANSIENT_FAILURE
            with pytest.raises(RpcError.Unavailable, match="no endpoint can take the call"):
                await bench.get(b"")
            calls = [bench.get(b"", wait_for_ready=True, timeout=60), bench.get(b"", wait_for_ready=True)]
            stream = bench.watch(b"", wait_for_ready=True)
            reader = asyncio.create_task(stream.read())
            await settle()
            await bench.clock.advance(20)
            assert not any(call.done() for call in calls)

            bench.endpoints[A].answers = True
            await bench.clock.advance(10)

            assert [await call for call in calls] == [b"ok", b"ok"]
            assert await reader == b"ok"
            assert await stream.read() is None
            assert bench.channel.get_state() is Connectivity.READY

    run(scenario)


def test_waiting_for_ready_ends_with_the_deadline_the_caller_or_the_upstream() -> None:
    async def scenario() -> None:
        async with bench_of(A, answers=False) as bench:
            late = bench.get(b"", wait_for_ready=True, timeout=3)
            late_stream = bench.watch(b"", wait_for_ready=True, timeout=3)
            given_up = bench.get(b"", wait_for_ready=True)
            stopped = bench.get(b"", wait_for_ready=True)
            await settle()
            assert given_up.cancel()
            await bench.clock.advance(3.1)
            with pytest.raises(RpcError.DeadlineExceeded, match="waited for an endpoint"):
                await late
            with pytest.raises(RpcError.DeadlineExceeded, match="waited for an endpoint"):
                await late_stream.read()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            await bench.pool.stop()
            with pytest.raises(RpcError.Unavailable, match="not running"):
                await stopped

    run(scenario)


def test_waiting_for_ready_survives_an_endpoint_that_goes_again_before_anything_was_sent() -> None:
    async def scenario() -> None:
        async with bench_of(A) as bench:
            bench.endpoints[A].follow(Broken(sent=False) * 3 + Reply(b"at last"))
            call = bench.get(b"", wait_for_ready=True)
            for _ in range(20):
                await settle()
                await bench.clock.advance(0.1)

            assert await call == b"at last"

    run(scenario)


def test_a_stream_that_waits_for_a_place_begins_once_whoever_waits() -> None:
    async def scenario() -> None:
        async with bench_of(A, answers=None) as bench:
            stream = bench.watch(b"")
            waiting = [
                asyncio.create_task(each)
                for each in (stream.initial_metadata(), stream.read(), stream.wait_for_connection())
            ]
            await settle()
            bench.endpoints[A].accept()
            await settle()

            await asyncio.gather(*waiting)
            assert len(bench.endpoints[A].calls) == 1
            assert await stream.read() is None
            assert await stream.code() is Code.OK
            assert bench.in_flight() == 0

    run(scenario)


def test_cancelling_a_stream_that_waits_for_a_place_wakes_its_reader_and_calls_nobody() -> None:
    async def scenario() -> None:
        async with bench_of(A, answers=None) as bench:
            stream = bench.watch(b"")
            reader = asyncio.create_task(stream.read())
            await settle()

            assert stream.cancel()
            await asyncio.wait((reader,))
            assert reader.cancelled()
            bench.endpoints[A].accept()
            await settle()

            assert bench.endpoints[A].calls == []
            assert bench.in_flight() == 0

    run(scenario)


@pytest.mark.parametrize("end", ["cancelled", "too late"])
def test_a_stream_that_ended_while_it_waited_for_a_place_is_not_begun_for_others_who_waited(end: str) -> None:
    async def scenario() -> None:
        async with bench_of(A, answers=None) as bench:
            stream = bench.watch(b"", timeout=1)
            reader = asyncio.create_task(stream.read())
            await settle()
            code = asyncio.create_task(stream.code())
            await settle()

            if end == "cancelled":
                reader.cancel()
            else:
                await bench.clock.advance(1)
            await asyncio.wait((reader,))
            bench.endpoints[A].accept()
            await settle()

            assert await code is (Code.CANCELLED if end == "cancelled" else Code.DEADLINE_EXCEEDED)
            assert bench.endpoints[A].calls == []
            assert bench.in_flight() == 0

    run(scenario)


def test_requests_may_be_written_before_there_is_a_place() -> None:
    async def scenario() -> None:
        async with bench_of(A, answers=None) as bench:
            chat = bench.chat()

            async def write() -> None:
                for number in range(5):
                    await chat.write(b"%d" % number)
                await chat.done_writing()

            writer = asyncio.create_task(write())
            await settle()
            assert not writer.done()
            bench.endpoints[A].accept()
            reader = asyncio.create_task(chat.read())
            await writer

            assert await reader == b"ok"
            assert bench.endpoints[A].calls[0].requests == [b"0", b"1", b"2", b"3", b"4"]
            assert await chat.read() is None

    run(scenario)


def test_how_a_stream_went_can_be_asked_before_it_is_read() -> None:
    async def scenario() -> None:
        async with bench_of(A) as bench:
            bench.endpoints[A].follow(
                Reply(b"1", b"2", trailing_metadata=[(b"t", b"1")])
                + Reply(b"1", b"2", then=RpcError(Code.ABORTED, "enough"))
            )
            good, bad = bench.watch(b""), bench.watch(b"")

            assert (await good.code(), await good.trailing_metadata()) == (Code.OK, (("t", "1"),))
            assert [message async for message in good] == [b"1", b"2"]
            assert (await bad.code(), await bad.details()) == (Code.ABORTED, "enough")
            assert [await bad.read(), await bad.read()] == [b"1", b"2"]
            with pytest.raises(RpcError.Aborted):
                await bad.read()
            assert "over" in repr(good)

    run(scenario)


def test_a_channel_knows_whether_it_can_connect() -> None:
    async def scenario() -> None:
        async with bench_of(A, answers=None) as bench:
            channel = bench.channel
            assert channel.get_state() is Connectivity.CONNECTING
            ready = asyncio.create_task(channel.channel_ready())
            bench.endpoints[A].accept()
            await ready
            change = asyncio.create_task(channel.wait_for_state_change(Connectivity.READY))
            await settle()
            assert not change.done()
            bench.endpoints[A].refuse()
            bench.endpoints[A].die()
            await change
            assert channel.get_state() is not Connectivity.READY
            await bench.clock.advance(1)
            assert channel.get_state() is Connectivity.TRANSIENT_FAILURE
            waiting = asyncio.create_task(channel.channel_ready())
            await settle()
            await channel.close()
            with pytest.raises(asyncio.InvalidStateError, match="the channel is closed"):
                await waiting
            assert channel.get_state(try_to_connect=True) is Connectivity.SHUTDOWN
            assert bench.pool.connectivity is Connectivity.TRANSIENT_FAILURE

        assert bench.pool.connectivity.name == "SHUTDOWN"
        assert Bench(A).channel.get_state() is Connectivity.IDLE
        assert Channel(LocalCaller()).get_state() is Connectivity.READY

    run(scenario)


def test_a_channel_needs_sensible_addresses_or_an_upstream() -> None:
    for wrong in ([], "nowhere", ["127.0.0.1:1", "127.0.0.1:1"], "xds:///shop", "passthrough:///shop:1"):
        with pytest.raises(ConfigError):
            Channel(wrong)
    with pytest.raises(ConfigError, match="go with addresses"):
        Channel(LocalCaller(), server_name="shop")
    with pytest.raises(ConfigError, match="timeout_s"):
        Channel("127.0.0.1:1", timeout_s=0)
    with pytest.raises(ConfigError, match="leave http:// out"):
        Channel("http://127.0.0.1:1")


@pytest.mark.parametrize("target", [None, 5, b"127.0.0.1:1", [b"127.0.0.1:1"], [5]])
def test_what_is_no_address_and_carries_no_calls_is_refused(target: Any) -> None:
    with pytest.raises(TypeError, match="address"):
        Channel(target)


def test_tls_is_a_context() -> None:
    with pytest.raises(TypeError, match="create_default_context"):
        Channel("127.0.0.1:1", tls=True)  # type: ignore[arg-type]


def test_addresses_one_after_the_other_are_told_that_they_are_a_list() -> None:
    with pytest.raises(TypeError, match="one list"):
        Channel("127.0.0.1:1", "127.0.0.1:2")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "addresses"),
    [
        ("shop:1", ["shop:1"]),
        ("dns:///shop:1", ["shop:1"]),
        ("dns:shop:1", ["shop:1"]),
        ("ipv4:10.0.0.1:1,10.0.0.2:2", ["10.0.0.1:1", "10.0.0.2:2"]),
        ("ipv6:[::1]:1,[::2]:1", ["[::1]:1", "[::2]:1"]),
        ("unix:/run/shop,1.sock", ["unix:/run/shop,1.sock"]),
    ],
)
def test_targets_may_be_written_as_grpcio_has_them(target: str, addresses: list[str]) -> None:
    caller = Channel(target).caller

    assert isinstance(caller, GrpcUpstream)
    assert [endpoint.address for endpoint in caller.settings.endpoints] == addresses


def test_what_is_not_supported_says_what_to_do_instead() -> None:
    async def scenario() -> None:
        channel = Channel(LocalCaller())
        with pytest.raises(NotImplementedError, match="metadata, or add it in an interceptor"):
            channel.unary_unary(GET)(b"", credentials=object())
        with pytest.raises(TypeError, match="iterator of requests"):
            channel.stream_unary(WATCH)(5)  # type: ignore[arg-type]

    run(scenario)


def test_calls_that_failed_are_gone_without_the_help_of_the_garbage_collector() -> None:
    """A cycle through the traceback of its own error would keep each of them, and all it has read."""

    async def unary(bench: Bench) -> weakref.ref[Any]:
        call = bench.get(b"")
        with suppress(RpcError):
            await call
        return weakref.ref(call)

    async def read(bench: Bench) -> weakref.ref[Any]:
        stream = bench.watch(b"")
        with suppress(RpcError):
            await stream.read()
        return weakref.ref(stream)

    async def iterated(bench: Bench) -> weakref.ref[Any]:
        stream = bench.watch(b"")
        with suppress(RpcError):
            async for _ in stream:
                raise AssertionError
        return weakref.ref(stream)

    async def scenario() -> None:
        async with bench_of(A) as bench:
            for use in (unary, read, iterated):
                bench.endpoints[A].follow(Failure(Code.NOT_FOUND, "no") + Broken(sent=True))
                gone = [await use(bench), await use(bench)]
                await settle()
                assert [each() for each in gone] == [None, None], use

    gc.disable()
    try:
        run(scenario)
    finally:
        gc.enable()
