"""Bodies go through a gateway as they come, in both directions, and hold each other up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.layers.proxy_scene import Exchange, Origin, front, request

from silence_gateway.layers.proxy import ProxySettings
from silence_gateway.layers.route import RouteRule

if TYPE_CHECKING:
    from tests.layers.conftest import Run

MEBIBYTE = 2**20
CHUNKED = "Transfer-Encoding: chunked\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_an_event_reaches_the_client_before_the_next_one_is_made(run: Run) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            exchange.say(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            for number in range(3):
                await go_on.wait()
                go_on.clear()
                exchange.say(chunk(b"data: %d\n\n" % number))
            exchange.say(b"0\r\n\r\n")

        # The timeout is for the head: a stream lives as long as it likes.
        async with Origin(script) as origin, front(origin, timeout_s=0.1) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n"), "the head comes before the first event"
            await asyncio.sleep(0.2)
            for number in range(3):
                go_on.set()
                assert await reader.readuntil(b"\n\n\r\n") == chunk(b"data: %d\n\n" % number)
            assert await reader.read() == b"0\r\n\r\n"
            writer.close()

    run(main())


def test_a_slow_reader_holds_up_the_origin_and_costs_no_memory(run: Run) -> None:
    async def main() -> None:
        sent = 0

        async def script(exchange: Exchange) -> None:
            nonlocal sent
            exchange.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MEBIBYTE))
            piece = b"x" * 65536
            for _ in range(64 * 16):
                exchange.say(piece)
                await exchange.writer.drain()
                sent += len(piece)

        async with Origin(script) as origin, front(origin) as gateway:
            reader, writer = await gateway.connect(receive_buffer=4096)
            writer.write(request())
            await reader.readuntil(b"\r\n\r\n")
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)

            # What sockets hold, and one write buffer here: whatever the length of the answer.
            assert sent < 32 * MEBIBYTE
            got = 0
            while data := await reader.read(MEBIBYTE):
                got += len(data)
            assert got == 64 * MEBIBYTE
            writer.close()

    run(main())


def test_a_slow_origin_holds_up_the_client_and_costs_no_memory(run: Run) -> None:
    async def main() -> None:
        read_on = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await read_on.wait()
            exchange.answer(b"%d" % len(await exchange.body()))

        size = 64 * MEBIBYTE
        proxy = ProxySettings(max_body_bytes=size)
        async with Origin(script) as origin, front(origin, proxy=proxy, timeout_s=10.0) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request("POST", extra=f"Content-Length: {size}\r\n"))
            sent = 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    while sent < size:
                        writer.write(b"x" * 65536)
                        sent += 65536
                        await writer.drain()
            assert sent < 32 * MEBIBYTE
            read_on.set()
            while sent < size:
                writer.write(b"x" * 65536)
                sent += 65536
                await writer.drain()
            assert (await reader.read()).endswith(b"%d" % size)
            writer.close()

    run(main())


@pytest.mark.parametrize("framing", [CHUNKED, "Content-Length: 200000\r\n"])
def test_a_request_s_body_goes_on_as_it_comes(run: Run, framing: str) -> None:
    async def main() -> None:
        got: asyncio.Queue[bytes] = asyncio.Queue()

        async def script(exchange: Exchange) -> None:
            if framing == CHUNKED:
                assert await exchange.reader.readuntil(b"\r\n") == b"5\r\n"
            got.put_nowait(await exchange.reader.readexactly(5))
            await exchange.reader.read(-1 if framing == CHUNKED else 1)
            exchange.end()

        async with Origin(script) as origin, front(origin) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request("POST", extra=framing))
            writer.write(chunk(b"begin") if framing == CHUNKED else b"begin")

            assert await asyncio.wait_for(got.get(), 5) == b"begin"
            writer.close()
            await reader.read()

    run(main())


def test_both_directions_at_once(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while size := int((await exchange.reader.readuntil(b"\r\n"))[:-2], 16):
                data = await exchange.reader.readexactly(size + 2)
                exchange.say(chunk(data[:-2].upper()))
            exchange.say(b"0\r\n\r\n")

        async with Origin(script) as origin, front(origin) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request("POST", extra=CHUNKED))
            await reader.readuntil(b"\r\n\r\n")
            for word in (b"one", b"two"):
                writer.write(chunk(word))
                assert await reader.readexactly(8) == chunk(word.upper())
            writer.write(b"0\r\n\r\n")
            await reader.readexactly(5)
            writer.close()

    run(main())


def test_an_answer_that_comes_before_the_body_has_ended_is_passed_on(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(b"no room", status=b"507 Full")
            await exchange.reader.read(1)
            exchange.end()

        async with Origin(script) as origin, front(origin) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request("PUT", extra="Content-Length: 1000000\r\n") + b"x" * 65536)
            answer = await asyncio.wait_for(reader.read(), 5)

            assert answer.startswith(b"HTTP/1.1 507 ")
            assert answer.endswith(b"no room")
            assert b"connection: close" in answer
            writer.close()
            # Its socket may have bytes of the body on the way: nobody else gets it.
            await gateway.get()
            assert origin.connections == 2

    run(main())


def test_leave_to_send_a_body_is_given_when_it_is_asked_for(run: Run) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request("POST", extra="Expect: 100-continue\r\n" + CHUNKED))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(chunk(b"hi") + b"0\r\n\r\n")
            assert (await reader.read()).endswith(b"ok")
            assert b"expect" not in origin.heads[0].lower()
            writer.close()

    run(main())


def test_no_leave_is_given_where_nobody_takes_the_body(run: Run) -> None:
    async def main() -> None:
        async with front("127.0.0.1:1") as gateway:
            answer = await gateway.get(method="POST", extra="Expect: 100-continue\r\n" + CHUNKED)

            assert answer.startswith(b"HTTP/1.1 503 ")

    run(main())


@pytest.mark.parametrize(
    ("framing", "tail"),
    [
        pytest.param(b"Content-Length: 100000", b"x" * 50, id="length"),
        pytest.param(b"Transfer-Encoding: chunked", b"5\r\nabcde\r\n", id="chunks"),
        pytest.param(b"Transfer-Encoding: chunked", b"5\r\nabcdeXX", id="broken-framing"),
    ],
)
def test_an_answer_that_breaks_off_is_never_taken_for_the_whole(
    run: Run, framing: bytes, tail: bytes
) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.say(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (framing, tail[:5]))
            await exchange.writer.drain()
            await asyncio.sleep(0.05)
            exchange.say(tail[5:])
            exchange.end()

        async with Origin(script) as origin, front(origin) as gateway:
            answer = await gateway.get()

            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert not answer.endswith(b"0\r\n\r\n")
            assert gateway.upstream.statistics.calls_by_code in ({"UNAVAILABLE": 1}, {"INTERNAL": 1})
            assert gateway.upstream.statistics.endpoints[0].in_flight == 0

    run(main())


def test_a_small_answer_that_breaks_off_is_an_error_instead(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
            exchange.end()

        async with Origin(script) as origin, front(origin) as gateway:
            answer = await gateway.get(method="POST")

            assert answer.startswith(b"HTTP/1.1 502 ")

    run(main())


@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_leaves_takes_its_request_along(run: Run, begun: bool) -> None:
    async def main() -> None:
        came = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if begun:
                exchange.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"a"))
            came.set()
            await exchange.reader.read()
            exchange.end()

        async with Origin(script) as origin, front(origin) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request())
            await came.wait()
            if begun:
                await reader.readuntil(b"a\r\n")
            writer.close()

            await asyncio.wait_for(origin.ended.wait(), 5)
            await gateway.until(lambda: gateway.upstream.statistics.calls_by_code == {"CANCELLED": 1})
            assert gateway.upstream.statistics.endpoints[0].in_flight == 0
            assert gateway.upstream.statistics.endpoints[0].streams == 0

    run(main())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(chunk(b"ab") + b"zz\r\n", b"400", id="no-chunk"),
        pytest.param(chunk(b"x" * 3000), b"413", id="too-long"),
        pytest.param(chunk(b"ab"), b"408", id="never-ends"),
    ],
)
def test_a_body_that_breaks_the_rules_ends_both_sides(run: Run, sent: bytes, status: bytes) -> None:
    async def main() -> None:
        proxy = ProxySettings(max_body_bytes=2000)
        settings = {"body_timeout_s": 0.2}
        async with Origin() as origin, front(origin, proxy=proxy, server_settings=settings) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request("POST", extra=CHUNKED) + sent)
            answer = await asyncio.wait_for(reader.read(), 5)

            assert answer.startswith(b"HTTP/1.1 %b " % status)
            await asyncio.wait_for(origin.ended.wait(), 5)
            assert gateway.upstream.statistics.endpoints[0].failures in ({}, {"CANCELLED": 1})
            writer.close()

    run(main())


def test_a_body_declared_too_long_is_refused_before_the_origin_hears_of_it(run: Run) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin, proxy=ProxySettings(max_body_bytes=10)) as gateway:
            answer = await gateway.get(method="POST", extra="Content-Length: 11\r\n")

            assert answer.startswith(b"HTTP/1.1 413 ")
            assert origin.heads == []

    run(main())


def test_a_slow_upload_is_no_slow_origin(run: Run) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin, timeout_s=0.2) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request("POST", extra=CHUNKED))
            for _ in range(4):
                await asyncio.sleep(0.1)
                writer.write(chunk(b"x"))
            writer.write(b"0\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
            writer.close()

    run(main())


def test_an_origin_that_takes_no_more_of_a_body_is_given_up(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            await asyncio.sleep(30)

        size = 32 * MEBIBYTE
        proxy = ProxySettings(max_body_bytes=size)
        async with Origin(script) as origin, front(origin, proxy=proxy, timeout_s=0.3) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request("POST", extra=f"Content-Length: {size}\r\n"))
            writer.write(b"x" * size)

            assert (await asyncio.wait_for(reader.read(20), 5)).startswith(b"HTTP/1.1 504 ")
            writer.close()

    run(main())


def test_a_drain_lets_streams_finish(run: Run) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            exchange.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"a"))
            await go_on.wait()
            exchange.say(chunk(b"b") + b"0\r\n\r\n")

        async with Origin(script) as origin, front(origin) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request())
            await reader.readuntil(b"a\r\n")
            draining = asyncio.ensure_future(gateway.server.drain(5))
            await asyncio.sleep(0)
            go_on.set()

            assert await reader.read() == chunk(b"b") + b"0\r\n\r\n"
            assert await draining == 0
            writer.close()

    run(main())


def test_a_route_s_timeout_goes_for_uploads_too(run: Run) -> None:
    async def main() -> None:
        rules = (RouteRule(path="/**", upstream="web", timeout_s=0.2),)
        async with Origin() as origin, front(origin, rules=rules) as gateway:
            answer = await gateway.get(method="POST", extra=CHUNKED)

            assert answer.startswith(b"HTTP/1.1 504 ")

    run(main())


def test_a_request_behind_a_body_in_pieces_is_the_next_one(run: Run) -> None:
    async def main() -> None:
        sizes: list[int] = []

        async def script(exchange: Exchange) -> None:
            sizes.append(len(await exchange.body()))
            exchange.answer(b"%d" % sizes[-1])

        async with Origin(script) as origin, front(origin) as gateway:
            kept = request("POST", extra=CHUNKED).replace(b"Connection: close\r\n", b"")
            body = chunk(b"x" * 100_000) + b"0\r\n\r\n"
            answer = await gateway.exchange(kept + body + kept + body + request(target="/last"))

            assert answer.count(b"HTTP/1.1 200 OK") == 3
            assert sizes == [100_000, 100_000, 0]
            assert origin.connections == 1

    run(main())


def test_an_origin_s_chunks_may_be_as_small_as_it_likes(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            exchange.say(chunk(b"x") * 50_000 + b"0\r\n\r\n")

        async with Origin(script) as origin, front(origin) as gateway:
            answer = await gateway.get()

            assert answer.endswith(b"0\r\n\r\n")
            assert answer.count(b"x") >= 50_000

    run(main())
