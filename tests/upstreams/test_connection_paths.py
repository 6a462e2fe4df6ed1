"""The ways to a real server: TLS with and without a certificate of ours, unix sockets, IPv6."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import trustme
from tests.upstreams.pool_bench import addresses

from silence_gateway.errors import UpstreamFault, UpstreamUnavailable
from silence_gateway.upstreams.connection import connect
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import UpstreamSettings

pytestmark = pytest.mark.system

UNARY, SPLIT = b"/echo.Echo/Unary", b"/echo.Echo/Split"


def has_ipv6() -> bool:
    """Tell whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


class Certificates:
    """An authority, a server's certificate of it, and clients' certificates of it and of another."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.server = self.authority.issue_cert("echo.test", "127.0.0.1", "::1")
        self.client = self.authority.issue_cert("gateway.test")
        self.stranger = trustme.CA().issue_cert("gateway.test")

    def credentials(self, *, mutual: bool) -> Any:
        """Return what a grpcio server is started with."""
        chain = b"".join(blob.bytes() for blob in self.server.cert_chain_pems)
        return grpc.ssl_server_credentials(
            [(self.server.private_key_pem.bytes(), chain)],
            root_certificates=self.authority.cert_pem.bytes() if mutual else None,
            require_client_auth=mutual,
        )

    def context(self, own: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """Return what a client connects with, *own* being its certificate."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if own is not None:
            own.configure_cert(context)
        return context


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


async def works(address: str, **more: Any) -> None:
    """Make a small call and a large one."""
    connection = await connect(address, **more)
    assert (await connection.unary(UNARY, b"")).message == b""
    assert (await connection.unary(UNARY, b"\x18\xc0\x84\x3d")).message[-1_000_000:] == bytes(1_000_000)
    await connection.close()


def test_a_server_that_wants_a_certificate_gets_ours(certificates: Certificates, start_server: Any) -> None:
    server = start_server(credentials=certificates.credentials(mutual=True))

    asyncio.run(works(server.address, tls=certificates.context(certificates.client)))


@pytest.mark.parametrize("which", ["none", "stranger"])
def test_who_is_not_let_in_is_told_so_and_nothing_was_sent(
    certificates: Certificates, start_server: Any, which: str
) -> None:
    server = start_server(credentials=certificates.credentials(mutual=True))
    own = None if which == "none" else certificates.stranger

    async def scenario() -> None:
        async with asyncio.timeout(5):
            with pytest.raises(UpstreamUnavailable, match="does it want a certificate") as caught:
                await connect(server.address, tls=certificates.context(own))
            assert not caught.value.sent

    asyncio.run(scenario())


def test_a_pool_goes_by_tls_and_says_why_it_cannot(certificates: Certificates, start_server: Any) -> None:
    server = start_server(credentials=certificates.credentials(mutual=True))

    def settings(tls: ssl.SSLContext, name: str) -> UpstreamSettings:
        return UpstreamSettings(
            name="shop", endpoints=addresses(server.address), health=None, tls=tls, server_name=name
        )

    async def scenario() -> None:
        async with asyncio.timeout(10):
            own = certificates.context(certificates.client)
            async with GrpcUpstream(settings(own, "echo.test")) as upstream:
                assert (await upstream.unary(UNARY, b"")).message == b""
            async with GrpcUpstream(settings(own, "other.test")) as upstream:
                with pytest.raises(UpstreamUnavailable, match=r"other\.test"):
                    await upstream.unary(UNARY, b"")

    asyncio.run(scenario())


def test_a_server_that_offers_no_http2_is_named(certificates: Certificates) -> None:
    async def scenario() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificates.server.configure_cert(context)
        context.set_alpn_protocols(["http/1.1"])
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1_000):
                pass
            writer.close()
            gone.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as listener:
            port = listener.sockets[0].getsockname()[1]
            with pytest.raises(UpstreamFault, match=r"ALPN|alpn|protocol") as caught:
                await connect(f"127.0.0.1:{port}", tls=certificates.context())
            assert not caught.value.sent

    asyncio.run(asyncio.wait_for(scenario(), 5))


def test_plain_text_to_a_tls_server_and_tls_to_a_plain_one_are_errors(
    certificates: Certificates, start_server: Any
) -> None:
    secure = start_server(credentials=certificates.credentials(mutual=False))
    plain = start_server()

    async def scenario() -> None:
        async with asyncio.timeout(8):
            with pytest.raises(UpstreamUnavailable, match="does it want TLS"):
                await connect(secure.address)
            with pytest.raises(UpstreamUnavailable, match="does not speak TLS"):
                await connect(plain.address, tls=certificates.context())

    asyncio.run(scenario())


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_unix_socket(
    certificates: Certificates, start_server: Any, tmp_path: Path, *, secure: bool
) -> None:
    credentials = certificates.credentials(mutual=True) if secure else None
    server = start_server(credentials=credentials, path=tmp_path / "s")
    tls = certificates.context(certificates.client) if secure else None

    asyncio.run(works(server.address, tls=tls, server_name="echo.test" if secure else None))


def test_a_unix_socket_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(UpstreamUnavailable, match=r"cannot connect to unix:.*No such file"):
            await connect(f"unix:{tmp_path / 'nobody'}")

    asyncio.run(scenario())


@needs_ipv6
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_ipv6(certificates: Certificates, start_server: Any, *, secure: bool) -> None:
    credentials = certificates.credentials(mutual=False) if secure else None
    server = start_server(credentials=credentials, host="[::1]")

    asyncio.run(works(server.address, tls=certificates.context() if secure else None))


@needs_ipv6
def test_a_pool_over_every_way_at_once(echo: SimpleNamespace, start_server: Any, tmp_path: Path) -> None:
    servers = [start_server(), start_server(host="[::1]"), start_server(path=tmp_path / "s")]

    async def scenario() -> None:
        settings = UpstreamSettings(
            name="shop",
            endpoints=addresses(*(server.address for server in servers)),
            balancer="round_robin",
            health=None,
        )
        async with GrpcUpstream(settings) as upstream:
            await upstream.unary(UNARY, b"")
            for _ in range(30):
                request = echo.pb2.Text(text="x", count=10).SerializeToString()
                assert len([one async for one in upstream.stream(SPLIT, request)]) == 10
            assert all(one.calls for one in upstream.statistics.endpoints)

    asyncio.run(asyncio.wait_for(scenario(), 10))
