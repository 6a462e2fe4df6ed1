"""Streams that end early, late frames, deadlines, floods: what clients do beside sending requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.edge.http2_scene import CHAT, ECHO, LATER, Scene, run, scene

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_messages import framed
from silence_gateway.core.h2_flood import ALLOWANCES, Allowance, Noise
from silence_gateway.core.h2_frames import ErrorCode
from silence_gateway.core.hpack import encode, integer
from silence_gateway.edge.http2_sending import MAX_REMEMBERED_STREAMS
from silence_gateway.edge.http2_statistics import Cap
from silence_gateway.testing.clock import settle
from silence_gateway.testing.h2_client import call, data, head_of, headers

NOWHERE = b"/no.Such/Method"


# Early ends.


def test_a_request_that_is_answered_early_may_still_end() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(headers(1, head_of(NOWHERE)))
            assert await client.status(1) == 12
            assert await client.reset(1) is None

            client.send(data(1, framed(b"late"), end=True))
            assert await client.reset(1) is None
            assert not client.protocol.streams  # type: ignore[attr-defined]
            assert served.capped() == {}

    run(scenario())


def test_a_request_that_goes_on_after_its_answer_is_told_to_stop() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(headers(1, head_of(NOWHERE)), data(1, bytes(9_000)))
            assert await client.reset(1) == ErrorCode.NO_ERROR

            client.send(data(1, bytes(9_000)), headers(1, [(b"x", b"y")], end=True))
            assert len(await client.all_of(h2.RST_STREAM)) == 1
            assert await client.goaway() is None

    run(scenario())


def test_an_answer_in_the_middle_of_a_request_tells_it_to_stop() -> None:
    async def scenario() -> None:
        async with scene(max_message_bytes=1_000) as served:
            client = served.client()
            client.send(headers(1, head_of(ECHO)), data(1, framed(bytes(5_000))[:2_000]))

            assert await client.status(1) == 8
            assert await client.reset(1) == ErrorCode.NO_ERROR

    run(scenario())


def test_late_trailers_of_a_stream_that_we_ended_keep_the_header_table_in_step() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(headers(1, head_of(LATER)), h2.window_update_frame(1, 0))
            assert await client.reset(1) == ErrorCode.PROTOCOL_ERROR

            added = b"\x40\x03x-a\x01b"
            client.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, added))
            client.send(h2.frame(h2.HEADERS, h2.END_HEADERS, 3, encode(head_of(ECHO)) + b"\xbe"))
            client.send(data(3, framed(b""), end=True))
            assert await client.status(3) == 0

    run(scenario())


def test_what_is_remembered_of_ended_streams_is_bounded() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            for stream in range(1, 2 * MAX_REMEMBERED_STREAMS + 101, 2):
                client.send(headers(stream, head_of(NOWHERE)), data(stream, b"x"))
            assert len(client.protocol.ended_early) == MAX_REMEMBERED_STREAMS  # type: ignore[attr-defined]

            client.send(data(1, b"x"))
            frames = await client.all_of(h2.RST_STREAM, 1)
            assert h2.read_word(frames[-1][3]) == ErrorCode.STREAM_CLOSED

    run(scenario())


def test_a_reset_cancels_the_handler() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, LATER))
            await settle()
            assert len(served.running) == 1

            client.send(h2.rst_stream_frame(1, ErrorCode.CANCEL))
            await settle()
            assert (served.cancelled, served.running) == (1, [])
            assert served.server.statistics.cancelled == 1
            assert served.server.by_code()[1] == 1
            assert await client.blocks(1) == []

    run(scenario())


def test_a_client_that_leaves_takes_its_handlers_along() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, LATER), headers(3, head_of(CHAT)))
            await settle()
            client.leave()
            await settle()

            assert (served.cancelled, served.running) == (1, [])
            assert served.server.statistics.cancelled == 2

    run(scenario())


# Bounds in number.


def test_more_streams_than_agreed_are_refused_and_may_be_tried_again() -> None:
    async def scenario() -> None:
        async with scene(max_streams=2) as served:
            client = served.client()
            client.send(call(1, LATER), call(3, LATER), call(5, ECHO))
            assert await client.reset(5) == ErrorCode.REFUSED_STREAM
            assert served.capped() == {Cap.STREAMS: 1}

            served.go.set()
            await settle()
            client.send(call(7, ECHO))
            assert await client.status(7) == 0

    run(scenario())


def test_work_that_goes_on_after_a_reset_still_counts() -> None:
    """CVE-2023-44487: a reset must not make room before the work has ended."""

    async def scenario() -> None:
        async with scene(max_streams=2) as served:
            served.stubborn = True
            client = served.client()
            client.send(call(1, LATER), call(3, LATER))
            await settle()
            client.send(h2.rst_stream_frame(1, 8), h2.rst_stream_frame(3, 8), call(5, ECHO))
            assert await client.reset(5) == ErrorCode.REFUSED_STREAM

            served.go.set()
            await settle()
            client.send(call(7, ECHO))
            assert await client.status(7) == 0

    run(scenario())


def test_a_header_list_that_is_too_large_costs_its_call_and_keeps_the_table_in_step() -> None:
    async def scenario() -> None:
        async with scene(max_header_list_bytes=2_000) as served:
            client = served.client()
            client.send(call(1, ECHO, b"", (b"x-large", b"y" * 2_000)))
            assert await client.status(1) == 8
            assert await client.reset(1) == ErrorCode.NO_ERROR
            assert served.capped() == {Cap.HEADER_LIST: 1}

            client.send(headers(3, head_of(ECHO, (b"x-large", b"y" * 2_000)), end=True))
            assert await client.status(3) == 8
            assert await client.reset(3) is None
            client.send(call(5, ECHO))
            assert await client.status(5) == 0

    run(scenario())


# Floods: hostile clients, one for each kind.


def rapid_reset(number: int) -> bytes:
    stream = 2 * number + 3
    return call(stream, LATER) + h2.rst_stream_frame(stream, ErrorCode.CANCEL)


def made_reset(number: int) -> bytes:
    """CVE-2025-8671: the server is made to reset."""
    stream = 2 * number + 3
    return call(stream, LATER) + h2.window_update_frame(stream, 0)


def reset_of_a_short_call(number: int) -> bytes:
    """A deadline that is nearly due from the beginning is no excuse."""
    stream = 2 * number + 3
    return call(stream, LATER, b"", (b"grpc-timeout", b"9m")) + h2.rst_stream_frame(stream, ErrorCode.CANCEL)


def malformed(number: int) -> bytes:
    return headers(2 * number + 3, [(b":method", b"POST")], end=True)


FLOODS: list[Any] = [
    pytest.param(rapid_reset, Noise.RESETS, id="rapid-reset"),
    pytest.param(reset_of_a_short_call, Noise.RESETS, id="rapid-reset-with-short-deadlines"),
    pytest.param(made_reset, Noise.RESETS, id="resets-made-by-the-server"),
    pytest.param(malformed, Noise.RESETS, id="malformed-requests"),
    pytest.param(lambda _: h2.settings_frame([(4, 1)]), Noise.SETTINGS, id="settings"),
    pytest.param(lambda _: h2.settings_frame([]), Noise.SETTINGS, id="empty-settings"),
    pytest.param(lambda _: h2.ping_frame(b"12345678"), Noise.PINGS, id="ping"),
    pytest.param(lambda _: h2.frame(h2.DATA, 0, 3), Noise.EMPTY_FRAMES, id="empty-data"),
    pytest.param(lambda _: h2.frame(h2.DATA, 8, 3, b"\0"), Noise.EMPTY_FRAMES, id="empty-padded-data"),
    pytest.param(lambda _: h2.window_update_frame(0, 1), Noise.WINDOW_UPDATES, id="window-of-connection"),
    pytest.param(lambda _: h2.window_update_frame(1, 1), Noise.WINDOW_UPDATES, id="window-of-stream"),
    pytest.param(lambda _: h2.window_update_frame(5, 1), Noise.WINDOW_UPDATES, id="window-of-ended-stream"),
    pytest.param(lambda _: h2.rst_stream_frame(5, 8), Noise.STRAYS, id="resets-of-an-ended-stream"),
    pytest.param(lambda _: h2.frame(h2.DATA, 0, 5), Noise.STRAYS, id="data-of-an-ended-stream"),
    pytest.param(lambda _: h2.frame(h2.PRIORITY, 0, 1, bytes(5)), Noise.OTHERS, id="priority"),
    pytest.param(lambda _: h2.frame(0x77, 0, 1), Noise.OTHERS, id="unknown-frames"),
    pytest.param(lambda _: h2.SETTINGS_ACK, Noise.OTHERS, id="acknowledgements"),
    pytest.param(lambda _: h2.ping_frame(b"12345678", ack=True), Noise.OTHERS, id="ping-answers"),
]


@pytest.mark.parametrize(("frame", "noise"), FLOODS)
def test_a_flood_ends_the_connection(frame: Callable[[int], bytes], noise: Noise) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, LATER) + headers(3, head_of(CHAT)) + call(5, ECHO))
            await client.hear()
            burst = ALLOWANCES[noise].burst
            count = 0
            while not client.transport.eof and count <= burst + 10:
                client.send(frame(count + 10))
                await settle(3)  # else what was cancelled still counts, and new streams are refused
                count += 1

            goaway = await client.goaway()
            assert goaway is not None
            assert goaway[1] == ErrorCode.ENHANCE_YOUR_CALM
            assert burst - 10 <= count <= burst + 10
            assert served.capped()[Cap[noise.name]] == 1
            assert served.running == []
            assert any(Cap[noise.name].value in text for text in served.said())

    run(scenario())


def test_refused_streams_without_end_end_the_connection() -> None:
    async def scenario() -> None:
        async with scene(max_streams=1) as served:
            client = served.client()
            client.send(call(1, LATER))
            stream = 3
            while not client.transport.eof:
                client.send(headers(stream, head_of(ECHO), end=True))
                stream += 2

            assert stream < 2 * 1_010
            assert served.capped()[Cap.REFUSALS] == 1

    run(scenario())


def test_continuation_without_end_ends_the_connection() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(h2.frame(h2.HEADERS, 0, 1))
            while not client.transport.eof:
                client.send(h2.frame(h2.CONTINUATION, 0, 1))

            goaway = await client.goaway()
            assert goaway is not None
            assert goaway[1] == ErrorCode.ENHANCE_YOUR_CALM
            assert served.capped() == {Cap.CONTINUATION: 1}

    run(scenario())


def test_a_header_bomb_ends_the_connection() -> None:
    """A byte of a block that stands for 4 KiB of headers."""

    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            bomb = b"\x40\x01a" + integer(4_000, 0x7F) + b"x" * 4_000 + b"\xbe" * 12_000
            client.send(h2.frame(h2.HEADERS, h2.END_HEADERS, 1, bomb))

            goaway = await client.goaway()
            assert goaway is not None
            assert goaway[1] == ErrorCode.ENHANCE_YOUR_CALM
            assert served.capped() == {Cap.HEADER_BOMB: 1}

    run(scenario())


def test_resets_are_earned_by_finished_work() -> None:
    async def scenario() -> None:
        allowances = {**ALLOWANCES, Noise.RESETS: Allowance(burst=10, per_s=0, per_work=1)}
        async with scene(allowances=allowances) as served:
            client = served.client()
            stream = 1
            for _ in range(200):
                client.send(call(stream, ECHO) + call(stream + 2, LATER) + h2.rst_stream_frame(stream + 2, 8))
                stream += 4
            await client.hear()
            assert await client.goaway() is None

            for _ in range(20):
                client.send(call(stream, LATER) + h2.rst_stream_frame(stream, 8))
                stream += 2
            goaway = await client.goaway()
            assert goaway is not None
            assert goaway[1] == ErrorCode.ENHANCE_YOUR_CALM

    run(scenario())


def test_giving_up_at_ones_own_deadline_costs_nothing() -> None:
    """Callers with a deadline of some milliseconds all give up at once when we are slow."""

    async def scenario() -> None:
        allowances = {**ALLOWANCES, Noise.RESETS: Allowance(burst=1, per_s=0, per_work=0)}
        async with scene(allowances=allowances) as served:
            client = served.client()
            for stream in range(1, 101, 2):
                client.send(call(stream, LATER, b"", (b"grpc-timeout", b"20m")))
            await served.clock.advance(0.012)
            for stream in range(1, 101, 2):
                client.send(h2.rst_stream_frame(stream, 8))

            assert await client.goaway() is None
            assert served.cancelled == 50

    run(scenario())


def test_a_reset_of_an_answer_that_waits_for_its_window_costs_like_any_other() -> None:
    async def scenario() -> None:
        allowances = {**ALLOWANCES, Noise.RESETS: Allowance(burst=5, per_s=0, per_work=0)}
        async with scene(allowances=allowances) as served:
            client = served.client(greet=False)
            client.greet([(4, 0)])
            for stream in range(1, 13, 2):
                client.send(call(stream, ECHO), h2.rst_stream_frame(stream, 8))

            goaway = await client.goaway()
            assert goaway is not None
            assert goaway[1] == ErrorCode.ENHANCE_YOUR_CALM

    run(scenario())


def test_honest_traffic_never_runs_into_an_allowance() -> None:
    """Thousands of calls at once, with the frames that careful clients send with each."""

    async def scenario(served: Scene) -> None:
        client = served.client()
        stream = 1
        for _ in range(3_000):
            client.send(call(stream, ECHO, b"x" * 2_000))
            await settle(1)
            client.send(
                h2.window_update_frame(0, 2_005)
                + h2.window_update_frame(stream, 2_005)
                + h2.ping_frame(b"bdp ping")
            )
            stream += 2

        assert await client.goaway() is None
        assert served.server.by_code()[0] == 3_000
        assert served.capped() == {}

    async def main() -> None:
        async with scene() as served:
            await scenario(served)

    run(main())


# Deadlines.


def test_a_deadline_that_passes_ends_the_call_and_cancels_its_handler() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, LATER, b"", (b"grpc-timeout", b"100m")), call(3, LATER))
            client.send(headers(5, head_of(CHAT, (b"grpc-timeout", b"1S"))))
            await served.clock.advance(0.05)
            assert await client.status(1) is None

            await served.clock.advance(0.06)
            assert await client.status(1) == 4
            assert served.cancelled == 1
            await served.clock.advance(1)
            assert await client.status(5) == 4
            assert await client.status(3) is None

    run(scenario())


@pytest.mark.parametrize("path", [LATER, CHAT])
def test_a_deadline_in_the_past_does_not_even_begin(path: bytes) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, path, b"", (b"grpc-timeout", b"0n")))

            assert await client.status(1) == 4
            assert served.running == []
            assert served.server.statistics.cancelled == 0

    run(scenario())
