"""WebSockets on real sockets: a stock client, a raw one, and ones that behave badly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

from silence_gateway.core.http import Request, Response, UpgradeResponse
from silence_gateway.core.sockets import Socket
from silence_gateway.core.websocket import CLOSE, PING, TEXT, binary_frame, masked_frame, text_frame
from silence_gateway.testing.clock import FakeClock

if TYPE_CHECKING:
    from tests.edge.conftest import Run, Served, Serving


MASK = b"abcd"
ASK = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Echo:
    """Sends back what it gets, and keeps what it saw."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.got: list[bytes] = []
        self.drained = 0
        self.socket: Socket

    def on_open(self, socket: Socket) -> None:
        self.socket = socket

    def on_text(self, payload: bytes) -> None:
        self.got.append(payload)
        if payload == b"bug":
            raise RuntimeError("listener bug")
        if payload == b"bye":
            self.socket.close(3000, "as asked")
        if payload == b"pause":
            self.socket.pause_reading()
        self.socket.send_frames(text_frame(payload))

    def on_binary(self, payload: bytes) -> None:
        self.socket.send_frames(binary_frame(payload))

    def on_close(self, code: int, reason: str) -> None:
        self.closed.set_result((code, reason))

    def on_drained(self) -> None:
        self.drained += 1

    def on_shutdown(self) -> None:
        self.socket.close(1012, "restarting")


class Door:
    """A handler that opens a WebSocket for everybody, except on /closed."""

    def __init__(self) -> None:
        self.opened: list[Echo] = []

    async def __call__(self, request: Request) -> Response:
        if request.path == "/closed":
            return Response(403)
        echo = Echo()
        self.opened.append(echo)
        return UpgradeResponse(echo, request.query)


async def shake_hands(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await served.connect()
    writer.write(ASK + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    assert b"close" not in head
    return reader, writer


def test_a_stock_client_talks_to_us(run: Run, serving: Serving) -> None:
    async def main() -> None:
        door = Door()
        async with serving(door) as served:
            async with connect(f"ws://127.0.0.1:{served.port}/?json", subprotocols=["json"]) as client:  # type: ignore[list-item]
                assert client.subprotocol == "json"
                for message in ("hello", "é" * 5000, b"\0" * 60_000, ""):
                    await client.send(message)
                    assert await client.recv() == message
                await (await client.ping(b"are you there"))
                assert served.server.statistics.websockets_open == 1
                await client.close(4000, "enough")

            assert await door.opened[0].closed == (4000, "enough")
            assert client.close_code == 4000
            assert served.server.statistics.websockets_open == 0
            assert served.server.statistics.connections_open == 0

    run(main())


def test_the_server_may_close_first(run: Run, serving: Serving) -> None:
    async def main() -> None:
        door = Door()
        async with serving(door) as served:
            async with connect(f"ws://127.0.0.1:{served.port}/") as client:
                await client.send("bye")
                await client.wait_closed()

            assert (client.close_code, client.close_reason) == (3000, "as asked")
            assert await door.opened[0].closed == (3000, "as asked")
            assert door.opened[0].got == [b"bye"]

    run(main())


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        pytest.param(b"\x81\x01a", 1002, id="not-masked"),
        pytest.param(masked_frame(TEXT, b"\xff", MASK), 1007, id="not-utf-8"),
        pytest.param(masked_frame(TEXT, b"x" * 65_537, MASK), 1009, id="too-big"),
        pytest.param(
            masked_frame(TEXT, b"", MASK, fin=False) + masked_frame(0, b"", MASK, fin=False) * 2000,
            1009,
            id="endless-fragments",
        ),
    ],
)
def test_a_broken_rule_ends_the_connection_with_its_code(
    run: Run, serving: Serving, wire: bytes, code: int
) -> None:
    async def main() -> None:
        door = Door()
        async with serving(door) as served:
            reader, writer = await shake_hands(served)
            writer.write(wire)
            frame = await asyncio.wait_for(reader.read(-1), 5)

            assert frame[0] == 0x88
            assert int.from_bytes(frame[2:4], "big") == code
            writer.close()
            assert (await door.opened[0].closed)[0] == code
            assert served.server.statistics.websocket_failures == {code: 1}

    run(main())


def test_what_was_sent_with_the_handshake_is_not_lost(run: Run, serving: Serving) -> None:
    async def main() -> None:
        async with serving(Door()) as served:
            reader, writer = await served.connect()
            writer.write(ASK + b"\r\n" + masked_frame(TEXT, b"early", MASK))

            await reader.readuntil(text_frame(b"early"))
            writer.close()

    run(main())


def test_a_client_that_vanishes_is_a_broken_connection(run: Run, serving: Serving) -> None:
    async def main() -> None:
        door = Door()
        async with serving(door) as served:
            _, writer = await shake_hands(served)
            writer.transport.abort()

            assert await asyncio.wait_for(door.opened[0].closed, 5) == (1006, "")
            assert served.server.statistics.websockets_open == 0

    run(main())


def test_a_bug_in_a_listener_ends_its_connection_only(run: Run, serving: Serving) -> None:
    async def main() -> None:
        door = Door()
        async with serving(door) as served:
            reader, writer = await shake_hands(served)
            other_reader, other = await shake_hands(served)
            writer.write(masked_frame(TEXT, b"bug", MASK))
            frame = await reader.readexactly(4)
            other.write(masked_frame(TEXT, b"fine", MASK))

            assert int.from_bytes(frame[2:4], "big") == 1011
            await other_reader.readuntil(text_frame(b"fine"))
            assert "listener bug" in str(served.noticed[0])
            writer.close()
            other.close()

    run(main())


def test_nothing_is_delivered_while_reading_is_paused(run: Run, serving: Serving) -> None:
    async def main() -> None:
        door = Door()
        async with serving(door) as served:
            reader, writer = await shake_hands(served)
            frames = [masked_frame(TEXT, word, MASK) for word in (b"pause", b"a", b"b", b"bye")]
            writer.write(b"".join(frames))
            await reader.readuntil(text_frame(b"pause"))
            writer.write(masked_frame(CLOSE, b"", MASK))
            for _ in range(20):
                await asyncio.sleep(0)
            echo = door.opened[0]
            assert echo.got == [b"pause"]
            echo.socket.resume_reading()

            assert await asyncio.wait_for(echo.closed, 5) == (3000, "as asked")
            assert echo.got == [b"pause", b"a", b"b", b"bye"]
            writer.close()

    run(main())


def flood_of_pings() -> bytes:
    return masked_frame(PING, b"x" * 125, MASK) * 1000


def test_a_flood_of_pings_from_a_client_that_reads_nothing_is_not_stored(run: Run, serving: Serving) -> None:
    async def main() -> None:
        door = Door()
        async with serving(door) as served:
            _, writer = await shake_hands(served)
            served.stop_reading(writer)
            echo = door.opened[0]
            echo.socket.send_frames(text_frame(b"x" * 60_000) * 100)
            await served.until(lambda: echo.socket.buffered > 64 * 1024)
            before = echo.socket.buffered
            start = served.server.statistics.bytes_in
            flood = flood_of_pings()
            for _ in range(20):
                writer.write(flood)
            await served.until(lambda: served.server.statistics.bytes_in - start == 20 * len(flood))

            assert echo.socket.buffered <= before
            writer.transport.abort()

    run(main())


def test_a_listener_that_sends_without_looking_is_stopped(run: Run, serving: Serving) -> None:
    async def main() -> None:
        door = Door()
        async with serving(door, max_websocket_buffer_bytes=1_000_000) as served:
            _, writer = await shake_hands(served)
            served.stop_reading(writer)
            echo = door.opened[0]
            peak = 0
            while not echo.closed.done():
                echo.socket.send_frames(text_frame(b"x" * 60_000))
                peak = max(peak, echo.socket.buffered)
                await asyncio.sleep(0)

            assert await echo.closed == (1006, "")
            assert peak < 1_200_000
            assert echo.socket.buffered == 0
            writer.transport.abort()

    run(main())


def test_a_listener_hears_when_its_client_has_caught_up(run: Run, serving: Serving) -> None:
    async def main() -> None:
        door = Door()
        async with serving(door) as served:
            reader, writer = await shake_hands(served)
            echo = door.opened[0]
            echo.socket.send_frames(text_frame(b"x" * 60_000) * 200)
            assert echo.socket.buffered > 0
            await reader.readexactly(200 * 60_004)
            await served.until(lambda: echo.drained == 1)

            assert echo.socket.buffered == 0
            writer.close()

    run(main())


def test_a_client_that_does_not_finish_closing_is_cut_off(run: Run, serving: Serving) -> None:
    async def main() -> None:
        clock = FakeClock()
        door = Door()
        async with serving(door, clock=clock) as served:
            reader, writer = await shake_hands(served)
            door.opened[0].socket.close(3001, "bye")
            await reader.readexactly(7)
            await clock.advance(4)
            assert not door.opened[0].closed.done()
            await clock.advance(4)

            assert await asyncio.wait_for(door.opened[0].closed, 5) == (3001, "bye")
            writer.close()

    run(main())


@pytest.mark.parametrize(
    ("sent", "status", "header"),
    [
        pytest.param(
            b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426, b"sec-websocket-version: 13\r\n", id="no-upgrade"
        ),
        pytest.param(
            ASK.replace(b": 13", b": 8") + b"\r\n", 426, b"upgrade: websocket\r\n", id="old-version"
        ),
        pytest.param(ASK.replace(b"dGhl", b"") + b"\r\n", 400, b"", id="bad-key"),
        pytest.param(ASK.replace(b"GET", b"POST") + b"\r\n", 400, b"", id="post"),
        pytest.param(ASK + b"Sec-WebSocket-Protocol: \xc3\xa9\r\n\r\n", 400, b"", id="protocol-not-ascii"),
        pytest.param(
            ASK.replace(b"/ws", b"/closed") + b"\r\n" + masked_frame(TEXT, b"early", MASK),
            403,
            b"",
            id="refused-by-the-handler",
        ),
    ],
)
def test_those_who_may_not_open_one_are_told(
    run: Run, serving: Serving, sent: bytes, status: int, header: bytes
) -> None:
    async def main() -> None:
        async with serving(Door()) as served:
            wire = await served.exchange(sent)

            assert wire.startswith(b"HTTP/1.1 %d " % status)
            assert header in wire
            assert wire.count(b"HTTP/1.1 ") == 1 + wire.count(b"HTTP/1.1 GET")
            assert served.server.statistics.websockets_total == 0

    run(main())


def test_an_empty_subprotocol_header_is_tolerated(run: Run, serving: Serving) -> None:
    """centrifuge-python 0.5 sends one."""

    async def main() -> None:
        async with serving(Door()) as served:
            reader, writer = await served.connect()
            writer.write(ASK + b"Sec-WebSocket-Protocol: \r\n\r\n")

            assert (await reader.readline()).startswith(b"HTTP/1.1 101")
            writer.close()

    run(main())


def test_draining_says_goodbye_in_the_listeners_words(run: Run, serving: Serving) -> None:
    async def main() -> None:
        async with (
            serving(Door()) as served,
            connect(f"ws://127.0.0.1:{served.port}/") as client,
        ):
            cut_off = await asyncio.wait_for(served.server.drain(5), 10)
            await client.wait_closed()

            assert cut_off == 0
            assert (client.close_code, client.close_reason) == (1012, "restarting")

    run(main())
