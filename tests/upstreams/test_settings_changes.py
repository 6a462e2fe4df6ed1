"""SETTINGS that change while calls are in flight: streams, header table, frame size, windows."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import hpack
import pytest

from silence_gateway.core import h2_frames as frames
from silence_gateway.core.h2_frames import ErrorCode, Setting
from silence_gateway.errors import UpstreamProtocolError, UpstreamUnavailable
from silence_gateway.testing.h2_peer import HEAD, OK, H2Peer, scripted_server
from silence_gateway.upstreams.connection import ConnectionSettings, connect

METHOD = b"/a.B/C"


def within_seconds(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await scenario

    asyncio.run(run())


async def heard(peer: H2Peer) -> None:
    """Wait until the client has read all that was sent."""
    peer.send(frames.ping_frame(b"heard it"))
    while (await peer.frame(frames.PING))[1] != frames.ACK:
        pass


def test_streams_go_down_to_none_and_come_back() -> None:
    """Calls in flight go on; whoever waits for room is told once there is some."""
    closed, reopened = asyncio.Event(), asyncio.Event()

    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.MAX_CONCURRENT_STREAMS, 2)])
        first = await peer.request()
        peer.send(frames.settings_frame([(Setting.MAX_CONCURRENT_STREAMS, 0)]))
        peer.answer(first, b"first")
        await heard(peer)
        closed.set()
        await reopened.wait()
        peer.send(frames.settings_frame([(Setting.MAX_CONCURRENT_STREAMS, 1)]))
        peer.answer(await peer.request(), b"second")
        await peer.gone()

    async def scenario() -> None:
        room: asyncio.Queue[int] = asyncio.Queue()
        async with scripted_server(script) as address:
            connection = await connect(address, on_capacity=lambda each: room.put_nowait(each.max_streams))
            assert (await connection.unary(METHOD, b"")).message == b"first"
            await closed.wait()
            assert connection.accepting
            assert connection.max_streams == 0
            assert room.empty()
            with pytest.raises(UpstreamUnavailable, match="all 0 streams") as caught:
                await connection.unary(METHOD, b"")
            assert not caught.value.sent

            reopened.set()
            assert await room.get() == 1
            assert (await connection.unary(METHOD, b"")).message == b"second"
            await connection.close()

    within_seconds(scenario())


def test_fewer_streams_than_are_in_use_only_hold_up_new_ones() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        streams = [await peer.request() for _ in range(3)]
        peer.send(frames.settings_frame([(Setting.MAX_CONCURRENT_STREAMS, 1)]))
        for stream in streams:
            peer.answer(stream, b"well")
        await peer.gone()

    async def scenario() -> None:
        room: asyncio.Queue[int] = asyncio.Queue()
        async with scripted_server(script) as address:
            connection = await connect(address, on_capacity=lambda each: room.put_nowait(each.open_streams))
            calls = [connection.unary(METHOD, b"") for _ in range(3)]
            assert [(await call).message for call in calls] == [b"well"] * 3
            assert (connection.max_streams, room.qsize(), room.get_nowait()) == (1, 1, 0)
            await connection.close()

    within_seconds(scenario())


@pytest.mark.parametrize("first", [0, 4_096, 100])
def test_the_table_of_what_we_send_may_shrink_and_grow_at_any_time(first: int) -> None:
    """hpack's decoder refuses a block that does not follow what it was last told of its table."""

    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.HEADER_TABLE_SIZE, first)])
        decoder = hpack.Decoder()
        decoder.max_allowed_table_size = first
        for size in (0, 8_192, 0, 50, 4_096):
            _, _, stream, block, _ = await peer.frame(frames.HEADERS)
            assert dict(decoder.decode(block, raw=True))[b":path"] == METHOD
            peer.send(frames.settings_frame([(Setting.HEADER_TABLE_SIZE, size)]))
            while (await peer.frame(frames.SETTINGS))[1] != frames.ACK:
                pass
            decoder.max_allowed_table_size = size
            peer.answer(stream, b"well")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            for _ in range(5):
                assert (await connection.unary(METHOD, b"", [(b"x-a", b"1")])).message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_the_table_of_what_we_are_sent_may_shrink_and_grow_at_any_time() -> None:
    """Whoever writes may use less than we allow, and says so in the block; what was in the table is gone."""

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        encoder = hpack.Encoder()

        def send_block(stream: int, pairs: list[tuple[bytes, bytes]], flags: int) -> None:
            peer.send(frames.frame(frames.HEADERS, flags, stream, encoder.encode(pairs)))

        for size in (4_096, 0, 4_096, 60, 4_096, 0):
            encoder.header_table_size = size
            for _ in range(2):
                stream = await peer.request()
                send_block(stream, [*HEAD, (b"x-size", b"%d" % size)], frames.END_HEADERS)
                peer.send_message(stream, b"well")
                send_block(stream, [*OK, (b"x-end", b"yes")], frames.END_HEADERS | frames.END_STREAM)
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            for size in (4_096, 0, 4_096, 60, 4_096, 0):
                for _ in range(2):
                    reply = await connection.unary(METHOD, b"")
                    assert list(reply.initial_metadata) == [(b"x-size", b"%d" % size)]
                    assert list(reply.trailing_metadata) == [(b"x-end", b"yes")]
            await connection.close()

    within_seconds(scenario())


def test_a_table_larger_than_we_allow_ends_the_connection() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()
        encoder = hpack.Encoder()
        encoder.header_table_size = 4_097
        peer.send(frames.frame(frames.HEADERS, 4, stream, encoder.encode(HEAD)))
        goaway = await peer.frame(frames.GOAWAY)
        assert frames.read_goaway(goaway[3])[1] == ErrorCode.COMPRESSION_ERROR

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            with pytest.raises(UpstreamProtocolError, match="above the agreed 4096"):
                await connection.unary(METHOD, b"")
            await connection.wait_closed()

    within_seconds(scenario())


def test_frames_follow_the_size_that_holds_when_they_leave() -> None:
    """A message that is queued already is cut anew when the limit sinks."""

    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.MAX_FRAME_SIZE, 1_000_000), (Setting.INITIAL_WINDOW_SIZE, 1_000_000)])
        _, _, _, _, length = await peer.frame(frames.DATA)
        assert 16_384 < length <= 65_535
        sent = length
        while sent < 65_535:
            sent += (await peer.frame(frames.DATA))[4]
        peer.send(
            frames.settings_frame([(Setting.MAX_FRAME_SIZE, 16_384)]), frames.window_update_frame(0, 500_000)
        )
        lengths: list[int] = []
        while sum(lengths) < 300_005 - sent:
            lengths.append((await peer.frame(frames.DATA))[4])
        assert max(lengths) == 16_384
        peer.answer(1, b"well")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            assert (await connection.unary(METHOD, bytes(300_000))).message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_headers_are_cut_at_the_size_of_a_frame() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.MAX_FRAME_SIZE, 20_000)])
        for _ in range(2):
            _, headers = await peer.headers()
            assert len(dict(headers)[b"x-long"]) == 50_000
            peer.send(frames.settings_frame([(Setting.MAX_FRAME_SIZE, 16_384)]))
            peer.answer(await peer.request(), b"well")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            for _ in range(2):
                reply = await connection.unary(METHOD, b"", [(b"x-long", b"y" * 50_000)])
                assert reply.message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_frames_to_us_may_be_as_large_as_we_said_and_no_larger() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()
        peer.send_headers(stream)
        whole = b"\0" + (39_995).to_bytes(4, "big") + bytes(39_995)
        peer.send(frames.frame(frames.DATA, 0, stream, whole))
        peer.send_headers(stream, OK, end_stream=True)
        stream = await peer.request()
        peer.send_headers(stream)
        peer.send(frames.frame(frames.DATA, 0, stream, bytes(40_001)))
        goaway = await peer.frame(frames.GOAWAY)
        assert frames.read_goaway(goaway[3])[1] == ErrorCode.FRAME_SIZE_ERROR

    async def scenario() -> None:
        settings = ConnectionSettings(max_frame_bytes=40_000)
        async with scripted_server(script) as address:
            connection = await connect(address, settings=settings)
            assert len((await connection.unary(METHOD, b"")).message) == 39_995
            with pytest.raises(UpstreamProtocolError, match="40001 bytes is above 40000"):
                await connection.unary(METHOD, b"")
            await connection.wait_closed()

    within_seconds(scenario())


def test_windows_of_streams_that_wait_follow_the_setting_and_the_small_calls_too() -> None:
    """After the window of new streams has become nothing, even a small call waits for it."""
    shut = asyncio.Event()

    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.INITIAL_WINDOW_SIZE, 0)])
        shut.set()
        stream, _ = await peer.headers()
        await heard(peer)
        assert not [frame for frame in peer.received if frame[0] == frames.DATA]
        peer.send(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 3)]))
        assert (await peer.frame(frames.DATA))[4] == 3
        peer.send(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 0)]))
        peer.send(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 100)]))
        assert await peer.request() == stream
        peer.answer(stream, b"well")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            await shut.wait()
            assert (await connection.unary(METHOD, b"hello")).message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_a_window_that_would_overflow_a_stream_ends_the_connection() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        await peer.frame(frames.DATA)
        peer.send(frames.window_update_frame(1, frames.MAX_WINDOW - 65_535))
        peer.send(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, frames.MAX_WINDOW)]))
        goaway = await peer.frame(frames.GOAWAY)
        assert frames.read_goaway(goaway[3])[1] == ErrorCode.FLOW_CONTROL_ERROR

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            with pytest.raises(UpstreamProtocolError, match="overflows a stream"):
                await connection.unary(METHOD, bytes(200_000))
            await connection.wait_closed()

    within_seconds(scenario())


def test_what_new_settings_allow_is_sent_after_their_acknowledgement() -> None:
    """A server may go by the old values until it has that."""

    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.INITIAL_WINDOW_SIZE, 0)])
        await peer.frame(frames.HEADERS)
        await heard(peer)
        so_far = len(peer.received)
        peer.send(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 100)]))
        peer.answer(await peer.request(), b"well")
        kinds = [frame[0] for frame in peer.received[so_far:]]
        assert kinds.index(frames.SETTINGS) < kinds.index(frames.DATA)
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            assert (await connection.unary(METHOD, b"hello")).message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_who_was_turned_away_begins_fewer_streams_until_there_is_room_again() -> None:
    """A server may count calls for a moment longer than their answers take to arrive."""

    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.MAX_CONCURRENT_STREAMS, 3)])
        *held, refused = [await peer.request() for _ in range(3)]
        peer.send(frames.rst_stream_frame(refused, ErrorCode.REFUSED_STREAM))
        peer.answer(await peer.request(), b"third")
        for stream in held:
            peer.answer(stream, b"held")
        await peer.gone()

    async def scenario() -> None:
        room: asyncio.Queue[int] = asyncio.Queue()
        async with scripted_server(script) as address:
            connection = await connect(address, on_capacity=lambda each: room.put_nowait(each.max_streams))
            *held, refused = [asyncio.ensure_future(connection.unary(METHOD, b"")) for _ in range(3)]
            with pytest.raises(UpstreamUnavailable, match="reset the call") as caught:
                await refused
            assert caught.value.refused
            assert connection.max_streams == connection.open_streams == 2
            with pytest.raises(UpstreamUnavailable, match="all 2 streams"):
                await connection.unary(METHOD, b"")
            assert await room.get() == 3
            assert (await connection.unary(METHOD, b"")).message == b"third"
            assert {(await call).message for call in held} == {b"held"}
            await connection.close()

    within_seconds(scenario())
