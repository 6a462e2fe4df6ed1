"""Answers sent piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest

from silence_gateway.core.http import Handler, Request, Response, StreamingResponse
from silence_gateway.errors import UpstreamUnavailable

if TYPE_CHECKING:
    from tests.edge.conftest import Run, Serving


ASK = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
ASK_OLD = b"GET / HTTP/1.0\r\n\r\n"

Maker = Callable[[], AsyncIterator[bytes]]


def streaming(make: Maker, closed: asyncio.Event | None = None) -> Handler:
    """Answer with the pieces of *make*, and say when they were closed."""

    async def handler(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in make():
                    yield piece
            finally:
                if closed is not None:
                    closed.set()

        return StreamingResponse(200, [(b"content-type", b"application/x-ndjson")], pieces())

    return handler


async def three() -> AsyncIterator[bytes]:
    yield b"one\n"
    yield b""
    yield b"two\n"


async def none() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece


async def fails_first() -> AsyncIterator[bytes]:
    raise UpstreamUnavailable("10.0.0.1 is gone", sent=False)
    yield b""


async def fails_later() -> AsyncIterator[bytes]:
    yield b"one\n"
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("make", "ask", "end"),
    [
        pytest.param(three, ASK, b"\r\n\r\n4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n", id="chunked"),
        pytest.param(three, ASK_OLD, b"\r\n\r\none\ntwo\n", id="until-the-end-for-http-1.0"),
        pytest.param(none, ASK, b"\r\n\r\n0\r\n\r\n", id="nothing"),
        pytest.param(three, ASK.replace(b"GET", b"HEAD"), b"connection: close\r\n\r\n", id="head"),
    ],
)
def test_pieces_are_framed_as_the_client_understands(
    run: Run, serving: Serving, make: Maker, ask: bytes, end: bytes
) -> None:
    async def main() -> None:
        closed = asyncio.Event()
        async with serving(streaming(make, closed)) as served:
            wire = await served.exchange(ask)

            assert wire.startswith(b"HTTP/1.1 200 OK\r\n")
            assert wire.endswith(end)
            assert (b"transfer-encoding: chunked\r\n" in wire) == (ask is not ASK_OLD)
            assert closed.is_set() or ask.startswith(b"HEAD")

    run(main())


def test_pieces_leave_as_they_are_made(run: Run, serving: Serving) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield b""
            await go_on.wait()
            yield b"later"

        async with serving(streaming(slowly)) as served:
            reader, writer = await served.connect()
            writer.write(ASK)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200 OK" in head
            go_on.set()

            assert await reader.read(-1) == b"5\r\nlater\r\n0\r\n\r\n"
            writer.close()

    run(main())


def test_a_connection_goes_on_after_a_stream(run: Run, serving: Serving) -> None:
    async def main() -> None:
        async with serving(streaming(three)) as served:
            wire = await served.exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + ASK)

            assert wire.count(b"HTTP/1.1 200 OK") == 2
            assert wire.count(b"0\r\n\r\n") == 2

    run(main())


def test_a_failure_before_the_first_piece_is_a_clean_error(run: Run, serving: Serving) -> None:
    async def main() -> None:
        async with serving(streaming(fails_first)) as served:
            wire = await served.exchange(ASK)

            assert wire.startswith(b"HTTP/1.1 503 ")
            assert b"10.0.0.1" not in wire

    run(main())


@pytest.mark.parametrize("ask", [ASK, ASK_OLD], ids=["http-1.1", "http-1.0"])
def test_a_failure_later_cannot_be_taken_for_the_end(run: Run, serving: Serving, ask: bytes) -> None:
    async def main() -> None:
        async with serving(streaming(fails_later)) as served:
            reader, writer = await served.connect()
            writer.write(ask)
            received = b""
            broken = False
            try:
                while piece := await asyncio.wait_for(reader.read(4096), 5):
                    received += piece
            except ConnectionResetError:
                broken = True

            assert broken or (ask is ASK and not received.endswith(b"0\r\n\r\n"))
            assert len(served.noticed) == 1
            writer.close()

    run(main())


def test_what_was_sent_before_a_failure_reaches_a_slow_reader(run: Run, serving: Serving) -> None:
    async def main() -> None:
        closed = asyncio.Event()

        async def fails_at_last() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * 10_000
            yield b"why\n"
            raise RuntimeError("broken")

        async with serving(streaming(fails_at_last, closed)) as served:
            reader, writer = await served.connect(receive_buffer=4096)
            writer.write(ASK.replace(b"Connection: close\r\n", b""))
            await asyncio.wait_for(closed.wait(), 5)

            wire = await asyncio.wait_for(reader.read(-1), 5)

            assert wire.count(b"x" * 10_000) == 10
            assert wire.endswith(b"4\r\nwhy\n\r\n")
            writer.close()

    run(main())


def test_a_slow_reader_holds_up_the_maker_and_not_our_memory(run: Run, serving: Serving) -> None:
    async def main() -> None:
        made = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal made
            while made < 3000:
                made += 1
                yield b"x" * 10_000

        closed = asyncio.Event()
        async with serving(streaming(endless, closed)) as served:
            reader, writer = await served.connect(receive_buffer=4096)
            writer.write(ASK)
            await served.until(lambda: any(c.write_paused for c in served.server.connections))
            (connection,) = served.server.connections
            for _ in range(50):
                await asyncio.sleep(0)
            assert made < 1000
            peak = received = 0
            while piece := await reader.read(65_536):
                received += len(piece)
                peak = max(peak, connection.transport.get_write_buffer_size())

            assert received > 30_000_000
            assert peak < 64 * 1024 + 20_000
            assert closed.is_set()
            writer.close()

    run(main())


def test_the_maker_is_closed_when_the_client_leaves(run: Run, serving: Serving) -> None:
    async def main() -> None:
        async def forever() -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.Event().wait()

        closed = asyncio.Event()
        async with serving(streaming(forever, closed)) as served:
            reader, writer = await served.connect()
            writer.write(ASK)
            await reader.readuntil(b"first")
            writer.close()

            await asyncio.wait_for(closed.wait(), 5)
            await served.until(lambda: served.server.statistics.cancelled == 1)

    run(main())
