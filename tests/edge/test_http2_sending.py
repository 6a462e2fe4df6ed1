"""Answers under flow control: what leaves, what waits, and for whom room is made."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.edge.http2_scene import CHAT, ECHO, LATER, PUSH, Scene, run, scene

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_messages import framed
from silence_gateway.core.h2_frames import ErrorCode, Setting
from silence_gateway.core.hpack import NO_TABLE
from silence_gateway.edge.http2_sending import PADDING_BYTES, TICK_BYTES
from silence_gateway.edge.http2_statistics import Cap
from silence_gateway.testing.h2_client import H2Client, call, data, head_of, headers


def window(size: int) -> bytes:
    """Return SETTINGS that set the window of every stream."""
    return h2.settings_frame([(Setting.INITIAL_WINDOW_SIZE, size)])


async def sent(client: H2Client, stream: int) -> int:
    return len(await client.content(stream))


async def large(client: H2Client, stream: int, size: int) -> None:
    """Have *size* bytes sent to us as one message."""
    client.send(call(stream, PUSH, b"1 %d" % (size - 5)))
    await client.hear()


def test_an_answer_waits_for_the_window_of_its_stream() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 10)])
            client.send(call(1, ECHO, b"0123456789"))
            assert await sent(client, 1) == 10
            assert not await client.ended(1)

            client.send(h2.window_update_frame(1, 3))
            assert await sent(client, 1) == 13
            client.send(h2.window_update_frame(1, 2))
            assert await client.content(1) == framed(b"0123456789")
            assert await client.status(1) == 0

    run(scenario())


def test_an_answer_waits_for_the_window_of_the_connection() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 1_000_000)])
            await large(client, 1, 100_000)
            assert await sent(client, 1) == 65_535

            client.send(h2.window_update_frame(0, 1_000))
            assert await sent(client, 1) == 66_535
            client.send(h2.window_update_frame(0, 100_000))
            assert await sent(client, 1) == 100_000
            assert await client.status(1) == 0

    run(scenario())


def test_settings_move_the_windows_of_open_streams_even_below_zero() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(h2.window_update_frame(0, 1_000_000))
            await large(client, 1, 100_000)
            assert await sent(client, 1) == 65_535

            client.send(window(30_000), h2.window_update_frame(1, 35_535))
            assert await sent(client, 1) == 65_535, "the window is at zero, not above"
            client.send(h2.window_update_frame(1, 1))
            assert await sent(client, 1) == 65_536
            client.send(window(30_010))
            assert await sent(client, 1) == 65_546
            client.send(window(1_000_000))
            assert await sent(client, 1) == 100_000

    run(scenario())


def test_a_change_of_settings_that_overflows_a_window_ends_the_connection() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, LATER), h2.window_update_frame(1, h2.MAX_WINDOW - 65_535), window(65_536))

            goaway = await client.goaway()
            assert goaway is not None
            assert goaway[1] == ErrorCode.FLOW_CONTROL_ERROR
            assert served.cancelled == 0
            assert served.running == []

    run(scenario())


def test_frames_are_as_large_as_the_client_allows_and_no_larger() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 1_000_000)])
            client.send(h2.window_update_frame(0, 1_000_000))
            await large(client, 1, 40_000)
            assert [len(frame[3]) for frame in await client.all_of(h2.DATA)] == [16_384, 16_384, 7_232]

            client.send(h2.settings_frame([(Setting.MAX_FRAME_SIZE, 20_000)]))
            await large(client, 3, 40_000)
            assert [len(frame[3]) for frame in await client.all_of(h2.DATA, 3)] == [20_000, 20_000]
            client.send(h2.settings_frame([(Setting.MAX_FRAME_SIZE, h2.MAX_FRAME_SIZE)]))
            await large(client, 5, TICK_BYTES + 1)
            assert [len(frame[3]) for frame in await client.all_of(h2.DATA, 5)] == [TICK_BYTES, 1]

    run(scenario())


def test_large_answers_take_turns() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 1_000_000)])
            client.send(call(1, PUSH, b"1 200000") + call(3, PUSH, b"1 200000"))
            await client.hear()
            first = len(await client.all_of(h2.DATA))
            client.send(h2.window_update_frame(0, 8 * 16_384))

            turns = [frame[2] for frame in (await client.all_of(h2.DATA))[first:]]
            assert len(turns) >= 8
            assert all(one != other for one, other in pairwise(turns))
            client.send(h2.rst_stream_frame(1, 8), h2.rst_stream_frame(3, 8))

    run(scenario())


def test_a_small_answer_overtakes_a_large_one_that_waits_for_its_own_window() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(h2.window_update_frame(0, 1_000_000))
            await large(client, 1, 100_000)
            client.send(call(3, ECHO, b"small"))

            assert await client.status(3) == 0
            client.send(h2.rst_stream_frame(1, 8))

    run(scenario())


def test_a_tick_carries_only_so_much_content() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 10_000_000)])
            client.send(h2.window_update_frame(0, 10_000_000))
            flushes, before = served.server.statistics.flushes, len(client.transport.written)
            await large(client, 1, 10 * TICK_BYTES)
            await client.hear()

            assert await sent(client, 1) == 10 * TICK_BYTES
            assert served.server.statistics.flushes - flushes >= 10
            assert len(client.transport.written) > before

    run(scenario())


def test_a_client_that_does_not_read_is_not_sent_more_than_a_buffer() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 10_000_000)])
            client.send(h2.window_update_frame(0, 10_000_000))
            client.transport.stuck = True
            await large(client, 1, 4_000_000)
            await client.hear()
            assert client.transport.waiting <= 2 * TICK_BYTES

            while client.transport.waiting:
                client.transport.take(100_000)
                await client.hear()
            assert await sent(client, 1) == 4_000_000
            assert await client.status(1) == 0

    run(scenario())


def test_a_client_that_does_not_read_is_not_read_either() -> None:
    """Answers without content would pile up without a bound: everything a client asks costs bytes."""

    async def scenario() -> None:
        async with scene(max_streams=1_000) as served:
            client = served.client()
            client.transport.stuck = True
            stream = 1
            while client.transport.reading:
                client.send(b"".join(call(stream + 2 * each, b"/no.Such/Method") for each in range(200)))
                stream += 400
                await client.hear()
            assert client.transport.waiting < 1_200_000

            client.transport.take(client.transport.waiting)
            assert client.transport.reading
            client.send(call(stream, ECHO))
            assert await client.status(stream) == 0

    run(scenario())


def test_new_calls_are_refused_while_too_much_waits_for_the_client() -> None:
    async def scenario() -> None:
        async with scene(max_unsent_bytes=200_000) as served:
            client = served.client()
            client.send(h2.window_update_frame(0, 10_000_000))
            for stream in (1, 3, 5, 7, 9, 11):
                await large(client, stream, 100_000)
            client.send(call(13, ECHO))
            assert await client.reset(13) == ErrorCode.REFUSED_STREAM
            assert served.capped() == {Cap.UNSENT: 1}

            client.send(h2.rst_stream_frame(3, 8), call(15, ECHO))
            assert await client.status(15) == 0

    run(scenario())


def test_the_first_block_tells_that_no_table_is_kept() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, ECHO), call(3, ECHO))
            blocks = [frame[3] for frame in await client.all_of(h2.HEADERS)]

            assert [block.startswith(NO_TABLE) for block in blocks] == [True, False, False, False]

    run(scenario())


def test_a_handler_that_sends_is_held_up_by_a_client_that_does_not_read() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, PUSH, b"1000 10000"))
            await client.hear()
            connection = client.protocol
            assert connection.unsent < 200_000  # type: ignore[attr-defined]

            for _ in range(2_000):
                if await client.ended(1):
                    break
                client.send(h2.window_update_frame(0, 30_000) + h2.window_update_frame(1, 30_000))
            assert await sent(client, 1) == 1_000 * 10_005

    run(scenario())


# Receiving.


async def room(client: H2Client, stream: int) -> int:
    """Return what we may send on *stream*, its own DATA not subtracted."""
    updates = await client.all_of(h2.WINDOW_UPDATE, stream)
    return 65_535 + sum(h2.read_increment(frame[3]) for frame in updates)


def test_a_large_message_is_given_room_for_exactly_the_rest_at_once() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            message = bytes(1_000_000)
            client.send(headers(1, head_of(ECHO)), h2.frame(h2.DATA, 0, 1, framed(message)[:100]))
            assert await room(client, 1) == 1_000_005 + PADDING_BYTES

            client.send(data(1, framed(message)[100:], end=True))
            for _ in range(4):
                await client.hear()
            assert served.server.by_code()[0] == 1
            client.send(h2.rst_stream_frame(1, 8))

    run(scenario())


def test_large_messages_together_borrow_no_more_than_the_bound() -> None:
    async def scenario(served: Scene) -> None:
        client = served.client()
        streams = range(1, 21, 2)
        for stream in streams:
            client.send(headers(stream, head_of(LATER)) + data(stream, framed(bytes(500_000))[:100]))
        rooms = {stream: await room(client, stream) for stream in streams}
        assert sum(size > 65_535 for size in rooms.values()) == 2
        assert rooms[1] == rooms[3] == 500_005 + PADDING_BYTES

        client.send(data(1, framed(bytes(500_000))[100:], end=True))
        for _ in range(3):
            await client.hear()
        assert await room(client, 5) == 500_005 + PADDING_BYTES, (
            "the next in the line has what the first gave back"
        )
        client.send(h2.rst_stream_frame(7, 8), h2.rst_stream_frame(3, 8))
        assert await room(client, 9) == 500_005 + PADDING_BYTES
        assert await room(client, 11) == 65_535

    async def main() -> None:
        async with scene(max_held_bytes=1_000_000) as served:
            await scenario(served)

    run(main())


def test_one_message_larger_than_the_bound_gets_through_alone() -> None:
    async def scenario() -> None:
        async with scene(max_held_bytes=0) as served:
            client = served.client()
            wire = framed(bytes(300_000))
            for stream in (1, 3):
                client.send(headers(stream, head_of(ECHO)) + data(stream, wire[:100]))
            assert [await room(client, 1), await room(client, 3)] == [300_005 + PADDING_BYTES, 65_535]

            client.send(data(1, wire[100:], end=True))
            for _ in range(3):
                await client.hear()
            assert await room(client, 3) == 300_005 + PADDING_BYTES
            client.send(h2.rst_stream_frame(1, 8), h2.rst_stream_frame(3, 8))

    run(scenario())


def test_the_connections_window_is_given_back_for_streams_that_are_gone_too() -> None:
    async def scenario() -> None:
        async with scene(connection_window_bytes=65_535) as served:
            client = served.client()
            client.send(headers(1, head_of(CHAT)), h2.rst_stream_frame(1, 8))
            client.send(headers(3, head_of(b"/no.Such/Method")))
            client.send(data(3, bytes(32_768)))

            updates = await client.all_of(h2.WINDOW_UPDATE, 0)
            assert sum(h2.read_increment(frame[3]) for frame in updates) == 32_768

    run(scenario())


def test_more_data_than_the_connections_window_ends_the_connection() -> None:
    async def scenario() -> None:
        async with scene(connection_window_bytes=65_535) as served:
            client = served.client()
            client.send(headers(1, head_of(CHAT)) + headers(3, head_of(CHAT)))
            client.protocol.owed = 40_000  # type: ignore[attr-defined]
            client.send(data(1, bytes(16_384)) + data(3, bytes(10_000)))

            goaway = await client.goaway()
            assert goaway is not None
            assert goaway[1] == ErrorCode.FLOW_CONTROL_ERROR

    run(scenario())


@pytest.mark.parametrize("padding", [0, 200])
def test_padding_is_given_back_at_once(padding: int) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(headers(1, head_of(CHAT)))
            frame = h2.frame(h2.DATA, h2.PADDED, 1, bytes((padding,)) + b"\0" + bytes(padding))
            client.send(frame)
            assert await room(client, 1) == 65_535 + padding + 1
            client.send(h2.rst_stream_frame(1, 8))

    run(scenario())


def test_a_stream_of_messages_gets_room_for_what_its_handler_took() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 10_000_000)])
            client.send(h2.window_update_frame(0, 10_000_000), headers(1, head_of(CHAT)))
            for number in range(100):
                assert await room(client, 1) - number * 10_005 >= 10_005
                client.send(data(1, framed(bytes(10_000))))
            client.send(data(1, b"", end=True))

            assert await sent(client, 1) == 100 * 10_005
            assert await client.status(1) == 0

    run(scenario())


def test_a_stream_whose_handler_takes_nothing_gets_no_room() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 0)])
            client.send(headers(1, head_of(CHAT)))
            sent_by_us = 0
            while await room(client, 1) - sent_by_us >= 10_005:
                client.send(data(1, framed(bytes(10_000))))
                sent_by_us += 10_005

            assert sent_by_us < 200_000, "it is held up by answers that we do not take"
            client.send(h2.window_update_frame(1, 1_000_000) + h2.window_update_frame(0, 1_000_000))
            assert await room(client, 1) - sent_by_us >= 10_005

    run(scenario())
