"""Stopping gracefully, TLS, unix sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from silence_gateway.core.http import Request, Response, StreamingResponse
from silence_gateway.edge.listen import open_sockets, server_tls
from silence_gateway.edge.server import HttpServer
from silence_gateway.testing.clock import FakeClock

if TYPE_CHECKING:
    from tests.edge.conftest import Run, Serving


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Gate:
    """A handler that waits until it is let go."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.cancelled = False

    async def __call__(self, request: Request) -> Response:
        self.began.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return Response(200, [], b"done")


def test_draining_finishes_what_was_asked_and_closes_what_is_idle(run: Run, serving: Serving) -> None:
    async def main() -> None:
        gate = Gate()
        async with serving(gate) as served:
            idle, idle_writer = await served.connect()
            busy, busy_writer = await served.connect()
            busy_writer.write(GET)
            await gate.began.wait()
            await served.until(lambda: served.server.statistics.connections_open == 2)
            draining = asyncio.ensure_future(served.server.drain(30))
            assert await asyncio.wait_for(idle.read(-1), 5) == b""
            with pytest.raises(ConnectionRefusedError):
                await served.connect()
            gate.open.set()
            wire = await asyncio.wait_for(busy.read(-1), 5)

            assert await asyncio.wait_for(draining, 5) == 0
            assert wire.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"connection: close\r\n" in wire
            idle_writer.close()
            busy_writer.close()

    run(main())


def test_draining_ends_a_connection_whose_stream_was_begun_before(run: Run, serving: Serving) -> None:
    """Its head has promised to go on; nobody waits for the client to find out that it does not."""

    async def main() -> None:
        last = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            await last.wait()
            yield b"two"

        async def stream(_request: Request) -> Response:
            return StreamingResponse(200, [], pieces())

        async with serving(stream) as served:
            reader, writer = await served.connect()
            writer.write(GET)
            begun = await asyncio.wait_for(reader.readuntil(b"one\r\n"), 5)
            draining = asyncio.ensure_future(served.server.drain(1000))
            last.set()

            assert await asyncio.wait_for(reader.read(-1), 5) == b"3\r\ntwo\r\n0\r\n\r\n"
            assert await asyncio.wait_for(draining, 5) == 0
            assert b"connection: close" not in begun
            writer.close()

    run(main())


def test_draining_cuts_off_what_does_not_finish(run: Run, serving: Serving) -> None:
    async def main() -> None:
        gate = Gate()
        clock = FakeClock()
        async with serving(gate, clock=clock) as served:
            _, writer = await served.connect()
            writer.write(GET)
            await gate.began.wait()
            draining = asyncio.ensure_future(served.server.drain(3))
            await asyncio.sleep(0)
            assert not draining.done()
            await clock.advance(4)

            assert await asyncio.wait_for(draining, 5) == 1
            assert gate.cancelled
            assert served.server.statistics.connections_open == 0
            writer.close()

    run(main())


def test_draining_an_idle_server_is_immediate(run: Run, serving: Serving) -> None:
    async def main() -> None:
        async with serving() as served:
            assert await asyncio.wait_for(served.server.drain(1000), 5) == 0

    run(main())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with cert.pem, key.pem and ca.pem."""
    folder = tmp_path_factory.mktemp("tls")
    leaf = authority.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return folder


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def test_tls_carries_requests_bodies_and_refusals(
    run: Run, serving: Serving, authority: trustme.CA, files: Path
) -> None:
    tls = server_tls(str(files / "cert.pem"), str(files / "key.pem"))

    async def scheme(request: Request) -> Response:
        return Response(200, [], f"{request.scheme} {len(request.body)}".encode())

    async def main() -> None:
        async with serving(scheme, tls=tls, client_tls=client_context(authority)) as served:
            reader, writer = await served.connect()
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
            assert (await reader.readuntil(b"https 1000000")).startswith(b"HTTP/1.1 200")
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
            wire = await asyncio.wait_for(reader.readuntil(b"}"), 5)
            assert wire.startswith(b"HTTP/1.1 413 ")
            writer.close()
            await served.until(lambda: not served.server.connections)

    run(main())


def test_a_client_without_the_certificate_that_is_asked_for_gets_nothing(
    run: Run, serving: Serving, authority: trustme.CA, files: Path
) -> None:
    tls = server_tls(str(files / "cert.pem"), str(files / "key.pem"), str(files / "ca.pem"))

    async def main() -> None:
        known = client_context(authority)
        authority.issue_cert("client").configure_cert(known)
        async with serving(tls=tls, client_tls=known) as served:
            reader, writer = await served.connect()
            writer.write(GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
            served.client_tls = client_context(authority)
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                reader, writer = await served.connect()
                writer.write(GET)
                await reader.readexactly(1)
            assert served.server.statistics.requests == 1
            writer.close()

    run(main())


def test_a_unix_socket_serves_too(run: Run, tmp_path: Path) -> None:
    async def peer(request: Request) -> Response:
        return Response(200, [], f"[{request.peer}]".encode())

    async def main() -> None:
        path = tmp_path / "s"
        server = HttpServer(peer)
        await server.start(open_sockets([f"unix:{path}"], reuse_port=False))
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(GET)

        await reader.readuntil(b"[]")
        writer.close()
        await server.abort()

    run(main())
