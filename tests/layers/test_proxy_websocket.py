"""WebSockets are passed on byte for byte: messages, pings, close codes, extensions, and their ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.layers.proxy_scene import Exchange, Front, Origin, front
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from silence_gateway.core.path_rewrite import PathRewrite
from silence_gateway.core.websocket import CLOSE, PING, TEXT, masked_frame
from silence_gateway.core.websocket_handshake import accept_key
from silence_gateway.layers.proxy import ProxySettings
from silence_gateway.layers.route import RouteRule

if TYPE_CHECKING:
    from tests.layers.conftest import Run

KEY = base64.b64encode(b"0123456789abcdef")
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n%b\r\n"
)
MASK = b"abcd"


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


@asynccontextmanager
async def websockets_server(
    handler: Callable[[ServerConnection], Awaitable[None]] = echo, **settings: Any
) -> AsyncIterator[Server]:
    async with serve(handler, "127.0.0.1", 0, **settings) as server:
        yield server


def address(server: Server) -> str:
    return f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def url(gateway: Front) -> str:
    return f"ws://127.0.0.1:{gateway.port}/ws?room=1"


def test_messages_of_all_sizes_and_kinds_go_both_ways(run: Run) -> None:
    async def main() -> None:
        async with websockets_server(max_size=2**22) as server, front(address(server)) as gateway:
            async with connect(url(gateway), max_size=2**22) as client:
                assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]  # type: ignore[union-attr]
                for message in ("", "text", b"binary", "x" * 200, b"y" * 70_000, b"z" * 2**21):
                    await client.send(message)
                    assert await client.recv() == message
                await asyncio.wait_for(await client.ping(), 5)
                assert gateway.server.statistics.websockets_open == 1
                assert gateway.upstream.statistics.endpoints[0].in_flight == 1
            await gateway.until(lambda: gateway.upstream.statistics.endpoints[0].in_flight == 0)
            assert gateway.upstream.statistics.calls_by_code == {"101": 1}
            assert gateway.server.statistics.websockets_open == 0

    run(main())


def test_a_websocket_goes_where_its_route_rewrites_to(run: Run) -> None:
    async def main() -> None:
        asked: asyncio.Queue[str] = asyncio.Queue()

        async def handler(socket: ServerConnection) -> None:
            assert socket.request is not None
            asked.put_nowait(socket.request.path)
            await echo(socket)

        rules = (RouteRule(path="/chat/**", upstream="web", rewrite=PathRewrite.between("/chat/**", "/")),)
        async with (
            websockets_server(handler) as server,
            front(address(server), rules=rules) as gateway,
            connect(f"ws://127.0.0.1:{gateway.port}/chat/ws?room=1") as client,
        ):
            await client.send("there")
            assert await client.recv() == "there"
            assert await asyncio.wait_for(asked.get(), 5) == "/ws?room=1"

    run(main())


def test_a_route_s_timeout_bounds_the_handshake_and_not_the_conversation(run: Run) -> None:
    async def main() -> None:
        rules = (RouteRule(path="/**", upstream="web", timeout_s=0.3),)
        async with websockets_server() as server, front(address(server), rules=rules) as gateway:
            async with connect(url(gateway)) as client:
                await asyncio.sleep(0.4)  # past the timeout, in real time: the sockets are real
                await client.send("still here")
                assert await client.recv() == "still here"
            await gateway.until(lambda: gateway.upstream.statistics.calls_by_code == {"101": 1})

        async def never(exchange: Exchange) -> None:
            await exchange.reader.read()

        async with Origin(never) as origin, front(origin, rules=rules) as gateway:
            with pytest.raises(InvalidStatus) as refused:
                await connect(url(gateway))
            assert refused.value.response.status_code == 504

    run(main())


def test_a_subprotocol_is_agreed_on_by_the_ends(run: Run) -> None:
    async def main() -> None:
        told = [Subprotocol("chat.v2")]
        async with websockets_server(subprotocols=told) as server, front(address(server)) as gateway:
            offer = [Subprotocol("chat.v1"), Subprotocol("chat.v2")]
            async with connect(url(gateway), subprotocols=offer) as client:
                assert client.subprotocol == "chat.v2"

    run(main())


@pytest.mark.parametrize("who", ["client", "server"])
def test_close_codes_and_reasons_reach_the_other_end(run: Run, who: str) -> None:
    async def main() -> None:
        heard: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

        async def handler(socket: ServerConnection) -> None:
            if who == "server":
                await socket.close(4321, "enough")
                return
            with contextlib.suppress(ConnectionClosed):
                await socket.recv()
            heard.put_nowait((socket.close_code or 0, socket.close_reason or ""))

        async with (
            websockets_server(handler) as server,
            front(address(server)) as gateway,
            connect(url(gateway)) as client,
        ):
            if who == "client":
                await client.close(4321, "enough")
                assert await asyncio.wait_for(heard.get(), 5) == (4321, "enough")
            else:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert (client.close_code, client.close_reason) == (4321, "enough")

    run(main())


def test_a_refused_handshake_is_the_origin_s_answer(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(b"no entry", status=b"403 Forbidden")

        async with Origin(script) as origin, front(origin) as gateway:
            with pytest.raises(InvalidStatus) as caught:
                await connect(url(gateway)).__aenter__()

            assert caught.value.response.status_code == 403
            assert caught.value.response.body == b"no entry"
            head = origin.heads[0].lower()
            assert b"\r\nupgrade: websocket\r\nconnection: upgrade\r\n" in head
            assert head.startswith(b"get /ws?room=1 ")

    run(main())


@pytest.mark.parametrize(
    ("origin", "origins", "status"),
    [
        ("http://shop", (), 101),
        ("http://evil.example", (), 403),
        ("http://evil.example", ("*",), 101),
        ("https://app.example", ("https://app.example",), 101),
    ],
)
def test_pages_of_other_hosts_may_not_connect_unless_listed(
    run: Run, origin: str, origins: tuple[str, ...], status: int
) -> None:
    async def main() -> None:
        proxy = ProxySettings(origins=origins)
        async with websockets_server() as server, front(address(server), proxy=proxy) as gateway:
            reader, writer = await gateway.connect()
            writer.write(HANDSHAKE % f"Origin: {origin}\r\n".encode())
            assert int((await reader.readuntil(b"\r\n\r\n"))[9:12]) == status
            writer.close()

    run(main())


def switching(after: bytes = b"", then: Callable[[Exchange], Awaitable[None]] | None = None) -> Origin:
    """Switch by hand, say *after* in the same breath, and go on with *then*."""

    async def script(exchange: Exchange) -> None:
        exchange.say(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\nX-Kept: 1\r\n\r\n%b" % (accept_key(KEY), after)
        )
        if then is not None:
            await then(exchange)
        else:
            await exchange.reader.read()
        exchange.end()

    return Origin(script)


async def opened(
    gateway: Front, early: bytes = b"", receive_buffer: int | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Do the handshake by hand, saying *early* before the answer; then the head has been read."""
    reader, writer = await gateway.connect(receive_buffer)
    writer.write(HANDSHAKE % b"" + early)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert head.lower().count(b"sec-websocket-accept") == 1
    assert b"x-kept: 1" in head
    return reader, writer


def test_what_the_ends_say_before_the_tunnel_stands_is_not_lost(run: Run) -> None:
    async def main() -> None:
        async def then(exchange: Exchange) -> None:
            exchange.say(b"heard " + await exchange.reader.readexactly(5))

        async with switching(b"first,", then) as origin, front(origin) as gateway:
            reader, writer = await opened(gateway, b"early")

            assert await reader.read() == b"first,heard early"
            writer.close()

    run(main())


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: bm9wZQ==\r\n\r\n",
    ],
)
def test_an_origin_that_does_not_agree_properly_is_no_websocket(run: Run, head: bytes) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.say(head)
            await exchange.reader.read()

        async with Origin(script) as origin, front(origin) as gateway:
            answer = await gateway.exchange(HANDSHAKE % b"")

            assert answer.startswith(b"HTTP/1.1 502 ")

    run(main())


def test_nobody_switches_who_was_not_asked(run: Run) -> None:
    async def main() -> None:
        async with switching() as origin, front(origin) as gateway:
            answer = await gateway.get()

            assert answer.startswith(b"HTTP/1.1 502 ")

    run(main())


@pytest.mark.parametrize("who", ["client", "origin"])
def test_an_end_that_vanishes_takes_the_other_along(run: Run, who: str) -> None:
    async def main() -> None:
        async def then(exchange: Exchange) -> None:
            if who == "origin":
                exchange.reset()
            else:
                await exchange.reader.read()

        async with switching(then=then) as origin, front(origin) as gateway:
            reader, writer = await opened(gateway)
            if who == "origin":
                assert await reader.read() == b""
            else:
                writer.close()
            await asyncio.wait_for(origin.ended.wait(), 5)
            await gateway.until(lambda: gateway.upstream.statistics.endpoints[0].in_flight == 0)
            await gateway.until(lambda: not gateway.server.websockets)
            writer.close()

    run(main())


def test_a_half_closed_client_still_hears_what_is_on_its_way(run: Run) -> None:
    async def main() -> None:
        async def then(exchange: Exchange) -> None:
            said = await exchange.reader.read()
            exchange.say(b"got " + said)

        async with switching(then=then) as origin, front(origin) as gateway:
            reader, writer = await opened(gateway)
            writer.write(b"all")
            writer.write_eof()

            assert await reader.read() == b"got all"
            writer.close()

    run(main())


def test_a_client_that_says_it_is_done_and_an_origin_that_never_is_are_parted(run: Run) -> None:
    async def main() -> None:
        async def then(exchange: Exchange) -> None:
            await asyncio.sleep(30)

        settings = {"close_timeout_s": 0.1}
        async with switching(then=then) as origin, front(origin, server_settings=settings) as gateway:
            reader, writer = await opened(gateway)
            writer.write_eof()

            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()

    run(main())


@pytest.mark.parametrize("direction", ["down", "up"])
def test_an_end_that_reads_slowly_holds_up_the_other(run: Run, direction: str) -> None:
    async def main() -> None:
        sent = 0
        piece = b"x" * 65536
        size = 64 * 2**20
        read_on = asyncio.Event()
        got = 0

        async def say_all(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            while sent < size:
                writer.write(piece)
                sent += len(piece)
                await writer.drain()

        async def hear_all(reader: asyncio.StreamReader) -> None:
            nonlocal got
            while got < size:
                got += len(await reader.read(2**20))

        async def then(exchange: Exchange) -> None:
            if direction == "down":
                await say_all(exchange.writer)
                await exchange.reader.read()
            else:
                own = exchange.writer.get_extra_info("socket")
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                await read_on.wait()
                await hear_all(exchange.reader)

        async with switching(then=then) as origin, front(origin) as gateway:
            reader, writer = await opened(gateway, receive_buffer=4096 if direction == "down" else None)
            sending = asyncio.ensure_future(say_all(writer)) if direction == "up" else None
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            # It is in the buffers of four sockets: two that send have up to 4 MiB, the one that the gateway
            # reads up to 32 MiB where the system is generous, and the end that reads slowly little.
            assert 0 < sent < size
            read_on.set()
            if direction == "down":
                await hear_all(reader)
            else:
                assert sending is not None
                await sending
                await gateway.until(lambda: got == size)
            writer.close()

    run(main())


def test_a_drain_says_goodbye_to_both_ends(run: Run) -> None:
    async def main() -> None:
        codes: asyncio.Queue[int] = asyncio.Queue()

        async def handler(socket: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                await socket.recv()
            codes.put_nowait(socket.close_code or 0)

        async with (
            websockets_server(handler) as server,
            front(address(server)) as gateway,
            connect(url(gateway)) as client,
        ):
            assert await gateway.server.drain(5) == 0, "nobody had to be cut off"
            with pytest.raises(ConnectionClosed):
                await client.recv()

            assert client.close_code == 1012
            assert await asyncio.wait_for(codes.get(), 5) == 1001

    run(main())


def test_a_goodbye_waits_for_the_end_of_a_frame(run: Run) -> None:
    async def main() -> None:
        go_on = asyncio.Event()
        heard = bytearray()

        async def then(exchange: Exchange) -> None:
            exchange.say(b"\x82\x0ahalf ")
            await go_on.wait()
            exchange.say(b"more.\x82\x05extra")
            while data := await exchange.reader.read(1000):
                heard.extend(data)

        async with switching(then=then) as origin, front(origin) as gateway:
            frame = masked_frame(TEXT, b"question", MASK)
            reader, writer = await opened(gateway, frame[:9])
            assert await reader.readexactly(7) == b"\x82\x0ahalf "
            draining = asyncio.ensure_future(gateway.server.drain(5))
            await asyncio.sleep(0)
            go_on.set()
            rest = await reader.readexactly(7)
            assert rest[:5] == b"more."
            assert rest[5] == 0x80 | CLOSE, "and nothing of the frame that follows"
            writer.write(frame[9:] + masked_frame(PING, b"", MASK) + masked_frame(CLOSE, b"\x03\xf4", MASK))
            await reader.read()
            assert await draining == 0
            await asyncio.wait_for(origin.ended.wait(), 5)

            assert heard.startswith(frame)
            assert heard[len(frame)] == 0x80 | CLOSE
            assert len(heard) == len(frame) + 8, "one close frame of ours, and no ping behind it"
            writer.close()

    run(main())


def test_ends_that_do_not_say_goodbye_are_cut_off(run: Run) -> None:
    async def main() -> None:
        async def then(exchange: Exchange) -> None:
            await asyncio.sleep(30)

        settings = {"close_timeout_s": 0.1}
        async with switching(then=then) as origin, front(origin, server_settings=settings) as gateway:
            reader, writer = await opened(gateway)

            assert await asyncio.wait_for(gateway.server.drain(5), 3) == 0
            assert (await reader.read())[:1] == bytes([0x80 | CLOSE])
            writer.close()

    run(main())
