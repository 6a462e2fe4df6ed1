"""Request messages that can be sent again: nothing lost, nothing twice, and no more kept than may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.testing.clock import settle
from silence_gateway.upstreams.kept_requests import KeptRequests


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 10))


async def of(messages: list[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


@given(
    st.lists(st.binary(max_size=40), max_size=12),
    st.lists(st.integers(0, 12), max_size=4),
    st.integers(0, 2_000),
)
def test_every_attempt_reads_all_messages_in_order_as_long_as_they_are_whole(
    messages: list[bytes], stops: list[int], max_bytes: int
) -> None:
    async def scenario() -> None:
        requests = KeptRequests(of(messages), max_bytes)
        for stop in stops:
            if not requests.whole:
                break
            reading = requests.again()
            got = [message async for message in _first(reading, stop)]
            assert got == messages[:stop]
        else:
            if requests.whole or not stops:
                assert [message async for message in requests.again()] == messages
        assert len(messages) < 2 or max_bytes or not requests.whole

    run(scenario)


async def _first(reading: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        try:
            yield await anext(reading)
        except StopAsyncIteration:
            return


def test_an_attempt_that_ends_while_it_waits_leaves_the_callers_iterator_alone() -> None:
    async def scenario() -> None:
        give = asyncio.Queue[bytes]()

        async def source() -> AsyncIterator[bytes]:
            while message := await give.get():
                yield message

        requests = KeptRequests(source(), 1000)
        first = requests.again()
        give.put_nowait(b"1")
        assert await anext(first) == b"1"
        waiting = asyncio.ensure_future(_next(first))
        await settle()
        waiting.cancel()
        await settle()
        assert waiting.cancelled()

        second = requests.again()
        assert await anext(second) == b"1"
        give.put_nowait(b"2")
        give.put_nowait(b"")
        assert [message async for message in second] == [b"2"]

    run(scenario)


async def _next(reading: AsyncIterator[bytes]) -> bytes:
    return await anext(reading)


def test_what_comes_after_a_release_passes_through_and_is_not_kept() -> None:
    async def scenario() -> None:
        requests = KeptRequests(of([b"1", b"2", b"3"]), 1000)
        reading = requests.again()
        assert await anext(reading) == b"1"
        requests.release()

        assert [message async for message in reading] == [b"2", b"3"]
        assert not requests.whole

    run(scenario)


def test_the_error_of_the_callers_iterator_is_told_to_every_attempt() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"1"
        raise ZeroDivisionError

    async def scenario() -> None:
        requests = KeptRequests(broken(), 1000)
        for _ in range(2):
            reading = requests.again()
            assert await anext(reading) == b"1"
            with pytest.raises(ZeroDivisionError):
                await anext(reading)

    run(scenario)


def test_the_end_of_the_call_ends_the_wait_for_its_next_message() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            try:
                await asyncio.Event().wait()
                yield b"never"
            finally:
                ended.set()

        requests = KeptRequests(source(), 1000)
        waiting = asyncio.ensure_future(_next(requests.again()))
        await settle()
        requests.close()
        await ended.wait()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(scenario)
