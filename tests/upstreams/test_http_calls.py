"""How requests go through a pool, with a clock and sockets that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.concurrency_limit import ConcurrencyRules
from silence_gateway.core.http_answer_head import read_answer_head
from silence_gateway.core.http_head import CHUNKED
from silence_gateway.core.status import Code
from silence_gateway.errors import GatewayError, UpstreamBroken, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.http_body import HttpAnswer
from silence_gateway.upstreams.http_contracts import HttpAsk, KeptBody
from silence_gateway.upstreams.http_upstream import HttpUpstream
from silence_gateway.upstreams.outcomes import code_of, said_by_status
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    EndpointSettings,
    PoolSettings,
    UpstreamSettings,
)
from silence_gateway.upstreams.statistics import TrafficCounts

NAMES = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")
TIMEOUT_S = 2.0
FATES = ("ok", "streams", "503", "500", "429", "broken", "unsent", "unreachable", "silent")


def ask(*, repeatable: bool = True) -> HttpAsk:
    return HttpAsk("GET", b"GET / HTTP/1.1\r\n", None, b"", repeatable=repeatable)


def head(status: str, more: str = "") -> Any:
    return read_answer_head(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{more}\r\n".encode())


class Socket:
    """Where an answer comes from."""

    def flow(self, *, on: bool) -> None:
        """Nothing flows here."""

    def abort(self) -> None:
        """Nothing is open."""


class Link:
    """All sockets to one endpoint; every request meets the endpoint's fate."""

    def __init__(self, world: World, address: str, on_capacity: Callable[[], None]) -> None:
        self.world = world
        self.address = address
        self.open_streams = 0
        self.max_streams = 2
        self.accepting = True
        self.sockets = 1
        self.statistics = TrafficCounts()
        self.on_capacity = on_capacity

    async def exchange(self, asked: HttpAsk, patience_s: float, limit_s: float = inf) -> HttpAnswer:
        del asked
        self.open_streams += 1
        try:
            answer = await self.meet(patience_s, limit_s)
        except BaseException:
            self.over()
            raise
        if answer.ended:
            self.over()
        else:
            answer.on_end = lambda _error: self.over()
        return answer

    async def meet(self, patience_s: float, limit_s: float) -> HttpAnswer:
        world = self.world
        world.met.append(self.address)
        fate = world.fates[self.address]
        if fate == "unsent":
            raise UpstreamUnavailable("refused", sent=False)
        await asyncio.sleep(0)
        if fate == "unreachable":
            await world.clock.sleep(min(patience_s, limit_s - world.clock.monotonic_s()))
            raise UpstreamTimeout("not connected", sent=False)
        if fate == "broken":
            raise UpstreamBroken("broken")
        if fate == "silent":
            await world.clock.sleep(min(patience_s, limit_s - world.clock.monotonic_s()))
            raise UpstreamTimeout("silent")
        if fate in {"late", "slow"}:
            await world.clock.sleep(0.6 if fate == "late" else 60.0)
            fate = "ok"
        answer = HttpAnswer(head(fate if fate.isdigit() else "200"), Socket())
        if fate == "streams":
            world.streams.append(answer)
        else:
            answer.finish()
        return answer

    async def reach(self) -> None:
        if self.world.fates[self.address] == "unsent":
            raise UpstreamUnavailable("refused", sent=False)

    def over(self) -> None:
        was_full = self.open_streams >= self.max_streams
        self.open_streams -= 1
        if was_full:
            self.on_capacity()

    async def close(self, *, graceful: bool = True) -> None:
        del graceful
        self.accepting = False


class World:
    """Three endpoints behind one upstream."""

    def __init__(self, seed: int = 0, **told: Any) -> None:
        self.clock = FakeClock()
        self.fates = dict.fromkeys(NAMES, "ok")
        self.met: list[str] = []
        self.streams: list[HttpAnswer] = []
        names = told.pop("names", NAMES)
        given: dict[str, Any] = {
            "timeout_s": TIMEOUT_S,
            "health": None,
            "breaker": BreakerSettings(consecutive=3, cool_down_s=1),
            "pool": PoolSettings(max_connections=2, max_waiting=5),
            "retry": RetrySettings(wait_s=0.01, max_wait_s=0.01),
        }
        self.upstream = HttpUpstream(
            UpstreamSettings(
                name="web",
                endpoints=tuple(EndpointSettings(address=name) for name in names),
                **(given | told),
            ),
            clock=self.clock,
            rng=Random(seed),
            connector=self.connect,
        )

    async def connect(
        self, address: str, *, on_lost: Callable[[str], None], on_capacity: Callable[[], None]
    ) -> Connection:
        del on_lost
        return cast("Connection", Link(self, address, on_capacity))

    def counts(self) -> dict[str, int]:
        return self.upstream.statistics.calls_by_code

    def in_flight(self) -> int:
        return sum(one.in_flight for one in self.upstream.statistics.endpoints)


def play(scenario: Callable[[World], Any], **told: Any) -> World:
    world = World(**told)

    async def main() -> None:
        await world.upstream.start()
        await settle()
        await scenario(world)
        await world.upstream.stop(0)

    asyncio.run(main())
    return world


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(FATES)),
        st.tuples(st.just("calls"), st.integers(1, 6)),
        st.tuples(st.just("time"), st.sampled_from([0.05, 0.5, 3.0])),
        st.tuples(st.just("leaves"), st.integers(0, 50)),
        st.tuples(st.just("stream"), st.sampled_from(["ends", "breaks", "is left"])),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(
    trace=steps,
    seed=st.integers(0, 99),
    repeatable=st.booleans(),
    in_pieces=st.booleans(),
    attempt_timeout_s=st.sampled_from([None, 0.5]),
)
def test_every_call_is_counted_once_and_leaves_nothing_behind(
    trace: list[tuple[str, str | int | float]],
    seed: int,
    repeatable: bool,
    in_pieces: bool,
    attempt_timeout_s: float | None,
) -> None:
    async def scenario(world: World) -> None:
        begun: list[asyncio.Task[None]] = []

        async def call() -> None:
            with suppress(GatewayError):
                await world.upstream.exchange(upload() if in_pieces else ask(repeatable=repeatable))

        for who, what in trace:
            if who == "calls":
                begun += [asyncio.ensure_future(call()) for _ in range(int(what))]
            elif who == "time":
                await world.clock.advance(float(what))
            elif who == "leaves" and begun:
                begun[int(what) % len(begun)].cancel()
            elif who == "stream" and world.streams:
                answer = world.streams.pop()
                if what == "ends":
                    answer.finish()
                elif what == "breaks":
                    answer.fail(UpstreamBroken("in the middle"))
                else:
                    answer.close()
            elif isinstance(what, str) and who in world.fates:
                world.fates[who] = what
            await settle()
        # A body in pieces that got its place at the last moment has as much time again.
        await world.clock.advance(2 * TIMEOUT_S + 0.1)
        for answer in world.streams:
            answer.close()
        await settle()

        assert all(task.done() for task in begun)
        told = world.upstream.statistics
        assert told.waiting == 0
        assert [(one.in_flight, one.streams) for one in told.endpoints] == [(0, 0)] * 3
        assert [one.streaming for one in world.upstream._endpoints.values()] == [0, 0, 0]
        assert (world.upstream._places.in_flight, world.upstream._places.streaming) == (0, 0)
        assert min(told.calls_by_code.values(), default=0) >= 0
        # Those as well that left the line, or a pause between two attempts.
        assert sum(told.calls_by_code.values()) == len(begun)

        world.fates = dict.fromkeys(NAMES, "ok")
        await world.clock.advance(30)
        assert [one.state for one in world.upstream.statistics.endpoints] == ["ready"] * 3
        assert (await world.upstream.exchange(ask())).done

    retry = RetrySettings(wait_s=0.01, max_wait_s=0.01, attempt_timeout_s=attempt_timeout_s)
    play(scenario, seed=seed, retry=retry)


def test_calls_are_told_by_http_status_and_judged_by_what_it_stands_for() -> None:
    async def scenario(world: World) -> None:
        for fate in ("404", "500", "503", "429", "broken"):
            world.fates[NAMES[0]] = fate
            with suppress(GatewayError):
                await world.upstream.exchange(ask(repeatable=False))

        told = world.upstream.statistics
        expected = {"UNAVAILABLE": 1, "404": 1, "429": 1, "500": 1, "503": 1}
        assert told.calls_by_code == expected
        endpoint = told.endpoints[0]
        assert endpoint.codes == expected
        assert endpoint.failures == {"UNAVAILABLE": 1, "429": 1, "500": 1, "503": 1}
        assert (endpoint.calls, endpoint.recent.faults) == (5, 3)

    play(scenario, names=NAMES[:1])


def test_statuses_that_nobody_knows_are_told_by_their_class() -> None:
    async def scenario(world: World) -> None:
        # Of 502 to 504 the breaker would open.
        for status in (*range(200, 502), *range(505, 1000)):
            world.fates[NAMES[0]] = str(status)
            await world.upstream.exchange(ask(repeatable=False))

        told = world.upstream.statistics
        endpoint = told.endpoints[0]
        assert sum(endpoint.codes.values()) == 797
        assert endpoint.codes == told.calls_by_code
        assert len(endpoint.codes) < 80
        assert {"2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx", "404", "499"} <= set(endpoint.codes)
        assert (endpoint.codes["9xx"], endpoint.codes["404"]) == (100, 1)
        assert set(endpoint.failures) == {
            name for name in endpoint.codes if name[0] in "56789" or name == "429"
        }

    play(scenario, names=NAMES[:1])


def test_the_last_error_is_called_by_its_status() -> None:
    async def scenario(world: World) -> None:
        world.fates[NAMES[0]] = "503"
        await world.upstream.exchange(ask(repeatable=False))

        assert world.upstream.statistics.endpoints[0].last_error_code == "503"

    play(scenario, names=NAMES[:1])


def test_an_attempt_that_was_made_again_counts_by_its_status_at_its_endpoint_alone() -> None:
    async def scenario(world: World) -> None:
        world.fates[NAMES[0]] = "503"
        call = asyncio.ensure_future(world.upstream.exchange(ask()))
        await world.clock.advance(0.1)
        assert (await call).head.status == 200

        told = world.upstream.statistics
        assert told.calls_by_code == {"200": 1}
        assert [one.codes for one in told.endpoints] == [{"503": 1}, {"200": 1}]

    play(scenario, names=NAMES[:2], balancer="round_robin")


def test_totals_keep_the_statuses_of_an_endpoint_that_has_gone() -> None:
    async def scenario(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "404")
        for _ in range(4):
            await world.upstream.exchange(ask())
        world.upstream.set_endpoints([EndpointSettings(address=NAMES[0])])
        await settle()

        assert len(world.upstream.statistics.endpoints) == 1
        assert world.counts() == {"404": 4}

    play(scenario, names=NAMES[:2], balancer="round_robin")


def test_an_attempt_that_takes_too_long_is_made_elsewhere() -> None:
    async def scenario(world: World) -> None:
        world.fates[NAMES[0]] = world.fates[NAMES[1]] = "silent"
        call = asyncio.ensure_future(world.upstream.exchange(ask()))
        await world.clock.advance(1.5)

        assert (await call).done
        assert world.counts() == {"200": 1}

    retry = RetrySettings(wait_s=0.01, max_wait_s=0.01, attempt_timeout_s=0.5)
    world = play(scenario, retry=retry, balancer="round_robin")
    assert world.met == list(NAMES)


def test_an_attempt_that_cannot_connect_in_its_time_never_left_and_goes_elsewhere_for_nothing() -> None:
    async def scenario(world: World) -> None:
        world.fates[NAMES[0]] = world.fates[NAMES[1]] = "unreachable"
        call = asyncio.ensure_future(world.upstream.exchange(ask()))
        await world.clock.advance(1.5)

        assert (await call).done
        assert world.counts() == {"200": 1}
        told = world.upstream.statistics
        assert told.failovers == len(world.met) - 1 >= 1
        assert (told.retries, told.retries_refused) == (0, 0)

        world.met.clear()
        world.fates = dict.fromkeys(NAMES, "unreachable")
        call = asyncio.ensure_future(world.upstream.exchange(ask()))
        await world.clock.advance(1.6)
        with pytest.raises(UpstreamUnavailable, match="not connected"):
            await call
        assert world.counts() == {"200": 1, "UNAVAILABLE": 1}

    retry = RetrySettings(budget=0, budget_free_per_s=0, attempt_timeout_s=0.5)
    world = play(scenario, retry=retry, balancer="round_robin")
    assert sorted(world.met) == list(NAMES)


def test_a_call_that_cannot_connect_before_its_end_is_late() -> None:
    async def scenario(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "unreachable")
        call = asyncio.ensure_future(world.upstream.exchange(ask()))
        await world.clock.advance(TIMEOUT_S)
        with pytest.raises(UpstreamTimeout):
            await call
        assert world.counts() == {"DEADLINE_EXCEEDED": 1}

    play(scenario)


def test_all_attempts_together_take_no_longer_than_the_call_may() -> None:
    async def scenario(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "silent")
        call = asyncio.ensure_future(world.upstream.exchange(ask(), deadline_s=1.2))
        await world.clock.advance(1.21)

        with pytest.raises(UpstreamTimeout):
            await call
        assert world.counts() == {"DEADLINE_EXCEEDED": 1}

    retry = RetrySettings(wait_s=0.01, max_wait_s=0.01, attempt_timeout_s=0.5)
    play(scenario, retry=retry)


@pytest.mark.parametrize("in_pieces", [False, True], ids=["may-run-once", "comes-in-pieces"])
def test_what_cannot_be_made_again_has_all_the_time_of_the_call(*, in_pieces: bool) -> None:
    async def scenario(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "silent")
        asked = upload(repeatable=True) if in_pieces else ask(repeatable=False)
        call = asyncio.ensure_future(world.upstream.exchange(asked, deadline_s=1.2))
        await world.clock.advance(1.1)
        assert not call.done()
        await world.clock.advance(0.2)

        with pytest.raises(UpstreamTimeout):
            await call
        assert len(world.met) == 1

    play(scenario, retry=RetrySettings(attempt_timeout_s=0.5))


def test_a_deadline_in_the_middle_of_an_answer_ends_it() -> None:
    async def scenario(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "streams")
        answer = await world.upstream.exchange(ask(), deadline_s=1.0)
        answer.feed(b"begun")
        await world.clock.advance(1.1)

        with pytest.raises(UpstreamTimeout):
            await anext(answer)
        assert world.counts() == {"DEADLINE_EXCEEDED": 1}
        assert world.in_flight() == 0

    play(scenario)


def test_without_a_deadline_an_answer_lives_as_long_as_it_likes() -> None:
    async def scenario(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "streams")
        answer = await world.upstream.exchange(ask())
        await world.clock.advance(86_400)

        assert not answer.ended
        assert world.in_flight() == 1
        answer.finish()
        assert world.counts() == {"200": 1}
        assert world.in_flight() == 0

    play(scenario)


def test_a_broken_body_speaks_against_its_endpoint_after_its_head_spoke_for_it() -> None:
    async def scenario(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "streams")
        for _ in range(3):
            answer = await world.upstream.exchange(ask())
            answer.fail(UpstreamBroken("in the middle"))

        assert world.counts() == {"UNAVAILABLE": 3}
        told = world.upstream.statistics
        assert sum(told.latency_counts) == 3
        assert "in the middle" in told.endpoints[0].last_error

    play(scenario, names=NAMES[:1])


def test_a_stream_makes_room_under_a_limit_for_those_that_wait() -> None:
    async def scenario(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "streams")
        calls = [asyncio.ensure_future(world.upstream.exchange(ask())) for _ in range(4)]
        await settle()

        assert all(call.done() for call in calls)
        for answer in world.streams:
            answer.finish()
        await settle()
        assert world.counts() == {"200": 4}

    play(scenario, concurrency=ConcurrencyRules(initial=1, minimum=1, maximum=1))


class Coming:
    """A body of which nothing is asked here."""

    size = CHUNKED
    received = 0
    done = False

    def __aiter__(self) -> Coming:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


def upload(*, repeatable: bool = False) -> HttpAsk:
    body = KeptBody(Coming(), 10)
    return HttpAsk("POST", b"POST / HTTP/1.1\r\n", None, b"", pieces=body, repeatable=repeatable)


def test_a_body_in_pieces_counts_against_a_limit_until_its_answer_begins() -> None:
    async def scenario(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "late")
        calls = [asyncio.ensure_future(world.upstream.exchange(upload())) for _ in range(2)]
        await settle()

        assert len(world.met) == 1
        assert world.upstream.statistics.waiting == 1
        await world.clock.advance(1.5)
        assert all(answer.done for answer in await asyncio.gather(*calls))

    play(scenario, concurrency=ConcurrencyRules(initial=1, minimum=1, maximum=1))


def test_how_long_an_upload_takes_says_nothing_about_its_endpoint() -> None:
    async def scenario(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "slow")
        for _ in range(3):
            call = asyncio.ensure_future(world.upstream.exchange(upload()))
            await world.clock.advance(61)
            assert (await call).done
        world.fates = dict.fromkeys(NAMES, "ok")
        assert (await world.upstream.exchange(ask())).done

        assert world.upstream.statistics.endpoints[0].breaker == "closed"
        endpoint = world.upstream._endpoints[NAMES[0]]
        assert (endpoint.penalty, endpoint.streaming, endpoint.in_flight) == (0, 0, 0)

    breaker = BreakerSettings(slow_call_s=0.5, min_calls=2, failure_ratio=1.0)
    play(scenario, names=NAMES[:1], breaker=breaker)


def test_a_body_in_pieces_is_nobody_s_probe() -> None:
    async def scenario(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "503")
        await world.upstream.exchange(upload())
        await world.clock.advance(0.95)
        world.fates = dict.fromkeys(NAMES, "ok")
        call = asyncio.ensure_future(world.upstream.exchange(upload()))
        await world.clock.advance(0.06)
        assert world.upstream.statistics.endpoints[0].breaker == "half_open"
        with pytest.raises(UpstreamUnavailable):
            await call

        assert (await world.upstream.exchange(ask())).done
        assert world.upstream.statistics.endpoints[0].breaker == "closed"

    breaker = BreakerSettings(consecutive=1, cool_down_s=1)
    play(scenario, names=NAMES[:1], breaker=breaker, retry=RetrySettings(attempts=1))


def test_slow_heads_open_the_breaker_and_slow_bodies_do_not() -> None:
    breaker = BreakerSettings(slow_call_s=0.5, min_calls=2, failure_ratio=1.0, cool_down_s=60)

    async def slow_bodies(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "streams")
        for _ in range(3):
            answer = await world.upstream.exchange(ask())
            await world.clock.advance(1.0)
            answer.finish()
        assert world.upstream.statistics.endpoints[0].breaker == "closed"

    async def slow_heads(world: World) -> None:
        world.fates = dict.fromkeys(NAMES, "late")
        for _ in range(3):
            call = asyncio.ensure_future(world.upstream.exchange(ask()))
            await world.clock.advance(1.0)
            with suppress(UpstreamUnavailable):
                assert (await call).done
        assert world.upstream.statistics.endpoints[0].breaker == "open"

    play(slow_bodies, names=NAMES[:1], breaker=breaker)
    play(slow_heads, names=NAMES[:1], breaker=breaker)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("200", None), ("304", None), ("404", None), ("429", Code.RESOURCE_EXHAUSTED), ("500", Code.UNKNOWN),
        ("501", Code.UNKNOWN), ("502", Code.UNAVAILABLE), ("503", Code.UNAVAILABLE),
        ("504", Code.UNAVAILABLE),
    ],
)  # fmt: skip
def test_what_a_status_says(status: str, code: Code | None) -> None:
    said = said_by_status(head(status))

    assert (None if said is None else code_of(said)) == code


@pytest.mark.parametrize(
    ("line", "pushback"),
    [
        ("", None),
        ("Retry-After: 2\r\n", b"2000"),
        ("Retry-After: soon\r\n", b"-1"),
        (
            "Retry-After: Wed, 21 Oct 2026 07:28:09 GMT\r\nDate: Wed, 21 Oct 2026 07:28:00 GMT\r\n",
            b"9000",
        ),
    ],
)
def test_when_to_come_back_is_passed_to_the_rules_of_retries(line: str, pushback: bytes | None) -> None:
    said = said_by_status(head("503", line))

    assert said is not None
    assert dict(said.trailing_metadata).get(b"grpc-retry-pushback-ms") == pushback


def test_attempts_that_could_not_connect_in_their_time_open_no_breaker_before_patience_is_over() -> None:
    async def scenario(world: World) -> None:
        world.fates[NAMES[0]] = "unreachable"
        for state in ("closed", "open"):
            calls = [asyncio.ensure_future(world.upstream.exchange(ask())) for _ in range(4)]
            await world.clock.advance(0.6)
            await asyncio.gather(*calls)

            assert world.upstream.statistics.endpoints[0].breaker == state
        assert world.counts() == {"200": 8}

    play(
        scenario,
        names=NAMES[:2],
        balancer="round_robin",
        breaker=BreakerSettings(consecutive=2),
        retry=RetrySettings(attempt_timeout_s=0.5),
    )
