"""HTTP/2 kept to the letter, with scripted servers: flow control, SETTINGS, GOAWAY, pings, deadlines."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from silence_gateway.core import h2_frames as frames
from silence_gateway.core.h2_frames import ErrorCode, Setting
from silence_gateway.errors import BadRequest, ConfigError, RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.h2_peer import HEAD, OK, H2Peer, scripted_server
from silence_gateway.upstreams.connection import ConnectionSettings, connect

METHOD = b"/a.B/C"
DATA = frames.DATA


def within_seconds(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await scenario

    asyncio.run(run())


async def served_until_gone(peer: H2Peer) -> None:
    """Answer every call well until the client leaves."""
    await peer.greet()
    while True:
        try:
            peer.answer(await peer.request(), b"well")
        except AssertionError:
            return


async def sent_bytes(peer: H2Peer, count: int) -> list[tuple[int, int]]:
    """Wait for *count* bytes of DATA; return stream and length of each frame."""
    got: list[tuple[int, int]] = []
    while sum(length for _, length in got) < count:
        _, _, stream, _, length = await peer.frame(DATA)
        got.append((stream, length))
    return got


def test_a_strict_reference_server_accepts_what_we_send() -> None:
    """h2 checks every header, window and state of a unary call, a cancelled one and a streamed one."""

    async def scenario() -> None:
        seen: list[object] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            server.initiate_connection()
            server.update_settings({1: 0, 5: 20_000})
            writer.write(server.data_to_send())
            while data := await reader.read(65_536):
                events = server.receive_data(data)
                seen.extend(events)
                reset = {event.stream_id for event in events if isinstance(event, h2.events.StreamReset)}
                for event in events:
                    if isinstance(event, h2.events.DataReceived):
                        server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    if isinstance(event, h2.events.StreamEnded) and event.stream_id not in reset:
                        server.send_headers(event.stream_id, HEAD)
                        server.send_data(event.stream_id, b"\0\0\0\0\2ok")
                        server.send_headers(event.stream_id, OK, end_stream=True)
                writer.write(server.data_to_send())
            writer.close()

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield bytes(30_000)

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        connection = await connect(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        metadata = [(b"x-one", b"1"), (b"x-raw-bin", b"\0")]
        assert (await connection.unary(METHOD, b"hello", metadata, 1e12)).message == b"ok"
        assert (await connection.unary(METHOD, bytes(200_000))).message == b"ok"
        connection.stream(METHOD, b"").cancel()
        assert [message async for message in connection.stream(METHOD, parts())] == [b"ok"]
        await connection.close()
        listener.close()

        requests = [event for event in seen if isinstance(event, h2.events.RequestReceived)]
        assert dict(requests[0].headers or ()) == {
            b":method": b"POST",
            b":scheme": b"http",
            b":path": METHOD,
            b":authority": connection.address.encode(),
            b"te": b"trailers",
            b"content-type": b"application/grpc",
            b"user-agent": b"silence-gateway",
            b"grpc-accept-encoding": b"identity,gzip,deflate,zstd",
            b"grpc-timeout": dict(requests[0].headers or ())[b"grpc-timeout"],
            b"x-one": b"1",
            b"x-raw-bin": b"AA",
        }
        assert any(isinstance(event, h2.events.StreamReset) for event in seen)

    within_seconds(scenario())


def test_a_large_request_obeys_both_windows_and_the_frame_size() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.INITIAL_WINDOW_SIZE, 40_000)])
        got = await sent_bytes(peer, 40_000)
        assert max(length for _, length in got) == 16_384
        peer.send(
            frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 50_000), (Setting.MAX_FRAME_SIZE, 20_000)])
        )
        assert sum(length for _, length in await sent_bytes(peer, 10_000)) == 10_000
        peer.send(frames.window_update_frame(1, 100_000))
        assert (
            sum(length for _, length in await sent_bytes(peer, 15_535)) == 15_535
        )  # the connection's window
        peer.send(frames.window_update_frame(0, 100_000))
        await sent_bytes(peer, 100_005 - 65_535)
        peer.answer(1, b"well")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            assert (await connection.unary(METHOD, bytes(100_000))).message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_a_window_may_shrink_below_what_is_on_the_way() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        await sent_bytes(peer, 65_535)
        peer.send(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 0)]))
        peer.send(frames.window_update_frame(0, 1_000_000), frames.window_update_frame(1, 65_535))
        peer.send(frames.ping_frame(b"12345678"))
        await peer.frame(frames.PING)
        assert not [frame for frame in peer.received if frame[0] == DATA and frame[4] == 0]
        peer.send(frames.window_update_frame(1, 7))
        assert sum(length for _, length in await sent_bytes(peer, 7)) == 7
        peer.answer(1, b"enough")
        assert frames.read_word((await peer.frame(frames.RST_STREAM))[3]) == ErrorCode.CANCEL
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            assert (await connection.unary(METHOD, bytes(100_000))).message == b"enough"
            await connection.close()

    within_seconds(scenario())


def test_large_requests_share_the_window_and_small_ones_pass_them() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.INITIAL_WINDOW_SIZE, 1_000_000)])
        await sent_bytes(peer, 65_535)
        peer.send(frames.window_update_frame(0, 60_000))
        shares = await sent_bytes(peer, 60_000)
        assert {stream for stream, _ in shares} == {1, 3}
        peer.send(frames.window_update_frame(0, 1_000_000))
        for _ in range(2):
            peer.answer(await peer.request(), b"well")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            await asyncio.gather(*(connection.unary(METHOD, bytes(200_000)) for _ in range(2)))
            await connection.close()

    within_seconds(scenario())


def test_an_impossible_stream_window_ends_only_its_call() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        await sent_bytes(peer, 65_535)
        peer.send(frames.window_update_frame(1, 1), frames.window_update_frame(1, frames.MAX_WINDOW))
        assert (await peer.frame(frames.RST_STREAM))[2] == 1
        peer.send(frames.window_update_frame(0, 1_000))
        peer.answer(await peer.request(), b"well")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            with pytest.raises(Exception, match="impossible WINDOW_UPDATE"):
                await connection.unary(METHOD, bytes(100_000))
            assert (await connection.unary(METHOD, b"")).message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_the_window_of_a_stream_is_given_back_as_it_is_read() -> None:
    looked = asyncio.Event()

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()
        peer.send_headers(stream)
        for _ in range(6):
            peer.send_message(stream, bytes(10_000))
        peer.send(frames.ping_frame(b"12345678"))
        await peer.frame(frames.PING)
        assert not [frame for frame in peer.received if frame[0] == frames.WINDOW_UPDATE and frame[2]]
        looked.set()
        _, _, got, content, _ = await peer.frame(frames.WINDOW_UPDATE)
        assert got == stream
        assert frames.read_increment(content) >= 32_000
        peer.send_headers(stream, OK, end_stream=True)
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address, settings=ConnectionSettings(stream_window_bytes=65_535))
            stream = connection.stream(METHOD, b"")
            await looked.wait()
            assert [len(message) async for message in stream] == [10_000] * 6
            await connection.close()

    within_seconds(scenario())


@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_the_window_of_padding_is_given_back_as_well(kind: str) -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()
        peer.send_headers(stream)
        for _ in range(200):
            peer.send(frames.frame(frames.DATA, frames.PADDED, stream, bytes((255,)) + bytes(255)))
        given_back = 0
        while given_back < 32_767:
            _, _, got, content, _ = await peer.frame(frames.WINDOW_UPDATE)
            given_back += frames.read_increment(content) if got == stream else 0
        peer.send_message(stream, b"well")
        peer.send_headers(stream, OK, end_stream=True)
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address, settings=ConnectionSettings(stream_window_bytes=65_535))
            if kind == "unary":
                assert (await connection.unary(METHOD, b"")).message == b"well"
            else:
                assert [message async for message in connection.stream(METHOD, b"")] == [b"well"]
            await connection.close()

    within_seconds(scenario())


def test_the_window_of_the_connection_is_given_back_in_large_steps() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        for _ in range(4):
            peer.answer(await peer.request(), bytes(20_000))
        updates = [
            frames.read_increment(frame[3]) for frame in peer.received if frame[0] == frames.WINDOW_UPDATE
        ]
        assert updates == [40_010]
        await peer.gone()

    async def scenario() -> None:
        settings = ConnectionSettings(connection_window_bytes=65_535)
        async with scripted_server(script) as address:
            connection = await connect(address, settings=settings)
            for _ in range(4):
                await connection.unary(METHOD, b"")
            await connection.close()

    within_seconds(scenario())


def test_streams_run_out_and_come_back() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.MAX_CONCURRENT_STREAMS, 2)])
        first, second = await peer.request(), await peer.request()
        peer.answer(first)
        assert await peer.request() == 5
        peer.send(frames.settings_frame([(Setting.MAX_CONCURRENT_STREAMS, 500)]))
        peer.answer(second)
        peer.answer(5)
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            room: asyncio.Queue[int] = asyncio.Queue()
            settings = ConnectionSettings(max_streams=7)
            connection = await connect(
                address, settings=settings, on_capacity=lambda each: room.put_nowait(each.open_streams)
            )
            assert connection.max_streams == 2
            calls = [connection.unary(METHOD, b""), connection.unary(METHOD, b"")]
            with pytest.raises(UpstreamUnavailable, match="all 2 streams") as caught:
                await connection.unary(METHOD, b"")
            with pytest.raises(UpstreamUnavailable, match="all 2 streams"):
                await anext(aiter(connection.stream(METHOD, b"")))
            assert not caught.value.sent

            assert await room.get() == 1
            calls.append(connection.unary(METHOD, b""))
            assert await room.get() == 2
            assert connection.max_streams == 7
            await asyncio.gather(*calls)
            await connection.close()

    within_seconds(scenario())


def test_goaway_finishes_what_was_taken_and_frees_what_was_not() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        for _ in range(3):
            await peer.request()
        peer.send(frames.goaway_frame(3, ErrorCode.NO_ERROR, b"bye"))
        peer.answer(1, b"one")
        peer.answer(3, b"three")
        await peer.gone()

    async def scenario() -> None:
        lost: list[str] = []
        async with scripted_server(script) as address:
            connection = await connect(address, on_lost=lambda _, reason: lost.append(reason))
            one, three, five = await asyncio.gather(
                *(connection.unary(METHOD, b"") for _ in range(3)), return_exceptions=True
            )

            assert [getattr(each, "message", None) for each in (one, three)] == [b"one", b"three"]
            assert isinstance(five, UpstreamUnavailable)
            assert not five.sent
            assert lost == ["the upstream is going away: NO_ERROR (bye)"]
            assert connection.dismissed
            await connection.wait_closed()

    within_seconds(scenario())


def test_a_graceful_close_waits_for_the_calls() -> None:
    async def scenario() -> None:
        async with scripted_server(served_until_gone) as address:
            connection = await connect(address, on_lost=lambda *_: pytest.fail("we closed it ourselves"))
            call = connection.unary(METHOD, b"")
            closing = asyncio.create_task(connection.close(graceful=True))
            await asyncio.sleep(0)

            with pytest.raises(UpstreamUnavailable, match="closed here"):
                await connection.unary(METHOD, b"")
            assert (await call).message == b"well"
            await closing

    within_seconds(scenario())


def test_closing_at_once_fails_the_calls() -> None:
    async def scenario() -> None:
        async with scripted_server(served_until_gone) as address:
            connection = await connect(address)
            call = connection.unary(METHOD, b"")
            await connection.close()
            with pytest.raises(UpstreamUnavailable, match="closed here") as caught:
                await call
            assert not caught.value.sent

    within_seconds(scenario())


def test_a_call_that_is_told_it_never_left_does_not_leave_with_the_goodbye() -> None:
    """Who is told so may make it elsewhere; this end must not run it as well."""
    got = bytearray()
    read = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frames.settings_frame(()))
        got.extend(await reader.read())
        read.set()
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        connection = await connect(f"{host}:{port}")
        call = connection.unary(METHOD, b"once only")
        connection.abort()
        with pytest.raises(UpstreamUnavailable) as caught:
            await call
        assert not caught.value.sent
        await connection.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.wait_for(read.wait(), 2)
        kinds = [frame[0] for frame in frames.FrameReader().feed(bytes(got[len(frames.PREFACE) :]))]
        assert kinds[-1] == frames.GOAWAY
        assert frames.HEADERS not in kinds

    within_seconds(scenario())


def test_pings_are_answered() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        peer.send(frames.ping_frame(b"are you?"))
        assert (await peer.frame(frames.PING))[1:4] == (frames.ACK, 0, b"are you?")

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            await connection.wait_closed()
            assert connection.statistics.pings_answered == 1

    within_seconds(scenario())


def test_a_silent_server_is_asked_and_then_given_up() -> None:
    """Only with a call in flight; an answer to the ping keeps the connection."""

    answered = asyncio.Event()

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        await peer.request()
        _, flags, _, content, _ = await peer.frame(frames.PING)
        assert not flags
        # Once the second is answered, the client has read both.
        peer.send(frames.ping_frame(content, ack=True), frames.ping_frame(b"received"))
        while (await peer.frame(frames.PING))[1] != frames.ACK:
            pass
        answered.set()
        await peer.frame(frames.PING)
        await peer.gone()

    async def scenario() -> None:
        clock = FakeClock()
        async with scripted_server(script) as address:
            settings = ConnectionSettings(keepalive_s=10, keepalive_timeout_s=3)
            connection = await connect(address, settings=settings, clock=clock)
            await clock.advance(35)
            assert connection.statistics.pings_sent == 0

            call = connection.unary(METHOD, b"")
            await clock.advance(10)
            assert connection.statistics.pings_sent == 1
            await answered.wait()
            await clock.advance(3)
            assert connection.accepting

            await clock.advance(10)
            assert connection.statistics.pings_sent == 2
            await clock.advance(3)
            with pytest.raises(UpstreamUnavailable, match="no byte within 3 s of a ping"):
                await call
            await connection.wait_closed()

    within_seconds(scenario())


def test_a_server_that_answers_nothing_but_pings_is_asked_no_oftener_than_all_servers_allow() -> None:
    """Two pings sooner than five minutes are forgiven; headers or data of the server earn two more."""
    answer = asyncio.Event()
    was_read = asyncio.Semaphore(0)

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()

        async def pings(count: int) -> None:
            for _ in range(count):
                _, _, _, content, _ = await peer.frame(frames.PING)
                peer.send(frames.ping_frame(content, ack=True), frames.ping_frame(b"received"))
                assert (await peer.frame(frames.PING))[1] == frames.ACK
                was_read.release()

        await pings(3)
        await answer.wait()
        peer.send_headers(stream)
        peer.send(frames.ping_frame(b"received"))
        await peer.frame(frames.PING)
        was_read.release()
        await pings(2)
        await peer.gone()

    async def scenario() -> None:
        clock = FakeClock()
        async with scripted_server(script) as address:
            settings = ConnectionSettings(keepalive_s=10, keepalive_timeout_s=3)
            connection = await connect(address, settings=settings, clock=clock)
            call = connection.unary(METHOD, b"")
            statistics = connection.statistics

            async def asked(count: int, within_s: int) -> None:
                waited_s = 0
                while statistics.pings_sent < count:
                    assert waited_s <= within_s
                    await clock.advance(1)
                    waited_s += 1
                await was_read.acquire()

            await asked(1, within_s=10)
            await asked(2, within_s=13)
            for _ in range(300):
                await clock.advance(1)
            assert statistics.pings_sent == 2
            await asked(3, within_s=20)
            answer.set()
            await was_read.acquire()
            await asked(4, within_s=26)
            await asked(5, within_s=13)
            await connection.close()
            with pytest.raises(UpstreamUnavailable):
                await call

    within_seconds(scenario())


def test_the_window_grows_for_a_reader_that_takes_what_comes() -> None:
    """What came in one round trip fills the window, so that twice as much is worth giving."""

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()
        peer.send_headers(stream)
        for _ in range(6):
            peer.send_message(stream, bytes(10_000))
        _, flags, _, content, _ = await peer.frame(frames.PING)
        assert not flags
        _, _, _, update, _ = await peer.frame(frames.WINDOW_UPDATE)
        given = frames.read_increment(update)
        assert given == 40_020
        for _ in range(4):
            peer.send_message(stream, bytes(11_000))
        peer.send(frames.ping_frame(content, ack=True))
        sent = 60_030 + 44_020
        while given + 65_535 - sent < 80_000:
            if given + 65_535 - sent >= 5_005:
                peer.send_message(stream, bytes(5_000))
                sent += 5_005
            else:
                _, _, got, update, _ = await peer.frame(frames.WINDOW_UPDATE)
                assert got == stream
                given += frames.read_increment(update)
        peer.send_headers(stream, OK, end_stream=True)
        await peer.gone()

    async def scenario() -> None:
        settings = ConnectionSettings(stream_window_bytes=65_535, max_stream_window_bytes=200_000)
        async with scripted_server(script) as address:
            connection = await connect(address, settings=settings)
            stream = connection.stream(METHOD, b"")
            assert [len(message) async for message in stream][:6] == [10_000] * 6
            await connection.close()

    within_seconds(scenario())


def test_a_server_that_complains_of_pings_gets_half_of_them() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        peer.send(frames.goaway_frame(0, ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings"))
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address, settings=ConnectionSettings(keepalive_s=10))
            await connection.wait_closed()
            assert connection.keepalive_s == 20
            assert not connection.dismissed
            assert "too_many_pings" in connection.stopped_because

    within_seconds(scenario())


def test_deadlines_are_noticed_in_order_and_promptly() -> None:
    async def scenario() -> None:
        clock = FakeClock()

        async def script(peer: H2Peer) -> None:
            await peer.greet()
            await peer.gone()

        async with scripted_server(script) as address:
            connection = await connect(address, clock=clock)
            late_s = [0.5, 0.05, 3.0, 0.052, 1.0]
            ended: list[float] = []

            async def call(deadline_s: float) -> None:
                with pytest.raises(UpstreamTimeout):
                    await connection.unary(METHOD, b"", (), deadline_s)
                assert 0 <= clock.monotonic_s() - deadline_s <= 0.005
                ended.append(deadline_s)

            calls = asyncio.gather(*(call(deadline_s) for deadline_s in late_s))
            forever = connection.unary(METHOD, b"")
            stream = connection.stream(METHOD, b"", (), 2.0)
            reading = asyncio.ensure_future(anext(aiter(stream)))
            await settle()
            for _ in range(800):
                await clock.advance(0.004)
            await calls

            assert ended == sorted(late_s)
            with pytest.raises(UpstreamTimeout):
                await reading
            assert connection.open_streams == 1
            assert connection.statistics.timeouts == 6
            with pytest.raises(UpstreamTimeout, match="before the call was sent") as caught:
                await connection.unary(METHOD, b"", (), 1.0)
            assert not caught.value.sent
            connection.abort()
            with pytest.raises(UpstreamUnavailable):
                await forever

    within_seconds(scenario())


def test_what_breaks_the_callers_own_iterator_is_shown_and_the_call_cancelled() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise KeyError("mine")

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        assert frames.read_word((await peer.frame(frames.RST_STREAM))[3]) == ErrorCode.CANCEL

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            stream = connection.stream(METHOD, broken())
            with pytest.raises(KeyError, match="mine"):
                await anext(aiter(stream))
            await connection.close()

    within_seconds(scenario())


def test_an_iterator_that_was_cancelled_inside_ends_its_call_as_cancelled() -> None:
    """It waited for something that somebody else has cancelled: no end of the requests, and no hang."""

    async def cancelled_inside() -> AsyncIterator[bytes]:
        yield b"one"
        something = asyncio.get_running_loop().create_future()
        something.cancel()
        await something

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        assert frames.read_word((await peer.frame(frames.RST_STREAM))[3]) == ErrorCode.CANCEL
        assert not [frame for frame in peer.received if frame[0] == frames.DATA and frame[1]]
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(anext(aiter(connection.stream(METHOD, cancelled_inside()))), 2)
            assert not connection.calls
            await connection.close()

    within_seconds(scenario())


def test_a_request_stream_waits_for_the_window() -> None:
    """No more than a window and one message are asked of the caller's iterator."""
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield bytes(9_995)

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        await sent_bytes(peer, 65_535)
        peer.send(frames.ping_frame(b"12345678"))
        await peer.frame(frames.PING)
        assert asked == 7
        peer.send_headers(1, [*HEAD, (b"grpc-status", b"8"), (b"grpc-message", b"enough")], end_stream=True)
        await peer.frame(frames.RST_STREAM)

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            with pytest.raises(RpcError, match="enough"):
                await anext(aiter(connection.stream(METHOD, endless())))
            await connection.close()

    within_seconds(scenario())


def test_a_stream_tells_its_metadata_before_and_after() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()
        peer.send_headers(stream, [*HEAD, (b"x-a", b"1")])
        peer.send_message(stream, b"x")
        details = (b"grpc-status-details-bin", b"3q0")
        peer.send_headers(stream, [(b"grpc-status", b"5"), (b"x-b", b"2"), details], end_stream=True)
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            stream = connection.stream(METHOD, b"")
            assert list(await stream.initial_metadata()) == [(b"x-a", b"1")]
            assert await anext(aiter(stream)) == b"x"
            with pytest.raises(RpcError) as caught:
                await anext(aiter(stream))
            assert list(await stream.trailing_metadata()) == [(b"x-b", b"2")]
            assert (caught.value.code, caught.value.status_details) == (5, b"\xde\xad")
            stream.cancel()
            await connection.close()

    within_seconds(scenario())


def test_metadata_that_cannot_be_sent_is_refused_before_anything_happens() -> None:
    async def scenario() -> None:
        async with scripted_server(served_until_gone) as address:
            connection = await connect(address)
            with pytest.raises(BadRequest):
                await connection.unary(METHOD, b"", [(b"x", b"\n")])
            with pytest.raises(BadRequest):
                connection.stream(METHOD, b"", [(b"UPPER", b"")])
            assert connection.open_streams == 0
            assert (await connection.unary(METHOD, b"", [(b"x", b"y" * 40_000)])).message == b"well"
            await connection.close()

    within_seconds(scenario())


@pytest.mark.parametrize(
    "wrong",
    [{"max_streams": 0}, {"stream_window_bytes": 100}, {"keepalive_s": -1}, {"max_frame_bytes": 2**24}],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        ConnectionSettings(**wrong)  # type: ignore[arg-type]


def test_two_of_the_largest_frames_fit_into_a_window() -> None:
    assert ConnectionSettings().frame_bytes == 131_072
    assert ConnectionSettings(stream_window_bytes=65_535).frame_bytes == 32_767


def test_settings_are_announced() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        _, _, _, content, _ = await peer.frame(frames.SETTINGS)
        assert dict(struct.iter_unpack(">HI", content)) == {2: 0, 4: 70_000, 5: 20_000, 6: 5_000}
        assert frames.read_increment((await peer.frame(frames.WINDOW_UPDATE))[3]) == 100_000 - 65_535

    async def scenario() -> None:
        settings = ConnectionSettings(
            stream_window_bytes=70_000,
            connection_window_bytes=100_000,
            max_frame_bytes=20_000,
            max_header_list_bytes=5_000,
        )
        async with scripted_server(script) as address:
            connection = await connect(address, settings=settings)
            await connection.wait_closed()

    within_seconds(scenario())


def test_a_server_that_does_not_read_is_not_fed_for_ever() -> None:
    """Calls are begun and left again, while the server takes nothing from its socket."""

    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.INITIAL_WINDOW_SIZE, 1_000_000)])
        peer.send(frames.window_update_frame(0, 1_000_000_000))
        await done.wait()

    done = asyncio.Event()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            metadata = [(b"x", b"y" * 10_000)]
            for _ in range(3_000):
                call = asyncio.ensure_future(connection.unary(METHOD, bytes(16_000), metadata))
                if call.done():
                    break
                await asyncio.sleep(0)
                call.cancel()
            with pytest.raises(UpstreamUnavailable, match="does not read") as caught:
                await call
            assert not caught.value.sent
            with pytest.raises(UpstreamUnavailable, match="does not read"):
                await anext(aiter(connection.stream(METHOD, b"")))
            connection.abort()
            done.set()
            await connection.wait_closed()

    within_seconds(scenario())


def test_a_server_that_asks_and_does_not_read_the_answers_is_left() -> None:
    asked, done = asyncio.Event(), asyncio.Event()

    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.INITIAL_WINDOW_SIZE, 1_000_000)])
        peer.send(frames.window_update_frame(0, 1_000_000_000))
        await asked.wait()
        peer.send(frames.ping_frame(b"are you?"))
        await done.wait()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            calls: list[asyncio.Future[Any]] = []
            while not (calls and calls[-1].done()):
                calls.append(
                    asyncio.ensure_future(connection.unary(METHOD, bytes(16_000), [(b"x", b"y" * 10_000)]))
                )
                await asyncio.sleep(0)
                if len(calls) > 50:
                    calls.pop(0).cancel()
            asked.set()
            await connection.wait_closed()
            assert "answers are not read" in connection.stopped_because
            assert all(
                isinstance(end, Exception) for end in await asyncio.gather(*calls, return_exceptions=True)
            )
            done.set()

    within_seconds(scenario())


def test_stream_numbers_run_out() -> None:
    async def scenario() -> None:
        lost: list[str] = []
        async with scripted_server(served_until_gone) as address:
            connection = await connect(address, on_lost=lambda _, reason: lost.append(reason))
            connection._next_stream = frames.MAX_STREAM_ID - 4
            assert (await connection.unary(METHOD, b"")).message == b"well"
            assert (await connection.unary(METHOD, b"")).message == b"well"
            with pytest.raises(UpstreamUnavailable, match="stream numbers"):
                await connection.unary(METHOD, b"")
            assert lost == ["the connection has used up its stream numbers"]
            await connection.wait_closed()

    within_seconds(scenario())


@pytest.mark.parametrize("how", ["status", "reset"])
def test_a_server_that_sees_the_deadline_first_changes_nothing(how: str) -> None:
    """Its DEADLINE_EXCEEDED, or its reset, means our timeout once the deadline is there, and not before."""

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        for _ in range(2):
            stream = await peer.request()
            if how == "reset":
                peer.send(frames.rst_stream_frame(stream, ErrorCode.CANCEL))
            else:
                peer.send_headers(stream, [*HEAD, (b"grpc-status", b"4")], end_stream=True)
        await peer.gone()

    async def scenario() -> None:
        clock = FakeClock()
        async with scripted_server(script) as address:
            connection = await connect(address, clock=clock)
            with pytest.raises(UpstreamTimeout):
                await connection.unary(METHOD, b"", (), 0.003)
            with pytest.raises(RpcError) as caught:
                await connection.unary(METHOD, b"", (), 5.0)
            assert caught.value.code == (1 if how == "reset" else 4)
            await connection.close()

    within_seconds(scenario())
