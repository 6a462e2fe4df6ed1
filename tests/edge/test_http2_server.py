"""A server over real sockets: where it listens, how it stops, whom it turns away."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from tests.edge.http2_scene import ECHO, scene

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_frames import ErrorCode
from silence_gateway.edge.grpc_server import GrpcServer, StreamCall, UnaryCall, streaming, unary
from silence_gateway.edge.http2_settings import Http2Settings
from silence_gateway.edge.http2_statistics import Cap
from silence_gateway.edge.listen import open_sockets, server_tls
from silence_gateway.errors import UpstreamUnavailable
from silence_gateway.testing.h2_client import call
from silence_gateway.upstreams.connection import GrpcConnection, connect

if TYPE_CHECKING:
    from tests.edge.conftest import Run

DEADLINE_S = 10.0


class Served:
    """A running server: `Echo` answers at once, `Wait` when told to, `Chat` every message."""

    def __init__(self, **settings: Any) -> None:
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.cancelled = 0
        methods = {
            "test.Echo/Echo": unary(lambda message, _call: message),
            "test.Echo/Wait": unary(self.wait),
            "test.Echo/Chat": streaming(self.chat),
        }
        self.server = GrpcServer(methods, Http2Settings(**settings))
        self.address = ""
        self.port = 0

    async def wait(self, message: bytes, _call: UnaryCall) -> bytes:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return message

    async def chat(self, call: StreamCall) -> None:
        async for message in call:
            await call.send(message)


@asynccontextmanager
async def serving(
    listen: str = "127.0.0.1:0", tls: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[Served]:
    served = Served(**settings)
    sockets = open_sockets([listen], reuse_port=False)
    if listen.startswith("unix:"):
        served.address = listen
    else:
        host, served.port = sockets[0].getsockname()[:2]
        served.address = f"[{host}]:{served.port}" if ":" in host else f"{host}:{served.port}"
    await served.server.start(sockets, tls)
    try:
        yield served
    finally:
        await asyncio.wait_for(served.server.abort(), DEADLINE_S)


async def until(condition: Callable[[], bool]) -> None:
    """Return when *condition* holds; fail if it does not within the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is a count, not an event
            # Turns of the loop, not time: every turn lets the server act on its sockets.
            await asyncio.sleep(0.001)


async def echoed(client: GrpcConnection, message: bytes) -> bytes:
    return (await asyncio.wait_for(client.unary(ECHO, message), DEADLINE_S)).message


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "unix"])
def test_it_serves_wherever_a_socket_can_listen(run: Run, listen: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(f"unix:{tmp_path}/s" if listen == "unix" else listen) as served:
            client = await connect(served.address)
            assert await echoed(client, b"hello") == b"hello"
            messages = [b"a" * 10_000, b"", b"c"]

            async def each() -> AsyncIterator[bytes]:
                for message in messages:
                    yield message

            assert [message async for message in client.stream(b"/test.Echo/Chat", each())] == messages
            await client.close()

    run(main())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> ssl.SSLContext:
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    return server_tls(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"), protocol="h2")


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_it_serves_over_tls(run: Run, authority: trustme.CA, tls: ssl.SSLContext) -> None:
    async def main() -> None:
        async with serving(tls=tls) as served:
            client = await connect(served.address, tls=trusting(authority), server_name="localhost")
            assert await echoed(client, bytes(1_000_000)) == bytes(1_000_000)
            await client.close()
            assert await served.server.drain(5) == 0

    run(main())


@pytest.mark.parametrize("offered", [["http/1.1"], []])
def test_a_tls_client_that_does_not_offer_h2_is_turned_away(
    run: Run, authority: trustme.CA, tls: ssl.SSLContext, offered: list[str]
) -> None:
    async def main() -> None:
        context = trusting(authority)
        if offered:
            context.set_alpn_protocols(offered)
        async with serving(tls=tls) as served:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", served.port, ssl=context, server_hostname="localhost"
            )
            assert await asyncio.wait_for(reader.read(), DEADLINE_S) == h2.goaway_frame(
                0, ErrorCode.HTTP_1_1_REQUIRED, b"this server speaks HTTP/2 (ALPN h2) only"
            )
            writer.close()

    run(main())


def test_a_client_that_never_finishes_its_handshake_is_forgotten(run: Run, tls: ssl.SSLContext) -> None:
    async def main() -> None:
        async with serving(tls=tls, header_timeout_s=0.1) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(b"\x16\x03\x01")
            assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
            writer.close()
            assert served.server.statistics.connections_open == 0

    run(main())


def test_more_connections_than_allowed_are_turned_away(run: Run) -> None:
    async def main() -> None:
        async with serving(max_connections=1) as served:
            client = await connect(served.address)
            with pytest.raises(UpstreamUnavailable):
                await connect(served.address)
            assert served.server.statistics.capped[Cap.CONNECTIONS] == 1
            assert await echoed(client, b"x") == b"x"
            await client.close()
            await until(lambda: not served.server.statistics.connections_open)
            again = await connect(served.address)
            assert await echoed(again, b"x") == b"x"
            await again.close()

    run(main())


# Stopping.


def test_a_drain_finishes_what_was_asked_and_takes_no_more(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            lost: list[str] = []
            client = await connect(served.address, on_lost=lambda _, reason: lost.append(reason))
            waiting = asyncio.ensure_future(client.unary(b"/test.Echo/Wait", b"kept"))
            await asyncio.wait_for(served.begun.wait(), DEADLINE_S)
            drained = asyncio.create_task(served.server.drain(DEADLINE_S))
            await until(lambda: bool(lost))
            assert "NO_ERROR" in lost[0]
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", served.port)

            served.go.set()
            assert (await waiting).message == b"kept"
            assert await asyncio.wait_for(drained, DEADLINE_S) == 0

    run(main())


def test_what_is_left_after_a_drain_is_cut_off_and_counted(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            client = await connect(served.address)
            waiting = asyncio.ensure_future(client.unary(b"/test.Echo/Wait", b"lost"))
            await asyncio.wait_for(served.begun.wait(), DEADLINE_S)

            assert await asyncio.wait_for(served.server.drain(0.05), DEADLINE_S) == 1
            assert served.cancelled == 1
            with pytest.raises(UpstreamUnavailable):
                await waiting
            assert served.server.statistics.connections_open == 0

    run(main())


def test_abort_cuts_off_at_once_and_waits_for_the_handlers(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            client = await connect(served.address)
            waiting = asyncio.ensure_future(client.unary(b"/test.Echo/Wait", b"lost"))
            await asyncio.wait_for(served.begun.wait(), DEADLINE_S)

            assert await asyncio.wait_for(served.server.abort(), DEADLINE_S) == 1
            assert served.cancelled == 1
            with pytest.raises(UpstreamUnavailable):
                await waiting
            assert await served.server.abort() == 0

    run(main())


def test_a_client_that_is_still_greeting_does_not_hold_up_a_drain(run: Run) -> None:
    async def main() -> None:
        async with serving(linger_s=0.1) as served:
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            await until(lambda: bool(served.server.connections))
            await asyncio.wait_for(served.server.drain(DEADLINE_S), DEADLINE_S / 2)
            writer.close()

    run(main())


def test_a_client_that_closes_its_side_is_gone(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(h2.PREFACE + h2.settings_frame([]) + call(1, b"/test.Echo/Wait"))
            await asyncio.wait_for(served.begun.wait(), DEADLINE_S)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), DEADLINE_S)
            await until(lambda: bool(served.cancelled))
            writer.close()

    run(main())


def test_a_client_that_went_away_unseen_costs_nobody_else(run: Run) -> None:
    """Its connection is reset while answers for it and others are written."""

    async def main() -> None:
        async with serving() as served:
            client = await connect(served.address)
            for _ in range(20):
                raw = socket.create_connection(("127.0.0.1", served.port))
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                raw.sendall(
                    h2.PREFACE + h2.settings_frame([]) + b"".join(call(n, ECHO) for n in range(1, 99, 2))
                )
                raw.close()
                assert await echoed(client, b"x") == b"x"
            await client.close()

    run(main())


def test_a_client_that_floods_can_read_why_it_was_cut_off(run: Run) -> None:
    """It is still sending when we end: a reset of the connection would take our last frames away."""

    async def main() -> None:
        async with serving() as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(h2.PREFACE + h2.settings_frame([]) + h2.settings_frame([]) * 5_000)
            frames = h2.FrameReader().feed(await asyncio.wait_for(reader.read(), DEADLINE_S))

            assert frames[-1][0] == h2.GOAWAY
            assert h2.read_goaway(frames[-1][3])[1] == ErrorCode.ENHANCE_YOUR_CALM
            assert served.server.statistics.capped[Cap.SETTINGS] == 1
            writer.close()

    run(main())


def test_abort_waits_for_handlers_whose_clients_left_before(run: Run) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def slow_to_end(_message: bytes, _call: UnaryCall) -> bytes:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.02)
                ended.set()
            raise AssertionError

        begun = asyncio.Event()
        async with serving() as served:
            served.server.methods[b"/test.Echo/Slow"] = unary(slow_to_end)
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(h2.PREFACE + h2.settings_frame([]) + call(1, b"/test.Echo/Slow"))
            await asyncio.wait_for(begun.wait(), DEADLINE_S)
            writer.close()
            await until(lambda: not served.server.connections)
            assert not ended.is_set()
            await served.server.abort()
            assert ended.is_set()

    run(main())


# In memory, with a clock that stands still.


def test_a_bound_that_many_run_into_is_told_once_a_second() -> None:
    async def scenario() -> None:
        async with scene() as served:
            for _ in range(50):
                client = served.client()
                client.send(h2.settings_frame([]) * 200)
            assert served.capped() == {Cap.SETTINGS: 50}
            assert len(served.said()) == 1

            await served.clock.advance(1)
            served.client().send(h2.settings_frame([]) * 200)
            assert len(served.said()) == 2

    asyncio.run(scenario())


def test_the_second_goaway_waits_for_a_sign_that_the_first_was_read() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, b"/test.Echo/Later"))
            drained = asyncio.create_task(served.server.drain(60))
            ((_, _, _, content, _),) = await client.all_of(h2.PING)
            client.send(call(3, ECHO, b"was on its way"))
            assert await client.status(3) == 0

            client.send(h2.ping_frame(content, ack=True))
            assert await client.goaway() == (3, ErrorCode.NO_ERROR, b"")
            client.send(call(5, ECHO, b"too late") + h2.frame(h2.DATA, 0, 7, b"x"))
            assert await client.blocks(5) == []
            assert not client.transport.eof
            served.go.set()
            assert await client.status(1) == 0
            assert client.transport.eof
            client.leave()
            assert await drained == 0

    asyncio.run(scenario())


def test_a_client_that_answers_nothing_is_drained_all_the_same() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            drained = asyncio.create_task(served.server.drain(60))
            await client.hear()
            assert not client.transport.eof
            await served.clock.advance(1.1)
            assert client.transport.eof
            assert not client.transport.closed
            await served.clock.advance(5)
            assert client.transport.closed
            assert await drained == 0

    asyncio.run(scenario())


def test_whoever_connects_during_a_drain_is_sent_away() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, b"/test.Echo/Later"))
            drained = asyncio.create_task(served.server.drain(5))
            await client.hear()
            late = served.client()
            goaway = await late.goaway()
            assert goaway is not None
            assert goaway[1] == ErrorCode.NO_ERROR

            await served.clock.advance(6)
            assert await drained >= 1

    asyncio.run(scenario())
