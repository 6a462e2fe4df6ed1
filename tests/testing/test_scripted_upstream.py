"""The scripted upstream does what its script says, in order, on the clock it was given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.scripted_upstream import (
    Broken,
    Computed,
    Failure,
    Reply,
    Script,
    ScriptedUpstream,
    Silence,
)

METHOD = b"/shop.Orders/Get"


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_steps_are_met_in_order_and_the_last_one_stays() -> None:
    async def scenario() -> None:
        upstream = ScriptedUpstream(Failure(Code.UNAVAILABLE, "busy") * 2 + Reply(b"ok"))
        for _ in range(2):
            with pytest.raises(RpcError, match="busy"):
                await upstream.unary(METHOD, b"")

        assert [(await upstream.unary(METHOD, b"")).message for _ in range(3)] == [b"ok"] * 3
        assert len(upstream.calls) == 5

    run(scenario)


def test_delays_pass_on_the_given_clock() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        upstream = ScriptedUpstream(Reply(b"ok", after_s=2), clock=clock)
        call = asyncio.ensure_future(upstream.unary(METHOD, b""))

        await clock.advance(1.9)
        assert not call.done()
        assert upstream.in_flight == 1
        await clock.advance(0.1)

        assert (await call).message == b"ok"
        assert upstream.in_flight == 0

    run(scenario)


@pytest.mark.parametrize("step", [Silence(), Reply(b"late", after_s=9), Failure(13, after_s=9)])
def test_a_deadline_ends_what_takes_longer(step: Script) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        upstream = ScriptedUpstream(step, clock=clock)
        call = asyncio.ensure_future(upstream.unary(METHOD, b"", (), 3.0))

        await clock.advance(3)

        with pytest.raises(UpstreamTimeout):
            await call

    run(scenario)


def test_silence_without_a_deadline_lasts_until_the_caller_leaves() -> None:
    async def scenario() -> None:
        upstream = ScriptedUpstream(Silence())
        call = asyncio.ensure_future(upstream.unary(METHOD, b"?", [(b"k", b"v")]))
        await settle()

        call.cancel()
        await settle()

        (seen,) = upstream.calls
        assert (seen.method, seen.message, seen.metadata, seen.cancelled) == (
            METHOD,
            b"?",
            [(b"k", b"v")],
            True,
        )

    run(scenario)


def test_breaks_tell_whether_the_call_had_left() -> None:
    async def scenario() -> None:
        upstream = ScriptedUpstream(Broken(sent=False) + Broken(sent=True))
        for sent in (False, True):
            with pytest.raises(UpstreamUnavailable) as caught:
                await upstream.unary(METHOD, b"")
            assert caught.value.sent is sent

    run(scenario)


def test_answers_can_be_computed_and_scripts_exchanged() -> None:
    async def scenario() -> None:
        upstream = ScriptedUpstream(Computed(lambda call: call.message[::-1]))
        assert (await upstream.unary(METHOD, b"abc")).message == b"cba"

        upstream.follow(Reply(b"new"))

        assert (await upstream.unary(METHOD, b"abc")).message == b"new"

    run(scenario)


def test_streams_take_all_messages_and_may_break_on_the_way() -> None:
    async def scenario() -> None:
        upstream = ScriptedUpstream(Reply(b"1", b"2", then=RpcError(Code.ABORTED, "enough")))

        async def requests() -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"

        got: list[bytes] = []
        with pytest.raises(RpcError, match="enough"):
            async for message in upstream.stream(METHOD, requests()):
                got += [message]

        assert got == [b"1", b"2"]
        assert upstream.calls[0].requests == [b"a", b"b"]

    run(scenario)


def test_trailing_metadata_is_there_at_the_end_whether_or_not_messages_were_taken() -> None:
    async def scenario() -> None:
        upstream = ScriptedUpstream(Reply(b"1", trailing_metadata=[(b"t", b"1")]))
        stream = upstream.stream(METHOD, b"")

        assert await stream.trailing_metadata() == [(b"t", b"1")]
        assert [message async for message in stream] == [b"1"]
        assert await stream.trailing_metadata() == [(b"t", b"1")]

    run(scenario)


def test_a_unary_call_to_a_step_without_messages_is_an_internal_error() -> None:
    async def scenario() -> None:
        with pytest.raises(RpcError, match="no message"):
            await ScriptedUpstream(Reply()).unary(METHOD, b"")

    run(scenario)


def test_an_empty_script_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        ScriptedUpstream(Reply(b"x") * 0)
    with pytest.raises(ValueError, match="at least one step"):
        ScriptedUpstream(Reply(b"x")).follow(Script())
