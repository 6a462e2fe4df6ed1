"""Watching an endpoint: it says when its health changes, is asked anew now and then, and never by Check."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random

import pytest

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamUnavailable
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.upstreams.contracts import Metadata, Reply
from silence_gateway.upstreams.grpc_health import CHECK
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.health_stream import WATCH, WORDS_APART_S
from silence_gateway.upstreams.settings import EndpointSettings, HealthSettings, UpstreamSettings
from silence_gateway.upstreams.statistics import ConnectionStatistics

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
INTERVAL_S, TIMEOUT_S = 2.0, 0.5


class Stream:
    """One Watch, as the server holds it."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.cancelled = False

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        word = await self.said.get()
        if word is None:
            raise StopAsyncIteration
        if isinstance(word, Exception):
            raise word
        return word

    async def initial_metadata(self) -> Metadata:
        return ()

    async def trailing_metadata(self) -> Metadata:
        return ()

    def cancel(self) -> None:
        self.cancelled = True


class Server:
    """
    An endpoint with the health service.

    Attributes:
        status: What it says of itself when it is asked; an error to answer with that, None to say nothing.
        watches: Every Watch it ever got.
        checks: How often it was asked by Check.
        ends: Whether its Watch ends after the first word.
    """

    max_streams = 100
    open_streams = 0

    def __init__(self) -> None:
        self.status: bytes | Exception | None = SERVING
        self.watches: list[Stream] = []
        self.checks = 0
        self.calls = 0
        self.ends = False
        self.accepting = True
        self.sockets = 1
        self.statistics = ConnectionStatistics()
        self.on_lost: Callable[[str], None] = lambda _reason: None

    @property
    def watching(self) -> list[Stream]:
        return [stream for stream in self.watches if not stream.cancelled]

    def say(self, status: bytes) -> None:
        """Change its mind."""
        self.status = status
        for stream in self.watching:
            stream.said.put_nowait(status)

    async def connect(
        self, address: str, *, on_lost: Callable[[str], None], on_capacity: Callable[[], None]
    ) -> Server:
        del address, on_capacity
        self.on_lost = on_lost
        self.accepting = True
        return self

    async def unary(
        self, method: bytes, message: bytes, metadata: Metadata = (), deadline_s: float | None = None
    ) -> Reply:
        del message, metadata, deadline_s
        if method != CHECK:
            self.calls += 1
            return Reply(b"ok", (), ())
        self.checks += 1
        if isinstance(self.status, bytes):
            return Reply(self.status, (), ())
        raise UpstreamUnavailable("it went away")

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> Stream:
        del messages, metadata
        assert method == WATCH
        assert deadline_s is None
        stream = Stream()
        self.watches.append(stream)
        if self.status is not None:
            stream.said.put_nowait(self.status)
        if self.ends:
            stream.said.put_nowait(None)
        return stream

    async def close(self, *, graceful: bool = False) -> None:
        del graceful
        self.accepting = False


class Setup:
    def __init__(self, *, watch: bool = True) -> None:
        self.clock = FakeClock()
        self.server = Server()
        health = HealthSettings(
            interval_s=INTERVAL_S, timeout_s=TIMEOUT_S, unhealthy_after=2, healthy_after=2, watch=watch
        )
        self.pool = GrpcUpstream(
            UpstreamSettings(name="shop", endpoints=(EndpointSettings(address="10.0.0.1:1"),), health=health),
            clock=self.clock,
            rng=Random(1),
            connector=self.server.connect,
        )

    @property
    def health(self) -> str:
        return self.pool.statistics.endpoints[0].health


@asynccontextmanager
async def running(*, watch: bool = True, status: bytes | Exception | None = SERVING) -> AsyncIterator[Setup]:
    setup = Setup(watch=watch)
    setup.server.status = status
    await setup.pool.start()
    await setup.clock.advance(INTERVAL_S)
    try:
        yield setup
    finally:
        await setup.pool.stop(drain_s=0)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_change_of_mind_counts_at_once_and_without_being_asked_for() -> None:
    async def scenario() -> None:
        async with running() as setup:
            assert setup.health == "healthy"
            asked = len(setup.server.watches)

            setup.server.say(NOT_SERVING)
            await setup.clock.advance(0)
            assert setup.health == "unhealthy"
            await setup.clock.advance(WORDS_APART_S)
            setup.server.say(SERVING)
            await setup.clock.advance(0)

            assert setup.health == "healthy"
            assert len(setup.server.watches) == asked
            assert setup.server.checks == 0

    run(scenario)


def test_an_endpoint_that_says_nothing_is_asked_anew_every_interval_by_one_watch_at_a_time() -> None:
    async def scenario() -> None:
        async with running() as setup:
            await setup.clock.advance(10 * INTERVAL_S)

            assert 9 <= len(setup.server.watches) <= 13
            assert len(setup.server.watching) == 1
            assert setup.server.checks == 0

    run(scenario)


def test_one_that_is_gone_without_a_word_is_noticed_within_its_intervals() -> None:
    async def scenario() -> None:
        async with running() as setup:
            setup.server.status = None

            await setup.clock.advance(2 * 1.1 * INTERVAL_S + 2 * TIMEOUT_S)

            assert setup.health == "unhealthy"
            assert setup.server.watching == []

    run(scenario)


def test_while_calls_go_well_a_watched_endpoint_is_not_asked_at_all() -> None:
    async def scenario() -> None:
        async with running() as setup:
            asked = len(setup.server.watches)

            for _ in range(40):
                await setup.pool.unary(b"/shop.Orders/Get", b"")
                await setup.clock.advance(INTERVAL_S / 4)

            assert len(setup.server.watches) == asked
            setup.server.say(NOT_SERVING)
            await setup.clock.advance(0)
            assert setup.health == "unhealthy"

    run(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(RpcError(Code.UNIMPLEMENTED), id="unimplemented"),
        pytest.param(None, id="ends-without-a-word"),
    ],
)
def test_a_server_without_watch_is_asked_by_check_and_not_by_both(answer: Exception | None) -> None:
    async def scenario() -> None:
        setup = Setup()
        setup.server.status, setup.server.ends = answer, answer is None
        await setup.pool.start()
        try:
            await setup.clock.advance(INTERVAL_S)
            assert len(setup.server.watches) == 1
            setup.server.status = SERVING

            await setup.clock.advance(5 * INTERVAL_S)

            assert len(setup.server.watches) == 1
            assert 4 <= setup.server.checks <= 8
            assert setup.health == "healthy"
        finally:
            await setup.pool.stop(drain_s=0)

    run(scenario)


def test_who_connects_anew_may_have_watch() -> None:
    async def scenario() -> None:
        async with running(status=RpcError(Code.UNIMPLEMENTED)) as setup:
            setup.server.status = SERVING
            setup.server.accepting = False
            setup.server.on_lost("reset")

            await setup.clock.advance(2 * INTERVAL_S)

            assert len(setup.server.watching) == 1

    run(scenario)


def test_a_server_that_says_goodbye_is_not_kept_waiting_by_our_watch() -> None:
    async def scenario() -> None:
        async with running() as setup:
            assert len(setup.server.watching) == 1

            setup.server.accepting = False
            setup.server.on_lost("")
            await settle()

            assert setup.server.watching == []

    run(scenario)


def test_with_watch_turned_off_every_server_is_asked_by_check() -> None:
    async def scenario() -> None:
        async with running(watch=False) as setup:
            await setup.clock.advance(3 * INTERVAL_S)

            assert setup.server.watches == []
            assert setup.server.checks >= 3

    run(scenario)


def test_a_mind_that_changes_all_the_time_is_heard_and_wakes_nobody_each_time() -> None:
    async def scenario() -> None:
        async with running() as setup:
            for _ in range(50):
                setup.server.say(NOT_SERVING)
                await settle()
                setup.server.say(SERVING)
                await settle()
            await setup.clock.advance(1.1 * INTERVAL_S)

            assert setup.health == "healthy"

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "health"),
    [
        pytest.param(RpcError(Code.NOT_FOUND), "healthy", id="unknown-name-is-an-answer"),
        pytest.param(RpcError(Code.UNAVAILABLE), "unknown", id="a-proxy-without-its-server"),
        pytest.param(UpstreamUnavailable("broken"), "unknown", id="broken"),
        pytest.param(b"\x08\x03", "healthy", id="service-unknown-is-no-refusal"),
    ],
)
def test_other_first_words(answer: bytes | Exception, health: str) -> None:
    async def scenario() -> None:
        setup = Setup()
        setup.server.status = answer
        await setup.pool.start()
        try:
            await setup.clock.advance(1.0)
            assert setup.health == health
        finally:
            await setup.pool.stop(drain_s=0)

    run(scenario)
