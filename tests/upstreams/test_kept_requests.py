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


@pytest.mark.parametrize("sent", [False, True])
def test_a_source_that_was_cancelled_inside_never_looks_as_if_it_had_ended(sent: bool) -> None:
    """A request that is cut short so must not be taken for a whole one by the attempt that follows."""

    async def scenario() -> None:
        cancelled = asyncio.get_running_loop().create_future()

        async def source() -> AsyncIterator[bytes]:
            yield b"1"
            await cancelled

        requests = KeptRequests(source(), 1000)
        if sent:
            first = Sender(requests)
            await settle()
            first.stop()  # and stays, because it asks
            cancelled.cancel()
            await settle()
            assert first.task.cancelled()
        else:
            cancelled.cancel()
        got = []
        with pytest.raises(asyncio.CancelledError):
            async for message in requests.again():
                got.append(message)  # noqa: PERF401 - what came before the error counts
        assert got == [b"1"]

    run(scenario)


class Sender:
    """Reads as our connections do: in one task, which is cancelled only if that does not harm the source."""

    def __init__(self, requests: KeptRequests) -> None:
        self.got: list[bytes] = []
        self.reading = requests.again()
        self.task = asyncio.ensure_future(self.read())
        self.reading.sent_by(self.task)

    async def read(self) -> None:
        """Read all there is."""
        async for message in self.reading:
            self.got.append(message)

    def stop(self) -> None:
        """End the attempt."""
        if not self.reading.leave():
            self.task.cancel()


def test_a_sender_whose_attempt_has_ended_still_gets_the_message_it_asked_for_and_the_next_one_sends_it() -> (
    None
):
    async def scenario() -> None:
        give = asyncio.Queue[bytes]()

        async def source() -> AsyncIterator[bytes]:
            while message := await give.get():
                yield message

        requests = KeptRequests(source(), 1000)
        first = Sender(requests)
        give.put_nowait(b"1")
        await settle()
        first.stop()
        second = Sender(requests)
        await settle()
        assert (first.got, second.got) == ([b"1"], [b"1"])

        second.stop()  # while it waits for what the first one has asked for
        await settle()
        assert second.task.cancelled()
        assert not first.task.done()
        third = Sender(requests)
        give.put_nowait(b"2")
        give.put_nowait(b"")
        await third.task
        assert third.got == [b"1", b"2"]
        assert first.task.cancelled()
        assert first.got == [b"1"]

    run(scenario)


@pytest.mark.parametrize("end", ["released", "too many"])
def test_a_sender_that_asks_for_what_nobody_else_will_want_is_cancelled_and_the_source_with_it(
    end: str,
) -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            try:
                yield bytes(100)
                await asyncio.Event().wait()
            finally:
                ended.set()

        requests = KeptRequests(source(), 1000 if end == "released" else 100)
        sender = Sender(requests)
        await settle()
        if end == "released":
            requests.release()
        sender.stop()
        await ended.wait()
        await asyncio.wait((sender.task,))
        assert sender.task.cancelled()

    run(scenario)


def test_the_end_of_the_call_ends_a_sender_that_was_left_waiting() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            try:
                await asyncio.Event().wait()
                yield b"never"
            finally:
                ended.set()

        requests = KeptRequests(source(), 1000)
        sender = Sender(requests)
        await settle()
        sender.stop()
        await settle()
        assert not sender.task.done()
        requests.close()
        await ended.wait()
        await asyncio.wait((sender.task,))
        assert sender.task.cancelled()

    run(scenario)


@given(st.lists(st.binary(max_size=40), max_size=12), st.lists(st.integers(0, 20), max_size=6))
def test_senders_that_are_stopped_anywhere_lose_nothing_and_send_nothing_twice(
    messages: list[bytes], stops: list[int]
) -> None:
    async def scenario() -> None:
        async def source() -> AsyncIterator[bytes]:
            for message in messages:
                await asyncio.sleep(0)
                yield message

        requests = KeptRequests(source(), 10_000)
        for turns in stops:
            sender = Sender(requests)
            for _ in range(turns):
                await asyncio.sleep(0)
            sender.stop()
            assert sender.got == messages[: len(sender.got)]
        last = Sender(requests)
        await last.task
        assert last.got == messages

    run(scenario)


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
