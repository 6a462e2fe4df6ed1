"""Who has to know that an answer is over, knows it: upgrades that fail, and limits that hold a place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

from silence_gateway.core.http import (
    Handler,
    HeaderList,
    Request,
    Response,
    StreamingResponse,
    UpgradeResponse,
)
from silence_gateway.core.limits import Algorithm, LimitRule
from silence_gateway.core.sockets import Socket
from silence_gateway.layers.limit import limit_rate
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore
from silence_gateway.testing.limiters import local_limiter

if TYPE_CHECKING:
    from tests.edge.conftest import Run, Served, Serving

GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
SHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
RULE = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=100)


class Listener:
    """One that hears of nothing but the beginning, where it may have a bug."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken

    def on_open(self, socket: Socket) -> None:
        if self.broken:
            raise RuntimeError("listener bug")

    def on_text(self, payload: bytes) -> None: ...

    def on_binary(self, payload: bytes) -> None: ...

    def on_close(self, code: int, reason: str) -> None: ...

    def on_drained(self) -> None: ...

    def on_shutdown(self) -> None: ...


@pytest.mark.parametrize(
    ("wire", "headers", "status", "refused"),
    [
        pytest.param(SHAKE, [], b"101", False, id="taken-over"),
        pytest.param(GET % b"ws", [], b"426", True, id="no-handshake"),
        pytest.param(SHAKE, [(b"x-bad", b"a\r\nb: c")], b"500", True, id="headers-that-cannot-be-sent"),
    ],
)
def test_an_upgrade_that_does_not_come_about_is_told(
    run: Run, serving: Serving, wire: bytes, headers: HeaderList, status: bytes, refused: bool
) -> None:
    async def main() -> None:
        told: list[bool] = []

        async def handle(_request: Request) -> Response:
            response = UpgradeResponse(Listener(), headers=headers)
            response.on_refused = lambda: told.append(True)
            return response

        async with serving(handle) as served:
            reader, writer = await served.connect()
            writer.write(wire)
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()

        assert head.startswith(b"HTTP/1.1 " + status)
        assert told == [True] * refused

    run(main())


# -- places under a limit -----------------------------------------------------------------------------


class Endless:
    """A body without an end, until it is closed."""

    def __init__(self) -> None:
        self.closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.closed:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        return b"x" * 1000

    async def aclose(self) -> None:
        self.closed = True


class Counted:
    """A handler behind a concurrency limit."""

    def __init__(self) -> None:
        self.store = DistantLimitStore(FakeClock())
        specs = [LimitSpec(rule=RULE, any=True)]
        self.limiter = local_limiter(specs, store=self.store, clock=self.store.clock)
        self.handler: Handler = limit_rate(self.limiter)(self.serve)
        self.entered = 0

    async def serve(self, request: Request) -> Response:
        self.entered += 1
        match request.path:
            case "/plain":
                return Response(200)
            case "/stream":
                return StreamingResponse(200, [], Endless())
            case "/silence":
                await asyncio.get_running_loop().create_future()
            case "/unsafe-stream":
                return StreamingResponse(200, [(b"x-bad", b"a\r\nb: c")], Endless())
            case "/unsafe":
                return Response(200, [(b"x-bad", b"a\r\nb: c")])
            case "/bug":
                raise ZeroDivisionError
            case "/broken-ws":
                return UpgradeResponse(Listener(broken=True))
        return UpgradeResponse(Listener())

    @property
    def held(self) -> int:
        return self.store.used(RULE, "127.0.0.1")

    async def until_free(self, served: Served) -> None:
        await served.until(lambda: self.held == 0 and not self.limiter.holds.held)


@pytest.mark.parametrize("path", ["plain", "unsafe", "bug", "ws", "unsafe-stream"])
def test_a_place_is_free_when_the_answer_is_sent(run: Run, serving: Serving, path: str) -> None:
    async def main() -> None:
        counted = Counted()
        async with serving(counted.handler) as served:
            reader, writer = await served.connect()
            writer.write(GET % path.encode())
            await reader.readuntil(b"\r\n\r\n")
            await counted.until_free(served)
            writer.close()

            assert counted.entered == 1

    run(main())


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("path", ["silence", "stream"])
def test_a_place_is_free_when_the_client_has_left(
    run: Run, serving: Serving, path: str, method: bytes
) -> None:
    async def main() -> None:
        counted = Counted()
        async with serving(counted.handler) as served:
            reader, writer = await served.connect()
            writer.write((GET % path.encode()).replace(b"GET", method))
            if path == "stream":
                await reader.readuntil(b"\r\n\r\n")
            else:
                await served.until(lambda: counted.held == 1)
            writer.close()
            await counted.until_free(served)

    run(main())


def test_a_place_is_held_for_as_long_as_a_websocket_is_open(run: Run, serving: Serving) -> None:
    async def main() -> None:
        counted = Counted()
        async with serving(counted.handler) as served:
            async with connect(f"ws://127.0.0.1:{served.port}/ws") as client:
                await (await client.ping())
                assert counted.held == 1
                await counted.store.clock.advance(120)
                assert counted.held == 1
            await counted.until_free(served)

            reader, writer = await served.connect()
            writer.write(SHAKE)
            await reader.readuntil(b"\r\n\r\n")
            assert counted.held == 1
            writer.transport.abort()
            await counted.until_free(served)

    run(main())


def test_a_place_is_free_when_a_websocket_breaks_on_its_first_word(run: Run, serving: Serving) -> None:
    async def main() -> None:
        counted = Counted()
        async with serving(counted.handler) as served:
            reader, writer = await served.connect()
            writer.write(SHAKE.replace(b"/ws", b"/broken-ws"))
            await reader.readuntil(b"\x88\x02\x03\xf3")  # the close frame of a listener with a bug, 1011
            assert counted.held == 1
            writer.close()
            await counted.until_free(served)

    run(main())


def test_places_are_free_when_the_server_is_stopped(run: Run, serving: Serving) -> None:
    async def main() -> None:
        counted = Counted()
        async with serving(counted.handler) as served:
            clients = [await served.connect() for _ in range(3)]
            for wire, (_, writer) in zip((GET % b"silence", GET % b"stream", SHAKE), clients, strict=True):
                writer.write(wire)
            await served.until(lambda: counted.held == 3)
            await served.server.abort()
            await counted.until_free(served)
            for _, writer in clients:
                writer.close()

    run(main())
