"""Many calls that begin in one turn of the loop: the peer has the first of them before the turn is over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core import h2_frames as frames
from silence_gateway.upstreams.connection import GrpcConnection, connect

METHOD = b"/a.B/C"
AT_ONCE = 32
LOOPS = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


class Wire:
    """The peer's end of a connection, read without giving the loop a turn."""

    def __init__(self, own: socket.socket) -> None:
        self.own = own
        self.reader = frames.FrameReader()

    def begun(self) -> list[int]:
        """Return the streams of the calls that are here now; waits until there is one."""
        self.own.settimeout(5)
        streams: list[int] = []
        try:
            while True:
                for kind, _, stream, _, _ in self.reader.feed(self.own.recv(1 << 20)):
                    streams += [stream] * (kind == frames.HEADERS)
                self.own.settimeout(0 if streams else 5)
        except BlockingIOError:
            return streams


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[GrpcConnection, Wire]]:
    """Give a connection that has one call on it, and what its peer has."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        connecting = loop.create_task(connect(f"127.0.0.1:{listener.getsockname()[1]}"))
        own, _ = await loop.sock_accept(listener)
    with own:
        preface = b""
        while len(preface) < len(frames.PREFACE):
            preface += await loop.sock_recv(own, len(frames.PREFACE) - len(preface))
        await loop.sock_sendall(own, frames.settings_frame([]))
        connection, wire = await connecting, Wire(own)
        connection.unary(METHOD, b"")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert wire.begun() == [1]
        try:
            yield connection, wire
        finally:
            connection.abort()
            await connection.wait_closed()


@LOOPS
def test_the_peer_has_the_first_calls_before_the_turn_is_over(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def scenario() -> None:
        async with connected() as (connection, wire):
            for _ in range(2 * AT_ONCE + 5):
                connection.unary(METHOD, b"small")
            begun = wire.begun()
            assert len(begun) == 2 * AT_ONCE
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(wire.begun()) == 5

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(asyncio.wait_for(scenario(), 20))


@given(st.lists(st.integers(0, 6_000), min_size=1, max_size=90))
def test_whatever_calls_begin_in_one_turn_all_of_them_arrive_once_and_in_order(sizes: list[int]) -> None:
    async def scenario() -> None:
        async with connected() as (connection, wire):
            wanted: list[int] = []
            for size in sizes:
                connection.unary(METHOD, bytes(size))
                wanted.append(1 + 2 * (1 + len(wanted)))
            begun: list[int] = []
            while len(begun) < len(wanted):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                begun += wire.begun()
            assert begun == wanted

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 20))
