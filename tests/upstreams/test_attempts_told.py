"""What servers are told about attempts before theirs (`grpc-previous-rpc-attempts`): fakes, and the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.upstreams.pool_bench import METHOD, A, B, Bench, addresses, run, started
from tests.upstreams.test_repeated_stream import begin as begin_stream
from tests.upstreams.test_repeated_stream import of, settings
from tests.upstreams.test_repeating import DOWN, ended

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_frames import ErrorCode
from silence_gateway.testing.clock import settle
from silence_gateway.testing.h2_peer import HEAD, H2Peer, scripted_server
from silence_gateway.testing.scripted_upstream import Broken, Reply, Script, Silence
from silence_gateway.upstreams.contracts import Metadata
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.packing import WithEncoding
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import UpstreamSettings

PREVIOUS = b"grpc-previous-rpc-attempts"


def begin(bench: Bench, metadata: Metadata = ()) -> asyncio.Task[bytes]:
    async def call() -> bytes:
        return (await bench.pool.repeating.unary(METHOD, b"?", metadata, None)).message

    return asyncio.ensure_future(call())


def told(bench: Bench, *names: str) -> list[list[bytes]]:
    """Return what each attempt said of those before it, fewest first."""
    calls = [call for name in names for call in bench.endpoints[name].calls]
    return sorted([value for name, value in call.metadata if name == PREVIOUS] for call in calls)


def test_the_first_attempt_says_nothing_and_each_further_one_how_many_there_were() -> None:
    async def scenario() -> None:
        async with started(settings(A)) as bench:
            bench.endpoints[A].follow(DOWN * 2 + Reply(b"ok"))
            assert await ended(bench, begin(bench, ((b"a", b"1"),))) == b"ok"

            assert [call.metadata for call in bench.endpoints[A].calls] == [
                ((b"a", b"1"),),
                ((b"a", b"1"), (PREVIOUS, b"1")),
                ((b"a", b"1"), (PREVIOUS, b"2")),
            ]

    run(scenario)


def test_attempts_of_the_caller_are_passed_on_and_ours_come_on_top() -> None:
    async def scenario() -> None:
        async with started(settings(A)) as bench:
            bench.endpoints[A].follow(DOWN + Reply(b"ok"))
            assert await ended(bench, begin(bench, ((PREVIOUS, b"2"),))) == b"ok"

            assert told(bench, A) == [[b"2"], [b"3"]]

    run(scenario)


@pytest.mark.parametrize("requests", [b"?", None], ids=["one-request", "a-stream-of-requests"])
def test_streams_say_it_too(requests: bytes | None) -> None:
    async def scenario() -> None:
        async with started(settings(A)) as bench:
            bench.endpoints[A].follow(DOWN * 2 + Reply(b"ok"))
            messages: bytes | AsyncIterator[bytes] = of(b"1", b"2") if requests is None else requests
            assert await ended(bench, begin_stream(bench, messages)) == b"ok"

            assert told(bench, A) == [[], [b"1"], [b"2"]]

    run(scenario)


@pytest.mark.parametrize("begin", [begin, begin_stream], ids=["unary", "stream"])
def test_a_hedge_says_that_another_one_is_at_it(begin: object) -> None:
    async def scenario() -> None:
        async with started(settings(A, B, hedge_after_s=0.1, attempts=2)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Silence())
            assert callable(begin)
            task = begin(bench)
            await bench.clock.advance(0.15)

            assert told(bench, A, B) == [[], [b"1"]]
            task.cancel()
            await settle()

    run(scenario)


@pytest.mark.parametrize("begin", [begin, begin_stream], ids=["unary", "stream"])
@pytest.mark.parametrize(
    "first",
    [
        pytest.param(Broken(sent=False), id="a-connection-that-broke-before"),
        pytest.param(Broken(sent=False, refused=True), id="a-refused-stream"),
    ],
)
def test_what_never_left_does_not_count(begin: object, first: Script) -> None:
    async def scenario() -> None:
        async with started(settings(A, B)) as bench:
            assert callable(begin)
            await ended(bench, begin(bench))
            (before,) = (name for name in (A, B) if bench.endpoints[name].calls)
            (turn,) = {A, B} - {before}
            bench.endpoints[turn].follow(first + Reply(b"ok"))
            bench.endpoints[before].follow(DOWN + Reply(b"ok"))
            assert await ended(bench, begin(bench)) == b"ok"

            # The call before, the one that never left, and the two attempts.
            assert told(bench, A, B) == [[], [], [], [b"1"]]
            assert (bench.pool.statistics.failovers, bench.pool.statistics.retries) == (1, 1)

    run(scenario)


def test_how_the_caller_packs_holds_for_every_attempt() -> None:
    async def scenario() -> None:
        async with started(settings(A)) as bench:
            bench.endpoints[A].follow(DOWN + Reply(b"ok"))
            assert await ended(bench, begin(bench, WithEncoding((), "gzip"))) == b"ok"

            first, second = (call.metadata for call in bench.endpoints[A].calls)
            assert isinstance(first, WithEncoding)
            assert isinstance(second, WithEncoding)
            assert (first.encoding, second.encoding) == ("gzip", "gzip")
            assert (list(first), list(second)) == ([], [(PREVIOUS, b"1")])

    run(scenario)


def test_on_the_wire_it_is_one_header_that_counts_what_was_answered_alone() -> None:
    """A stream that is refused, and one that a goodbye leaves out, never were attempts."""
    seen: list[list[bytes]] = []

    def refuse(peer: H2Peer, stream: int) -> None:
        peer.send(h2.rst_stream_frame(stream, ErrorCode.REFUSED_STREAM))

    def leave(peer: H2Peer, stream: int) -> None:
        peer.send(h2.goaway_frame(stream - 2, ErrorCode.NO_ERROR))

    def fail(peer: H2Peer, stream: int) -> None:
        peer.send_headers(stream, (*HEAD, (b"grpc-status", b"14")), end_stream=True)

    fates = iter((refuse, fail, refuse, leave, fail, lambda peer, stream: peer.answer(stream, b"well")))

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        for fate in fates:
            stream, pairs = await peer.headers()
            seen.append([value for name, value in pairs if name == PREVIOUS])
            while not (await peer.frame(h2.DATA))[1] & h2.END_STREAM:
                pass
            fate(peer, stream)
            if fate is leave:
                break
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            retry = RetrySettings(attempts=4, wait_s=0.001, max_wait_s=0.001)
            settings = UpstreamSettings(name="shop", endpoints=addresses(address), health=None, retry=retry)
            async with GrpcUpstream(settings) as upstream:
                assert (await upstream.repeating.unary(METHOD, b"?", ((PREVIOUS, b"1"),))).message == b"well"

        assert seen == [[b"1"], [b"1"], [b"2"], [b"2"], [b"2"], [b"3"]]

    run(scenario)
