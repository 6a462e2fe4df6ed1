"""Patience: clients that are too slow in what they are waited for lose it, and only it."""

from __future__ import annotations

import pytest
from tests.edge.http2_scene import CHAT, ECHO, LATER, PUSH, Scene, run, scene

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_messages import framed
from silence_gateway.core.h2_frames import ErrorCode, Setting
from silence_gateway.core.hpack import encode
from silence_gateway.edge.http2_statistics import Cap
from silence_gateway.testing.h2_client import H2Client, call, data, head_of, headers


async def drip(served: Scene, client: H2Client, wire: bytes, every_s: float) -> float:
    """Send byte by byte; return after how many seconds the connection was ended, infinite if it was not."""
    started = served.clock.monotonic_s()
    for at in range(len(wire)):
        client.send(wire[at : at + 1])
        await served.clock.advance(every_s)
        if client.transport.eof:
            return served.clock.monotonic_s() - started
    return float("inf")


def test_a_client_that_says_nothing_is_not_waited_for() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            await served.clock.advance(9)
            assert not client.transport.eof
            await served.clock.advance(3)

            goaway = await client.goaway()
            assert goaway is not None
            assert goaway[1] == ErrorCode.ENHANCE_YOUR_CALM
            assert served.capped() == {Cap.SLOW_PREFACE: 1}
            await served.clock.advance(4)
            assert client.transport.closed, "and it is cut off if it stays"

    run(scenario())


def test_a_preface_byte_by_byte_is_too_slow() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)

            assert await drip(served, client, h2.PREFACE + h2.settings_frame([]), 1.0) < 13
            assert served.capped() == {Cap.SLOW_PREFACE: 1}

    run(scenario())


BLOCK = encode(head_of(ECHO))


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(headers(1, head_of(ECHO)), id="byte-by-byte"),
        pytest.param(
            h2.frame(h2.HEADERS, 0, 1, BLOCK[:1])
            + b"".join([h2.frame(h2.CONTINUATION, 0, 1, BLOCK[at : at + 1]) for at in range(1, 40)]),
            id="continuation-by-continuation",
        ),
        pytest.param(h2.frame(0x99, 0, 0, bytes(90)), id="any-frame"),
    ],
)
def test_headers_that_do_not_end_are_too_slow(wire: bytes) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()

            assert await drip(served, client, wire, 0.5) < 13
            assert served.capped() == {Cap.SLOW_HEADERS: 1}

    run(scenario())


def test_frames_that_do_end_are_never_too_slow() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, LATER))
            ping = h2.ping_frame(b"12345678")
            for _ in range(40):
                client.send(ping[:7])
                await served.clock.advance(4)
                client.send(ping[7:])

            assert await client.goaway() is None
            assert served.capped() == {}

    run(scenario())


@pytest.mark.parametrize("sent", [b"", framed(bytes(900))[:7]])
def test_a_unary_request_that_does_not_end_is_answered_and_let_go(sent: bytes) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(headers(1, head_of(LATER)), data(1, sent) if sent else b"")
            for _ in range(40):
                client.send(data(1, b"x") if sent and await client.status(1) is None else b"")
                await served.clock.advance(1)

            assert await client.status(1) == 4
            assert served.capped() == {Cap.SLOW_BODY: 1}
            client.send(call(3, ECHO))
            assert await client.status(3) == 0

    run(scenario())


def test_a_stream_may_be_silent_but_not_in_the_middle_of_a_message() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(headers(1, head_of(CHAT)), headers(3, head_of(CHAT)))
            client.send(data(1, framed(b"whole")), data(3, framed(b"whole") + framed(b"half")[:6]))
            await served.clock.advance(40)

            assert await client.status(1) is None
            assert await client.status(3) == 4
            client.send(data(1, framed(b"more"), end=True))
            assert await client.status(1) == 0

    run(scenario())


def test_a_client_is_not_blamed_while_it_waits_for_room() -> None:
    async def scenario() -> None:
        async with scene(max_held_bytes=0, body_timeout_s=30.0) as served:
            client = served.client()
            wire = framed(bytes(200_000))
            client.send(headers(1, head_of(ECHO)), data(1, wire[:60_000]))
            client.send(headers(3, head_of(ECHO)), data(3, wire[:65_535]))
            for _ in range(28):
                await served.clock.advance(1)
                client.send(data(1, wire[60_000:60_001]))
            assert await client.status(3) is None
            await served.clock.advance(4)

            assert await client.status(1) == 4, "the first is too slow"
            await served.clock.advance(20)
            assert await client.status(3) is None, "the second has got room only now"
            client.send(data(3, wire[65_535:], end=True))
            for _ in range(3):
                await client.hear()
            client.send(h2.window_update_frame(3, 200_000) + h2.window_update_frame(0, 200_000))
            assert await client.status(3) == 0

    run(scenario())


def test_a_request_that_never_ends_after_its_answer_is_let_go() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(headers(1, head_of(b"/no.Such/Method")))
            assert await client.status(1) == 12
            await served.clock.advance(33)

            assert await client.reset(1) == ErrorCode.NO_ERROR
            assert served.capped() == {}

    run(scenario())


# Answers that are not taken.


def test_a_window_that_never_opens_holds_neither_memory_nor_a_stream_for_ever() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 0)])
            client.send(call(1, ECHO, b"x" * 10_000), call(3, PUSH, b"100 10000"))
            await served.clock.advance(29)
            assert await client.reset(1) is None
            await served.clock.advance(4)

            assert await client.reset(1) == ErrorCode.CANCEL
            assert await client.reset(3) == ErrorCode.CANCEL
            assert served.capped() == {Cap.STALLED_STREAM: 2}
            assert client.protocol.unsent == 0  # type: ignore[attr-defined]
            client.send(call(5, b"/no.Such/Method"))
            assert await client.status(5) == 12

    run(scenario())


def test_a_window_that_opens_byte_by_byte_does_not_either() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 1)])
            client.send(call(1, ECHO, b"x" * 10_000))
            for _ in range(40):
                client.send(h2.window_update_frame(1, 1))
                await served.clock.advance(1)

            assert await client.reset(1) == ErrorCode.CANCEL
            assert served.capped() == {Cap.STALLED_STREAM: 1}

    run(scenario())


def test_a_slow_reader_that_reads_is_served_to_the_end() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 0)])
            client.send(call(1, ECHO, b"x" * 60_000))
            for _ in range(100):
                await served.clock.advance(10)
                client.send(h2.window_update_frame(1, 3_000))
                if await client.ended(1):
                    break

            assert await client.status(1) == 0
            assert served.capped() == {}

    run(scenario())


def test_the_connections_window_that_never_opens_ends_the_connection() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.greet([(Setting.INITIAL_WINDOW_SIZE, 1_000_000)])
            client.send(call(1, PUSH, b"1 1000000"))
            await served.clock.advance(33)

            goaway = await client.goaway()
            assert goaway is not None
            assert goaway[1] == ErrorCode.ENHANCE_YOUR_CALM
            assert served.capped() == {Cap.STALLED_CONNECTION: 1}

    run(scenario())


def test_a_socket_that_is_not_read_is_cut_off() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.transport.stuck = True
            client.send(h2.window_update_frame(0, 1_000_000), call(1, PUSH, b"1 1000000"), call(3, LATER))
            await served.clock.advance(29)
            assert not client.transport.closed
            await served.clock.advance(4)

            assert client.transport.closed
            assert served.capped() == {Cap.STALLED_CONNECTION: 1}
            assert served.running == []

    run(scenario())


# Connections without work, and old ones.


def test_an_idle_connection_is_sent_away_in_good_order() -> None:
    async def scenario() -> None:
        async with scene(idle_timeout_s=60.0) as served:
            client = served.client()
            await served.clock.advance(50)
            client.send(call(1, ECHO))
            await served.clock.advance(59)
            client.send(h2.ping_frame(b"12345678"))
            assert await client.goaway() is None
            await served.clock.advance(3)

            assert served.capped() == {Cap.IDLE: 1}
            first, last = [h2.read_goaway(frame[3]) for frame in await client.all_of(h2.GOAWAY)]
            assert first == (h2.MAX_STREAM_ID, ErrorCode.NO_ERROR, b"")
            assert last == (1, ErrorCode.NO_ERROR, b"")
            assert client.transport.eof

    run(scenario())


def test_a_connection_with_a_call_is_not_idle() -> None:
    async def scenario() -> None:
        async with scene(idle_timeout_s=60.0) as served:
            client = served.client()
            client.send(call(1, LATER))
            await served.clock.advance(600)

            assert await client.goaway() is None

    run(scenario())


def test_an_old_connection_is_sent_away_and_its_calls_have_a_grace() -> None:
    async def scenario() -> None:
        async with scene(max_age_s=100.0, age_grace_s=30.0) as served:
            client = served.client()
            client.send(call(1, LATER))
            await served.clock.advance(89)
            assert await client.goaway() is None
            await served.clock.advance(23)
            assert await client.goaway() == (1, ErrorCode.NO_ERROR, b"")
            assert served.capped() == {Cap.AGE: 1}
            assert len(served.running) == 1

            await served.clock.advance(32)
            assert served.running == []
            assert client.transport.eof

    run(scenario())


def test_connections_of_one_moment_grow_old_at_different_times() -> None:
    async def scenario() -> None:
        async with scene(max_age_s=100.0) as served:
            for _ in range(50):
                served.client()
            ages = {connection.watch.retire_s for connection in served.server.connections}

            assert len(ages) == 50
            assert all(90 <= age <= 110 for age in ages)

    run(scenario())
